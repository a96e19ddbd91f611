"""Stage `evaluate@ARCHITECTURE`: what a trained model is worth, measured with the code that serves it.

The model is converted to the graph that the service runs, and the service's own classifier and estimator answer
three tests: FER2013's test split by its FER+ labels, the same images by FER2013's original labels, and photos of
people who were never trained on, through the whole path from bytes to mood. A temperature is fitted on validation
first; all figures are with it. FER2013's faces are also scored in slices, darkened, blurred, covered and so on
(`pipelines.evaluation.slices`), and the tests' figures have bootstrap intervals.

A network that was trained with a head for FER2013's original labels answers those a second time with that head, which
is not shipped.

Writes figures, pictures and the answers to the validation images, and adds them to the MLflow run that trained the
model.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from pipelines import paths
from pipelines.data.dataset import PHOTOS_SCHEMA, iterate_images
from pipelines.data.face_sets import FaceSet
from pipelines.data.labels import one_hot
from pipelines.data.splits import PhotoSplit, photos_of_split
from pipelines.evaluation import metrics, plots, slices
from pipelines.evaluation.metrics import Predictions
from pipelines.evaluation.predictions import ValidationAnswers
from pipelines.export import to_onnx
from pipelines.export.serving_model import serving_model
from pipelines.params import EvaluateParams, Params, PrepareParams
from pipelines.registry import candidates, runs, tracking
from pipelines.registry.candidates import Candidate
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
ORIGINAL_HEAD: Final = "original"
"""The network's output that was fitted to FER2013's original labels, where it has one."""
TEST_TITLES: Final = {
    "ferplus": "FER2013 test, FER+ labels",
    "original": "FER2013 test, original labels",
    "photos": "photos, through MTCNN",
    "original_head": "FER2013 test, original labels (own head)",
}
"""The tests by their names in the metrics; the last only where there is such a head."""

_BATCH: Final = 256
_WARM_UP: Final = 50
_LATENCY_ROUNDS: Final = 20
_LATENCY_PAUSE: Final = 0.25  # seconds


class ParityError(Exception):
    """The served graph does not answer as the Keras model does."""


def open_classifier(graph: Path, architecture: str, spec: InputSpec, temperature: float) -> MoodClassifier:
    """The service's classifier on a graph that is not in a bundle yet."""
    metadata = ClassifierMetadata(name=architecture, version="0", moods=MOODS, input=spec, temperature=temperature)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / GRAPH_FILE).write_bytes(graph.read_bytes())
        (Path(directory) / METADATA_FILE).write_text(metadata.model_dump_json())
        return MoodClassifier(Path(directory))


def convert(
    model: keras.Model, graph: Path, architecture: str, spec: InputSpec, faces: NDArray[np.uint8], limit: float
) -> tuple[MoodClassifier, float]:
    """Write the graph that the service would run, and open it.

    Args:
        model: as it is served; see `pipelines.export.serving_model`.
        graph: file to write.
        architecture: its name in `params.yaml`.
        spec: what the model takes.
        faces: uint8 (n, size, size), to see that the graph answers as the model does.
        limit: see `check_parity`.

    Returns:
        The classifier at temperature 1, and the largest difference of a probability.

    Raises:
        ParityError: see `check_parity`.
    """
    to_onnx.export(model, (None, spec.size, spec.size, 1), graph, [OUTPUT_NAME])
    classifier = open_classifier(graph, architecture, spec, temperature=1.0)
    return classifier, check_parity(model, classifier, faces, limit)


