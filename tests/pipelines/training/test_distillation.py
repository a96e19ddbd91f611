"""Distillation: views, targets and the teacher's predictions."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.dataset import EMOTIONS
from pipelines.data.face_sets import FaceSet
from pipelines.params import Params
from pipelines.training import networks
from pipelines.training.batches import FaceBatches
from pipelines.training.config import emotion_moods
from pipelines.training.distillation import Distillation, TeacherPredictions, make_view, predict_heads
from pipelines.training.networks import Heads
from service.classifier import normalise
from service.moods import MOODS
from tests.support.training import SMALL, teacher_predictions, training_config


def test_targets_are_votes_and_teacher_predictions_in_the_shares_of_the_recipe(train: FaceSet) -> None:
    student = training_config(2, "distilled", teacher_weight=0.75)
    heads = list(student.head_weights)
    batches = FaceBatches(
        train, student.spec, student.recipe, 0, heads, Distillation.of(student, teacher_predictions(train))
    )
    rows = np.random.default_rng((student.recipe.seed, 0)).permutation(len(train))[:16]
    _, targets, _ = batches[0]
    expected = 0.25 * train.soft_labels[rows]
    expected[:, MOODS.index("positive")] += 0.75
    np.testing.assert_allclose(targets["mood"], expected, rtol=1e-5)
    assert targets["original"][:, MOODS.index("other")].min() >= 0.75
    assert targets["emotions"][:, EMOTIONS.index("happiness")].min() >= 0.75


def test_teacher_and_student_see_the_same_view_of_every_face(train: FaceSet) -> None:
    student = training_config(2, "distilled")
    batches = FaceBatches(
        train, student.spec, student.recipe, 0, ["emotions"], Distillation.of(student, teacher_predictions(train))
    )
    seen = normalise(make_view(train.pixels, 0, student.recipe.augmentation, student.teacher.seed), student.spec)
    rows = np.random.default_rng((student.recipe.seed, 0)).permutation(len(train))[:16]
    for face, row in zip(batches[0][0], rows, strict=True):
        assert (face == seen[row]).all() or (face == seen[row][:, ::-1]).all()


def test_teacher_predictions_come_back_from_their_file_as_probabilities(tmp_path: Path, train: FaceSet) -> None:
    teacher_predictions(train).save(tmp_path / "predictions.npz")
    loaded = TeacherPredictions.load(tmp_path / "predictions.npz")
    assert loaded.views == 2
    np.testing.assert_allclose(loaded.probabilities("emotions", 1).sum(axis=1), 1.0)
    with pytest.raises(FileNotFoundError, match="teach"):
        TeacherPredictions.load(tmp_path / "missing.npz")


def test_the_teacher_predicts_the_mean_of_its_members_over_faces_and_their_flips(train: FaceSet) -> None:
    heads = Heads(emotion_moods(Params.read().prepare), original=True)
    members = [networks.build("mini_xception", 48, 4, heads=heads, **SMALL) for _ in "ab"]
    faces = normalise(train.pixels[:8], training_config(1).spec)
    expected = sum(m.predict(f, verbose=0)["emotions"] for m in members for f in (faces, faces[:, :, ::-1])) / 4
    np.testing.assert_allclose(predict_heads(members, faces)["emotions"], expected, rtol=1e-5)
