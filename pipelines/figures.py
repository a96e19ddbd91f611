"""Pictures of an evaluation. They show figures and nobody's face, so that they can be kept in git."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from pipelines.metrics import Predictions, expected_calibration_error, reliability
from service.moods import MOODS

_PANEL_INCHES = 4.2


def confusion_matrices(title: str, tests: Mapping[str, Predictions]) -> Figure:
    """A confusion matrix for each test, side by side: shares of each true mood, so that rows sum to 1."""
    figure = _panels(title, len(tests))
    for axes, (name, predictions) in zip(figure.axes, tests.items(), strict=True):
        ConfusionMatrixDisplay.from_predictions(
            predictions.moods,
            predictions.predicted,
            labels=range(len(MOODS)),
            display_labels=MOODS,
            normalize="true",
            values_format=".2f",
            cmap="Blues",
            colorbar=False,
            ax=axes,
        )
        axes.set(title=f"{name}\n{len(predictions):,} images", xlabel="predicted", ylabel="actual")
    return figure


def reliability_diagrams(title: str, tests: Mapping[str, Predictions], bins: int) -> Figure:
    """Accuracy against confidence for each test, side by side; below each, how many images have which confidence."""
    figure = _panels(title, len(tests))
    for axes, (name, predictions) in zip(figure.axes, tests.items(), strict=True):
        table = reliability(predictions, bins)
        error = expected_calibration_error(predictions, bins)
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="perfectly calibrated")
        axes.plot(table["confidence"], table["accuracy"], marker="o", label=f"calibration error {error:.3f}")
        axes.bar(
            table["confidence"],
            table["count"] / table["count"].sum(),
            width=0.8 / bins,
            color="tab:blue",
            alpha=0.25,
            label="share of the images",
        )
        axes.set(
            title=f"{name}\n{len(predictions):,} images",
            xlabel="confidence",
            ylabel="accuracy",
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xticks=np.linspace(0, 1, 6),
        )
        axes.legend(loc="upper left", fontsize="small")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, without the version of matplotlib in it, so that an update of that changes no file by its name."""
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _panels(title: str, count: int) -> Figure:
    """A figure with a row of square axes."""
    figure = Figure(figsize=(_PANEL_INCHES * count, _PANEL_INCHES + 0.4), layout="constrained")
    figure.subplots(1, count)
    figure.suptitle(title)
    return figure