def classify(classifier: MoodClassifier, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Probabilities of many faces, (n, size, size) to (n, 4), a batch at a time to bound the memory."""
    batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime releases the GIL
        return np.concatenate(list(pool.map(classifier.predict, batches)))


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


def original_head(
    trained: keras.Model,
    architecture: str,
    spec: InputSpec,
    validation: FaceSet,
    limit: float,
    *,
    mirror_averaging: bool,
) -> MoodClassifier | None:
    """The head for FER2013's original labels as the service would run it, calibrated for them on validation faces.

    Args:
        trained: the network.
        architecture: for messages.
        spec: what the network takes.
        validation: faces that it was not trained on; the photos among them have no such labels and are not used.
        limit: see `check_parity`.
        mirror_averaging: see `pipelines.export.serving_model`.

    Returns:
        None where the network has no such head.

    Raises:
        ParityError: see `check_parity`.
    """
    if not isinstance(trained.output, dict) or ORIGINAL_HEAD not in trained.output:
        return None
    model = serving_model(trained, mirror_averaging=mirror_averaging, head=ORIGINAL_HEAD)
    faces = validation.of_source("fer2013")
    with tempfile.TemporaryDirectory() as directory:
        graph = Path(directory) / GRAPH_FILE
        uncalibrated, _ = convert(model, graph, architecture, spec, faces.pixels, limit)
        probabilities = classify(uncalibrated, faces.pixels)
        temperature = metrics.fit_temperature(probabilities, one_hot(faces.original_mood))
        return open_classifier(graph, architecture, spec, round(temperature, 4))


def measure_latency(classifier: MoodClassifier, face: NDArray[np.uint8], runs: int) -> tuple[float, float]:
    """Time that one face takes on one thread, from grey crop to calibrated probabilities.

    In rounds with pauses, of which the fastest counts: what makes the others slower are other processes, on these
    cores or on their host (so argues the documentation of `timeit`, too).

    Returns:
        Median and 99th percentile of that round, in milliseconds.
    """
    batch, rounds = face[None], []
    for _ in range(_LATENCY_ROUNDS):
        time.sleep(_LATENCY_PAUSE)
        for _ in range(_WARM_UP):
            classifier.predict(batch)
        times = []
        for _ in range(max(1, runs // _LATENCY_ROUNDS)):
            started = time.perf_counter()
            classifier.predict(batch)
            times.append((time.perf_counter() - started) * 1000)
        rounds.append(tuple(float(value) for value in np.percentile(times, [50, 99])))
    median, p99 = min(rounds)
    return median, p99


def answer_photos(estimator: MoodEstimator, path: Path, photos: PhotoSplit) -> tuple[Predictions, float]:
    """What the service would answer to photos.

    Returns:
        The predictions for those in which a face is found, and their share of all.
    """

    def answer(data: bytes) -> list[float] | None:
        try:
            return list(estimator.estimate(data).probabilities.values())
        except NoFaceError:
            return None

    images = iterate_images(path, PHOTOS_SCHEMA, photos.rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # ONNX Runtime and OpenCV release the GIL
        answers = list(track(pool.map(answer, images), "Photos through MTCNN", total=len(photos.rows), transient=True))
    found = np.array([answer is not None for answer in answers])
    probabilities = np.array([answer for answer in answers if answer is not None]).reshape(-1, len(MOODS))
    return Predictions(photos.moods[found], probabilities), float(found.mean())


def predict_validation(classifier: MoodClassifier, validation: FaceSet) -> dict[str, Predictions]:
    """Predictions for the validation faces, as the metrics call them: FER2013's by `ferplus` and by `original` labels,
    and `photos`."""
    return {
        **predict_fer2013(classifier, validation.of_source("fer2013")),
        "photos": predict_fer2013(classifier, validation.of_source("photos"))["ferplus"],
    }


def predict_fer2013(classifier: MoodClassifier, faces: FaceSet) -> dict[str, Predictions]:
    """Predictions by both kinds of labels: `ferplus`, for the faces that have a mood by votes, and `original`."""
    probabilities, voted = classify(classifier, faces.pixels), faces.ferplus_mood >= 0
    return {
        "ferplus": Predictions(faces.ferplus_mood[voted], probabilities[voted]),
        "original": Predictions(faces.original_mood, probabilities),
    }


def predict_slices(classifier: MoodClassifier, faces: FaceSet, seed: int) -> dict[str, Predictions]:
    """Predictions for FER2013's faces in each slice, by its name and by FER+ labels.

    Args:
        classifier: any.
        faces: of one split; its photos are not used, nor faces without a mood by votes.
        seed: of what chance decides in the slices.
    """
    fer2013 = faces.of_source("fer2013")
    voted = fer2013.select(fer2013.ferplus_mood >= 0)
    return {
        name: Predictions(voted.ferplus_mood, classify(classifier, slices.apply(name, voted.pixels, seed)))
        for name in track(slices.SLICES, "Slices", transient=True)
    }


def answer_validation(classifier: MoodClassifier, validation: FaceSet, seed: int) -> ValidationAnswers:
    """What a classifier says of the validation faces, whole and in slices; the seed is that of `predict_slices`."""
    return gather_answers(predict_validation(classifier, validation), predict_slices(classifier, validation, seed))


def gather_answers(validation: Mapping[str, Predictions], sliced: Mapping[str, Predictions]) -> ValidationAnswers:
    """The answers out of what `predict_validation` and `predict_slices` return."""
    ferplus, photos = validation["ferplus"], validation["photos"]
    return ValidationAnswers(
        moods=ferplus.moods,
        probabilities=ferplus.probabilities.astype(np.float32),
        slices=tuple(sliced),
        slice_moods=np.stack([predictions.predicted for predictions in sliced.values()]).astype(np.int8),
        photo_moods=photos.moods,
        photo_probabilities=photos.probabilities.astype(np.float32),
    )


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
        Predictions by the first three names of `TEST_TITLES`, and the share of the photos in which a face is found.
    """
    photos, coverage = answer_photos(estimator, photos_path, photos_of_split(photos_path, params, "test"))
    return {**predict_fer2013(estimator.classifier, test.of_source("fer2013")), "photos": photos}, coverage


def split_figures(predicted: Mapping[str, Predictions], losses: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    """What the metrics say of one split.

    Args:
        predicted: by the names of the metrics.
        losses: see `metrics.slice_losses`.
        params: how it is measured.

    Returns:
        The headline figures of each test with their intervals, weighted F1 in each slice, and the largest loss there.
    """
    headline = {
        name: {
            **metrics.summarise(predictions, params.calibration_bins),
            **metrics.bootstrap_intervals(predictions, params.bootstrap_resamples, params.seed),
        }
        for name, predictions in predicted.items()
    }
    in_slices = {row.slice: {"weighted_f1": row.weighted_f1} for row in losses.itertuples()}
    return {**headline, "slices": in_slices, "worst_slice_loss": float(losses["loss"].max())}


def write_reports(directory: Path, architecture: str, tests: dict[str, Predictions], params: EvaluateParams) -> None:
    """Write the tests' tables and pictures: per-mood figures, confusion matrices, reliability diagrams."""
    by_mood = [
        metrics.by_mood(predictions)
        .merge(metrics.bootstrap_intervals_by_mood(predictions, params.bootstrap_resamples, params.seed), on="mood")
        .assign(test=name)
        for name, predictions in tests.items()
    ]
    _write_table(
        pd.concat(by_mood)[
            ["test", "mood", "precision", "recall", "recall_low", "recall_high", "f1", "f1_low", "f1_high", "support"]
        ],
        directory / candidates.MOODS_FILE,
    )
    _write_table(metrics.confusion_rows(tests["ferplus"]), directory / candidates.CONFUSION_FILE)
    bins = params.calibration_bins
    _write_table(metrics.reliability(tests["ferplus"], bins), directory / candidates.RELIABILITY_FILE)
    titled = {TEST_TITLES[name]: predictions for name, predictions in tests.items()}
    plots.save(plots.confusion_matrices(architecture, titled), directory / candidates.CONFUSION_PICTURE)
    plots.save(plots.reliability_diagrams(architecture, titled, bins), directory / candidates.RELIABILITY_PICTURE)


def write_slices(directory: Path, architecture: str, losses: pd.DataFrame, clean: dict[str, float]) -> None:
    """Write table and picture of the slices.

    Args:
        directory: where to.
        architecture: for the picture's title.
        losses: `metrics.slice_losses` of each split, with a column `split`.
        clean: weighted F1 of each split's faces as they are.
    """
    _write_table(losses[["split", "slice", "weighted_f1", "loss", "macro_recall"]], directory / candidates.SLICES_FILE)
    title = f"{architecture}: FER2013's faces, FER+ labels, in slices"
    plots.save(plots.slice_losses(title, losses, clean), directory / candidates.SLICES_PICTURE)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table the same way on every system, its figures with four decimals."""
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


def main(architecture: str) -> None:
    """Convert and measure one architecture's model, write its figures, add them to its run."""
    params: EvaluateParams = Params.read().evaluate
    spec = Params.read().input
    directory, model_directory = paths.EVALUATION / architecture, paths.MODELS / architecture
    validation, test = FaceSet.load(paths.FACES / "validation.npz"), FaceSet.load(paths.FACES / "test.npz")

    mirror_averaging = Params.read().serving.mirror_averaging
    trained = keras.models.load_model(model_directory / MODEL_FILE, compile=False)
    model = serving_model(trained, mirror_averaging=mirror_averaging)
    graph = model_directory / GRAPH_FILE
    uncalibrated, parity = convert(model, graph, architecture, spec, validation.pixels, params.max_parity_difference)
    temperature = fit_temperature(uncalibrated, validation, params.temperature_labels)

    classifier = open_classifier(graph, architecture, spec, round(temperature, 4))
    estimator = MoodEstimator(FaceDetector(paths.BUNDLE / "detector"), classifier)
    latency, latency_p99 = measure_latency(classifier, validation.pixels[0], params.latency_runs)
    predicted = {"validation": predict_validation(classifier, validation)}
    predicted["test"], coverage = predict_tests(estimator, test, paths.PHOTOS, Params.read().prepare)
    head = original_head(
        trained, architecture, spec, validation, params.max_parity_difference, mirror_averaging=mirror_averaging
    )
    sliced, losses = {}, {}
    for split, faces in (("validation", validation), ("test", test)):
        if head is not None:
            predicted[split]["original_head"] = predict_fer2013(head, faces.of_source("fer2013"))["original"]
        sliced[split] = predict_slices(classifier, faces, params.seed)
        losses[split] = metrics.slice_losses(predicted[split]["ferplus"], sliced[split]).assign(split=split)

    measured: dict[str, Any] = {
        **{split: split_figures(predicted[split], losses[split], params) for split in predicted},
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
    gather_answers(predicted["validation"], sliced["validation"]).save(directory / candidates.VALIDATION_FILE)
    write_reports(directory, architecture, predicted["test"], params)
    clean = {split: measured[split]["ferplus"]["weighted_f1"] for split in losses}
    write_slices(directory, architecture, pd.concat(losses.values()), clean)

    tracking.connect()
    candidate = Candidate.of(architecture)
    runs.log_evaluation(candidate, runs.ensure_training_run(candidate.model))
    print((directory / candidates.METRICS_FILE).read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=sorted(Params.read().models.entries()))
    main(parser.parse_args().architecture)
