"""Predictions of a classifier for labelled images, and how they are made from faces and from photos."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from pipelines.data.dataset import PHOTOS_SCHEMA, iterate_images
from pipelines.data.face_sets import FaceSet
from pipelines.data.splits import PhotoSplit, photos_of_split
from pipelines.evaluation import corruptions
from pipelines.params import PrepareParams
from service.classifier import GRAPH_FILE, METADATA_FILE, ClassifierMetadata, InputSpec, MoodClassifier
from service.errors import NoFaceError
from service.estimator import MoodEstimator
from service.moods import MOODS

TEST_TITLES: Final = {
    "ferplus": "FER2013 test, FER+ labels",
    "original": "FER2013 test, original labels",
    "photos": "photos, through MTCNN",
    "original_head": "FER2013 test, original labels (own head)",
}
"""Titles of the tests by their names in `metrics.json`. Only networks with a head for original labels have the last."""

_BATCH: Final = 256


@dataclass(frozen=True)
class Predictions:
    """True moods of n images and the probabilities that a model gives them.

    Attributes:
        moods: int8 (n,), index of the true mood in `MOODS`.
        probabilities: float32 or float64 (n, 4), rows summing to 1.
    """

    moods: NDArray[np.int8]
    probabilities: NDArray[np.floating[Any]]

    def __len__(self) -> int:
        return len(self.moods)

    @property
    def predicted(self) -> NDArray[np.intp]:
        """(n,), index of the mood with the highest probability, the first among equals."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidences(self) -> NDArray[np.floating[Any]]:
        """(n,), probability of the predicted mood."""
        return self.probabilities.max(axis=1)


@dataclass(frozen=True)
class ValidationPredictions:
    """A model's predictions for the validation images, from which the gate compares two models image by image.

    Attributes:
        ferplus: FER2013's faces with their mood by FER+ votes; faces without a vote that counts are left out.
        photos: Faces of the photos.
        corrupted: int8 (n,) by name in `pipelines.evaluation.corruptions.CORRUPTIONS`: index of the predicted mood of
            each face of `ferplus` under that corruption.
    """

    ferplus: Predictions
    photos: Predictions
    corrupted: Mapping[str, NDArray[np.int8]]

    @classmethod
    def of(cls, validation: Mapping[str, Predictions], corrupted: Mapping[str, Predictions]) -> ValidationPredictions:
        """The results of `predict_validation` and `predict_corrupted`, with probabilities in single precision."""
        ferplus, photos = (
            Predictions(one.moods, one.probabilities.astype(np.float32))
            for one in (validation["ferplus"], validation["photos"])
        )
        return cls(ferplus, photos, {name: one.predicted.astype(np.int8) for name, one in corrupted.items()})

    @classmethod
    def measure(cls, classifier: MoodClassifier, validation: FaceSet, seed: int) -> ValidationPredictions:
        """Predictions of a classifier for validation faces; `seed` is that of `predict_corrupted`."""
        return cls.of(predict_validation(classifier, validation), predict_corrupted(classifier, validation, seed))

    def save(self, path: Path) -> None:
        """Write a compressed .npz file."""
        np.savez_compressed(
            path,
            moods=self.ferplus.moods,
            probabilities=self.ferplus.probabilities,
            slices=np.array(tuple(self.corrupted), dtype=np.str_),
            slice_moods=np.stack(list(self.corrupted.values())),
            photo_moods=self.photos.moods,
            photo_probabilities=self.photos.probabilities,
        )

    @classmethod
    def load(cls, path: Path) -> ValidationPredictions:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(
                Predictions(arrays["moods"], arrays["probabilities"]),
                Predictions(arrays["photo_moods"], arrays["photo_probabilities"]),
                dict(zip(arrays["slices"].tolist(), arrays["slice_moods"], strict=True)),
            )


