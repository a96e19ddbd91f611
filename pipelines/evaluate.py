"""Stage `evaluate@ARCHITECTURE`: what a trained model is worth, measured with the code that serves it.

The model is converted to the graph that the service runs, and the service's own classifier and estimator answer
three tests: FER2013's test split by its FER+ labels, the same images by FER2013's original labels, and photos of
people who were never trained on, through the whole path from bytes to mood. A temperature is fitted on validation
first; all figures are with it.

Writes figures and pictures and adds them to the MLflow run that trained the model.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.progress import track

from pipelines import candidates, figures, metrics, onnx_export, paths, runs, tracking
from pipelines.candidates import Candidate
from pipelines.detect import iterate_images
from pipelines.face_sets import FaceSet
from pipelines.labels import one_hot
from pipelines.metrics import Predictions
from pipelines.params import (
    EvaluateParams,
    PrepareParams,
    read_evaluate,
    read_input,
    read_prepare,
    read_section,
    read_serving,
)
from pipelines.prepare import split_by_identity
from pipelines.serving_graph import serving_model
from pipelines.train import MODEL_FILE
from service.classifier import (
    GRAPH_FILE,
    METADATA_FILE,
    ClassifierMetadata,
    InputSpec,
    MoodClassifier,
    normalise,
)
from service.detector import FaceDetector
from service.errors import NoFaceError
from service.estimator import MoodEstimator
from service.moods import MOODS

OUTPUT_NAME: Final = "probabilities"
TEST_TITLES: Final = {
    "ferplus": "FER2013 test, FER+ labels",
    "original": "FER2013 test, original labels",
    "photos": "photos, through MTCNN",
}
"""The three tests by their names in the metrics."""

_BATCH: Final = 256
_WARM_UP: Final = 50


class ParityError(Exception):
    """The served graph does not answer as the Keras model does."""


@dataclass(frozen=True)
class HeldOutPhotos:
    """The photos of one split, whether or not a face is found in them.

    Attributes:
        rows: int64 (n,), rows in the Parquet file, ascending.
        moods: int8 (n,), index of each photo's mood.
    """

    rows: NDArray[np.int64]
    moods: NDArray[np.int8]


def open_classifier(graph: Path, architecture: str, spec: InputSpec, temperature: float) -> MoodClassifier:
    """The service's classifier on a graph that is not in a bundle yet."""
    metadata = ClassifierMetadata(name=architecture, version="0", moods=MOODS, input=spec, temperature=temperature)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / GRAPH_FILE).write_bytes(graph.read_bytes())
        (Path(directory) / METADATA_FILE).write_text(metadata.model_dump_json())
        return MoodClassifier(Path(directory))


