"""Stage `reference`: what the champion answers on labelled pictures, as the rows that the service logs.

Live predictions are compared with these by the package `monitoring`; a champion's reference lies in its bundle, so
that it is never compared with another's. Two kinds of rows, told apart by the column `source`:

- `photos`: the validation photos, through the whole path from bytes to mood. They stand for every column.
- `fer2013`: FER2013's validation faces, through the classifier alone. Faces of 48 grey pixels are no camera frames,
  so that these have only the moods and what follows from them; they say how often the champion is right at which
  confidence, on moods that are scarce among the photos.

Each row also has the true mood (`label`). What a labelled picture cannot have is left out: time, request, latency.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.progress import track

from pipelines import paths
from pipelines.data.dataset import PHOTOS_SCHEMA, iterate_images
from pipelines.data.face_sets import FaceSet
from pipelines.data.splits import photos_of_split
from pipelines.params import Params
from service import images
from service.errors import NoFaceError
from service.estimator import MoodEstimator
from service.moods import MOODS
from service.observation import COLUMNS, PROBABILITIES, Observation

REFERENCE_FILE: Final = "reference.parquet"
DIRECTORY: Final = paths.BUNDLE / "reference"
ABSENT: Final = ("time", "request", "latency_ms")
"""Columns of the log that the reference lacks."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledPhotos:
    """The photos of one split, whether or not a face is found in them.

    Attributes:
        data: the image files.
        moods: (n,), the true mood of each, by name.
    """

    data: list[bytes]
    moods: list[str]

    @classmethod
    def of(cls, split: str, path: Path = paths.PHOTOS) -> LabelledPhotos:
        """The photos of a split, as the stage `prepare` splits them."""
        photos = photos_of_split(path, Params.read().prepare, split)
        data = list(iterate_images(path, PHOTOS_SCHEMA, photos.rows))
        return cls(data, [MOODS[mood] for mood in photos.moods])


def observe(estimator: MoodEstimator, pixels: Pixels) -> Observation:
    """The row that the service would log for a frame, uint8 (height, width, 3), RGB."""
    try:
        estimate = estimator.estimate_pixels(pixels)
    except NoFaceError:
        estimate = None
    frame = images.Frame(pixels, pixels.shape[1], pixels.shape[0])
    return Observation.of(frame, estimate, model_version=estimator.classifier.metadata.version, seconds=0.0)


def observe_photos(
    estimator: MoodEstimator, photos: LabelledPhotos, change: Callable[[Pixels], Pixels] = lambda frame: frame
) -> pd.DataFrame:
    """Rows of photos, in their order, with the columns of the log but `ABSENT`, `source` and `label`.

    Args:
        estimator: of the bundle that is looked at.
        photos: to be sent through it.
        change: done to each upright frame first; may change its size.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        rows = pool.map(lambda data: observe(estimator, change(images.decode(data))), photos.data)
        return _table(track(rows, "Looking at photos", total=len(photos.data)), "photos", photos.moods)


def observe_faces(estimator: MoodEstimator, faces: FaceSet) -> pd.DataFrame:
    """Rows of faces that were cut out already: the columns that follow from the probabilities, and no others."""
    probabilities = np.concatenate(
        [estimator.classifier.predict(faces.pixels[start : start + 256]) for start in range(0, len(faces), 256)]
    ).astype(np.float64)
    rows = {
        "model_version": estimator.classifier.metadata.version,
        "outcome": "answered",
        "mood": [MOODS[index] for index in probabilities.argmax(axis=1)],
        **dict(zip(PROBABILITIES, probabilities.T, strict=True)),
        "confidence": probabilities.max(axis=1),
        "entropy": -(probabilities * np.log(probabilities.clip(1e-12))).sum(axis=1),
        "source": "fer2013",
        "label": [MOODS[mood] for mood in faces.ferplus_mood],
    }
    return pd.DataFrame(rows)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write rows, numbers in single precision: five decimal places were kept of them."""
    numbers = {name: "float32" for name in table if name not in ("model_version", "outcome", "mood", "source", "label")}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(table.astype(numbers), preserve_index=False), path, compression="zstd")


def _table(rows: Iterable[Observation], source: str, labels: list[str]) -> pd.DataFrame:
    """Observations as a table with their source and labels."""
    table = pd.DataFrame([vars(row) for row in rows], columns=list(COLUMNS)).drop(columns=list(ABSENT))
    return table.assign(source=source, label=labels)


def main() -> None:
    """Write the reference of the bundle's champion."""
    estimator = MoodEstimator.load(paths.BUNDLE)
    faces = FaceSet.load(paths.FACES / "validation.npz").of_source("fer2013")
    photos = observe_photos(estimator, LabelledPhotos.of("validation"))
    table = pd.concat([photos, observe_faces(estimator, faces)], ignore_index=True)
    write(table, DIRECTORY / REFERENCE_FILE)
    without = int((photos["outcome"] == "no_face").sum())
    print(
        f"{len(photos):,} photos, {without} of them without a face, and {len(faces):,} faces of FER2013 are in "
        f"{DIRECTORY / REFERENCE_FILE}, {(DIRECTORY / REFERENCE_FILE).stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
