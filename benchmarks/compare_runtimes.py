"""Inference time of ONNX Runtime and of LiteRT (TensorFlow Lite) for one face, and for P-Net.

    python -m benchmarks.compare_runtimes

Not a stage: it is run by hand to review the choice of the runtime. The two take turns in one process, on one thread
each, so that other load slows both alike; the ratio means more than the times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import keras
import numpy as np
import tensorflow as tf
from mtcnn.stages import StagePNet
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from benchmarks.speed.timing import take_turns
from pipelines import paths
from pipelines.export import to_onnx
from pipelines.export.serving_model import serving_model
from pipelines.params import Params
from pipelines.registry.candidates import MODEL_FILE
from service.classifier import GRAPH_FILE
from service.detector import MIN_LOGIT, NET_FILES
from service.runtime import open_session

REPORT: Final = Path("reports/runtimes.json")
_TURNS: Final = 300
_PNET_SHAPE: Final = (1, 144, 192, 3)  # the first pyramid level of a 640 x 480 frame if the smallest face is 40 pixels


def onnx_inference(graph: Path, image: NDArray[np.float32]) -> Callable[[], object]:
    """One inference in ONNX Runtime. P-Net's graph includes the selection of candidates; its Keras model does not."""
    session = open_session(graph)
    inputs: dict[str, NDArray[np.float32]] = {to_onnx.INPUT_NAME: image}
    if any(graph_input.name == MIN_LOGIT for graph_input in session.get_inputs()):
        inputs[MIN_LOGIT] = np.array(0, np.float32)
    return lambda: session.run(None, inputs)


def litert_inference(model: keras.Model, image: NDArray[np.float32]) -> Callable[[], object]:
    """One inference in LiteRT with XNNPACK, its default on a CPU."""
    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(image.shape, tf.float32))
    # As resource variables, weights would keep batch norms unfolded, and XNNPACK would not accept the graph.
    frozen = convert_variables_to_constants_v2(concrete)
    content = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module()).convert()
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def infer() -> object:
        interpreter.set_tensor(index, image)
        interpreter.invoke()
        return [interpreter.get_tensor(output) for output in outputs]

    return infer


def main(report: Path = REPORT, turns: int = _TURNS) -> None:
    """Time every candidate, and P-Net, in both runtimes; print a table and write the report."""
    random, mirror_averaging = np.random.default_rng(0), Params.read().serving.mirror_averaging
    models: dict[str, tuple[keras.Model, Path]] = {
        directory.name: (
            serving_model(keras.models.load_model(directory / MODEL_FILE), mirror_averaging=mirror_averaging),
            directory / GRAPH_FILE,
        )
        for directory in sorted(paths.MODELS.iterdir())
        if (directory / GRAPH_FILE).exists() and directory != paths.CHAMPION
    }
    models["P-Net, 192 x 144"] = (StagePNet().model, paths.BUNDLE / "detector" / NET_FILES[0])
    content, table = {}, Table("graph", "ONNX Runtime, ms", "LiteRT, ms", "LiteRT / ONNX Runtime")
    for name, (model, graph) in models.items():
        shape = _PNET_SHAPE if graph.name == NET_FILES[0] else (1, *model.input_shape[1:])
        image = random.uniform(-1, 1, shape).astype(np.float32)
        inferences = {"onnx": onnx_inference(graph, image), "litert": litert_inference(model, image)}
        times = take_turns(inferences, max_turns=turns)
        onnx, litert = round(times["onnx"].median, 4), round(times["litert"].median, 4)
        ratio = round(litert / onnx, 3)
        content[name] = {"onnxruntime_ms": onnx, "litert_ms": litert, "litert_to_onnxruntime": ratio}
        table.add_row(name, f"{onnx:.3f}", f"{litert:.3f}", f"{ratio:.2f}")
    Console().print(table)
    report.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
