"""`service.classifier`: from crops to calibrated probabilities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.classifier import ClassifierMetadata, InputSpec, MoodClassifier, calibrate, normalise
from service.estimator import MoodEstimator
from service.moods import MOODS
from tests.conftest import ROOT


def test_pixels_are_mapped_by_scale_and_offset() -> None:
    spec = InputSpec(size=1, margin=0, scale=2 / 255, offset=-1)
    normalised = normalise(np.array([0, 255], np.uint8).reshape(2, 1, 1), spec)
    assert normalised.shape == (2, 1, 1, 1)
    assert normalised.dtype == np.float32
    assert normalised.ravel() == pytest.approx([-1, 1])


def test_temperature_one_leaves_probabilities_as_they_are() -> None:
    probabilities = np.array([[0.7, 0.2, 0.06, 0.04]], np.float32)
    np.testing.assert_allclose(calibrate(probabilities, 1.0), probabilities, atol=1e-6)


def test_a_higher_temperature_makes_probabilities_less_sure_and_keeps_their_order() -> None:
    probabilities = np.array([[0.7, 0.2, 0.06, 0.04], [1.0, 0.0, 0.0, 0.0]], np.float32)
    calibrated = calibrate(probabilities, 2.0)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert (calibrated[:, 0] < probabilities[:, 0]).all()
    assert (np.diff(calibrated[0]) < 0).all()
    assert np.isfinite(calibrated).all()


def test_faces_in_a_batch_get_what_they_get_alone(estimator: MoodEstimator) -> None:
    size = estimator.classifier.metadata.input.size
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)
    together = estimator.classifier.predict(crops)
    assert together.shape == (3, len(MOODS))
    for crop, probabilities in zip(crops, together, strict=True):
        np.testing.assert_allclose(estimator.classifier.predict(crop[None])[0], probabilities, atol=1e-5)


def test_a_bundle_for_other_moods_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundle" / "classifier", tmp_path, dirs_exist_ok=True)
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**metadata, "moods": ["happy", "sad", "neutral", "other"]}))
    with pytest.raises(ValueError, match="happy"):
        MoodClassifier(tmp_path)


def test_a_graph_of_another_release_than_the_metadata_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundle" / "classifier", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "mood.onnx").open("ab") as graph:
        graph.write(b"\0")
    with pytest.raises(ValueError, match="mixed from two releases"):
        MoodClassifier(tmp_path)


def test_the_digest_changes_with_whatever_changes_a_probability_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"a")
    (tmp_path / "b.onnx").write_bytes(b"b")
    spec = InputSpec(size=48, margin=0, scale=1, offset=0)

    def digest(graph: str = "a", name: str = "x", spec: InputSpec = spec, temperature: float = 1) -> str:
        return ClassifierMetadata.of(
            tmp_path / f"{graph}.onnx", name=name, version=name, moods=MOODS, input=spec, temperature=temperature
        ).digest

    assert digest() == digest(name="y")
    others = [digest("b"), digest(spec=spec.model_copy(update={"offset": 1.0})), digest(temperature=2)]
    assert len({digest(), *others}) == 4
