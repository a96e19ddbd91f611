"""The runtime: image bytes in, mood out. Imports neither TensorFlow, MLflow, DVC nor Evidently."""
