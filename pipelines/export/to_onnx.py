"""From a Keras model to an ONNX graph."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import keras
import onnx

from pipelines.evaluation.onnx_form import normal_form

INPUT_NAME: Final = "image"
OUTPUT_NAME: Final = "probabilities"
"""Name of the output of a mood classifier's graph."""


def export(model: keras.Model, input_shape: Sequence[int | None], path: Path, output_names: Sequence[str]) -> None:
    """Write a Keras model as an ONNX file in normal form: the same bytes for the same model.

    Args:
        model: Keras 3 model with one image input.
        input_shape: Shape of the input, channels last, with the batch axis; None for a free axis.
        path: File to write.
        output_names: Names for the graph's outputs, in the model's order. The input is called `INPUT_NAME`.

    Raises:
        ValueError: the number of output names is not the number of outputs.
    """
    signature = [keras.InputSpec(shape=tuple(input_shape), dtype="float32", name=INPUT_NAME)]
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "raw.onnx"
        model.export(raw, format="onnx", verbose=False, input_signature=signature)
        proto = onnx.load(raw)
    _rename(proto.graph, proto.graph.input, [INPUT_NAME])
    _rename(proto.graph, proto.graph.output, output_names)
    proto = normal_form(proto)
    proto.graph.name = model.name
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _rename(graph: onnx.GraphProto, values: Sequence[onnx.ValueInfoProto], names: Sequence[str]) -> None:
    """Rename inputs or outputs of a graph wherever they occur in it."""
    if len(values) != len(names):
        raise ValueError(f"the graph has {len(values)} values, {len(names)} names were given")
    renamed = {value.name: name for value, name in zip(values, names, strict=True)}
    for value, name in zip(values, names, strict=True):
        value.name = name
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
