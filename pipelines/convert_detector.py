"""Stage `convert_detector`: MTCNN's three nets from the installed `mtcnn` package to ONNX.

Runs once, before any face is cut. It fails where a converted net and its original disagree.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"  # the package's nets are TensorFlow models

import numpy as np
from mtcnn.stages import StageONet, StagePNet, StageRNet

from pipelines import onnx_export
from pipelines.params import read_section
from pipelines.paths import BUNDLE
from service.detector import NET_FILES, SETTINGS_FILE, DetectorSettings
from service.runtime import open_session

# Stage, side of its input (None: any), side that it is compared at, names of its outputs.
_NETS = (
    (StagePNet, None, 64, ("offsets", "probabilities")),
    (StageRNet, 24, 24, ("offsets", "probabilities")),
    (StageONet, 48, 48, ("offsets", "landmarks", "probabilities")),
)
_TOLERANCE = 1e-4


def main(directory: Path = BUNDLE / "detector") -> None:
    """Write the nets and the settings.

    Raises:
        RuntimeError: a converted net differs from its original.
    """
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for (stage, side, test_side, output_names), file in zip(_NETS, NET_FILES, strict=True):
        model = stage().model
        path = directory / file
        onnx_export.export(model, (None, side, side, 3), path, output_names)
        # Noise reaches every unit; real faces are compared, for the whole cascade, in tests/service.
        sample = random.uniform(-1, 1, (16, test_side, test_side, 3)).astype(np.float32)
        converted = open_session(path).run(list(output_names), {onnx_export.INPUT_NAME: sample})
        difference = max(
            float(np.abs(output - original.numpy()).max())
            for output, original in zip(converted, model(sample), strict=True)
        )
        if difference > _TOLERANCE:
            raise RuntimeError(f"{file} differs from the net of the mtcnn package by {difference:.2g}")
        print(f"{path}: {path.stat().st_size:,} bytes, largest difference {difference:.1e}")
    settings = read_section("detector")
    DetectorSettings(**{**settings, "thresholds": tuple(settings["thresholds"])}).write(directory / SETTINGS_FILE)


if __name__ == "__main__":
    main()
