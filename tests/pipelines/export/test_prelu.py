"""`pipelines.export.prelu`: quicker forms of PReLU, with the very same results."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from pipelines.export import prelu

CHANNELS = (10, 16)


def net(slopes: tuple[np.ndarray, np.ndarray]) -> onnx.ModelProto:
    """The first layers of P-Net as tf2onnx writes them, with random weights: two convolutions, a pooling between."""
    random = np.random.default_rng(0)
    nodes, weights, x = [], [], "image"
    for index, (before, channels) in enumerate(zip((3, CHANNELS[0]), CHANNELS, strict=True)):
        kernel = random.normal(size=(channels, before, 3, 3)).astype(np.float32)
        bias, negative = random.normal(size=channels).astype(np.float32), -slopes[index].reshape(1, -1, 1, 1)
        for name, value in (("kernel", kernel), ("bias", bias), ("slopes", negative)):
            weights.append(numpy_helper.from_array(value, f"{name}{index}"))
        nodes += [
            helper.make_node("Conv", [x, f"kernel{index}", f"bias{index}"], [f"conv{index}"], kernel_shape=[3, 3]),
            helper.make_node("Relu", [f"conv{index}"], [f"positive{index}"]),
            helper.make_node("Neg", [f"conv{index}"], [f"negated{index}"]),
            helper.make_node("Relu", [f"negated{index}"], [f"negative{index}"]),
            helper.make_node("Mul", [f"negative{index}", f"slopes{index}"], [f"scaled{index}"]),
            helper.make_node("Add", [f"positive{index}", f"scaled{index}"], [f"prelu{index}"]),
        ]
        x = f"prelu{index}"
        if index == 0:
            nodes.append(helper.make_node("MaxPool", [x], ["pool"], kernel_shape=[2, 2], strides=[2, 2]))
            x = "pool"
    nodes.append(helper.make_node("Identity", [x], ["result"]))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, "rows", "columns"])
    result = helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, [1, CHANNELS[1], None, None])
    graph = helper.make_graph(nodes, "net", [image], [result], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("falling", [1, 3, 5])
def test_the_results_are_the_same_to_the_last_bit_whatever_the_signs_of_the_slopes(falling: int) -> None:
    random = np.random.default_rng(falling)
    slopes = tuple(random.uniform(0.1, 1.3, size).astype(np.float32) for size in CHANNELS)
    slopes[0][random.permutation(CHANNELS[0])[:falling]] *= -1
    slopes[1][::2] *= -1
    model, image = net(slopes), random.normal(size=(1, 3, 37, 52)).astype(np.float32)
    before = run(model, image)
    assert prelu.fuse(model) == 2
    np.testing.assert_array_equal(run(model, image), before)


def test_none_of_the_five_operators_is_left_behind_at_full_size() -> None:
    model = net(tuple(np.linspace(-1, 1, size).astype(np.float32) for size in CHANNELS))
    prelu.fuse(model)
    order = [node.op_type for node in model.graph.node]
    assert order[:2] == ["Conv", "MaxPool"]
    assert "Neg" not in order[order.index("Gather") :]
