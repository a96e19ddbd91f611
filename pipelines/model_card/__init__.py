"""The model card of the released model."""
