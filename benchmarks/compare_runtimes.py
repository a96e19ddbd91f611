"""Which runtime serves a face faster on this machine: ONNX Runtime or LiteRT (TensorFlow Lite).

    python -m benchmarks.compare_runtimes

Not a stage: it is run by hand where the choice is to be looked at again. The two take turns in one process, on one
thread each, so that a busy machine slows both alike; the ratio counts more than the times.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the LiteRT converter is TensorFlow's
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from mtcnn.stages import StagePNet
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pipelines import paths
from pipelines.export import to_onnx
from pipelines.export.serving_model import serving_model
from pipelines.params import Params
from pipelines.train import MODEL_FILE
from service.classifier import GRAPH_FILE
from service.detector import MIN_LOGIT, NET_FILES
from service.runtime import open_session

REPORT: Final = Path("reports/runtimes.json")
_TURNS: Final = 300
_PNET_SHAPE: Final = (1, 144, 192, 3)  # the first pyramid level of a 640 x 480 frame, smallest face 40 pixels


def onnx_runner(graph: Path, image: NDArray[np.float32]) -> Callable[[], object]:
    """One inference in ONNX Runtime. P-Net's graph also picks its candidates, which its model leaves to others."""
    session = open_session(graph)
    inputs: dict[str, NDArray[np.float32]] = {to_onnx.INPUT_NAME: image}
    if any(graph_input.name == MIN_LOGIT for graph_input in session.get_inputs()):
        inputs[MIN_LOGIT] = np.array(0, np.float32)
    return lambda: session.run(None, inputs)


def litert_runner(model: keras.Model, image: NDArray[np.float32]) -> Callable[[], object]:
    """One inference in LiteRT with XNNPACK, its default on a CPU."""
    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(image.shape, tf.float32))
    # Variables would go into the file as resources: batch norms stay unfolded, and XNNPACK does not take the graph.
    frozen = convert_variables_to_constants_v2(concrete)
    content = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module()).convert()
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run() -> object:
        interpreter.set_tensor(index, image)
        interpreter.invoke()
        return [interpreter.get_tensor(output) for output in outputs]

    return run


def median_times(runners: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median milliseconds of each runner; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(turns + 20):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: round(float(np.median(values[20:])), 4) for name, values in times.items()}  # the first warm up


def main() -> None:
    """Time every candidate, and P-Net, in both runtimes; print a table and write the report."""
    random, mirror_averaging = np.random.default_rng(0), Params.read().serving.mirror_averaging
    subjects: dict[str, tuple[keras.Model, Path]] = {
        directory.name: (
            serving_model(keras.models.load_model(directory / MODEL_FILE), mirror_averaging=mirror_averaging),
            directory / GRAPH_FILE,
        )
        for directory in sorted(paths.MODELS.iterdir())
        if (directory / GRAPH_FILE).exists() and directory != paths.CHAMPION
    }
    subjects["P-Net, 192 x 144"] = (StagePNet().model, paths.BUNDLE / "detector" / NET_FILES[0])
    report, table = {}, Table("graph", "ONNX Runtime, ms", "LiteRT, ms", "LiteRT / ONNX Runtime")
    for name, (model, graph) in subjects.items():
        shape = _PNET_SHAPE if graph.name == NET_FILES[0] else (1, *model.input_shape[1:])
        image = random.uniform(-1, 1, shape).astype(np.float32)
        onnx, litert = onnx_runner(graph, image), litert_runner(model, image)
        times = median_times({"onnxruntime_ms": onnx, "litert_ms": litert}, _TURNS)
        ratio = round(times["litert_ms"] / times["onnxruntime_ms"], 3)
        report[name] = {**times, "litert_to_onnxruntime": ratio}
        table.add_row(name, f"{times['onnxruntime_ms']:.3f}", f"{times['litert_ms']:.3f}", f"{ratio:.2f}")
    Console().print(table)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
