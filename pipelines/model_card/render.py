"""The model card of the released classifier, after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

The text is in `model_card.md.j2`, the numbers come from the pipeline's reports. Errors are shown as numbers, never as
faces.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pandas as pd
from keras.layers import Activation, BatchNormalization, ReLU

from pipelines import markdown, paths
from pipelines.data.test_sets import FIRST
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import TEST_TITLES, Predictions, ValidationPredictions
from pipelines.params import Params
from pipelines.registry import candidates, decision_report, results
from pipelines.registry.champion import Champion
from pipelines.training.networks import MOOD
from service.moods import MOODS

MODEL_CARD_FILE: Final = "MODEL_CARD.md"

_CONFIDENCES: Final = {"below 0.5": 0.0, "0.5 to 0.7": 0.5, "0.7 to 0.9": 0.7, "0.9 to 1": 0.9}
"""Ranges of confidence by their lower ends."""
_MOST_FREQUENT: Final = 5
_SOURCES: Final = {"fer2013": "FER2013", "photos": "photos, cropped", "snapshots": "photos, through MTCNN"}
_PICTURES: Final = {
    "confusion": candidates.CONFUSION_PICTURE,
    "reliability": candidates.RELIABILITY_PICTURE,
    "corruptions": candidates.SLICES_PICTURE,
}


def write(champion: Champion, directory: Path) -> None:
    """Write the card and its pictures into a directory.

    Raises:
        FileNotFoundError: a report is missing.
    """
    (directory / MODEL_CARD_FILE).write_text(render(champion), encoding="utf-8")
    for name in _PICTURES.values():
        shutil.copy(champion.candidate.evaluation / name, directory)
    shutil.copy(paths.RELIABILITY / paths.RISK_COVERAGE_PICTURE, directory)


def render(champion: Champion) -> str:
    """The card as Markdown.

    Raises:
        FileNotFoundError: a report is missing.
    """
    return markdown.page(Path(__file__).with_name("model_card.md.j2"), **facts(champion))


def facts(champion: Champion) -> dict[str, Any]:
    """Variables of the template."""
    record, evaluation = champion.record, champion.candidate.evaluation
    tests = record.metrics["test"]
    validation = ValidationPredictions.load(evaluation / candidates.VALIDATION_FILE)
    confused = pd.read_csv(evaluation / candidates.CONFUSION_FILE)
    return {
        "record": record,
        "metrics": record.metrics,
        "later_sets": champion.candidate.test_sets if champion.candidate.test_sets != FIRST else None,
        "moods": MOODS,
        "faces": pd.read_csv(paths.CLASS_TABLE),
        "leaks": json.loads(paths.LEAKS.read_text()),
        "tests": {title: tests[name] for name, title in TEST_TITLES.items() if name in tests},
        "by_mood": pd.read_csv(evaluation / candidates.MOODS_FILE).replace({"test": TEST_TITLES}).to_dict("records"),
        "corruptions": _corruptions(pd.read_csv(evaluation / candidates.SLICES_FILE, index_col="slice")),
        "trusted": _trusted(json.loads((paths.RELIABILITY / paths.RELIABILITY_REPORT).read_text())),
        "trust_picture": paths.RISK_COVERAGE_PICTURE,
        "confusion": _confusion(confused),
        "errors": _errors(confused),
        "confidences": _confidences("FER2013", validation.ferplus) + _confidences("photos", validation.photos),
        "litert": json.loads(paths.LITERT_REPORT.read_text()),
        "layers": layers(keras.models.load_model(champion.candidate.model / candidates.MODEL_FILE, compile=False)),
        "parameters": {
            name: value
            for name, value in record.training_parameters.items()
            if name not in ("architecture", "recipe") and not name.startswith("input.") and value != "None"
        },
        "candidates": results.table(Params.read()),
        "pictures": _PICTURES,
        "evidence": decision_report.details(record.decision) if record.decision else "",
    }


def layers(model: keras.Model) -> list[dict[str, Any]]:
    """The layers from the image to the moods, without auxiliary heads, batch normalisation and activations.

    Returns:
        One dictionary per layer: `name`, `type`, `kernel`, `filters`, `stride` (None if it has none), `output` and
        `fixed` (its weights were not trained).
    """
    output = model.output[MOOD] if isinstance(model.output, dict) else model.output
    return [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "kernel": _product(getattr(layer, "kernel_size", getattr(layer, "pool_size", None))),
            "filters": getattr(layer, "filters", getattr(layer, "units", None)),
            "stride": getattr(layer, "strides", (None,))[0],
            "output": _product(layer.output.shape[1:]),
            "fixed": not layer.trainable,
        }
        for layer in keras.Model(model.input, output).layers
        if not isinstance(layer, (Activation, BatchNormalization, ReLU))
    ]


def _product(sizes: tuple[int, ...] | None) -> str | None:
    """Sizes as `3×3`."""
    return "×".join(map(str, sizes)) if sizes else None


def _corruptions(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The corruptions on test, the largest loss first, with weighted F1 on validation."""
    test, validation = (table[table["split"] == split] for split in ("test", "validation"))
    titles = [CORRUPTIONS[name].title if name in CORRUPTIONS else name for name in test.index]
    rows = test.assign(title=titles, validation=validation["weighted_f1"])
    return rows.sort_values("loss", ascending=False, kind="stable").to_dict("records")


