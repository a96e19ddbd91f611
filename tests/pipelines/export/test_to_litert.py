"""`pipelines.export.to_litert`: the files for phones give the service's probabilities, in few bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.export import to_litert
from pipelines.export.serving_model import serving_model
from pipelines.export.to_litert import FLOAT_FILE, INT8_FILE, LiteRTClassifier
from pipelines.training import networks
from service.classifier import InputSpec, calibrate, normalise
from service.moods import MOODS
from tests.support import toys

SPEC = InputSpec(size=toys.SIZE, margin=0.0, scale=2 / 255, offset=-1.0)


def export(model: keras.Model, directory: Path, *, mirror_averaging: bool = True, temperature: float = 0.7) -> None:
    """The files of a model, its ranges measured on a few toy faces."""
    directory.mkdir(exist_ok=True)
    faces = to_litert.representative_faces(toys.faces(64), 32, seed=0)
    to_litert.export(model, SPEC, faces, directory, mirror_averaging=mirror_averaging, temperature=temperature)


def sided_model() -> keras.Model:
    """A network that predicts different moods for a face and its flip, so that test-time augmentation matters."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((toys.SIZE, toys.SIZE, 1), name="image")
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.MaxPooling2D(4)(x)
    outputs = keras.layers.Dense(len(MOODS), activation="softmax")(keras.layers.Flatten()(x))
    return keras.Model(inputs, outputs)


def half_lit_faces() -> np.ndarray:
    """Toy faces whose right half is dark."""
    pixels = toys.faces(64).pixels.copy()
    pixels[..., toys.SIZE // 2 :] //= 4
    return pixels


@pytest.mark.parametrize("mirror_averaging", [False, True])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_float_file_predicts_as_the_calibrated_model(
    tmp_path: Path, mirror_averaging: bool, temperature: float
) -> None:
    model, faces = sided_model(), half_lit_faces()
    function = to_litert.calibrated(model, mirror_averaging=mirror_averaging, temperature=temperature)
    (tmp_path / FLOAT_FILE).write_bytes(to_litert.convert_float(function))
    served = serving_model(model, mirror_averaging=mirror_averaging)
    expected = calibrate(served.predict(normalise(faces, SPEC), verbose=0), temperature)
    assert np.abs(LiteRTClassifier(tmp_path / FLOAT_FILE, SPEC).predict(faces) - expected).max() < 1e-5


def test_a_mood_that_is_all_but_excluded_keeps_its_probability(tmp_path: Path) -> None:
    model, faces = toys.brightness_model(sharpness=60.0), toys.faces(64).pixels
    function = to_litert.calibrated(model, mirror_averaging=False, temperature=4.0)
    (tmp_path / FLOAT_FILE).write_bytes(to_litert.convert_float(function))
    expected = calibrate(model.predict(normalise(faces, SPEC), verbose=0), 4.0)
    assert np.abs(LiteRTClassifier(tmp_path / FLOAT_FILE, SPEC).predict(faces) - expected).max() < 1e-5


def test_the_int8_file_gives_the_same_moods_and_probabilities_that_sum_to_one(tmp_path: Path) -> None:
    export(toys.brightness_model(), tmp_path)
    faces = toys.faces(64, seed=1)
    predicted = LiteRTClassifier(tmp_path / INT8_FILE, SPEC).predict(faces.pixels)
    assert predicted.argmax(axis=1).tolist() == faces.ferplus_mood.tolist()
    assert predicted.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_network_of_240_000_weights_fits_the_bounds_and_stores_each_weight_once(tmp_path: Path) -> None:
    model = networks.mini_xception(48, 4, filters=(8, 24), block_filters=(48, 96, 160, 240))
    assert model.count_params() > 235_000
    export(model, tmp_path)
    assert (tmp_path / FLOAT_FILE).stat().st_size < 1.02 * 4 * model.count_params()
    assert (tmp_path / INT8_FILE).stat().st_size < 320_000


def test_the_int8_file_computes_in_int8_with_input_and_output_in_float32(tmp_path: Path) -> None:
    heads = networks.Heads(emotion_moods=(2, 0, 3, 1, 1, 1, 1, 1, 3), original=True)
    model = networks.mini_xception(48, 4, heads=heads)
    export(serving_model(model, mirror_averaging=False), tmp_path)
    interpreter = tf.lite.Interpreter(str(tmp_path / INT8_FILE))
    tensors = interpreter.get_tensor_details()
    runner = interpreter.get_signature_runner()
    assert runner.get_input_details()["image"]["dtype"] == np.float32
    assert runner.get_output_details()["probabilities"]["dtype"] == np.float32
    weights = [tensor for tensor in tensors if len(tensor["shape"]) == 4 and _channel_scales(tensor) > 1]
    assert len(weights) > 20
    assert {tensor["dtype"] for tensor in weights} == {np.int8}
    # Probabilities, of two views and of their sum, by emotion and by mood.
    shares = [tensor["dtype"] for tensor in tensors if tuple(tensor["shape"]) in {(2, 4), (1, 4)}]
    assert shares
    assert set(shares) == {np.float32}


def _channel_scales(tensor: Mapping[str, Any]) -> int:
    """How many scales a tensor is quantised by."""
    return tensor["quantization_parameters"]["scales"].size


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = sided_model()
    for name in ("first", "second"):
        export(model, tmp_path / name)
    for file in (FLOAT_FILE, INT8_FILE, to_litert.LABELS_FILE):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_the_labels_are_the_moods_in_the_order_of_the_output(tmp_path: Path) -> None:
    export(toys.brightness_model(), tmp_path)
    assert (tmp_path / to_litert.LABELS_FILE).read_text().splitlines() == list(MOODS)


def test_representative_faces_are_as_many_of_each_mood_and_the_same_for_the_same_seed() -> None:
    faces = toys.faces(80)
    chosen = to_litert.representative_faces(faces, 16, seed=3)
    brightness = np.abs(chosen.mean(axis=(1, 2))[:, None] - np.array(toys.GREYS)).argmin(axis=1)
    assert np.bincount(brightness).tolist() == [4, 4, 4, 4]
    assert (chosen == to_litert.representative_faces(faces, 16, seed=3)).all()
    assert not (chosen == to_litert.representative_faces(faces, 16, seed=4)).all()
