"""From the public originals, or one's own photos, to the dataset's Parquet files: `python -m pipelines.ingest`."""
