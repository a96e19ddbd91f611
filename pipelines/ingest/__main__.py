"""`python -m pipelines.ingest`."""

from pipelines.ingest.cli import app

app()
