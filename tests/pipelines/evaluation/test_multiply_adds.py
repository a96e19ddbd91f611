"""Multiply-adds, counted by hand and from graphs."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipelines.evaluation import multiply_adds
from pipelines.export import to_onnx
from pipelines.export.serving_model import serving_model
from tests.conftest import ROOT


def write(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], weights: dict[str, tuple[int, ...]]) -> Path:
    """A graph from `image` to the last node's output."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_convolutions_count_each_output_times_what_it_sums_over(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "dense"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Conv", ["a", "depthwise"], ["b"], kernel_shape=[5, 5], pads=[2] * 4, group=8),
    ]
    path = write(tmp_path / "g.onnx", nodes, ["n", 4, 10, 10], {"dense": (8, 4, 3, 3), "depthwise": (8, 1, 5, 5)})
    assert multiply_adds.count(path) == 8 * 5 * 5 * (4 * 3 * 3) + 8 * 5 * 5 * (5 * 5)


@pytest.mark.parametrize(("transposed", "shape"), [(0, (6, 4)), (1, (4, 6))])
def test_matrix_products_count_each_output_times_the_inputs(
    tmp_path: Path, transposed: int, shape: tuple[int, int]
) -> None:
    nodes = [
        helper.make_node("Gemm", ["image", "gemm"], ["a"], transB=transposed),
        helper.make_node("MatMul", ["a", "matmul"], ["b"]),
    ]
    path = write(tmp_path / "g.onnx", nodes, ["n", 6], {"gemm": shape, "matmul": (4, 3)})
    assert multiply_adds.count(path) == 4 * 6 + 3 * 4


def test_the_mirror_image_counts_too(tmp_path: Path) -> None:
    inputs = keras.Input((12, 12, 1), name="image")
    outputs = keras.layers.Conv2D(4, 3, use_bias=False)(inputs)
    outputs = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(outputs))
    model = keras.Model(inputs, outputs)
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    for path, mirror in ((once, False), (twice, True)):
        served = serving_model(model, mirror_averaging=mirror)
        to_onnx.export(served, (None, 12, 12, 1), path, [to_onnx.OUTPUT_NAME])
    assert multiply_adds.count(once) == 4 * 10 * 10 * 9
    assert multiply_adds.count(twice) == 2 * multiply_adds.count(once)


def test_the_served_graph_has_the_multiply_adds_of_the_one_that_was_evaluated() -> None:
    served = multiply_adds.count(ROOT / "bundle" / "classifier" / "mood.onnx")
    assert served == multiply_adds.count(ROOT / "models" / "champion" / "mood.onnx") == 25_401_336


def test_what_cannot_be_counted_is_an_error_that_says_why(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConvTranspose", ["image", "w"], ["a"], kernel_shape=[3, 3])]
    path = write(tmp_path / "g.onnx", nodes, ["n", 4, 10, 10], {"w": (4, 8, 3, 3)})
    with pytest.raises(ValueError, match="ConvTranspose"):
        multiply_adds.count(path)
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="no ONNX graph"):
        multiply_adds.count(path)
