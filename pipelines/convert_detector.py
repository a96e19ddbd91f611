"""Stage `convert_detector`: MTCNN's three nets from the installed `mtcnn` package to ONNX.

Runs once, before any face is cut. It fails where a converted net differs from its original, or where the service's
cascade does not find, on real photos and at the package's own settings, the faces that the package finds.
"""

from __future__ import annotations

import json
import os
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"  # the package's nets are TensorFlow models

import numpy as np
import onnx
import pyarrow.parquet as pq
from mtcnn import MTCNN
from mtcnn.stages import StageONet, StagePNet, StageRNet
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pipelines import paths
from pipelines.export import prelu, to_onnx
from pipelines.params import Params
from service import images
from service.detector import MIN_LOGIT, NET_FILES, SETTINGS_FILE, DetectorSettings, Face, FaceDetector
from service.runtime import open_session

# Stage, side of its input (None: any), side that it is compared at, names of its outputs.
_NETS = (
    (StagePNet, None, 64, ("offsets", "probabilities")),
    (StageRNet, 24, 24, ("offsets", "probabilities")),
    (StageONet, 48, 48, ("offsets", "landmarks", "probabilities")),
)
LICENSE_FILE = "LICENSE"
_NET_TOLERANCE = 1e-4
_PHOTOS = 64
_MIN_IOU, _MAX_CONFIDENCE_DIFFERENCE, _MIN_MATCHED = 0.9, 0.02, 0.99


def convert(directory: Path) -> float:
    """Write the three nets.

    Returns:
        The largest difference of an output, converted against original, on noise (which reaches every unit).

    Raises:
        RuntimeError: a converted net differs from its original by more than 1e-4.
    """
    random = np.random.default_rng(0)
    largest = 0.0
    for (stage, side, test_side, output_names), file in zip(_NETS, NET_FILES, strict=True):
        model = stage().model
        to_onnx.export(model, (None, side, side, 3), directory / file, output_names)
        proto = onnx.load(directory / file)
        prelu.fuse(proto)
        if stage is StagePNet:
            _select_candidates(proto)
        onnx.save(proto, directory / file)
        sample = random.uniform(-1, 1, (16, test_side, test_side, 3)).astype(np.float32)
        originals = [output.numpy() for output in model(sample)]
        inputs = {to_onnx.INPUT_NAME: sample}
        if stage is StagePNet:  # one image, and every cell of its maps is a candidate
            inputs = {to_onnx.INPUT_NAME: sample[:1], MIN_LOGIT: np.array(-np.inf, np.float32)}
            originals = [original[0].reshape(-1, original.shape[-1]) for original in originals]
        converted = open_session(directory / file).run(list(output_names), inputs)
        difference = max(
            float(np.abs(output - original).max()) for output, original in zip(converted, originals, strict=True)
        )
        if difference > _NET_TOLERANCE:
            raise RuntimeError(f"{file} differs from the net of the mtcnn package by {difference:.2g}")
        largest = max(largest, difference)
    return largest


def _select_candidates(proto: onnx.ModelProto) -> None:
    """Rewrite in place what P-Net ends in, so that it hands out candidates instead of maps.

    Nearly all cells of the maps are no faces. One convolution makes offsets and logits, the logit's difference to that
    of no face tells the candidates, and only theirs go through the softmax. For one image; beside it the graph takes
    `MIN_LOGIT`, a scalar that the difference must exceed, and it has the outputs `cells` int64 (n, 2), rows (row,
    column) in the order of the map, `offsets` float32 (n, 4) and `probabilities` float32 (n, 2).
    """
    graph = proto.graph
    makers = {node.output[0]: node for node in graph.node}
    heads = []
    for output in graph.output:  # offsets, probabilities
        node = makers[output.name]
        while node.op_type != "Conv":
            graph.node.remove(node)
            node = makers[node.input[0]]
        graph.node.remove(node)
        heads.append(node)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernel, bias = (np.concatenate([weights[head.input[index]] for head in heads]) for index in (1, 2))
    constants = {"kernel": kernel, "bias": bias, "parts": np.array([4, 1, 1]), "pair": np.array([4, 2])}
    constants |= {"columns": np.array([6, -1]), "flat": np.array([-1]), "from": np.array([2]), "to": np.array([4])}
    graph.initializer.extend(numpy_helper.from_array(value, f"heads/{name}") for name, value in constants.items())
    x = heads[0].input[0]
    graph.node.extend(
        helper.make_node(operator, [*map(_head, inputs)], [*map(_head, outputs)], **attributes)
        for operator, inputs, outputs, attributes in (
            ("Conv", ["kernel", "bias"], ["maps"], {"kernel_shape": [1, 1]}),
            ("Split", ["maps", "parts"], ["corrections", "no face", "face"], {"axis": 1}),
            ("Sub", ["face", "no face"], ["logits"], {}),
            ("Greater", ["logits", MIN_LOGIT], ["chosen"], {}),
            ("NonZero", ["chosen"], ["places"], {}),
            ("Slice", ["places", "from", "to"], ["rows and columns"], {}),
            ("Transpose", ["rows and columns"], ["cells"], {"perm": [1, 0]}),
            ("Reshape", ["chosen", "flat"], ["chosen of all"], {}),
            ("NonZero", ["chosen of all"], ["index"], {}),
            ("Reshape", ["index", "flat"], ["indices"], {}),
            ("Reshape", ["maps", "columns"], ["all"], {}),
            ("Gather", ["all", "indices"], ["candidates"], {"axis": 1}),
            ("Transpose", ["candidates"], ["rows"], {"perm": [1, 0]}),
            ("Split", ["rows", "pair"], ["offsets", "both"], {"axis": 1}),
            ("Softmax", ["both"], ["probabilities"], {"axis": 1}),
        )
    )
    next(node for node in graph.node if node.output[0] == "heads/maps").input.insert(0, x)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    graph.input.append(helper.make_tensor_value_info(MIN_LOGIT, onnx.TensorProto.FLOAT, []))
    del graph.output[:]
    for name, kind, columns in (("cells", "INT64", 2), ("offsets", "FLOAT", 4), ("probabilities", "FLOAT", 2)):
        graph.output.append(helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), ["n", columns]))
    onnx.checker.check_model(proto)


