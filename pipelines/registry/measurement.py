"""What a model gives on validation and on the three tests, measured with the code that serves it, and its reports.

The stage `evaluate` measures every model so, and `register` the champion if the test sets are others than those that it
was measured on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines import paths
from pipelines.data import test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation import metrics, plots
from pipelines.evaluation.predictions import (
    TEST_TITLES,
    Predictions,
    ValidationPredictions,
    open_classifier,
    predict_corrupted,
    predict_fer2013,
    predict_tests,
    predict_validation,
)
from pipelines.params import EvaluateParams, Params
from pipelines.registry.candidates import (
    CONFUSION_FILE,
    CONFUSION_PICTURE,
    HEADLINE_FILE,
    METRICS_FILE,
    MOODS_FILE,
    PROVENANCE_FILE,
    RELIABILITY_FILE,
    RELIABILITY_PICTURE,
    SLICES_FILE,
    SLICES_PICTURE,
    VALIDATION_FILE,
    Candidate,
    sha256,
)
from pipelines.registry.champion import Champion
from service import faces
from service.classifier import GRAPH_FILE, InputSpec, MoodClassifier
from service.detector import FaceDetector
from service.estimator import MoodEstimator

SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Measurement:
    """A model's predictions.

    Attributes:
        predicted: Predictions by split and test.
        corrupted: Predictions for FER2013's faces by split and corruption.
        coverage: Share of the test photos in which a face is found.
    """

    predicted: Mapping[str, Mapping[str, Predictions]]
    corrupted: Mapping[str, Mapping[str, Predictions]]
    coverage: float


def face_sets(spec: InputSpec) -> dict[str, FaceSet]:
    """The present validation and test faces, which may have been cut for another input size.

    Raises:
        FileNotFoundError: they are missing.
    """
    for split in SPLITS:
        if not paths.face_set(split).exists():
            raise FileNotFoundError(f"{paths.face_set(split)} does not exist: run the stage `prepare` (`dvc repro`)")
    loaded = {split: FaceSet.load(paths.face_set(split)) for split in SPLITS}
    return {
        split: replace(one, pixels=np.stack([faces.resize(face, spec.size) for face in one.pixels]))
        for split, one in loaded.items()
    }


def measure(
    classifier: MoodClassifier, head: MoodClassifier | None, sets: Mapping[str, FaceSet], settings: Params
) -> Measurement:
    """Predict validation and test.

    Args:
        classifier: The calibrated classifier.
        head: Classifier of the same network's head for original labels; None if it has none.
        sets: Result of `face_sets`.
        settings: Moods, and the seed of the corruptions.

    Raises:
        DatasetError: The photos or the table of people are missing.
    """
    estimator = MoodEstimator(FaceDetector(paths.BUNDLE / "detector"), classifier)
    tests, coverage = predict_tests(estimator, sets["test"], paths.PHOTOS, settings.prepare)
    predicted = {"validation": predict_validation(classifier, sets["validation"]), "test": tests}
    if head is not None:
        for split in SPLITS:
            predicted[split]["original_head"] = predict_fer2013(head, sets[split].of_source("fer2013"))["original"]
    corrupted = {split: predict_corrupted(classifier, sets[split], settings.evaluate.seed) for split in SPLITS}
    return Measurement(predicted, corrupted, coverage)


def write(
    measured: Measurement,
    costs: Mapping[str, Any],
    directory: Path,
    *,
    name: str,
    spec: InputSpec,
    mirror_averaging: bool,
    params: EvaluateParams,
) -> None:
    """Write all reports of a measurement: metrics, provenance, tables, plots and the validation predictions.

    Args:
        measured: Predictions for the present sets.
        costs: Metrics that do not depend on them: size, latency and so on.
        directory: Target directory, which is created.
        name: Name of the model in `params.yaml`.
        spec: Input of its graph.
        mirror_averaging: See `Candidate.mirror_averaging`.
        params: Calibration bins, resamples and seed.
    """
    predicted = measured.predicted
    losses = {
        split: metrics.corruption_losses(predicted[split]["ferplus"], measured.corrupted[split]) for split in SPLITS
    }
    found: dict[str, Any] = {
        **{split: split_metrics(predicted[split], losses[split], params) for split in SPLITS},
        **costs,
    }
    found["test"]["photos"]["coverage"] = measured.coverage
    sets = test_sets.read()
    for split in SPLITS:
        found[split]["photos"]["people"] = sets[split]["photos"]["people"]
    directory.mkdir(parents=True, exist_ok=True)
    report = metrics.rounded(found)
    (directory / METRICS_FILE).write_text(json.dumps(report, indent=2) + "\n")
    (directory / HEADLINE_FILE).write_text(json.dumps(metrics.headline(report), indent=2) + "\n")
    provenance = {
        "architecture": name,
        "input": spec.model_dump(),
        "mirror_averaging": mirror_averaging,
        "faces": {split: sha256(paths.face_set(split)) for split in SPLITS},
        "test_sets": test_sets.present(),
    }
    (directory / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2) + "\n")
    ValidationPredictions.of(predicted["validation"], measured.corrupted["validation"]).save(
        directory / VALIDATION_FILE
    )
    write_reports(directory, name, predicted["test"], params)
    clean = {split: found[split]["ferplus"]["weighted_f1"] for split in SPLITS}
    write_corruptions(directory, name, pd.concat(losses, names=["split"]).reset_index("split"), clean)


def measure_again(
    champion: Champion, head: MoodClassifier | None, sets: Mapping[str, FaceSet], settings: Params
) -> Champion:
    """The champion with its metrics on the present sets; what is served and its costs stay.

    Args:
        champion: Git's copy, which is updated.
        head: See `measure`.
        sets: See `measure`.
        settings: See `measure`.
    """
    record, model = champion.record, champion.candidate.model
    classifier = open_classifier(model / GRAPH_FILE, record.architecture, record.input, record.temperature)
    costs = {name: value for name, value in record.metrics.items() if name not in SPLITS}
    with tempfile.TemporaryDirectory() as directory:
        write(
            measure(classifier, head, sets, settings),
            costs,
            Path(directory),
            name=record.architecture,
            spec=record.input,
            mirror_averaging=record.mirror_averaging,
            params=settings.evaluate,
        )
        fresh = Candidate.read(model, Path(directory))
        update = {"metrics": fresh.metrics, "validation_faces": fresh.validation_faces}
        return Champion(record.model_copy(update=update), fresh).write()


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
    _write_table(pd.concat(by_mood, names=["test"]).reset_index("test"), directory / MOODS_FILE)
    _write_table(metrics.confusion_rows(tests["ferplus"]), directory / CONFUSION_FILE)
    bins = params.calibration_bins
    _write_table(metrics.reliability(tests["ferplus"], bins), directory / RELIABILITY_FILE)
    titled = {TEST_TITLES[test]: predictions for test, predictions in tests.items()}
    plots.save(plots.confusion_matrices(name, titled), directory / CONFUSION_PICTURE)
    plots.save(plots.reliability_diagrams(name, titled, bins), directory / RELIABILITY_PICTURE)


def write_corruptions(directory: Path, name: str, losses: pd.DataFrame, clean: Mapping[str, float]) -> None:
    """Write table and plot of the corruptions.

    Args:
        directory: Directory of the evaluation.
        name: Name of the model, for the plot's title.
        losses: Results of `metrics.corruption_losses` for each split, with a column `split`.
        clean: Weighted F1 of each split's faces as they are.
    """
    _write_table(losses, directory / SLICES_FILE)
    title = f"{name}: corrupted FER2013 faces, FER+ labels"
    plots.save(plots.corruption_losses(title, losses, clean), directory / SLICES_PICTURE)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table with four decimals and the same line ends on every system."""
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")
