"""How fast P-Net could be on this CPU: its multiply-adds over the rate at which the CPU does them.

P-Net over the image pyramid is nearly all of a detection; no arrangement of the same arithmetic is faster than this.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from service.detector import DetectorSettings, pyramid_scales

_GEMM_SIDE: Final = 1024
_GEMM_RUNS: Final = 12


def pnet_multiply_adds(width: int, height: int, settings: DetectorSettings) -> int:
    """Multiply-adds of P-Net over the pyramid of a frame (layers: paper, figure 2; channels: the `mtcnn` package)."""
    total = 0
    for scale in pyramid_scales(width, height, settings):
        rows, columns = int(height * scale) - 2, int(width * scale) - 2
        total += rows * columns * 10 * (3 * 3 * 3)
        rows, columns = -(-rows // 2) - 2, -(-columns // 2) - 2  # pooled, rounding up; then without a border
        total += rows * columns * 16 * (3 * 3 * 10)
        rows, columns = rows - 2, columns - 2
        total += rows * columns * (32 * (3 * 3 * 16) + (2 + 4) * 32)
    return total


def multiply_adds_per_second(threads: int) -> float:
    """The CPU's rate in ONNX Runtime: the fastest of several products of two float32 matrices of 1024 x 1024."""
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
    fastest = float("inf")
    for _ in range(_GEMM_RUNS):
        started = time.perf_counter()
        session.run(None, matrices)
        fastest = min(fastest, time.perf_counter() - started)
    return _GEMM_SIDE**3 / fastest


def floors(frames: list[tuple[int, int]], settings: dict[str, DetectorSettings], *, threads: int) -> dict[str, Any]:
    """P-Net's floor at each size of a frame, for each named choice of settings, on one thread and on several."""
    rates = {count: multiply_adds_per_second(count) for count in sorted({1, threads})}
    return {
        "gigamultiply_adds_per_second": {str(count): round(rate / 1e9, 1) for count, rate in rates.items()},
        "frames": [
            {
                "frame": f"{width}x{height}",
                "settings": name,
                "megamultiply_adds": round((work := pnet_multiply_adds(width, height, chosen)) / 1e6, 1),
                "floor_ms": {str(count): round(work / rate * 1e3, 2) for count, rate in rates.items()},
            }
            for width, height in frames
            for name, chosen in settings.items()
        ],
    }
