"""The dataset's Parquet files, built from the public originals or one's own photos: `python -m pipelines.ingest`."""
