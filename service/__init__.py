"""The runtime: image bytes in, mood out. Imports neither TensorFlow, MLflow, DVC nor Evidently."""

__version__ = "0.2.0"  # the version of the whole project: pyproject.toml and the API read it here
