"""Groups of labelled faces from which the rule of `service.quality` is fitted, and on which it is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.data.dataset import PHOTOS_SCHEMA, iterate_images
from pipelines.data.splits import PhotoSplit
from pipelines.evaluation import corruptions
from pipelines.evaluation.predictions import Predictions, classify
from pipelines.training import corruptions as transforms
from pipelines.training.corruptions import Face
from service import faces, images
from service.classifier import MoodClassifier
from service.estimator import MoodEstimator
from service.moods import MOODS
from service.quality import Measures

CLEAN: Final = "clean"
"""Name of the group of faces as they are."""

MEASURES: Final = tuple(field.name for field in fields(Measures))

FEWEST: Final = 60
"""Fewest faces of a group; fewer cannot tell."""

FEWEST_POSED: Final = 200
"""Fewest photos of a pose: with fewer, a limit on the error would refuse answers for want of photos, not for errors.
The 131 validation photos with a turn of more than 20 degrees have no more errors than the others."""

POSES: Final[Mapping[str, tuple[str, float]]] = {
    "turned": ("turn", 20.0),
    "tilted": ("tilt", 10.0),
    "cut_off": ("outside", 0.05),
}
"""Groups of photos by a measure that crops do not tell, and the value above which a photo is in the group."""


def _cut_off(face: Face, random: np.random.Generator) -> Face:
    """A face of which the image's edge cuts off a quarter; the edge pixels are repeated, as in `service.faces.crop`."""
    side = face.shape[0]
    kept = round(0.75 * side)
    turns = int(random.integers(4))
    turned = np.rot90(face, turns).copy()
    turned[kept:] = turned[kept - 1]
    return np.ascontiguousarray(np.rot90(turned, -turns))


EXTREMES: Final[Mapping[str, Any]] = {
    "very_dark": lambda face, _: transforms.gamma(face, 4.0),
    "very_bright": lambda face, _: transforms.gamma(face, 0.25),
    "very_low_contrast": lambda face, _: transforms.contrast(face, 0.15),
    "small": lambda face, _: transforms.low_resolution(face, 0.375),
    "cut_off": _cut_off,
}
"""Corruptions that are stronger than those of the evaluation, which the model mostly withstands."""

_SMALL_PIXELS: Final = 24
_CUT_OFF: Final = 0.2
"""What `Measures` has for faces of the groups `small` and `cut_off`, which are made from crops."""


@dataclass(frozen=True)
class Group:
    """Labelled faces under one condition.

    Attributes:
        predictions: True moods, and the classifier's probabilities.
        measures: float64 (n,) by name in `MEASURES`.
    """

    predictions: Predictions
    measures: Mapping[str, NDArray[np.float64]]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which answers are wrong, bool (n,)."""
        return np.asarray(self.predictions.predicted != self.predictions.moods)

    def select(self, rows: NDArray[np.bool_]) -> Group:
        """Some of the faces."""
        chosen = Predictions(self.predictions.moods[rows], self.predictions.probabilities[rows])
        return Group(chosen, {name: values[rows] for name, values in self.measures.items()})


def stack(measures: Sequence[Measures]) -> dict[str, NDArray[np.float64]]:
    """Measures of n faces as arrays (n,) by name."""
    return {name: np.array([getattr(one, name) for one in measures], np.float64) for name in MEASURES}


def group_of(
    classifier: MoodClassifier, pixels: NDArray[np.uint8], moods: NDArray[np.int8], known: Mapping[str, float]
) -> Group:
    """A group of faces that are cropped already.

    Args:
        classifier: The classifier.
        pixels: Faces, uint8 (n, size, size).
        moods: Their moods, int8 (n,).
        known: Values of `Measures` that crops do not tell, the same for all faces.
    """
    measures = stack([Measures.of(face) for face in pixels])
    measures |= {name: np.full(len(pixels), value) for name, value in known.items()}
    return Group(Predictions(moods, classify(classifier, pixels)), measures)


def corrupted_groups(
    classifier: MoodClassifier, pixels: NDArray[np.uint8], moods: NDArray[np.int8], seed: int
) -> dict[str, Group]:
    """Faces as they are (`CLEAN`), under each corruption of the evaluation, and under each of `EXTREMES`, by name.

    Args:
        classifier: The classifier.
        pixels: Faces, uint8 (n, size, size).
        moods: Their moods, int8 (n,).
        seed: Seed of the corruptions' draws.
    """
    known: dict[str, dict[str, float]] = {"small": {"pixels": _SMALL_PIXELS}, "cut_off": {"outside": _CUT_OFF}}

    def group(name: str) -> Group:
        if name == CLEAN:
            changed = pixels
        elif name in EXTREMES:
            random = np.random.default_rng([seed, *name.encode()])
            changed = np.stack([EXTREMES[name](face, random) for face in pixels])
        else:
            changed = corruptions.apply(name, pixels, seed)
        return group_of(classifier, changed, moods, known.get(name, {}))

    names = (CLEAN, *corruptions.CORRUPTIONS, *EXTREMES)
    return {name: group(name) for name in names}


def photo_groups(estimator: MoodEstimator, path: Path, photos: PhotoSplit) -> dict[str, Group]:
    """Photos as the service sees them, from the file on: all (`CLEAN`), if there are any, and those of `POSES` if
    they are enough.

    Args:
        estimator: Detector and classifier.
        path: Parquet file of the photos.
        photos: Rows, with their moods. Photos without a face are left out.
    """
    spec = estimator.classifier.metadata.input

    def measure(data: bytes) -> tuple[NDArray[np.float64], Measures] | None:
        frame = images.decode_frame(
            data, max_pixels=images.MAX_PIXELS, working_side=estimator.detector.settings.working_side
        )
        found = estimator.detector.detect(frame.pixels)
        if not found:
            return None
        face = faces.largest(found)
        crop = faces.crop(frame.pixels, face, size=spec.size, margin=spec.margin)
        return estimator.classifier.predict(crop[None])[0], Measures.of(crop, frame, face)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        measured = list(pool.map(measure, iterate_images(path, PHOTOS_SCHEMA, photos.rows)))
    seen = [one for one in measured if one is not None]
    moods = photos.moods[[one is not None for one in measured]]
    probabilities = np.array([one[0] for one in seen]).reshape(-1, len(MOODS))
    everyone = Group(Predictions(moods, probabilities), stack([one[1] for one in seen]))
    posed = {name: everyone.select(everyone.measures[measure] > least) for name, (measure, least) in POSES.items()}
    all_of_them = {CLEAN: everyone} if seen else {}
    return all_of_them | {name: one for name, one in posed.items() if len(one.predictions) >= FEWEST_POSED}
