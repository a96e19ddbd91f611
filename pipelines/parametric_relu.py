"""Parametric ReLUs of an ONNX graph as convolutions, which ONNX Runtime runs without changing the layout of tensors.

tf2onnx writes PReLU (He et al., "Delving Deep into Rectifiers", ICCV 2015) as five operators, `relu(x) - a relu(-x)`,
between which ONNX Runtime takes its blocked layout (NCHWc) apart and puts it together again. As `a x + (1 - a) relu(x)`
with two depthwise 1x1 convolutions everything stays in blocks, and the sum is fused into one of them: a quarter of
R-Net's time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_BLOCK: Final = 8
"""Channels that a block holds at least; depthwise convolutions of other numbers of channels leave the layout."""


def fuse(model: onnx.ModelProto) -> int:
    """Rewrite in place every PReLU that follows a convolution.

    Where the convolution's channels do not fill blocks, channels of zeros are added, to it and to those that follow.

    Returns:
        How many there were.
    """
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    replaced: dict[str, list[onnx.NodeProto]] = {}
    gone: set[str] = set()
    for node in graph.node:
        parts = _parts(node, makers, weights)
        if parts is None:
            continue
        positive, negated, slopes, intermediate = parts
        x, name = positive.input[0], node.output[0]
        missing = -len(slopes) % _BLOCK
        if missing:
            _pad_outputs(makers[x], weights, missing)
            _pad_inputs(graph, name, weights, missing)
        slopes = np.pad(slopes, (0, missing)).reshape(-1, 1, 1, 1)
        linear, rest = f"{name}/slope", f"{name}/rest"
        weights |= {linear: slopes, rest: 1 - slopes}
        depthwise = {"group": len(slopes), "kernel_shape": [1, 1]}
        replaced[name] = [
            helper.make_node("Conv", [x, linear], [f"{name}/linear"], **depthwise),
            helper.make_node("Conv", [positive.output[0], rest], [f"{name}/positive"], **depthwise),
            helper.make_node("Add", [f"{name}/positive", f"{name}/linear"], [name]),
        ]
        gone |= {negated.output[0], *intermediate}
    nodes = [new for node in graph.node if node.output[0] not in gone for new in replaced.get(node.output[0], [node])]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items() if name in used)
    onnx.checker.check_model(model)
    return len(replaced)


def _parts(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], weights: dict[str, NDArray[np.float32]]
) -> tuple[onnx.NodeProto, onnx.NodeProto, NDArray[np.float32], set[str]] | None:
    """Of an Add that ends a PReLU: `relu(x)`, `-x`, the slopes, and the outputs of what lies between.

    None where it ends none, or one that does not follow a convolution.
    """
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
    return positive, negated, -factors[0].ravel(), {rectified[0].output[0], scaled.output[0]}


def _pad_outputs(convolution: onnx.NodeProto, weights: dict[str, NDArray[np.float32]], count: int) -> None:
    """Give a convolution more channels, which are zero."""
    kernel, bias = convolution.input[1:3]
    weights[kernel] = np.pad(weights[kernel], ((0, count), (0, 0), (0, 0), (0, 0)))
    weights[bias] = np.pad(weights[bias], (0, count))


def _pad_inputs(graph: onnx.GraphProto, name: str, weights: dict[str, NDArray[np.float32]], count: int) -> None:
    """Let the convolutions that read a tensor, maybe through pooling, take more channels.

    Raises:
        ValueError: something else reads it.
    """
    for reader in [node for node in graph.node if name in node.input]:
        if reader.op_type == "MaxPool":
            _pad_inputs(graph, reader.output[0], weights, count)
        elif reader.op_type == "Conv":
            weights[reader.input[1]] = np.pad(weights[reader.input[1]], ((0, 0), (0, count), (0, 0), (0, 0)))
        else:
            raise ValueError(f"{reader.op_type} reads {name}, which cannot be given more channels")
