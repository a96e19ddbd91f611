"""Augmentation and corruptions of training faces."""

import numpy as np

from pipelines.data.face_sets import FaceSet
from pipelines.params import AugmentationParams, Params
from pipelines.training import augmentation
from tests.support.toys import pictures


def test_augmentation_repeats_with_its_seed_and_is_off_where_its_ranges_are_zero() -> None:
    images = pictures(6, seed=5)
    recipe = Params.read().train["plateau"].augmentation
    one = augmentation.augment(images, recipe, np.random.default_rng(1))
    assert (one == augmentation.augment(images, recipe, np.random.default_rng(1))).all()
    assert not (one == augmentation.augment(images, recipe, np.random.default_rng(2))).all()
    still = AugmentationParams(flip=False, rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0, corrupted=0)
    assert (augmentation.augment(images, still, np.random.default_rng(1)) == images).all()


def test_corrupted_faces_stay_faces_of_the_same_size_and_are_others(train: FaceSet) -> None:
    recipe = Params.read().train["one_cycle"].augmentation.model_copy(update={"corrupted": 0.999})
    clean = recipe.model_copy(update={"corrupted": 0.0})
    ugly, plain = (augmentation.augment(train.pixels, one, np.random.default_rng(3)) for one in (recipe, clean))
    assert ugly.shape == train.pixels.shape
    assert ugly.dtype == np.uint8
    assert (ugly != plain).any(axis=(1, 2)).mean() > 0.9
