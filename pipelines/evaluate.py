"""Stages `evaluate@NAME` and `compare@NAME`: metrics of a model, measured with the code that serves it.

The model is converted to the graph that the service runs, and the service's own classifier and estimator predict three
tests: FER2013's test split with FER+ labels, the same images with FER2013's original labels, and photos of people who
are not in the training data, from file to mood. The temperature is fitted on validation first, and all metrics are
computed with it. FER2013's faces are also scored under corruptions (`pipelines.evaluation.corruptions`), and the tests'
metrics have bootstrap intervals.

A network with a head for FER2013's original labels predicts these a second time with that head, which is not served.

Writes metrics, plots and the predictions for the validation images, and adds them to the model's MLflow run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import keras
import pandas as pd
import typer

from pipelines import paths
from pipelines.data import test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.data.labels import one_hot
from pipelines.evaluation import metrics, multiply_adds, plots
from pipelines.evaluation.latency import measure_latency
from pipelines.evaluation.predictions import (
    TEST_TITLES,
    Predictions,
    ValidationPredictions,
    classify,
    open_classifier,
    predict_corrupted,
    predict_fer2013,
    predict_tests,
    predict_validation,
)
from pipelines.export import parity
from pipelines.export.serving_model import serving_model
from pipelines.params import EvaluateParams, Params
from pipelines.registry import candidates, mlflow_store, runs
from pipelines.registry.candidates import MODEL_FILE, Candidate
from pipelines.training.networks import ORIGINAL
from service.classifier import GRAPH_FILE, InputSpec, MoodClassifier
from service.detector import FaceDetector
from service.estimator import MoodEstimator


def original_head(
    trained: keras.Model,
    name: str,
    spec: InputSpec,
    validation: FaceSet,
    limit: float,
    *,
    mirror_averaging: bool,
) -> MoodClassifier | None:
    """The head for FER2013's original labels as the service would run it, calibrated with these labels.

    Args:
        trained: The trained network.
        name: Name of the model, for messages.
        spec: Input of the network.
        validation: Faces that the network was not trained on; photos have no such labels and are not used.
        limit: Largest difference of a probability that conversion may make.
        mirror_averaging: Test-time augmentation; see `pipelines.export.serving_model`.

    Returns:
        None if the network has no such head.

    Raises:
        ParityError: the converted head differs from the network by more than the limit.
    """
    if not isinstance(trained.output, dict) or ORIGINAL not in trained.output:
        return None
    model = serving_model(trained, mirror_averaging=mirror_averaging, head=ORIGINAL)
    faces = validation.of_source("fer2013")
    with tempfile.TemporaryDirectory() as directory:
        graph = Path(directory) / GRAPH_FILE
        uncalibrated, _ = parity.convert(model, graph, name, spec, faces.pixels, limit)
        temperature = metrics.fit_temperature(classify(uncalibrated, faces.pixels), one_hot(faces.original_mood))
        return open_classifier(graph, name, spec, round(temperature, 4))


def split_metrics(predicted: Mapping[str, Predictions], losses: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    """All metrics of one split.

    Args:
        predicted: Predictions by test.
        losses: Result of `metrics.corruption_losses`.
        params: Calibration bins, resamples and seed.

    Returns:
        The main metrics of each test with their intervals; weighted F1 under each corruption (`slices`) and the
        largest loss of it (`worst_slice_loss`).
    """
    tests = {
        name: {
            **metrics.summarise(predictions, params.calibration_bins),
            **metrics.bootstrap_intervals(predictions, params.bootstrap_resamples, params.seed),
        }
        for name, predictions in predicted.items()
    }
    corrupted = {row.slice: {"weighted_f1": row.weighted_f1} for row in losses.itertuples()}
    return {**tests, "slices": corrupted, "worst_slice_loss": float(losses["loss"].max())}


def write_reports(directory: Path, name: str, tests: Mapping[str, Predictions], params: EvaluateParams) -> None:
    """Write tables and plots of the tests: metrics by mood, confusion matrices, reliability diagrams."""
    by_mood = {
        test: metrics.by_mood(predictions, params.bootstrap_resamples, params.seed)
        for test, predictions in tests.items()
    }
    _write_table(pd.concat(by_mood, names=["test"]).reset_index("test"), directory / candidates.MOODS_FILE)
    _write_table(metrics.confusion_rows(tests["ferplus"]), directory / candidates.CONFUSION_FILE)
    bins = params.calibration_bins
    _write_table(metrics.reliability(tests["ferplus"], bins), directory / candidates.RELIABILITY_FILE)
    titled = {TEST_TITLES[test]: predictions for test, predictions in tests.items()}
    plots.save(plots.confusion_matrices(name, titled), directory / candidates.CONFUSION_PICTURE)
    plots.save(plots.reliability_diagrams(name, titled, bins), directory / candidates.RELIABILITY_PICTURE)


def write_corruptions(directory: Path, name: str, losses: pd.DataFrame, clean: Mapping[str, float]) -> None:
    """Write table and plot of the corruptions.

    Args:
        directory: Directory of the evaluation.
        name: Name of the model, for the plot's title.
        losses: Results of `metrics.corruption_losses` for each split, with a column `split`.
        clean: Weighted F1 of each split's faces as they are.
    """
    _write_table(losses, directory / candidates.SLICES_FILE)
    title = f"{name}: corrupted FER2013 faces, FER+ labels"
    plots.save(plots.corruption_losses(title, losses, clean), directory / candidates.SLICES_PICTURE)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table with four decimals and the same line ends on every system."""
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


