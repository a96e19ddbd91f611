"""Stage `detect`: the largest face in every photo, found by the service's own detector.

Detection is separate from `prepare`, and its small output is kept in git, because the detector's floating-point results
may differ between processors. Cropping at known boxes is integer arithmetic and gives the same bytes everywhere.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.progress import track

from pipelines.data.dataset import PHOTOS_SCHEMA, count_rows, iterate_images
from pipelines.params import Params
from pipelines.paths import BUNDLE, PHOTO_BOXES, PHOTOS
from service import faces, images
from service.detector import SETTINGS_FILE, DetectorSettings, FaceDetector

COLUMNS = ("x", "y", "width", "height", "confidence", "faces")
"""Columns of the output: one row per photo, in the photos' order, with zeros if no face was found."""


def detect_largest(detector: FaceDetector, data: bytes) -> tuple[int, int, int, int, float, int]:
    """Box and confidence of the largest face in an image file, and the number of faces; zeros if there is none."""
    found = detector.detect(images.decode(data))
    if not found:
        return 0, 0, 0, 0, 0.0, 0
    face = faces.largest(found)
    return face.x, face.y, face.width, face.height, round(face.confidence, 4), len(found)


def main(photos: Path = PHOTOS, detector: Path = BUNDLE / "detector", output: Path = PHOTO_BOXES) -> None:
    """Find the largest face in every photo and write the boxes."""
    Params.read()  # new photos start here: a wrong number for a later stage must not cost the minutes of this one
    # In exact arithmetic, so that a faster service does not change the training faces.
    cascade = FaceDetector(detector, replace(DetectorSettings.read(detector / SETTINGS_FILE), exact=True))
    total = count_rows(photos, PHOTOS_SCHEMA)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        found = pool.map(lambda data: detect_largest(cascade, data), iterate_images(photos, PHOTOS_SCHEMA))
        rows = list(track(found, "Finding faces", total=total))
    output.parent.mkdir(parents=True, exist_ok=True)
    boxes = pd.DataFrame(rows, columns=list(COLUMNS))
    boxes.to_csv(output, index=False, lineterminator="\n")
    print(f"{int((boxes['faces'] > 0).sum()):,} of {total:,} photos show a face")


if __name__ == "__main__":
    main()
