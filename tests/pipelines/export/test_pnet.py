"""`pipelines.export.pnet`: P-Net returns its candidates, with the numbers of its maps."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipelines.export import pnet
from service.detector import MIN_LOGIT

CHANNELS = 5


def net() -> onnx.ModelProto:
    """The end of P-Net as tf2onnx writes it, with random weights: maps of offsets and of softmax probabilities."""
    random, nodes, weights = np.random.default_rng(0), [], []
    for name, outputs in (("offsets", 4), ("probabilities", 2)):
        kernel, bias = random.normal(size=(outputs, CHANNELS, 1, 1)), random.normal(size=outputs)
        weights += [
            numpy_helper.from_array(kernel.astype(np.float32), f"{name} kernel"),
            numpy_helper.from_array(bias.astype(np.float32), f"{name} bias"),
        ]
        nodes.append(helper.make_node("Conv", ["image", f"{name} kernel", f"{name} bias"], [f"{name} map"]))
    nodes += [
        helper.make_node("Transpose", ["offsets map"], ["offsets"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["probabilities map"], ["logits"], perm=[0, 2, 3, 1]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=3),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, CHANNELS, "rows", "columns"])
    outputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, size])
        for name, size in (("offsets", 4), ("probabilities", 2))
    ]
    graph = helper.make_graph(nodes, "net", [image], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model: onnx.ModelProto, **inputs: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_the_candidates_are_the_cells_above_the_threshold_with_the_numbers_of_the_maps(threshold: float) -> None:
    model, image = net(), np.random.default_rng(1).normal(size=(1, CHANNELS, 9, 13)).astype(np.float32)
    maps = run(model, image=image)
    pnet.select_candidates(model)
    with np.errstate(divide="ignore"):
        logit = np.log(threshold) - np.log1p(-threshold)
    candidates = run(model, **{"image": image, MIN_LOGIT: np.array(logit, np.float32)})
    expected = np.argwhere(maps["probabilities"][0, ..., 1] > threshold)
    assert (0 < len(expected) < 9 * 13) == (0 < threshold < 1)
    np.testing.assert_array_equal(candidates["cells"], expected)
    for name in ("offsets", "probabilities"):
        np.testing.assert_allclose(candidates[name], maps[name][0][tuple(expected.T)], atol=1e-6)
