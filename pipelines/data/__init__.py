"""The dataset and what is derived from it: reading, labels, splits, near duplicates, face sets."""
