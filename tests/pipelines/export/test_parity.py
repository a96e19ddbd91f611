"""`pipelines.export.parity`: a converted graph must give the probabilities of its model."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.evaluation.predictions import open_classifier
from pipelines.export import parity, to_onnx
from service.classifier import InputSpec
from tests.support import toys

SPEC = InputSpec(size=toys.SIZE, margin=0.0, scale=2 / 255, offset=-1.0)


def test_a_converted_graph_gives_the_probabilities_of_its_model(tmp_path: Path) -> None:
    faces = toys.faces(8)
    model, graph = toys.brightness_model(), tmp_path / "toy.onnx"
    classifier, difference = parity.convert(model, graph, "toy", SPEC, faces.pixels, limit=1e-4)
    assert difference < 1e-5
    assert classifier.predict(faces.pixels).argmax(axis=1).tolist() == faces.ferplus_mood.tolist()


def test_a_graph_of_another_model_is_rejected(tmp_path: Path) -> None:
    graph = tmp_path / "other.onnx"
    to_onnx.export(toys.brightness_model(sharpness=2.0), (None, toys.SIZE, toys.SIZE, 1), graph, [to_onnx.OUTPUT_NAME])
    classifier = open_classifier(graph, "other", SPEC, temperature=1.0)
    with pytest.raises(parity.ParityError, match="other differs from the Keras model"):
        parity.check_parity(toys.brightness_model(), classifier, toys.faces(8).pixels, limit=1e-4)


def test_a_graph_can_be_opened_with_a_temperature(tmp_path: Path) -> None:
    faces = toys.faces(8).pixels
    plain, _ = parity.convert(toys.brightness_model(), tmp_path / "toy.onnx", "toy", SPEC, faces, limit=1e-4)
    cooler = open_classifier(tmp_path / "toy.onnx", "toy", SPEC, temperature=0.5)
    assert (cooler.predict(faces).max(axis=1) > plain.predict(faces).max(axis=1)).all()