def open_classifier(graph: Path, name: str, spec: InputSpec, temperature: float) -> MoodClassifier:
    """The service's classifier on a graph that is not in a bundle yet.

    Args:
        graph: ONNX file.
        name: Name of the model.
        spec: Input of the graph.
        temperature: Temperature of the calibration; 1 for none.
    """
    metadata = ClassifierMetadata.of(graph, name=name, version="0", moods=MOODS, input=spec, temperature=temperature)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / GRAPH_FILE).write_bytes(graph.read_bytes())
        (Path(directory) / METADATA_FILE).write_text(metadata.model_dump_json())
        return MoodClassifier(Path(directory))


def classify(classifier: MoodClassifier, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of many faces, uint8 (n, size, size) to float64 (n, 4); batches bound the memory."""
    batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime releases the GIL
        return np.concatenate(list(pool.map(classifier.predict, batches)))


def predict_fer2013(classifier: MoodClassifier, faces: FaceSet) -> dict[str, Predictions]:
    """Predictions by both kinds of labels: `ferplus` for the faces that have a mood by votes, `original` for all."""
    probabilities, voted = classify(classifier, faces.pixels), faces.ferplus_mood >= 0
    return {
        "ferplus": Predictions(faces.ferplus_mood[voted], probabilities[voted]),
        "original": Predictions(faces.original_mood, probabilities),
    }


def predict_validation(classifier: MoodClassifier, validation: FaceSet) -> dict[str, Predictions]:
    """Predictions for the validation faces by name in `metrics.json`: `ferplus` and `original` for those of FER2013,
    and `photos`."""
    return {
        **predict_fer2013(classifier, validation.of_source("fer2013")),
        "photos": predict_fer2013(classifier, validation.of_source("photos"))["ferplus"],
    }


def predict_corrupted(classifier: MoodClassifier, faces: FaceSet, seed: int) -> dict[str, Predictions]:
    """Predictions for FER2013's faces under each corruption, by its name, with their moods by FER+ votes.

    Args:
        classifier: The classifier.
        faces: Faces of one split; photos and faces without a mood by votes are left out.
        seed: Seed of the corruptions' random draws.
    """
    fer2013 = faces.of_source("fer2013")
    voted = fer2013.select(fer2013.ferplus_mood >= 0)
    return {
        name: Predictions(voted.ferplus_mood, classify(classifier, corruptions.apply(name, voted.pixels, seed)))
        for name in track(corruptions.CORRUPTIONS, "Corrupted faces", transient=True)
    }


def predict_photos(estimator: MoodEstimator, path: Path, photos: PhotoSplit) -> tuple[Predictions, float]:
    """The service's predictions for photos, from file to mood.

    Args:
        estimator: The service's detector and classifier.
        path: Parquet file of the photos.
        photos: Rows to predict, with their moods.

    Returns:
        The predictions for the photos in which a face is found, and the share of these photos.
    """

    def predict(data: bytes) -> list[float] | None:
        try:
            return list(estimator.estimate(data).probabilities.values())
        except NoFaceError:
            return None

    images = iterate_images(path, PHOTOS_SCHEMA, photos.rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        rows = list(track(pool.map(predict, images), "Photos through MTCNN", total=len(photos.rows), transient=True))
    found = np.array([row is not None for row in rows])
    probabilities = np.array([row for row in rows if row is not None]).reshape(-1, len(MOODS))
    return Predictions(photos.moods[found], probabilities), float(found.mean())


def predict_tests(
    estimator: MoodEstimator, test: FaceSet, photos_path: Path, params: PrepareParams
) -> tuple[dict[str, Predictions], float]:
    """Predictions of a candidate or of a released bundle for the three tests.

    Args:
        estimator: The service's detector and classifier.
        test: Faces of the test split. Its photos are not used: they are predicted from their files.
        photos_path: Parquet file of the photos.
        params: Settings with which `prepare` split the photos.

    Returns:
        Predictions by the first three names of `TEST_TITLES`, and the share of the photos in which a face is found.
    """
    photos, coverage = predict_photos(estimator, photos_path, photos_of_split(photos_path, params, "test"))
    return {**predict_fer2013(estimator.classifier, test.of_source("fer2013")), "photos": photos}, coverage
