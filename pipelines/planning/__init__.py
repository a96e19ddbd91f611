"""What a `dvc repro` would run and what its trainings cost, before it starts."""
