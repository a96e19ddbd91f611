"""Metrics of labelled live predictions, with intervals, beside those of the reference and of the released test."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring import intervals, label_selection, label_summary
from monitoring.intervals import Sample, share_with_interval
from monitoring.labels import agree
from monitoring.log import Log
from monitoring.params import FeedbackParams, MonitoringParams
from monitoring.reference import Reference
from pipelines.evaluation import bootstrap, metrics
from pipelines.evaluation.bootstrap import Counts, Metric
from pipelines.evaluation.predictions import Predictions
from pipelines.registry.champion import Champion
from service.moods import MOODS
from service.observation import PROBABILITIES

QUALITY: Final = ("brightness", "face_share", "sharpness")
"""Columns by whose value the accuracy is broken down."""
TESTS: Final = ("photos", "ferplus")
"""Tests of the released model that stand beside, by their names in `metrics.json`."""


def recall_of_present(confusion: Counts) -> NDArray[np.float64]:
    """Mean recall of the moods that have images: (..., 4, 4) to (...)."""
    return bootstrap.recall(confusion).sum(axis=-1) / np.maximum((confusion.sum(axis=-1) > 0).sum(axis=-1), 1)


METRICS: Final[dict[str, Metric]] = {
    "accuracy": bootstrap.accuracy,
    "weighted_f1": bootstrap.weighted_f1,
    "macro_recall": recall_of_present,
}
"""The main metrics. Live labels may lack a mood, which must not count as recall 0."""


def measure(window: Log, labels: pd.DataFrame, reference: Reference, params: MonitoringParams) -> dict[str, Any] | None:
    """Metrics of the labelled predictions.

    Args:
        window: Rows of the reference's model version, `labelled` with all that have a label.
        labels: Labels, several per request if several raters labelled it; see `monitoring.labels.add`.
        reference: The champion's reference.
        params: Bins of the calibration error, limits of shifts, and the section `feedback`.

    Returns:
        None if no prediction has a label. Otherwise values for JSON; numbers that a history is worth keeping of are
        nested by name, tables are lists of rows. `X_interval` is the 95 % interval of X, with `low` and `high`; it is
        None if the labels do not tell.

        - `sentences`: the result for people
        - `images`, `people` (None if unknown), `more_labels` (until accuracy is known within `feedback.margin`)
        - `accuracy`, `weighted_f1`, `macro_recall` with intervals, `expected_calibration_error`
        - `recall`, `labels_by_mood`: by mood that has labels
        - `expected`: the metrics of the reference's photos with the labels' mix of moods; None if they lack a mood
        - `difference`: live minus expected
        - `released_test`: metrics of the released model's tests, by name in `TESTS`
        - `by_mood`, `by_quality`, `confusion`: tables
        - `calibration`: mean `confidence`, `gap` to the accuracy, `bands`
        - `selection`: `share` of the predictions that are labelled, `differences` to the others, and
          `weighted_accuracy`, for which each band of confidence counts by its number of predictions
        - `raters`: numbers of `monitoring.labels.Agreed`
    """
    rows = labelled_rows(window)
    agreed = agree(labels[labels["request"].isin(rows["request"])])
    joined = rows.merge(agreed.rows, on="request")
    if joined.empty:
        return None
    feedback, sample = params.feedback, sample_of(joined)
    predictions = Predictions(
        joined["label"].map(MOODS.index).to_numpy(np.int8), joined[list(PROBABILITIES)].to_numpy(np.float64)
    )
    effective, accuracy = sample.effective_share(), float(sample.right.mean())
    photos = reference.labelled[reference.labelled["source"] == "photos"]
    live, expected = _live(sample, feedback), _expected(photos, sample.confusion, feedback)
    present = np.flatnonzero(sample.confusion.sum(axis=1))
    recall = bootstrap.recall(sample.confusion)
    values: dict[str, Any] = {
        "images": len(joined),
        "people": None if sample.persons is None else sample.people,
        "more_labels": intervals.labels_needed(accuracy, len(joined), effective, feedback.margin),
        **live,
        "expected_calibration_error": metrics.expected_calibration_error(predictions, params.calibration_bins),
        "recall": {MOODS[mood]: float(recall[mood]) for mood in present},
        "labels_by_mood": {MOODS[mood]: int(sample.confusion[mood].sum()) for mood in present},
        "expected": expected,
        "difference": None if expected is None else _difference(live, expected),
        "released_test": released_test(reference.model_version),
        "by_mood": _by_mood(sample, photos, effective),
        "by_quality": _by_quality(joined, photos, effective, feedback),
        "calibration": _calibration(joined, effective, feedback),
        "confusion": [
            {"label": mood, "predicted": dict(zip(MOODS, counts, strict=True))}
            for mood, counts in zip(MOODS, sample.confusion.tolist(), strict=True)
        ],
        "selection": label_selection.describe(window, joined, effective, params),
        "raters": {
            "named": agreed.raters,
            "repeated": agreed.repeated,
            "unanimous": agreed.unanimous,
            "undecided": agreed.undecided,
        },
    }
    return {"sentences": label_summary.sentences(values, feedback.margin), **values}


def labelled_rows(window: Log) -> pd.DataFrame:
    """The answered rows of a window that may have a label.

    Clients that choose the ids of their requests may use one again. It does not say which answer a label means; the
    rows of such an id are left out.
    """
    rows = window.rows if window.labelled is None else window.labelled
    return rows[(rows["outcome"] == "answered") & ~rows["request"].duplicated(keep=False)]


def sample_of(joined: pd.DataFrame) -> Sample:
    """The sample of labelled rows. Of a row without a person the session counts as one; a row that has neither is a
    person of its own, unless no row has any."""
    moods, predicted = (joined[name].map(MOODS.index).to_numpy(np.intp) for name in ("label", "mood"))
    known = pd.Series(np.nan, joined.index, dtype=object)
    if "session" in joined:  # the reference's photos have none
        known = joined["session"].astype(object).radd("\x1fsession ")
    if "person" in joined:
        known = joined["person"].where(joined["person"] != "", known)
    if known.isna().all():
        return Sample(moods, predicted, None)
    # No NUL as a mark: pandas takes texts with the same characters before it for the same.
    return Sample(moods, predicted, pd.factorize(known.fillna(joined["request"].radd("\x1frequest ")))[0])


def released_test(model_version: str) -> dict[str, dict[str, Any]]:
    """Metrics of the released model's tests by name; empty if the champion in git is another version."""
    champion = Champion.read()
    if champion is None or champion.record.version != model_version:
        return {}
    tests = champion.record.metrics["test"]
    names = [name for metric in METRICS for name in (metric, f"{metric}_interval")]
    return {test: {name: tests[test][name] for name in ("images", *names)} for test in TESTS}


