"""Parametric ReLUs of an ONNX graph in forms that ONNX Runtime executes faster, with bit-identical results.

tf2onnx writes PReLU (He et al., "Delving Deep into Rectifiers", ICCV 2015) as five operators, `relu(x) - a relu(-x)`,
for which ONNX Runtime converts its blocked layout (NCHWc) back and forth. Two forms avoid this:

- With -1 and -a as depthwise 1x1 convolutions everything stays in blocks, and the sum is fused into one convolution.
- After the first convolution, whose maps are the largest, max pooling goes before PReLU, which then has a fraction of
  the work. PReLU with a >= 0 is monotonic and commutes with max pooling. With a < 0 it is `max(relu(x), -a relu(-x))`,
  and the maxima of x and of -x are pooled separately: the convolution also computes -x, in unused channels of its
  blocks.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_BLOCK: Final = 8
"""Smallest number of channels in a block of ONNX Runtime's layout."""

_IMAGE_CHANNELS: Final = 3

Weights = dict[str, NDArray[Any]]


class _PReLU(NamedTuple):
    """A PReLU in the graph.

    Attributes:
        convolution: Node whose output is the PReLU's input.
        slopes: float32 (channels,), slopes for negative values.
        output: Name of the result.
        nodes: The five operators, in reverse order.
    """

    convolution: onnx.NodeProto
    slopes: NDArray[np.float32]
    output: str
    nodes: tuple[onnx.NodeProto, ...]


def fuse(model: onnx.ModelProto) -> int:
    """Rewrite every PReLU that follows a convolution, in place.

    Returns:
        Number of rewritten PReLUs.
    """
    graph = model.graph
    weights: Weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = {name: node for node in graph.node for name in node.input}
    found = [unit for node in graph.node if (unit := _prelu(node, makers, weights)) is not None]
    replaced: dict[str, list[onnx.NodeProto]] = {}
    gone: set[str] = set()
    for unit in found:
        reader = readers[unit.output]
        gone |= {node.output[0] for node in unit.nodes}
        if reader.op_type == "MaxPool" and weights[unit.convolution.input[1]].shape[1] == _IMAGE_CHANNELS:
            replaced[reader.output[0]] = _pooled(unit, reader, weights)
        else:
            replaced[unit.output] = _depthwise(unit, weights)
    nodes = [
        new
        for node in graph.node
        if node.output[0] in replaced or node.output[0] not in gone
        for new in replaced.get(node.output[0], [node])
    ]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items() if name in used)
    onnx.checker.check_model(model)
    return len(found)


def _prelu(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], weights: Weights) -> _PReLU | None:
    """The PReLU that ends in a node; None if the node ends none, or if the PReLU does not follow a convolution."""
    if node.op_type != "Add" or not all(name in makers for name in node.input):
        return None
    positive, scaled = sorted((makers[name] for name in node.input), key=lambda maker: maker.op_type != "Relu")
    if (positive.op_type, scaled.op_type) != ("Relu", "Mul"):
        return None
    factors = [weights[name] for name in scaled.input if name in weights]
    rectified = [makers[name] for name in scaled.input if name in makers]
    if len(factors) != 1 or not rectified or rectified[0].op_type != "Relu":
        return None
    negated = makers[rectified[0].input[0]]
    source = makers.get(positive.input[0])
    if negated.op_type != "Neg" or negated.input[0] != positive.input[0] or source is None or source.op_type != "Conv":
        return None
    return _PReLU(source, -factors[0].ravel(), node.output[0], (node, scaled, rectified[0], negated, positive))


def _depthwise(unit: _PReLU, weights: Weights) -> list[onnx.NodeProto]:
    """A PReLU with depthwise convolutions, for layers whose channels fill the blocks: all but the nets' first ones."""
    name, channels = unit.output, len(unit.slopes)
    weights[f"{name}/minus"] = np.full((channels, 1, 1, 1), -1, np.float32)
    weights[f"{name}/slopes"] = -unit.slopes.reshape(-1, 1, 1, 1)
    x = unit.convolution.output[0]
    form: dict[str, Any] = {"group": channels, "kernel_shape": [1, 1]}
    return [
        helper.make_node("Relu", [x], [f"{name}/positive"]),
        helper.make_node("Conv", [x, f"{name}/minus"], [f"{name}/negated"], **form),
        helper.make_node("Relu", [f"{name}/negated"], [f"{name}/negative"]),
        helper.make_node("Conv", [f"{name}/negative", f"{name}/slopes"], [f"{name}/scaled"], **form),
        helper.make_node("Add", [f"{name}/scaled", f"{name}/positive"], [name]),
    ]


def _pooled(unit: _PReLU, pooling: onnx.NodeProto, weights: Weights) -> list[onnx.NodeProto]:
    """A PReLU and the max pooling after it, in reverse order."""
    name, channels = unit.output, np.arange(len(unit.slopes))
    rising, falling = channels[unit.slopes >= 0], channels[unit.slopes < 0]
    order = np.concatenate([rising, falling])
    kernel, bias = unit.convolution.input[1:3]
    spare = -(len(order) + len(falling)) % _BLOCK
    for key in (kernel, bias):
        old = weights[key]
        weights[key] = np.concatenate([old[order], -old[falling], np.zeros((spare, *old.shape[1:]), old.dtype)])
    sizes = [size for size in (len(rising), len(falling), len(falling), spare) if size]
    weights[f"{name}/sizes"] = np.array(sizes, np.int64)
    weights[f"{name}/rising"] = -unit.slopes[rising].reshape(1, -1, 1, 1)
    weights[f"{name}/falling"] = -unit.slopes[falling].reshape(1, -1, 1, 1)
    weights[f"{name}/order"] = np.argsort(order)
    pool = onnx.NodeProto()
    pool.CopyFrom(pooling)
    pool.input[:], pool.output[:] = [unit.convolution.output[0]], [f"{name}/pooled"]
    parts = [f"{name}/{part}" for part in ("up", "down", "mirrored", "spare")][: len(sizes)]
    up, down, mirrored = parts[:3]
    return [
        pool,
        helper.make_node("Split", [f"{name}/pooled", f"{name}/sizes"], parts, axis=1),
        helper.make_node("Relu", [up], [f"{up}/positive"]),
        helper.make_node("Neg", [up], [f"{up}/negated"]),
        helper.make_node("Relu", [f"{up}/negated"], [f"{up}/negative"]),
        helper.make_node("Mul", [f"{up}/negative", f"{name}/rising"], [f"{up}/scaled"]),
        helper.make_node("Add", [f"{up}/positive", f"{up}/scaled"], [f"{up}/result"]),
        helper.make_node("Relu", [down], [f"{down}/positive"]),
        helper.make_node("Relu", [mirrored], [f"{mirrored}/positive"]),
        helper.make_node("Mul", [f"{mirrored}/positive", f"{name}/falling"], [f"{mirrored}/scaled"]),
        helper.make_node("Max", [f"{down}/positive", f"{mirrored}/scaled"], [f"{down}/result"]),
        helper.make_node("Concat", [f"{up}/result", f"{down}/result"], [f"{name}/sorted"], axis=1),
        helper.make_node("Gather", [f"{name}/sorted", f"{name}/order"], list(pooling.output), axis=1),
    ]
