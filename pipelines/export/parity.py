"""The graph that the service runs, made from a Keras model and compared with it on real faces."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.predictions import classify, open_classifier
from pipelines.export import to_onnx
from service.classifier import InputSpec, MoodClassifier, normalise

_BATCH: Final = 256


class ParityError(Exception):
    """A converted graph gives other probabilities than the model that it was made from."""


def convert(
    model: keras.Model, graph: Path, name: str, spec: InputSpec, faces: NDArray[np.uint8], limit: float
) -> tuple[MoodClassifier, float]:
    """Write the graph that the service would run, open it and compare it with the model.

    Args:
        model: Model as served; see `pipelines.export.serving_model`.
        graph: File to write.
        name: Name of the model.
        spec: Input of the model.
        faces: uint8 (n, size, size), real faces to compare on.
        limit: Largest difference of a probability that is allowed.

    Returns:
        The classifier at temperature 1, and the largest difference of a probability.

    Raises:
        ParityError: a probability differs by more than the limit.
    """
    to_onnx.export(model, (None, spec.size, spec.size, 1), graph, [to_onnx.OUTPUT_NAME])
    classifier = open_classifier(graph, name, spec, temperature=1.0)
    return classifier, check_parity(model, classifier, faces, limit)


def check_parity(model: keras.Model, classifier: MoodClassifier, pixels: NDArray[np.uint8], limit: float) -> float:
    """Largest difference of a probability between a Keras model and its converted graph.

    Args:
        model: Keras model that was converted.
        classifier: The graph, at temperature 1.
        pixels: uint8 (n, size, size), real faces.
        limit: Largest difference that is allowed.

    Raises:
        ParityError: the difference is larger.
    """
    original = model.predict(normalise(pixels, classifier.metadata.input), batch_size=_BATCH, verbose=0)
    difference = float(np.abs(original - classify(classifier, pixels)).max())
    if not difference <= limit:
        raise ParityError(
            f"the ONNX graph of {classifier.metadata.name} differs from the Keras model by {difference:.2g} in a "
            f"probability; {limit:g} are allowed (evaluate.max_parity_difference)"
        )
    return difference