def classify(classifier: MoodClassifier, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of many faces, (n, size, size) to (n, 4), a batch at a time to bound the memory."""
    return np.concatenate(
        [classifier.predict(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    )


def check_parity(model: keras.Model, classifier: MoodClassifier, pixels: NDArray[np.uint8], limit: float) -> float:
    """The largest difference of a probability between the Keras model and the served graph.

    Args:
        model: what was converted.
        classifier: the graph, at temperature 1.
        pixels: uint8 (n, size, size), real faces.
        limit: the largest difference that is allowed.

    Raises:
        ParityError: the difference is larger.
    """
    original = model.predict(normalise(pixels, classifier.metadata.input), batch_size=_BATCH, verbose=0)
    difference = float(np.abs(original - classify(classifier, pixels)).max())
    if not difference <= limit:
        raise ParityError(
            f"the ONNX graph of {classifier.metadata.name} differs from the Keras model by {difference:.2g} in a "
            f"probability; {limit:g} are allowed (evaluate.max_parity_difference)"
        )
    return difference


def fit_temperature(classifier: MoodClassifier, validation: FaceSet, labels: str) -> float:
    """The temperature for a classifier that has temperature 1.

    Args:
        classifier: uncalibrated.
        validation: faces that it was not trained on.
        labels: see `EvaluateParams.temperature_labels`.
    """
    targets = validation.soft_labels if labels == "soft" else one_hot(validation.soft_labels.argmax(axis=1))
    return metrics.fit_temperature(classify(classifier, validation.pixels), targets)


def measure_latency(classifier: MoodClassifier, face: NDArray[np.uint8], runs: int) -> tuple[float, float]:
    """Time that one face takes on one thread, from grey crop to calibrated probabilities.

    Returns:
        Median and 99th percentile, in milliseconds.
    """
    batch, times = face[None], []
    for _ in range(_WARM_UP):
        classifier.predict(batch)
    for _ in range(runs):
        started = time.perf_counter()
        classifier.predict(batch)
        times.append((time.perf_counter() - started) * 1000)
    median, p99 = np.percentile(times, [50, 99])
    return float(median), float(p99)


def held_out_photos(path: Path, params: PrepareParams, split: str) -> HeldOutPhotos:
    """The photos that the stage `prepare` put into a split, and those it would have, had it found a face.

    Args:
        path: a Parquet file as `pipelines.dataset` describes it.
        params: as `prepare` had them.
        split: one of `pipelines.face_sets.SPLITS`.
    """
    table = pq.read_table(path, columns=["emotion", "identity"]).to_pandas()
    moods = np.array([params.mood_of(emotion) for emotion in table["emotion"]], dtype=np.int8)
    splits = split_by_identity(table["identity"].to_numpy(dtype=str), moods, params.photo_splits, params.seed)
    rows = np.flatnonzero(splits == split)
    return HeldOutPhotos(rows, moods[rows])


def answer_photos(estimator: MoodEstimator, path: Path, photos: HeldOutPhotos) -> tuple[Predictions, float]:
    """What the service would answer to photos.

    Returns:
        The predictions for those in which a face is found, and their share of all.
    """

    def answer(data: bytes) -> list[float] | None:
        try:
            return list(estimator.estimate(data).probabilities.values())
        except NoFaceError:
            return None

    wanted = set(photos.rows.tolist())
    images = (data for row, data in enumerate(iterate_images(path)) if row in wanted)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        answers = list(track(pool.map(answer, images), "Photos through MTCNN", total=len(wanted), transient=True))
    found = np.array([answer is not None for answer in answers])
    probabilities = np.array([answer for answer in answers if answer is not None]).reshape(-1, len(MOODS))
    return Predictions(photos.moods[found], probabilities), float(found.mean())


def predict_validation(classifier: MoodClassifier, validation: FaceSet) -> dict[str, Predictions]:
    """Predictions for the validation faces by source: `ferplus` and `photos`, as the metrics call them."""
    return {
        "ferplus": predict_ferplus(classifier, validation.of_source("fer2013")),
        "photos": predict_ferplus(classifier, validation.of_source("photos")),
    }


def predict_ferplus(classifier: MoodClassifier, faces: FaceSet) -> Predictions:
    """Predictions for the faces that have a mood by votes: all, unless `prepare` took the original labels."""
    voted = faces.select(faces.ferplus_mood >= 0)
    return Predictions(voted.ferplus_mood, classify(classifier, voted.pixels))


def predict_tests(
    estimator: MoodEstimator, test: FaceSet, photos_path: Path, params: PrepareParams
) -> tuple[dict[str, Predictions], float]:
    """Predictions for the three tests, with a candidate or with a released bundle.

    Args:
        estimator: the service's own.
        test: the faces of the test split; its photos are not used, they go through the whole path instead.
        photos_path: the photos.
        params: as `prepare` had them.

    Returns:
        Predictions by the names of `TEST_TITLES`, and the share of the photos in which a face is found.
    """
    fer2013 = test.of_source("fer2013")
    photos, coverage = answer_photos(estimator, photos_path, held_out_photos(photos_path, params, "test"))
    return {
        "ferplus": predict_ferplus(estimator.classifier, fer2013),
        "original": Predictions(fer2013.original_mood, classify(estimator.classifier, fer2013.pixels)),
        "photos": photos,
    }, coverage


def write_reports(directory: Path, architecture: str, tests: dict[str, Predictions], bins: int) -> None:
    """Write the tests' tables and pictures: per-mood figures, confusion matrices, reliability diagrams."""
    pd.concat([metrics.by_mood(predictions).assign(test=name) for name, predictions in tests.items()]).to_csv(
        directory / candidates.MOODS_FILE,
        columns=["test", "mood", "precision", "recall", "f1", "support"],
        index=False,
        float_format="%.4f",
        lineterminator="\n",
    )
    metrics.confusion_rows(tests["ferplus"]).to_csv(
        directory / candidates.CONFUSION_FILE, index=False, lineterminator="\n"
    )
    metrics.reliability(tests["ferplus"], bins).to_csv(
        directory / candidates.RELIABILITY_FILE, index=False, float_format="%.4f", lineterminator="\n"
    )
    titled = {TEST_TITLES[name]: predictions for name, predictions in tests.items()}
    figures.save(figures.confusion_matrices(architecture, titled), directory / candidates.CONFUSION_PICTURE)
    figures.save(figures.reliability_diagrams(architecture, titled, bins), directory / candidates.RELIABILITY_PICTURE)


def main(architecture: str) -> None:
    """Convert and measure one architecture's model, write its figures, add them to its run."""
    params: EvaluateParams = read_evaluate()
    spec, bins = read_input(), params.calibration_bins
    directory, model_directory = paths.EVALUATION / architecture, paths.MODELS / architecture
    validation, test = FaceSet.load(paths.FACES / "validation.npz"), FaceSet.load(paths.FACES / "test.npz")

    mirror_averaging = read_serving().mirror_averaging
    trained = keras.models.load_model(model_directory / MODEL_FILE, compile=False)
    model = serving_model(trained, mirror_averaging=mirror_averaging)
    graph = model_directory / GRAPH_FILE
    onnx_export.export(model, (None, spec.size, spec.size, 1), graph, [OUTPUT_NAME])
    uncalibrated = open_classifier(graph, architecture, spec, temperature=1.0)
    parity = check_parity(model, uncalibrated, validation.pixels, params.max_parity_difference)
    temperature = fit_temperature(uncalibrated, validation, params.temperature_labels)

    classifier = open_classifier(graph, architecture, spec, round(temperature, 4))
    estimator = MoodEstimator(FaceDetector(paths.BUNDLE / "detector"), classifier)
    latency, latency_p99 = measure_latency(classifier, validation.pixels[0], params.latency_runs)
    validations = predict_validation(classifier, validation)
    tests, coverage = predict_tests(estimator, test, paths.PHOTOS, read_prepare())

    measured = {
        "validation": {name: metrics.summarise(predictions, bins) for name, predictions in validations.items()},
        "test": {name: metrics.summarise(predictions, bins) for name, predictions in tests.items()},
        "temperature": classifier.metadata.temperature,
        "size_bytes": graph.stat().st_size,
        "parameters": model.count_params(),
        "latency_ms": latency,
        "latency_p99_ms": latency_p99,
        "parity_difference": parity,
    }
    measured["test"]["photos"]["coverage"] = coverage
    directory.mkdir(parents=True, exist_ok=True)
    (directory / candidates.METRICS_FILE).write_text(json.dumps(metrics.rounded(measured), indent=2) + "\n")
    provenance = {
        "architecture": architecture,
        "input": spec.model_dump(),
        "mirror_averaging": mirror_averaging,
        "faces": {split: candidates.sha256(paths.FACES / f"{split}.npz") for split in ("validation", "test")},
    }
    (directory / candidates.PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n")
    write_reports(directory, architecture, tests, bins)

    tracking.connect()
    candidate = Candidate.of(architecture)
    runs.log_evaluation(candidate, runs.ensure_training_run(candidate.model))
    print((directory / candidates.METRICS_FILE).read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=sorted(read_section("architectures")))
    main(parser.parse_args().architecture)
