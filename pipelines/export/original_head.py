"""The head for FER2013's original labels, which is trained along and not shipped, as a classifier of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras

from pipelines.data.face_sets import FaceSet
from pipelines.data.labels import one_hot
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import classify, open_classifier
from pipelines.export import parity
from pipelines.export.serving_model import serving_model
from pipelines.training.networks import ORIGINAL
from service.classifier import GRAPH_FILE, InputSpec, MoodClassifier


def original_head(
    trained: keras.Model,
    name: str,
    spec: InputSpec,
    validation: FaceSet,
    limit: float,
    *,
    mirror_averaging: bool,
) -> MoodClassifier | None:
    """The head for FER2013's original labels as the service would run it, calibrated with these labels.

    Args:
        trained: The trained network.
        name: Name of the model, for messages.
        spec: Input of the network.
        validation: Faces that the network was not trained on; photos have no such labels and are not used.
        limit: Largest difference of a probability that conversion may make.
        mirror_averaging: Test-time augmentation; see `pipelines.export.serving_model`.

    Returns:
        None if the network has no such head.

    Raises:
        ParityError: the converted head differs from the network by more than the limit.
    """
    if not isinstance(trained.output, dict) or ORIGINAL not in trained.output:
        return None
    model = serving_model(trained, mirror_averaging=mirror_averaging, head=ORIGINAL)
    faces = validation.of_source("fer2013")
    with tempfile.TemporaryDirectory() as directory:
        graph = Path(directory) / GRAPH_FILE
        uncalibrated, _ = parity.convert(model, graph, name, spec, faces.pixels, limit)
        temperature = metrics.fit_temperature(classify(uncalibrated, faces.pixels), one_hot(faces.original_mood))
        return open_classifier(graph, name, spec, round(temperature, 4))
