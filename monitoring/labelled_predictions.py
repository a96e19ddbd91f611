"""Predictions of the released model on labelled images, as rows of the prediction log with the true mood."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from monitoring.reference import ABSENT
from pipelines import paths
from pipelines.data.dataset import PHOTOS_SCHEMA, iterate_images
from pipelines.data.face_sets import FaceSet
from pipelines.data.splits import photos_of_split
from pipelines.evaluation.predictions import classify
from pipelines.params import Params
from service import images
from service.errors import NoFaceError
from service.estimator import MoodEstimator
from service.moods import MOODS
from service.observation import COLUMNS, PROBABILITIES, Observation

Pixels = NDArray[np.uint8]


def observe(estimator: MoodEstimator, pixels: Pixels) -> Observation:
    """The row that the service would log for an RGB frame, uint8 (height, width, 3)."""
    try:
        estimate = estimator.estimate_pixels(pixels)
    except NoFaceError:
        estimate = None
    frame = images.Frame(pixels, pixels.shape[1], pixels.shape[0])
    return Observation.of(frame, estimate, model=estimator.classifier.metadata, seconds=0.0)


def observe_photos(
    estimator: MoodEstimator, split: str, change: Callable[[Pixels], Pixels] = lambda frame: frame
) -> pd.DataFrame:
    """Rows of the photos of a split, processed end to end, in the order of the dataset.

    Args:
        estimator: Estimator of the bundle in question.
        split: A name out of `pipelines.data.splits.SPLITS`.
        change: Transform of each upright frame before detection; may change its size.

    Returns:
        The columns of the log without `ABSENT`, then `source` and `label`.
    """
    photos = photos_of_split(paths.PHOTOS, Params.read().prepare, split)
    files = iterate_images(paths.PHOTOS, PHOTOS_SCHEMA, photos.rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        rows = pool.map(lambda data: vars(observe(estimator, change(images.decode(data)))), files)
        table = pd.DataFrame(track(rows, "Photos", total=len(photos.rows)), columns=list(COLUMNS))
    labels = [MOODS[mood] for mood in photos.moods]
    return table.drop(columns=list(ABSENT)).assign(source="photos", label=labels)


def observe_faces(estimator: MoodEstimator, faces: FaceSet) -> pd.DataFrame:
    """Rows of FER2013 faces, which are cropped already: only the columns that follow from the probabilities."""
    probabilities = classify(estimator.classifier, faces.pixels)
    rows = {
        "model_version": estimator.classifier.metadata.version,
        "model_digest": estimator.classifier.metadata.digest,
        "outcome": "answered",
        "mood": [MOODS[index] for index in probabilities.argmax(axis=1)],
        **dict(zip(PROBABILITIES, probabilities.T, strict=True)),
        "confidence": probabilities.max(axis=1),
        "entropy": -(probabilities * np.log(probabilities.clip(1e-12))).sum(axis=1),
        "source": "fer2013",
        "label": [MOODS[mood] for mood in faces.ferplus_mood],
    }
    return pd.DataFrame(rows)
