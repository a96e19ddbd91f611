"""From a Keras model to the LiteRT (TensorFlow Lite) files that a phone runs, in float32 and in int8.

Both files compute what the service computes, calibration included: one face in, the probabilities of the moods out.
`docs/integrate/phone.md` shows how an app uses them. `pipelines.package` checks whether they are good enough.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pipelines.data.face_sets import FaceSet
from service.classifier import InputSpec, normalise
from service.moods import MOODS

FLOAT_FILE: Final = "mood.tflite"
INT8_FILE: Final = "mood_int8.tflite"
LABELS_FILE: Final = "labels.txt"
"""The moods in the order of the output, one per line, as Android's tools and samples read them. All else that an app
needs to know is in the bundle's `metadata.json`."""

INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "probabilities"
REPRESENTATIVE_FACES: Final = 400
_LEAST_PROBABILITY: Final = 1e-12  # as `service.classifier.calibrate`
_FLOAT_OPERATORS: Final = ("FULLY_CONNECTED", "SOFTMAX", "SUM", "MAXIMUM", "POW", "DIV")
"""Operators that stay in float32. The only dense layer sums the emotions of a mood."""


def calibrated(network: keras.Model, *, mirror_averaging: bool, temperature: float) -> ConcreteFunction:
    """The function that a phone computes: float32 (1, size, size, 1), normalised, to calibrated float32 (1, moods).

    With test-time augmentation the face and its horizontal flip go through the network as a batch of two, as in
    `pipelines.export.serving_model`. In two calls they would be quantised apart, with biases and scales stored twice.
    Temperature scaling of probabilities is a power: softmax(log(p) / T) is p ** (1 / T) divided by its sum. A common
    factor of p cancels, so the sum of the two predictions can replace their mean.

    Args:
        network: Result of `pipelines.export.serving_model.serving_model` without test-time augmentation.
        mirror_averaging: Whether to apply test-time augmentation.
        temperature: Temperature of the calibration; see `service.classifier.ClassifierMetadata`.
    """
    views = 2 if mirror_averaging else 1

    def predict(image: tf.Tensor) -> tf.Tensor:
        faces = tf.concat([image, tf.reverse(image, [2])], axis=0) if mirror_averaging else image
        total = tf.reduce_sum(network(faces, training=False), axis=0, keepdims=True)
        powers = tf.pow(tf.maximum(total, _LEAST_PROBABILITY * views), 1 / temperature)
        return powers / tf.reduce_sum(powers, axis=1, keepdims=True)

    signature = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name=INPUT_NAME)
    # Variables would go into the file as resources, which XNNPACK does not run and the quantiser does not support.
    frozen = convert_variables_to_constants_v2(tf.function(predict, autograph=False).get_concrete_function(signature))

    def named(image: tf.Tensor) -> dict[str, tf.Tensor]:  # freezing drops the output's name
        return {OUTPUT_NAME: tf.identity(frozen(image)[0])}

    return tf.function(named, autograph=False).get_concrete_function(signature)


def convert_float(function: ConcreteFunction) -> bytes:
    """A LiteRT file in float32 of a result of `calibrated`."""
    return _converter(function).convert()


def convert_int8(function: ConcreteFunction, faces: NDArray[np.float32]) -> bytes:
    """A LiteRT file whose network has int8 weights, one scale per channel, and int8 activations.

    Input and output are float32, so that an app can switch between the files by their names. Softmax and calibration
    stay in float32 too, because the 256 values of int8 are too few for sums and powers of probabilities.

    Args:
        function: Result of `calibrated`.
        faces: float32 (n, size, size, 1), normalised; the ranges of the activations are measured on them.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018; LiteRT's 8-bit quantization specification.
    """
    converter = _converter(function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([face[None]] for face in faces)
    # The debugger is the converter's interface for leaving operators in float32.
    selective = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_FLOAT_OPERATORS)),
    )
    return selective.get_nondebug_quantized_model()


def _converter(function: ConcreteFunction) -> tf.lite.TFLiteConverter:
    """The converter of a function without variables."""
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())


def representative_faces(train: FaceSet, count: int, seed: int) -> NDArray[np.uint8]:
    """Training faces on which to measure the ranges of the activations, uint8 (count, size, size), equal by mood.

    Args:
        train: Faces of all moods; a face counts for the mood with the largest label share.
        count: Number of faces, a multiple of the number of moods; the result has fewer if a mood has too few.
        seed: Seed of the choice.
    """
    random, moods = np.random.default_rng(seed), train.soft_labels.argmax(axis=1)
    rows = [random.permutation(np.flatnonzero(moods == mood))[: count // len(MOODS)] for mood in range(len(MOODS))]
    return train.pixels[np.concatenate(rows)]


def export(
    network: keras.Model,
    spec: InputSpec,
    faces: NDArray[np.uint8],
    directory: Path,
    *,
    mirror_averaging: bool,
    temperature: float,
) -> None:
    """Write `FLOAT_FILE`, `INT8_FILE` and `LABELS_FILE`, the same bytes for the same model and faces.

    Args:
        network: See `calibrated`.
        spec: Input of the network.
        faces: uint8 (n, size, size); see `representative_faces`.
        directory: Directory to write to.
        mirror_averaging: See `calibrated`.
        temperature: See `calibrated`.
    """
    function = calibrated(network, mirror_averaging=mirror_averaging, temperature=temperature)
    (directory / FLOAT_FILE).write_bytes(convert_float(function))
    (directory / INT8_FILE).write_bytes(convert_int8(function, normalise(faces, spec)))
    (directory / LABELS_FILE).write_text("\n".join(MOODS) + "\n")


class LiteRTClassifier:
    """A LiteRT file as an app runs it: one face at a time, on one thread."""

    def __init__(self, path: Path, spec: InputSpec) -> None:
        """Load a file that `export` wrote, for inputs as in `spec`."""
        with warnings.catch_warnings():
            # TensorFlow's interpreter recommends the package ai_edge_litert, which contains the same interpreter.
            warnings.simplefilter("ignore", UserWarning)
            interpreter = tf.lite.Interpreter(model_content=path.read_bytes(), num_threads=1)
        self._run = interpreter.get_signature_runner()
        self._spec = spec

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the moods, float32 (n, 4), for grey crops, uint8 (n, size, size)."""
        images = normalise(faces, self._spec)
        return np.concatenate([self._run(**{INPUT_NAME: image[None]})[OUTPUT_NAME] for image in images])
