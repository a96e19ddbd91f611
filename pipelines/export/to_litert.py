"""From a Keras model to the LiteRT (TensorFlow Lite) files that a phone runs, in float32 and in int8.

Both files answer as the service does, calibration included: one face in, the probabilities of the moods out. How an
app uses them: docs/android.md. Whether they are good enough is for `pipelines.package` to say.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the LiteRT converter is TensorFlow's
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pipelines.data.face_sets import FaceSet
from service.classifier import InputSpec, normalise
from service.moods import MOODS

FLOAT_FILE: Final = "mood.tflite"
INT8_FILE: Final = "mood_int8.tflite"
LABELS_FILE: Final = "labels.txt"
"""The moods in the order of the output, one a line: what Android's tools and samples read. All else that an app must
know is in the bundle's `metadata.json`, so that no fact stands twice but this."""

INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "probabilities"
REPRESENTATIVE_FACES: Final = 400
_LEAST_PROBABILITY: Final = 1e-12  # as `service.classifier.calibrate`
_HEAD: Final = ("FULLY_CONNECTED", "SOFTMAX", "SUM", "MAXIMUM", "POW", "DIV")
"""Operators that stay in float32. The dense layer is that which sums the emotions of a mood; others are small."""


def answer(network: keras.Model, *, mirror_averaging: bool, temperature: float) -> ConcreteFunction:
    """What the phone computes: float32 (1, size, size, 1), normalised, to calibrated float32 (1, moods).

    The face and its mirror image go through the network as a batch of two, as in `pipelines.export.serving_model`. As two
    calls they would be quantised each on its own, with biases and scales stored twice. Temperature scaling of
    probabilities is a power: softmax(log(p) / T) is p ** (1 / T) over its sum, whatever factor p has, so that the sum
    of the two answers does for their mean.

    Args:
        network: as `pipelines.export.serving_model.serving_model` gives it without mirror averaging.
        mirror_averaging: see `pipelines.export.serving_model.serving_model`.
        temperature: see `service.classifier.ClassifierMetadata`.
    """
    views = 2 if mirror_averaging else 1

    def function(image: tf.Tensor) -> dict[str, tf.Tensor]:
        faces = tf.concat([image, tf.reverse(image, [2])], axis=0) if mirror_averaging else image
        total = tf.reduce_sum(network(faces, training=False), axis=0, keepdims=True)
        powers = tf.pow(tf.maximum(total, _LEAST_PROBABILITY * views), 1 / temperature)
        return {OUTPUT_NAME: powers / tf.reduce_sum(powers, axis=1, keepdims=True)}

    signature = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name=INPUT_NAME)
    concrete = tf.function(function, autograph=False).get_concrete_function(signature)
    # Variables would go into the file as resources, which XNNPACK does not run and the quantiser cannot.
    return convert_variables_to_constants_v2(concrete)


def convert_float(function: ConcreteFunction) -> bytes:
    """A LiteRT file in float32; `function` as `answer` gives it."""
    return compact(_converter(function).convert())


def convert_int8(function: ConcreteFunction, faces: NDArray[np.float32]) -> bytes:
    """A LiteRT file whose network has int8 weights, a scale for each channel, and int8 activations.

    Input and output are float32, as those of the other file: an app changes a file name and nothing else. What makes
    probabilities and calibrates them stays in float32 too: int8 knows 256 of them, too few for sums and powers.

    Args:
        function: as `answer` gives it.
        faces: float32 (n, size, size, 1), normalised; the activations' ranges are measured on them.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018; LiteRT's 8-bit quantization specification.
    """
    converter = _converter(function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([face[None]] for face in faces)
    # The debugger is the converter's own way to leave operators in float; nothing is debugged.
    selective = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_HEAD)),
    )
    return compact(selective.get_nondebug_quantized_model())


def _converter(function: ConcreteFunction) -> tf.lite.TFLiteConverter:
    """The converter of a frozen function."""
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())


class _SharedVectors(schema.QuantizationParametersT):
    """Quantisation parameters that write each vector of zero points once for the whole file.

    Per-channel int8 is symmetric, so that these are all zeros, eight bytes a channel of every weight and bias: an
    eighth of the file.
    """

    cache: dict[tuple[int, ...], int]

    def Pack(self, builder: flatbuffers.Builder) -> int:
        """Write the parameters, in the place of the generated `QuantizationParametersT.Pack`."""
        key = tuple(int(value) for value in self.zeroPoint)
        if key not in self.cache:
            self.cache[key] = builder.CreateNumpyVector(np.array(key, np.int64))
        scale = builder.CreateNumpyVector(np.asarray(self.scale, np.float32))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, self.cache[key])
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


def compact(content: bytes) -> bytes:
    """The same graph in fewer bytes: no names but `INPUT_NAME` and `OUTPUT_NAME`, each vector of zero points once.

    Args:
        content: a LiteRT file with one signature, of one input and one output.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    cache: dict[tuple[int, ...], int] = {}
    for tensor in graph.tensors:
        tensor.name = None
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            shared = _SharedVectors()
            vars(shared).update(vars(tensor.quantization), cache=cache)
            tensor.quantization = shared
    for name, (index,), (entry,) in (
        (INPUT_NAME, graph.inputs, signature.inputs),
        (OUTPUT_NAME, graph.outputs, signature.outputs),
    ):
        graph.tensors[index].name = entry.name = name
    return flatbuffer_utils.convert_object_to_bytearray(model)


def representative_faces(train: FaceSet, count: int, seed: int) -> NDArray[np.uint8]:
    """Training faces to measure the activations' ranges on, uint8 (count, size, size), as many of each mood.

    Args:
        train: faces of all moods; the mood is that of the largest label share.
        count: how many, a multiple of the number of moods; fewer come where a mood has too few.
        seed: of the choice.
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
        network: see `answer`.
        spec: what the network takes.
        faces: uint8 (n, size, size); see `representative_faces`.
        directory: where to write.
        mirror_averaging: see `answer`.
        temperature: see `answer`.
    """
    function = answer(network, mirror_averaging=mirror_averaging, temperature=temperature)
    (directory / FLOAT_FILE).write_bytes(convert_float(function))
    (directory / INT8_FILE).write_bytes(convert_int8(function, normalise(faces, spec)))
    (directory / LABELS_FILE).write_text("\n".join(MOODS) + "\n")


class LiteRTClassifier:
    """A LiteRT file as an app runs it: one face at a time, on one thread."""

    def __init__(self, path: Path, spec: InputSpec) -> None:
        """Load a file that `export` wrote; `spec` says how to feed it."""
        with warnings.catch_warnings():
            # TensorFlow's interpreter points to the package ai_edge_litert, which has the same one.
            warnings.simplefilter("ignore", UserWarning)
            self._interpreter = tf.lite.Interpreter(model_content=path.read_bytes(), num_threads=1)
        self._run = self._interpreter.get_signature_runner()
        self._spec = spec

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of the moods, float32 (n, 4), of grey crops, uint8 (n, size, size)."""
        images = normalise(faces, self._spec)
        return np.concatenate([self._run(**{INPUT_NAME: image[None]})[OUTPUT_NAME] for image in images])

    def tensors(self) -> Sequence[dict[str, Any]]:
        """Shape, type and quantisation of every tensor, as the interpreter describes them."""
        return self._interpreter.get_tensor_details()
