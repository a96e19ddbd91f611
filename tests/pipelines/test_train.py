"""Training: architectures, batches, and going on where an interrupted run stopped."""

from pathlib import Path

import keras
import numpy as np
import pytest

from pipelines import architectures, augmentation
from pipelines.checkpoints import Checkpoints, fingerprint
from pipelines.face_sets import FaceSet
from pipelines.params import AugmentationParams
from pipelines.train import FaceBatches, Job, fit, mean_face
from tests.pipelines.test_prepare import face_set, pictures


def job(epochs: int) -> Job:
    """A small mini-Xception, so that an epoch takes seconds."""
    full = Job.read("mini_xception")
    return Job(
        full.architecture,
        {"filters": [4, 4], "block_filters": [4, 8]},
        full.recipe.model_copy(update={"epochs": epochs, "batch_size": 16}),
        full.spec,
    )


@pytest.fixture(scope="module")
def train() -> FaceSet:
    return face_set(pictures(64, seed=1))


@pytest.fixture(scope="module")
def validation() -> FaceSet:
    return face_set(pictures(32, seed=2))


def open_checkpoints(directory: Path, digest: str = "same") -> Checkpoints:
    checkpoints = Checkpoints(directory, digest)
    checkpoints.run_id = checkpoints.run_id or "run"
    return checkpoints


class PowerCutError(Exception):
    """Ends a training in the middle of an epoch."""


def test_an_interrupted_training_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, train: FaceSet, validation: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, history = fit(job(4), train, validation, open_checkpoints(tmp_path / "whole"))

    batch = FaceBatches.__getitem__

    def fails_in_the_third_epoch(self: FaceBatches, index: int) -> object:
        if (tmp_path / "cut" / "epoch_0001").exists() and index == 2:
            raise PowerCutError
        return batch(self, index)

    with monkeypatch.context() as context:
        context.setattr(FaceBatches, "__getitem__", fails_in_the_third_epoch)
        with pytest.raises(Exception):  # noqa: B017, PT011 (each Keras backend wraps it in an error of its own)
            fit(job(4), train, validation, open_checkpoints(tmp_path / "cut"))
    assert [path.name for path in (tmp_path / "cut").glob("epoch_*")] == ["epoch_0001"]

    resumed, resumed_history = fit(job(4), train, validation, open_checkpoints(tmp_path / "cut"))
    assert resumed_history["epoch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(resumed_history.to_numpy(float), history.to_numpy(float), rtol=1e-4)
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_finished_training_is_not_trained_on(tmp_path: Path, train: FaceSet, validation: FaceSet) -> None:
    first, history = fit(job(2), train, validation, open_checkpoints(tmp_path / "c"))
    again, same = fit(job(2), train, validation, open_checkpoints(tmp_path / "c"))
    assert same.equals(history)
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        assert (one == other).all()


def test_a_checkpoint_of_another_recipe_is_not_resumed_from(
    tmp_path: Path, train: FaceSet, validation: FaceSet
) -> None:
    fit(job(2), train, validation, open_checkpoints(tmp_path / "c", digest="old recipe"))
    checkpoints = open_checkpoints(tmp_path / "c", digest="new recipe")
    assert checkpoints.latest() is None


def test_the_fingerprint_changes_with_a_parameter_and_with_the_data(tmp_path: Path) -> None:
    data = tmp_path / "faces.npz"
    data.write_bytes(b"faces")
    before = fingerprint({"learning_rate": 0.001}, data)
    assert fingerprint({"learning_rate": 0.001}, data) == before
    assert fingerprint({"learning_rate": 0.002}, data) != before
    data.write_bytes(b"other faces")
    assert fingerprint({"learning_rate": 0.001}, data) != before


def test_batches_of_an_epoch_hold_every_face_once_in_another_order_than_the_epoch_before(train: FaceSet) -> None:
    batches = FaceBatches(train, job(2).spec, job(2).recipe, first_epoch=0)

    def labels() -> np.ndarray:
        return np.concatenate([batches[index][1] for index in range(len(batches))])

    first = labels()
    batches.on_epoch_end()
    second = labels()
    assert first.sum(axis=0).tolist() == second.sum(axis=0).tolist() == train.soft_labels.sum(axis=0).tolist()
    assert not (first == second).all()


def test_every_batch_has_the_same_size_and_no_face_is_left_out_where_the_faces_do_not_fill_the_last(
    train: FaceSet,
) -> None:
    odd = train.select(np.arange(50))  # batches of 16: three, and two faces
    batches = FaceBatches(odd, job(2).spec, job(2).recipe, first_epoch=0)
    labels = [batches[index][1] for index in range(len(batches))]
    assert [len(batch) for batch in labels] == [16, 16, 16, 16]
    assert (np.concatenate(labels)[:50].sum(axis=0) == odd.soft_labels.sum(axis=0)).all()


def test_augmentation_repeats_with_its_seed_and_is_off_where_its_ranges_are_zero() -> None:
    images = pictures(6, seed=5)
    recipe = Job.read("mini_xception").recipe.augmentation
    one = augmentation.augment(images, recipe, np.random.default_rng(1))
    assert (one == augmentation.augment(images, recipe, np.random.default_rng(1))).all()
    assert not (one == augmentation.augment(images, recipe, np.random.default_rng(2))).all()
    still = AugmentationParams(flip=False, rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0)
    assert (augmentation.augment(images, still, np.random.default_rng(1)) == images).all()


def test_the_input_example_is_the_mean_of_all_faces_and_so_nobodys(train: FaceSet) -> None:
    spec = job(1).spec
    pixels = (mean_face(train, spec)[0, :, :, 0] - spec.offset) / spec.scale
    np.testing.assert_allclose(pixels, train.pixels.mean(axis=0), atol=0.51)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_architecture_gives_probabilities_of_the_four_moods(name: str) -> None:
    model = architectures.build(name, 48, 4)
    probabilities = model.predict(np.zeros((2, 48, 48, 1), np.float32), verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert probabilities.shape == (2, 4)


def test_mini_xception_is_built_as_described() -> None:
    model = architectures.build("mini_xception", 48, 4)
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(keras.layers.SeparableConv2D) == 8  # two in each of four blocks
    assert kinds.count(keras.layers.MaxPooling2D) == kinds.count(keras.layers.Add) == 4
    assert kinds.count(keras.layers.Conv2D) == 2 + 4 + 1  # entry, skips, exit
    assert all(layer.kernel_size == (1, 1) for layer in model.layers if layer.name.endswith("skip_conv"))
    assert kinds[-3:] == [keras.layers.Conv2D, keras.layers.GlobalAveragePooling2D, keras.layers.Softmax]


def test_an_unknown_architecture_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mini_xception"):
        architectures.build("resnet", 48, 4)
