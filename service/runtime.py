"""How ONNX graphs are run: the session options that the detector and the classifier share."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from service import memory


def open_session(path: Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """An inference session on the CPU.

    The default is one thread: a graph this small loses more to synchronisation than it gains, and requests already
    run in parallel. Spinning is off, so that idle threads leave the cores to other requests.

    Args:
        path: ONNX file.
        threads: Number of threads within one operator.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # An arena would never give back what the largest image took. The C library's heap, which is shared by all sessions,
    # is as fast once it keeps a few megabytes (measured).
    options.enable_cpu_mem_arena = False
    memory.configure()
    options.log_severity_level = 3  # errors; the warnings concern graph optimisation, not results
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
