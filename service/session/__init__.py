"""Sessions: the frames of one person over minutes. It holds boxes, the filter's state and counts, never pixels."""
