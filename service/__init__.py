"""The runtime: image bytes in, mood out. Imports neither TensorFlow, MLflow, DVC nor Evidently."""

import os

__version__ = "0.2.0"  # the version of the whole project: pyproject.toml and the API read it here

# ONNX Runtime reports its use to Microsoft by default, and keeps an identifier of the machine in the user's cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