def main(name: Annotated[str, typer.Argument(help="A model in `candidates` or `compared` of params.yaml.")]) -> None:
    """Convert and measure a model, write its reports and add them to its MLflow run."""
    settings = Params.read()
    if name not in settings.evaluated:
        raise typer.BadParameter(
            f"{name!r} is neither in `candidates` nor in `compared`; params.yaml has {', '.join(settings.evaluated)}"
        )
    params, spec, mirror_averaging = settings.evaluate, settings.input, settings.serving.mirror_averaging
    directory, model_directory = settings.evaluation(name), paths.MODELS / name
    validation, test = FaceSet.load(paths.FACES / "validation.npz"), FaceSet.load(paths.FACES / "test.npz")

    trained = keras.models.load_model(model_directory / MODEL_FILE, compile=False)
    model = serving_model(trained, mirror_averaging=mirror_averaging)
    graph, limit = model_directory / GRAPH_FILE, params.max_parity_difference
    uncalibrated, difference = parity.convert(model, graph, name, spec, validation.pixels, limit)
    soft = validation.soft_labels
    labels = soft if params.temperature_labels == "soft" else one_hot(soft.argmax(axis=1))
    temperature = metrics.fit_temperature(classify(uncalibrated, validation.pixels), labels)

    classifier = open_classifier(graph, name, spec, round(temperature, 4))
    estimator = MoodEstimator(FaceDetector(paths.BUNDLE / "detector"), classifier)
    latency = measure_latency(classifier, validation.pixels[0], params.latency_runs)
    predicted = {"validation": predict_validation(classifier, validation)}
    predicted["test"], coverage = predict_tests(estimator, test, paths.PHOTOS, settings.prepare)
    head = original_head(trained, name, spec, validation, limit, mirror_averaging=mirror_averaging)
    corrupted, losses = {}, {}
    for split, faces in (("validation", validation), ("test", test)):
        if head is not None:
            predicted[split]["original_head"] = predict_fer2013(head, faces.of_source("fer2013"))["original"]
        corrupted[split] = predict_corrupted(classifier, faces, params.seed)
        losses[split] = metrics.corruption_losses(predicted[split]["ferplus"], corrupted[split])

    measured: dict[str, Any] = {
        **{split: split_metrics(predicted[split], losses[split], params) for split in predicted},
        "temperature": classifier.metadata.temperature,
        "size_bytes": graph.stat().st_size,
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds.count(graph),
        "latency_ratio": latency.ratio,
        "latency_ms": latency.median_ms,
        "latency_p99_ms": latency.p99_ms,
        "parity_difference": difference,
    }
    measured["test"]["photos"]["coverage"] = coverage
    for split, sources in test_sets.read().items():
        measured[split]["photos"]["people"] = sources["photos"]["people"]
    directory.mkdir(parents=True, exist_ok=True)
    report = metrics.rounded(measured)
    (directory / candidates.METRICS_FILE).write_text(json.dumps(report, indent=2) + "\n")
    (directory / candidates.HEADLINE_FILE).write_text(json.dumps(metrics.headline(report), indent=2) + "\n")
    provenance = {
        "architecture": name,
        "input": spec.model_dump(),
        "mirror_averaging": mirror_averaging,
        "faces": {split: candidates.sha256(paths.FACES / f"{split}.npz") for split in ("validation", "test")},
        "test_sets": test_sets.present(),
    }
    (directory / candidates.PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n")
    validation_predictions = ValidationPredictions.of(predicted["validation"], corrupted["validation"])
    validation_predictions.save(directory / candidates.VALIDATION_FILE)
    write_reports(directory, name, predicted["test"], params)
    clean = {split: measured[split]["ferplus"]["weighted_f1"] for split in losses}
    write_corruptions(directory, name, pd.concat(losses, names=["split"]).reset_index("split"), clean)

    mlflow_store.connect()
    candidate = Candidate.of(name)
    runs.log_evaluation(candidate, runs.ensure_training_run(candidate.model))
    print((directory / candidates.METRICS_FILE).read_text())


if __name__ == "__main__":
    typer.run(main)
