"""Training: architectures, batches, and going on where an interrupted run stopped."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines.callbacks.checkpoints import Checkpoints, fingerprint
from pipelines.data.dataset import EMOTIONS
from pipelines.data.face_sets import FaceSet
from pipelines.params import AugmentationParams, Params
from pipelines.paths import PARAMS
from pipelines.teach import ask
from pipelines.train import FaceBatches, Job, _teaching, emotion_moods, fit, mean_face, photo_weights
from pipelines.training import augmentation, distillation, networks
from pipelines.training.distillation import Lessons
from pipelines.training.networks import Heads
from service.classifier import normalise
from service.moods import MOODS
from tests.support.toys import face_set, pictures

SMALL = {"filters": [4, 4], "block_filters": [4, 8]}
"""Hyper-parameters of a mini-Xception whose epoch takes seconds."""


def job(epochs: int, recipe: str = "plateau", **changes: object) -> Job:
    """A small mini-Xception and one of the recipes, with some of its settings changed."""
    full = Job.read("mini_xception")
    settings = {"epochs": epochs, "batch_size": 16, **changes}
    return replace(
        full,
        architecture=full.architecture.model_copy(update={"recipe": recipe, "hyper_parameters": SMALL}),
        recipe=Params.read().train[recipe].model_copy(update=settings),
        teacher=Params.read().teacher if recipe == "distilled" else None,
    )


def lessons_for(faces: FaceSet, views: int = 2) -> Lessons:
    """Answers of a teacher that is sure of a wrong emotion everywhere: happiness, and the original mood `other`."""
    emotions = np.zeros((views, len(faces), len(EMOTIONS)), np.uint8)
    emotions[:, :, EMOTIONS.index("happiness")] = 255
    original = np.zeros((views, len(faces), len(MOODS)), np.uint8)
    original[:, :, MOODS.index("other")] = 255
    return Lessons(emotions, original)


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


def test_training_on_begins_with_the_weights_of_the_model_it_starts_from(
    tmp_path: Path, train: FaceSet, validation: FaceSet
) -> None:
    one = job(epochs=1, learning_rate=1e-9)
    start = one.network()
    model, _ = fit(one, train, validation, open_checkpoints(tmp_path), start=start)
    for before, after in zip(start.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_continued_model_has_the_network_it_starts_from_and_a_recipe_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load(PARAMS.read_text())
    params["continued"] = {
        "once_more": {"architecture": "mini_xception_wide", "start": "mini_xception_wide", "recipe": "second_cycle"}
    }
    params["pupils"] = {"taught": {"architecture": "mini_xception_wide", "start": "once_more", "recipe": "distilled"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    monkeypatch.chdir(tmp_path)

    continued, start = Job.read("once_more"), Job.read("mini_xception_wide")
    assert continued.architecture.hyper_parameters == start.architecture.hyper_parameters
    assert continued.recipe == Params.read().train["second_cycle"]
    assert continued.parameters()["start"] == "mini_xception_wide"
    pupil = Job.read("taught")
    assert pupil.architecture.hyper_parameters == start.architecture.hyper_parameters
    assert pupil.start == "once_more"
    assert pupil.teacher == Params.read().teacher
    assert Params.read().candidates == [*params["architectures"], "once_more", "taught"]


def test_the_fused_batch_normalization_learns_what_the_plain_one_does(train: FaceSet) -> None:
    one, faces = job(epochs=1), normalise(train.pixels[:16], Job.read("mini_xception").spec)
    fused, plain = one.build(steps=1), one.network()
    plain.set_weights(fused.get_weights())
    np.testing.assert_allclose(fused(faces, training=True), plain(faces, training=True), atol=1e-5)
    for expected, actual in zip(plain.non_trainable_variables, fused.non_trainable_variables, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0.02, atol=1e-5)  # n / (n - 1): here n is 144 at the least


@pytest.mark.parametrize("recipe", ["plateau", "distilled"])
def test_an_interrupted_training_goes_on_and_ends_as_if_it_had_not_been(
    recipe: str, tmp_path: Path, train: FaceSet, validation: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(directory: Path) -> tuple[keras.Model, pd.DataFrame]:
        checkpoints, answers = open_checkpoints(directory), lessons_for(train) if recipe == "distilled" else None
        return fit(job(4, recipe), train, validation, checkpoints, answers=answers)

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
    still = AugmentationParams(flip=False, rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0, corrupted=0)
    assert (augmentation.augment(images, still, np.random.default_rng(1)) == images).all()


def test_the_input_example_is_the_mean_of_all_faces_and_so_nobodys(train: FaceSet) -> None:
    spec = job(1).spec
    pixels = (mean_face(train, spec)[0, :, :, 0] - spec.offset) / spec.scale
    np.testing.assert_allclose(pixels, train.pixels.mean(axis=0), atol=0.51)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_gives_probabilities_of_the_four_moods(name: str) -> None:
    model = networks.build(name, 48, 4)
    probabilities = model.predict(np.zeros((2, 48, 48, 1), np.float32), verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert probabilities.shape == (2, 4)


def test_mini_xception_is_built_as_described() -> None:
    model = networks.build("mini_xception", 48, 4)
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(keras.layers.SeparableConv2D) == 8  # two in each of four blocks
    assert kinds.count(keras.layers.MaxPooling2D) == kinds.count(keras.layers.Add) == 4
    assert kinds.count(keras.layers.Conv2D) == 2 + 4 + 1  # entry, skips, exit
    assert all(layer.kernel_size == (1, 1) for layer in model.layers if layer.name.endswith("skip_conv"))
    assert kinds[-3:] == [keras.layers.Conv2D, keras.layers.GlobalAveragePooling2D, keras.layers.Softmax]


@pytest.mark.parametrize("name", ["mini_xception", "residual"])
def test_with_heads_the_mood_is_the_sum_of_its_emotions(name: str) -> None:
    moods = emotion_moods()
    model = networks.build(name, 48, 4, heads=Heads(moods, original=True))
    said = model.predict(np.random.default_rng(0).normal(size=(3, 48, 48, 1)).astype(np.float32), verbose=0)
    assert said["original"].shape == (3, 4)
    for index, mood in enumerate(MOODS):
        emotions = [emotion for emotion in range(len(EMOTIONS)) if moods[emotion] == index]
        np.testing.assert_allclose(
            said["mood"][:, index], said["emotions"][:, emotions].sum(axis=1), rtol=1e-5, err_msg=mood
        )


def test_training_leaves_the_sum_of_emotions_a_sum(tmp_path: Path, train: FaceSet, validation: FaceSet) -> None:
    model, history = fit(job(2, "one_cycle"), train, validation, open_checkpoints(tmp_path / "c"))
    said = model.predict(np.zeros((1, 48, 48, 1), np.float32), verbose=0)
    np.testing.assert_allclose(said["mood"].sum(axis=1), 1.0, rtol=1e-5)
    assert {"val_cross_entropy", "val_categorical_accuracy"} <= set(history)


def test_a_decay_by_weight_leaves_out_what_normalises_and_shifts() -> None:
    model = job(2, "one_cycle").build(steps=4)
    model.optimizer.build(model.trainable_variables)
    decayed = {v.name for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    assert decayed
    assert all("kernel" in name for name in decayed)


def test_the_one_cycle_rate_rises_to_its_peak_and_falls_to_nearly_nothing() -> None:
    recipe = job(10, "one_cycle").recipe
    rate = job(10, "one_cycle").build(steps=100).optimizer._learning_rate
    rates = [float(rate(step)) for step in range(0, 1000, 10)]
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.01)
    assert int(np.argmax(rates)) == pytest.approx(recipe.warm_up * 100, abs=2)
    assert rates[-1] < recipe.learning_rate / 100


def test_photos_of_scarce_moods_count_more_and_photos_as_a_whole_as_before() -> None:
    photos = face_set(pictures(8, 3), source=1)
    photos = photos.select(np.array([0, 4, 0, 4, 0, 4, 0, 1]))  # seven of the first mood, one of the second
    weights = photo_weights(photos, 0.5)
    assert weights[-1] == pytest.approx(weights[0] * 7**0.5)
    assert weights.mean() == pytest.approx(1.0)
    assert (photo_weights(photos, 0.0) == 1).all()
    assert (photo_weights(face_set(pictures(8, 3)), 0.5) == 1).all()


def test_a_pupils_targets_are_the_votes_and_the_teachers_answer_in_the_recipes_shares(train: FaceSet) -> None:
    pupil = job(2, "distilled", teacher_weight=0.75)
    heads = list(pupil.head_weights)
    batches = FaceBatches(train, pupil.spec, pupil.recipe, 0, heads, _teaching(pupil, lessons_for(train)))
    rows = np.random.default_rng((pupil.recipe.seed, 0)).permutation(len(train))[:16]
    _, targets, _ = batches[0]
    expected = 0.25 * train.soft_labels[rows]
    expected[:, MOODS.index("positive")] += 0.75
    np.testing.assert_allclose(targets["mood"], expected, rtol=1e-5)
    assert targets["original"][:, MOODS.index("other")].min() >= 0.75
    assert targets["emotions"][:, EMOTIONS.index("happiness")].min() >= 0.75


def test_teacher_and_pupil_see_the_same_view_of_every_face(train: FaceSet) -> None:
    pupil = job(2, "distilled")
    batches = FaceBatches(train, pupil.spec, pupil.recipe, 0, ["emotions"], _teaching(pupil, lessons_for(train)))
    seen = normalise(distillation.view(train.pixels, 0, pupil.recipe.augmentation, pupil.teacher.seed), pupil.spec)
    rows = np.random.default_rng((pupil.recipe.seed, 0)).permutation(len(train))[:16]
    for face, row in zip(batches[0][0], rows, strict=True):
        assert (face == seen[row]).all() or (face == seen[row][:, ::-1]).all()


def test_a_pupil_without_a_teacher_is_an_error_that_says_so(tmp_path: Path, train: FaceSet) -> None:
    with pytest.raises(ValueError, match="answers"):
        fit(job(1, "distilled"), train, train, open_checkpoints(tmp_path / "c"))


def test_lessons_come_back_from_their_file_as_probabilities(tmp_path: Path, train: FaceSet) -> None:
    lessons_for(train).save(tmp_path / "lessons.npz")
    loaded = Lessons.load(tmp_path / "lessons.npz")
    assert loaded.views == 2
    np.testing.assert_allclose(loaded.targets("emotions", 1).sum(axis=1), 1.0)
    with pytest.raises(FileNotFoundError, match="teach"):
        Lessons.load(tmp_path / "missing.npz")


def test_a_teacher_answers_with_the_mean_of_its_members_over_face_and_mirror_image(train: FaceSet) -> None:
    members = [networks.build("residual", 48, 4, heads=Heads(emotion_moods(), True), filters=[4]) for _ in "ab"]
    faces = normalise(train.pixels[:8], job(1).spec)
    expected = sum(m.predict(f, verbose=0)["emotions"] for m in members for f in (faces, faces[:, :, ::-1])) / 4
    np.testing.assert_allclose(ask(members, faces, "emotions"), expected, rtol=1e-5)


def test_corrupted_faces_stay_faces_of_the_same_size_and_are_others(train: FaceSet) -> None:
    recipe = Params.read().train["one_cycle"].augmentation.model_copy(update={"corrupted": 0.999})
    clean = recipe.model_copy(update={"corrupted": 0.0})
    ugly, plain = (augmentation.augment(train.pixels, one, np.random.default_rng(3)) for one in (recipe, clean))
    assert ugly.shape == train.pixels.shape
    assert ugly.dtype == np.uint8
    assert (ugly != plain).any(axis=(1, 2)).mean() > 0.9


def test_an_unknown_network_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mini_xception"):
        networks.build("resnet", 48, 4)
