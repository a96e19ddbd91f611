"""Predictions, metrics, intervals, corruptions, latency and plots."""
