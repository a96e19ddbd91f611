"""Fitting: starting weights, resuming after an interruption, batch normalisation."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from pipelines.data.face_sets import FaceSet
from pipelines.params import Params
from pipelines.training.batches import FaceBatches
from pipelines.training.fit import compile_network, fit
from service.classifier import normalise
from tests.support.training import open_checkpoints, teacher_predictions, training_config


class PowerCutError(Exception):
    """Ends a training in the middle of an epoch."""


@pytest.mark.slow
def test_fine_tuning_starts_from_the_weights_of_the_given_model(
    tmp_path: Path, train: FaceSet, validation: FaceSet
) -> None:
    one = training_config(epochs=1, learning_rate=1e-9)
    start = one.network()
    model, _ = fit(one, train, validation, open_checkpoints(tmp_path), init_from=start)
    for before, after in zip(start.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_the_fused_batch_normalization_learns_what_the_plain_one_does(train: FaceSet) -> None:
    one, faces = training_config(epochs=1), normalise(train.pixels[:16], Params.read().input)
    fused, plain = compile_network(one, steps=1), one.network()
    plain.set_weights(fused.get_weights())
    np.testing.assert_allclose(fused(faces, training=True), plain(faces, training=True), atol=1e-5)
    for expected, actual in zip(plain.non_trainable_variables, fused.non_trainable_variables, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0.02, atol=1e-5)  # n / (n - 1): here n is 144 at the least


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["plateau", "distilled"])
def test_an_interrupted_training_resumes_and_ends_as_if_it_had_not_been_interrupted(
    recipe: str, tmp_path: Path, train: FaceSet, validation: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(directory: Path) -> tuple[keras.Model, pd.DataFrame]:
        predictions = teacher_predictions(train) if recipe == "distilled" else None
        return fit(training_config(4, recipe), train, validation, open_checkpoints(directory), predictions=predictions)

    whole, history = run(tmp_path / "whole")

    batch = FaceBatches.__getitem__

    def fails_in_the_third_epoch(self: FaceBatches, index: int) -> object:
        if (tmp_path / "cut" / "epoch_0001").exists() and index == 2:
            raise PowerCutError
        return batch(self, index)

    with monkeypatch.context() as context:
        context.setattr(FaceBatches, "__getitem__", fails_in_the_third_epoch)
        with pytest.raises(Exception):  # noqa: B017, PT011 (each Keras backend wraps it in an error of its own)
            run(tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").glob("epoch_*")] == ["epoch_0001"]

    resumed, resumed_history = run(tmp_path / "cut")
    assert resumed_history["epoch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(resumed_history.to_numpy(float), history.to_numpy(float), rtol=1e-4)
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_finished_training_is_not_trained_further(tmp_path: Path, train: FaceSet, validation: FaceSet) -> None:
    first, history = fit(training_config(2), train, validation, open_checkpoints(tmp_path / "c"))
    again, same = fit(training_config(2), train, validation, open_checkpoints(tmp_path / "c"))
    assert same.equals(history)
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        assert (one == other).all()


@pytest.mark.slow
def test_training_leaves_the_sum_of_emotions_a_sum(tmp_path: Path, train: FaceSet, validation: FaceSet) -> None:
    model, history = fit(training_config(2, "one_cycle"), train, validation, open_checkpoints(tmp_path / "c"))
    said = model.predict(np.zeros((1, 48, 48, 1), np.float32), verbose=0)
    np.testing.assert_allclose(said["mood"].sum(axis=1), 1.0, rtol=1e-5)
    assert {"val_cross_entropy", "val_categorical_accuracy"} <= set(history)


def test_a_recipe_with_a_teacher_needs_the_teachers_predictions(tmp_path: Path, train: FaceSet) -> None:
    with pytest.raises(ValueError, match="teacher's predictions"):
        fit(training_config(1, "distilled"), train, train, open_checkpoints(tmp_path / "c"))


@pytest.mark.slow
def test_a_checkpoint_of_another_recipe_is_not_resumed(tmp_path: Path, train: FaceSet, validation: FaceSet) -> None:
    fit(training_config(2), train, validation, open_checkpoints(tmp_path / "c", digest="old recipe"))
    checkpoints = open_checkpoints(tmp_path / "c", digest="new recipe")
    assert checkpoints.latest() is None