def _head(name: str) -> str:
    """Name of a value in P-Net's rewritten end: its inputs and outputs keep theirs."""
    return name if name in (MIN_LOGIT, "cells", "offsets", "probabilities") else f"heads/{name}"


def compare_cascades(directory: Path, photos: list[NDArray[np.uint8]]) -> dict[str, float | int]:
    """How the service's cascade agrees with the package's, both at the package's settings.

    Args:
        directory: holds the converted nets.
        photos: uint8 (height, width, 3) RGB each.

    Returns:
        Faces that the package found, the share of them that the cascade matches (intersection over union of at
        least 0.9), faces that only the cascade found, and the largest difference in confidence of a matched face.
    """
    ours, theirs = FaceDetector(directory, DetectorSettings()), MTCNN()
    found, matched, extra, difference = 0, 0, 0, 0.0
    for photo in photos:
        unmatched = ours.detect(photo)
        for other in theirs.detect_faces(photo):
            found += 1
            best = max(unmatched, key=lambda face: intersection_over_union(face, other["box"]), default=None)
            if best is not None and intersection_over_union(best, other["box"]) >= _MIN_IOU:
                unmatched.remove(best)
                matched += 1
                difference = max(difference, abs(best.confidence - float(other["confidence"])))
        extra += len(unmatched)
    return {
        "photos": len(photos),
        "faces": found,
        "matched": round(matched / max(found, 1), 4),
        "extra": extra,
        "largest_confidence_difference": round(difference, 6),
    }


def intersection_over_union(face: Face, box: list[int]) -> float:
    """Overlap of a face and a box (x, y, width, height), both in pixels, in [0, 1]."""
    x, y, width, height = box
    overlap_width = min(face.x + face.width, x + width) - max(face.x, x)
    overlap_height = min(face.y + face.height, y + height) - max(face.y, y)
    overlap = max(0, overlap_width) * max(0, overlap_height)
    return overlap / (face.width * face.height + width * height - overlap)


def sample_photos(path: Path, count: int) -> list[NDArray[np.uint8]]:
    """Photos from all over the dataset, decoded."""
    column = pq.read_table(path, columns=["image"])["image"]
    rows = np.linspace(0, len(column) - 1, count).astype(int)
    return [images.decode(column[int(row)].as_py()["bytes"]) for row in rows]


def main() -> None:
    """Convert, compare, write the settings and the report.

    Raises:
        RuntimeError: converted and original do not agree.
    """
    directory = paths.BUNDLE / "detector"
    directory.mkdir(parents=True, exist_ok=True)
    report = {"largest_net_difference": float(f"{convert(directory):.1e}")}
    report |= compare_cascades(directory, sample_photos(paths.PHOTOS, _PHOTOS))
    print(json.dumps(report, indent=2))
    if report["matched"] < _MIN_MATCHED or report["largest_confidence_difference"] > _MAX_CONFIDENCE_DIFFERENCE:
        raise RuntimeError(f"the cascade does not find what the mtcnn package finds: {report}")
    Params.read().detector.write(directory / SETTINGS_FILE)
    # The weights are the package's; its licence asks to be handed on with them.
    (directory / LICENSE_FILE).write_text(metadata.distribution("mtcnn").read_text("LICENSE") or "")
    paths.DETECTOR_AGREEMENT.parent.mkdir(parents=True, exist_ok=True)
    paths.DETECTOR_AGREEMENT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