def _live(sample: Sample, params: FeedbackParams) -> dict[str, Any]:
    """The main metrics of the labelled predictions."""
    draws = sample.draws(params.resamples, np.random.default_rng(params.seed))
    values: dict[str, Any] = {}
    for name, metric in METRICS.items():
        values[name] = float(metric(sample.confusion))
        values[f"{name}_interval"] = intervals.named(intervals.of_metric(metric, draws, sample.people))
    share = share_with_interval(pd.Series(sample.right), sample.effective_share())
    return values | {"accuracy_interval": share["accuracy_interval"]}


def _expected(photos: pd.DataFrame, confusion: Counts, params: FeedbackParams) -> dict[str, Any] | None:
    """The main metrics of the reference's photos, if each mood had as many images as it has labels.

    None if a mood with labels has no photo.

    Args:
        photos: Labelled rows of the reference.
        confusion: Confusion matrix of the labelled live predictions.
        params: Number and seed of the draws.
    """
    wanted = confusion.sum(axis=1)
    if photos.empty:
        return None
    own = sample_of(photos).confusion
    support = own.sum(axis=1)
    if ((wanted > 0) & (support == 0)).any():
        return None
    random = np.random.default_rng(params.seed)
    shares = own / np.maximum(support, 1)[:, None]
    drawn = np.stack(
        [
            random.multinomial(count, share, params.resamples) / max(count, 1)
            for count, share in zip(support, shares, strict=True)
        ],
        axis=1,
    )
    values: dict[str, Any] = {"images": int(support.sum())}
    for name, metric in METRICS.items():
        values[name] = float(metric(shares * wanted[:, None]))
        low, high = bootstrap.percentiles(metric(drawn * wanted[:, None]), metrics.INTERVAL_LEVEL)
        values[f"{name}_interval"] = intervals.named((float(low), float(high)))
    return values


