"""`pipelines.evaluation.predictions`: batches of any size, and files of validation predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.face_sets import FaceSet
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import ValidationPredictions, classify
from pipelines.export import parity
from service.classifier import InputSpec, MoodClassifier
from tests.conftest import ROOT
from tests.support import toys

SPEC = InputSpec(size=toys.SIZE, margin=0.0, scale=2 / 255, offset=-1.0)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> MoodClassifier:
    """A classifier whose mood is a face's brightness."""
    graph = tmp_path_factory.mktemp("graph") / "toy.onnx"
    return parity.convert(toys.brightness_model(), graph, "toy", SPEC, toys.faces(8).pixels, limit=1e-4)[0]


def test_faces_keep_their_order_over_several_batches(classifier: MoodClassifier) -> None:
    faces = toys.faces(600)
    probabilities = classify(classifier, faces.pixels)
    assert probabilities.argmax(axis=1).tolist() == faces.ferplus_mood.tolist()
    np.testing.assert_allclose(probabilities[550:560], classifier.predict(faces.pixels[550:560]), atol=1e-6)


def test_validation_predictions_survive_a_file(classifier: MoodClassifier, tmp_path: Path) -> None:
    validation = FaceSet.concatenate([toys.faces(40), toys.faces(8, source="photos", seed=1)])
    measured = ValidationPredictions.measure(classifier, validation, seed=3)
    measured.save(tmp_path / "validation.npz")
    loaded = ValidationPredictions.load(tmp_path / "validation.npz")
    for one, other in ((loaded.ferplus, measured.ferplus), (loaded.photos, measured.photos)):
        np.testing.assert_array_equal(one.moods, other.moods)
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert list(loaded.corrupted) == list(measured.corrupted) == list(CORRUPTIONS)
    for name, predicted in loaded.corrupted.items():
        np.testing.assert_array_equal(predicted, measured.corrupted[name])


def test_the_arrays_of_a_file_have_the_names_and_types_of_the_released_ones(
    classifier: MoodClassifier, tmp_path: Path
) -> None:
    faces = FaceSet.concatenate([toys.faces(8), toys.faces(8, source="photos")])
    ValidationPredictions.measure(classifier, faces, seed=3).save(tmp_path / "validation.npz")
    released = ROOT / "models/champion/evaluation/validation.npz"
    with np.load(tmp_path / "validation.npz") as ours, np.load(released) as theirs:
        types = [[(name, array.dtype.kind, array.ndim) for name, array in file.items()] for file in (ours, theirs)]
        assert types[0] == types[1]
    assert list(ValidationPredictions.load(released).corrupted) == list(CORRUPTIONS)


def test_a_face_without_a_mood_by_votes_is_left_out(classifier: MoodClassifier) -> None:
    faces = toys.faces(8)
    faces.ferplus_mood[2] = -1
    measured = ValidationPredictions.measure(
        classifier, FaceSet.concatenate([faces, toys.faces(4, source="photos")]), 3
    )
    assert len(measured.ferplus) == len(measured.corrupted["dark"]) == 7
    assert -1 not in measured.ferplus.moods
