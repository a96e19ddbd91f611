"""Lower bound for P-Net's time on this CPU: its multiply-accumulates (MAC) over the CPU's peak rate.

P-Net over the image pyramid takes most of a detection; no implementation of the same arithmetic is faster than this.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from benchmarks.speed.timing import take_turns
from service.detector import DetectorSettings, pyramid_scales

_GEMM_SIDE: Final = 1024
_GEMM_RUNS: Final = 12


def pnet_macs(width: int, height: int, settings: DetectorSettings) -> int:
    """P-Net's MACs over the pyramid of a frame (layers: paper, figure 2; channels: the `mtcnn` package)."""
    total = 0
    for scale in pyramid_scales(width, height, settings):
        rows, columns = int(height * scale) - 2, int(width * scale) - 2
        total += rows * columns * 10 * (3 * 3 * 3)
        rows, columns = -(-rows // 2) - 2, -(-columns // 2) - 2  # pooling rounds up; the convolution has no padding
        total += rows * columns * 16 * (3 * 3 * 10)
        rows, columns = rows - 2, columns - 2
        total += rows * columns * (32 * (3 * 3 * 16) + (2 + 4) * 32)
    return total


def peak_rate(threads: int) -> float:
    """The CPU's MACs per second in ONNX Runtime: the fastest of several float32 products of 1024 x 1024 matrices."""
    shape = [_GEMM_SIDE, _GEMM_SIDE]
    a, b, product = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b", "product"))
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["product"])], "gemm", [a, b], [product])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    matrices = {name: random.standard_normal(shape, dtype=np.float32) for name in ("a", "b")}
    times = take_turns({"gemm": partial(session.run, None, matrices)}, max_turns=_GEMM_RUNS)["gemm"]
    return _GEMM_SIDE**3 / (min(times.milliseconds) / 1e3)


def measure(frames: list[tuple[int, int]], settings: dict[str, DetectorSettings], *, threads: int) -> dict[str, Any]:
    """P-Net's lower bound for each frame size and each named settings, on one thread and on several."""
    rates = {count: peak_rate(count) for count in sorted({1, threads})}
    return {
        "gmacs_per_second": {str(count): round(rate / 1e9, 1) for count, rate in rates.items()},
        "frames": [
            {
                "frame": f"{width}x{height}",
                "settings": name,
                "mmacs": round((macs := pnet_macs(width, height, chosen)) / 1e6, 1),
                "roofline_ms": {str(count): round(macs / rate * 1e3, 2) for count, rate in rates.items()},
            }
            for width, height in frames
            for name, chosen in settings.items()
        ],
    }