def _difference(live: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Live minus expected, by metric."""
    values: dict[str, Any] = {}
    for name in METRICS:
        first, second = live[f"{name}_interval"], expected[f"{name}_interval"]
        values[name] = live[name] - expected[name]
        values[f"{name}_interval"] = first and intervals.named(
            intervals.of_difference(
                live[name], (first["low"], first["high"]), expected[name], (second["low"], second["high"])
            )
        )
    return values


def _by_mood(sample: Sample, photos: pd.DataFrame, effective_share: float) -> list[dict[str, Any]]:
    """Recall and precision by mood, and the recall of the reference's photos."""
    right, predicted = pd.Series(sample.right), bootstrap.precision(sample.confusion)
    table = []
    for index, mood in enumerate(MOODS):
        own = share_with_interval(right[sample.moods == index], effective_share)
        labelled = photos[photos["label"] == mood]
        beside = share_with_interval(labelled["mood"] == labelled["label"], 1)
        answers = int((sample.predicted == index).sum())
        table.append(
            {
                "mood": mood,
                "images": own["images"],
                "recall": own["accuracy"],
                "recall_interval": own["accuracy_interval"],
                "predicted": answers,
                "precision": float(predicted[index]) if answers else None,
                "reference_images": beside["images"],
                "reference_recall": beside["accuracy"],
                "reference_recall_interval": beside["accuracy_interval"],
            }
        )
    return table


def _by_quality(
    joined: pd.DataFrame, photos: pd.DataFrame, effective_share: float, params: FeedbackParams
) -> list[dict[str, Any]]:
    """Accuracy by thirds of the labelled pictures in each column of `QUALITY`, and that of photos in the same range."""
    table = []
    for column in QUALITY:
        values = joined[column].dropna()
        bands = min(3, len(values) // params.min_band)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bands + 1)[1:-1])) if bands > 1 else np.array([])
        limits = [None, *edges.tolist(), None]
        for band in range(len(edges) + 1 if len(edges) else 0):
            own, beside = (
                part[(part[column].notna()) & (np.digitize(part[column], edges, right=True) == band)]
                for part in (joined, photos)
            )
            if own.empty:
                continue
            reference = share_with_interval(beside["mood"] == beside["label"], 1)
            table.append(
                {
                    "column": column,
                    "above": limits[band],
                    "up_to": limits[band + 1],
                    **share_with_interval(own["mood"] == own["label"], effective_share),
                    **{f"reference_{name}": value for name, value in reference.items()},
                }
            )
    return table


def _calibration(joined: pd.DataFrame, effective_share: float, params: FeedbackParams) -> dict[str, Any]:
    """Confidence against accuracy, over all labelled predictions and in bands of confidence."""
    right, confidence = joined["mood"] == joined["label"], joined["confidence"]
    band, limits = np.digitize(confidence, params.confidence_bands), [0.0, *params.confidence_bands, 1.0]
    whole, mean = share_with_interval(right, effective_share), float(confidence.mean())
    interval = whole["accuracy_interval"]
    return {
        "confidence": mean,
        "gap": mean - whole["accuracy"],
        "gap_interval": intervals.named((mean - interval["high"], mean - interval["low"])),
        "bands": [
            {
                "from": limits[index],
                "to": limits[index + 1],
                "confidence": float(confidence[band == index].mean()),
                **share_with_interval(right[band == index], effective_share),
            }
            for index in np.unique(band).tolist()
        ],
    }
