"""`pipelines.export.serving_model`: the head that is served, with and without test-time augmentation."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from pipelines.export.serving_model import serving_model
from tests.support import toys


def faces(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, toys.SIZE, toys.SIZE, 1)).astype(np.float32)


@pytest.mark.parametrize("mirror_averaging", [True, False])
def test_the_served_model_is_the_head_that_is_asked_for(mirror_averaging: bool) -> None:
    model = toys.headed_model()
    expected = model.predict(faces(4), verbose=0)  # a flip does not change a mean brightness
    for head, options in (("mood", {}), ("original", {"head": "original"})):
        served = serving_model(model, mirror_averaging=mirror_averaging, **options)
        np.testing.assert_allclose(served.predict(faces(4), verbose=0), expected[head], atol=1e-6)


def test_test_time_augmentation_averages_over_a_face_and_its_flip() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((toys.SIZE, toys.SIZE, 1))
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(inputs)))
    plain, flipped = (model.predict(images, verbose=0) for images in (faces(4), faces(4)[:, :, ::-1]))
    served = serving_model(model, mirror_averaging=True).predict(faces(4), verbose=0)
    assert np.abs(plain - flipped).max() > 0.01
    np.testing.assert_allclose(served, (plain + flipped) / 2, atol=1e-6)
