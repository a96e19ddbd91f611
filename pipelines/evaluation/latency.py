"""Time that the served graph takes for one face, beside a fixed network.

Milliseconds depend on the machine and on what else runs there. The fixed network, timed in turn with the graph, depends
on both in the same way, so that the ratio of the two times hardly does: it says how many fixed networks a face costs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.classifier import MoodClassifier
from service.runtime import open_session

_WARM_UP: Final = 25
_ROUNDS: Final = 20
_PAUSE: Final = 0.25  # seconds

_SIZE: Final = 48
_FILTERS: Final = (16, 32, 64, 96)
"""Of the fixed network's entry and its three blocks. Ratios of other filters are of another network: never change it
without measuring all candidates and the champion again."""


@dataclass(frozen=True)
class Latency:
    """Time of one face on one thread.

    Attributes:
        median_ms: Median of the fastest round, in milliseconds.
        p99_ms: 99th percentile of that round, in milliseconds.
        ratio: Median, over all rounds, of the time divided by that of the fixed network right before.
    """

    median_ms: float
    p99_ms: float
    ratio: float


def measure_latency(classifier: MoodClassifier, face: NDArray[np.uint8], predictions: int) -> Latency:
    """Time one face on one thread, from grey crop to calibrated probabilities.

    The predictions are timed in rounds with pauses. For the milliseconds the fastest round counts: other processes, on
    these cores or on their host, make the other rounds slower (the documentation of `timeit` argues alike).

    Args:
        classifier: The classifier.
        face: uint8 (size, size).
        predictions: Number of timed predictions, over all rounds.
    """
    batch, fixed = face[None], fixed_network()
    rounds: list[NDArray[np.float64]] = []
    for _ in range(_ROUNDS):
        time.sleep(_PAUSE)
        for _ in range(_WARM_UP):
            fixed()
            classifier.predict(batch)
        times = []
        for _ in range(max(1, predictions // _ROUNDS)):
            times.append((_seconds(fixed), _seconds(lambda: classifier.predict(batch))))
        rounds.append(np.array(times))
    median, p99 = min(tuple(np.percentile(one[:, 1] * 1000, [50, 99]).tolist()) for one in rounds)
    fixed_seconds, seconds = np.concatenate(rounds).T
    return Latency(median, p99, float(np.median(seconds / fixed_seconds)))


def _seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def fixed_network() -> Callable[[], Any]:
    """One prediction of the fixed network on one thread, in the runtime that serves.

    The network has the operators of the candidates (a convolution, then depthwise and pointwise ones with ReLU and
    pooling), weights from a seed, and 11.3 million multiply-adds. No release changes it.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "fixed.onnx"
        onnx.save(_graph(), path)
        session = open_session(path)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, _SIZE, _SIZE)).astype(np.float32)
    return lambda: session.run(None, {"image": image})


def _graph() -> onnx.ModelProto:
    """The fixed network: float32 (1, 1, 48, 48) to float32 (1, 4, 1, 1)."""
    random = np.random.default_rng(20)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{operator}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def convolve(source: str, channels: int, filters: int, kernel: int, groups: int = 1) -> str:
        shape = (filters, channels // groups, kernel, kernel)
        kernels = random.standard_normal(shape) / np.sqrt(channels // groups * kernel**2)
        weights.append(numpy_helper.from_array(kernels.astype(np.float32), f"weights_{len(nodes)}"))
        return add("Conv", [source, weights[-1].name], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, group=groups)

    channels = _FILTERS[0]
    value = add("Relu", [convolve("image", 1, channels, 3)])
    for filters in _FILTERS[1:]:
        value = convolve(convolve(value, channels, channels, 3, groups=channels), channels, filters, 1)
        value = convolve(add("Relu", [value]), filters, filters, 3, groups=filters)
        value = add("MaxPool", [convolve(value, filters, filters, 1)], kernel_shape=[2, 2], strides=[2, 2])
        channels = filters
    value = convolve(add("GlobalAveragePool", [value]), channels, 4, 1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, _SIZE, _SIZE])
    output = helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, 4, 1, 1])
    model = helper.make_model(
        helper.make_graph(nodes, "fixed_network", [image], [output], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model
