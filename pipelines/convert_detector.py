"""Stage `convert_detector`: MTCNN's three nets from the installed `mtcnn` package to ONNX.

Runs once, before any face is cut. It fails if a converted net differs from its original, or if the service's cascade
does not find the faces that the package finds on real photos at the package's own settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the package's nets are TensorFlow models

import numpy as np
import onnx
from mtcnn.stages import StageONet, StagePNet, StageRNet

from pipelines import paths
from pipelines.evaluation.agreement import MIN_MATCHED, Agreement, Pixels, mtcnn_package, sample_photos
from pipelines.export import pnet, prelu, to_onnx
from pipelines.params import Params
from service.detector import MIN_LOGIT, NET_FILES, SETTINGS_FILE, DetectorSettings, FaceDetector
from service.runtime import open_session

# Stage, side of its input (None: any), side that it is compared at, names of its outputs.
_NETS: Final = (
    (StagePNet, None, 64, ("offsets", "probabilities")),
    (StageRNet, 24, 24, ("offsets", "probabilities")),
    (StageONet, 48, 48, ("offsets", "landmarks", "probabilities")),
)
LICENSE_FILE: Final = "LICENSE"
_NET_TOLERANCE: Final = 1e-4
_PHOTOS: Final = 64


def convert(directory: Path) -> float:
    """Write the three nets.

    Returns:
        The largest difference of an output between converted and original net. The input is noise, which reaches every
        unit.

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
            pnet.select_candidates(proto)
        onnx.save(proto, directory / file)
        sample = random.uniform(-1, 1, (16, test_side, test_side, 3)).astype(np.float32)
        originals = [output.numpy() for output in model(sample)]
        inputs = {to_onnx.INPUT_NAME: sample}
        if stage is StagePNet:  # one image; with this bound every cell of its maps is a candidate
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


def compare_cascades(directory: Path, photos: Sequence[Pixels]) -> dict[str, Any]:
    """Agreement of the service's cascade with the package, both at the package's settings.

    Args:
        directory: Directory of the converted nets.
        photos: Photos to compare on.

    Returns:
        Number of photos and of the package's faces, the share of these faces that the cascade matches, the number of
        faces that only the cascade found, and the largest difference in confidence of a matched face.
    """
    ours, theirs = FaceDetector(directory, DetectorSettings()), mtcnn_package()
    found = sum((Agreement.of(ours.detect(photo), theirs(photo)) for photo in photos), Agreement())
    return {
        "photos": found.images,
        "faces": found.faces,
        "matched": round(found.matched / max(found.faces, 1), 4),
        "extra": found.extra,
        "largest_confidence_difference": found.confidence_difference,
    }


def main() -> None:
    """Convert, compare, write settings and report.

    Raises:
        RuntimeError: converted and original nets do not agree.
    """
    settings, directory = Params.read().detector, paths.BUNDLE / "detector"
    directory.mkdir(parents=True, exist_ok=True)
    report = {"largest_net_difference": float(f"{convert(directory):.1e}")}
    report |= compare_cascades(directory, sample_photos(paths.PHOTOS, _PHOTOS))
    print(json.dumps(report, indent=2))
    if report["matched"] < MIN_MATCHED:
        raise RuntimeError(f"the cascade does not find what the mtcnn package finds: {report}")
    settings.write(directory / SETTINGS_FILE)
    # The package's licence must go with its weights.
    (directory / LICENSE_FILE).write_text(metadata.distribution("mtcnn").read_text("LICENSE") or "")
    paths.DETECTOR_AGREEMENT.parent.mkdir(parents=True, exist_ok=True)
    paths.DETECTOR_AGREEMENT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
