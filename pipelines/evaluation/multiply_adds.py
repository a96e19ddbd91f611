"""Multiply-adds of an ONNX graph: what one prediction costs, counted from shapes, the same on every machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import onnx

_COUNTED: Final = {"Conv": slice(1, None), "Gemm": slice(0, 1), "MatMul": slice(-2, -1)}
"""Operators that multiply and add, and the axes of their weights that a number of the output sums over."""
_UNCOUNTED: Final = (
    *("Attention", "ConvInteger", "ConvTranspose", "Einsum", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
    *("GRU", "LSTM", "RNN", "If", "Loop", "Scan"),
)
"""Operators that multiply and add, or hold graphs that may, and would be missed."""


def count(path: Path) -> int:
    """Multiply-adds of convolutions and matrix products for one image.

    Args:
        path: ONNX file with one image input; a free axis of it counts as 1.

    Raises:
        ValueError: the file is no ONNX graph, or has operators or shapes that cannot be counted.
    """
    try:
        model = onnx.load(path)
        for value in model.graph.input:
            for axis in value.type.tensor_type.shape.dim:
                axis.dim_value = axis.dim_value or 1
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except Exception as error:  # protobuf and ONNX have no common class of errors
        raise ValueError(f"{path} is no ONNX graph whose shapes are known: {error}") from error
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in _UNCOUNTED:
            raise ValueError(f"{path} has the operator {node.op_type}, whose multiply-adds are not counted")
        if node.op_type in _COUNTED:
            output, weights = shapes.get(node.output[0], []), shapes.get(node.input[1], [])
            summed = weights[_COUNTED[node.op_type]]
            if node.op_type == "Gemm" and any(one.name == "transB" and one.i for one in node.attribute):
                summed = weights[1:]
            cost = math.prod(output) * math.prod(summed)
            if not output or not summed or not cost:
                raise ValueError(f"{path}: the shapes of the {node.op_type} {node.name!r} are not known")
            total += cost
    return total