def _trusted(report: dict[str, Any]) -> dict[str, Any]:
    """What the rule of reliability does: `max_error`, `groups` and `moods` on test, a row for each source and name,
    with the same on validation under `validation`."""
    test, validation = (
        {
            (part, source, name): one
            for part in ("groups", "moods")
            for source, named in report[part][split].items()
            for name, one in named.items()
        }
        for split in ("test", "validation")
    )
    rows: dict[str, list[dict[str, Any]]] = {"groups": [], "moods": []}
    for (part, source, name), one in test.items():
        title = CORRUPTIONS[name].title if name in CORRUPTIONS else name.replace("_", " ")
        rows[part].append(
            {"source": _SOURCES[source], "title": title, **one, "validation": validation.get((part, source, name))}
        )
    exceeded = [row for row in rows["groups"] if row["reliable_error"] > report["max_error"]]
    return {"max_error": report["max_error"], "exceeded": exceeded, **rows}


def _confusion(confused: pd.DataFrame) -> pd.DataFrame:
    """Number of faces by true mood (rows) and predicted mood (columns)."""
    counts = pd.crosstab(confused["actual"], confused["predicted"])
    counts = counts.reindex(index=list(MOODS), columns=list(MOODS), fill_value=0)
    return counts.add_prefix("predicted ").assign(images=counts.sum(axis=1)).rename_axis("true mood").reset_index()


def _errors(confused: pd.DataFrame) -> list[dict[str, Any]]:
    """The most frequent pairs of true and predicted mood."""
    wrong = confused[confused["actual"] != confused["predicted"]]
    counts = wrong.groupby(["actual", "predicted"]).size().sort_values(ascending=False, kind="stable")
    table = counts.head(_MOST_FREQUENT).rename("count").reset_index()
    of_mood = table["count"] / table["actual"].map(confused["actual"].value_counts())
    return table.assign(of_errors=table["count"] / len(wrong), of_mood=of_mood).to_dict("records")


def _confidences(source: str, predictions: Predictions) -> list[dict[str, Any]]:
    """Number of predictions and of errors in each range of confidence that has a prediction."""
    ends = list(_CONFIDENCES.values())
    ranges = np.searchsorted(ends, predictions.confidences, side="right") - 1
    wrong = predictions.predicted != predictions.moods
    return [
        {"source": source, "confidence": name, "predictions": int(inside.sum()), "errors": int(wrong[inside].sum())}
        for index, name in enumerate(_CONFIDENCES)
        if (inside := ranges == index).any()
    ]
