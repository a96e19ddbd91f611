"""Plots of an evaluation. They show metrics and nobody's face, so that git may keep them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay

from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.metrics import expected_calibration_error, reliability
from pipelines.evaluation.predictions import Predictions
from service.moods import MOODS

_PANEL_INCHES = 4.2


def confusion_matrices(title: str, tests: Mapping[str, Predictions]) -> Figure:
    """Confusion matrices of the tests, side by side; each row holds shares of a true mood and sums to 1."""
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
        axes.set_title(f"{name}\n{len(predictions):,} images", fontsize="medium")
        axes.set(xlabel="predicted", ylabel="actual")
    return figure


def reliability_diagrams(title: str, tests: Mapping[str, Predictions], bins: int) -> Figure:
    """Accuracy by confidence for each test, side by side, with the share of the images in each bin as bars.

    The accuracy of a bin has a 95 % interval after Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", JASA 1927, because bins of low confidence hold few images.
    """
    figure = _panels(title, len(tests), extra=0.4)
    for axes, (name, predictions) in zip(figure.axes, tests.items(), strict=True):
        table = reliability(predictions, bins)
        error = expected_calibration_error(predictions, bins)
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="perfectly calibrated")
        low, high = _wilson(table["accuracy"].to_numpy(), table["count"].to_numpy())
        axes.vlines(table["confidence"], low, high, color="tab:blue", alpha=0.6, label="95 % interval")
        axes.plot(table["confidence"], table["accuracy"], marker="o", color="tab:blue", label="accuracy")
        axes.bar(
            table["confidence"],
            table["count"] / table["count"].sum(),
            width=0.8 / bins,
            color="tab:blue",
            alpha=0.25,
            label="share of the images",
        )
        axes.set_title(f"{name}\n{len(predictions):,} images, calibration error {error:.3f}", fontsize="medium")
        axes.set(
            xlabel="confidence",
            ylabel="accuracy",
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xticks=np.linspace(0, 1, 6),
        )
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def corruption_losses(title: str, table: pd.DataFrame, clean: Mapping[str, float]) -> Figure:
    """Weighted F1 under each corruption, joined by a line to that on clean faces; the largest loss on top.

    Args:
        title: Title of the plot.
        table: `metrics.corruption_losses` of each split, with a column `split`; the last split is drawn boldest.
        clean: Weighted F1 on the clean faces of each split.
    """
    *others, last = clean
    bold = table[table["split"] == last].sort_values("loss", ignore_index=True)
    place = {name: row for row, name in enumerate(bold["slice"])}
    figure = Figure(figsize=(9, 1.6 + 0.42 * len(bold)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(clean[last], color="black", linewidth=1, label=f"{last}, clean: {clean[last]:.3f}")
    axes.hlines(list(place.values()), bold["weighted_f1"], clean[last], color="tab:blue", linewidth=5, alpha=0.3)
    axes.plot(bold["weighted_f1"], list(place.values()), "o", color="tab:blue", label=f"{last}, corrupted")
    for split in others:
        rows = table[table["split"] == split]
        axes.plot(
            rows["weighted_f1"],
            [place[name] for name in rows["slice"]],
            "D",
            markersize=5,
            markerfacecolor="none",
            color="tab:orange",
            label=f"{split}, corrupted (clean: {clean[split]:.3f})",
        )
    labels = [
        f"{CORRUPTIONS[row.slice].title}\n{row.weighted_f1:.3f}, {-100 * row.loss:+.1f} points"
        for row in bold.itertuples()
    ]
    axes.set_yticks(list(place.values()), labels)
    axes.set(title=title, xlabel="weighted F1")
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.05)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def risk_coverage(title: str, sources: Mapping[str, Mapping[str, Any]], max_error: float) -> Figure:
    """Error of the most confident answers against their share, a panel for each source and a line for each group, with
    a dot where the rule of reliability stands; the line below which it must stay is dashed.

    Args:
        title: Title of the plot.
        sources: For each group its curve and what the rule does to it, as `risk_coverage_curve` and
            `risk_and_coverage` of `pipelines.evaluation.reliability` return them.
        max_error: Largest error that the rule promises.
    """
    figure = _panels(title, len(sources), extra=1.2)
    names = list(dict.fromkeys(name for groups in sources.values() for name in groups))
    colours = {name: colormaps["tab20"](index % 20) for index, name in enumerate(names)}
    for axes, (source, groups) in zip(figure.axes, sources.items(), strict=True):
        axes.axhline(max_error, color="black", linestyle="--", linewidth=1)
        for name, (curve, found) in groups.items():
            coverage, error = zip(*curve, strict=True)
            bold = name == "clean"
            colour = "black" if bold else colours[name]
            axes.plot(coverage, error, color=colour, linewidth=2 if bold else 1, label=name.replace("_", " "))
            axes.plot(found["coverage"], found["reliable_error"], "o", color=colour, markersize=5)
        axes.set_title(source, fontsize="medium")
        axes.set(xlabel="share of the answers", ylabel="error", xlim=(0, 1), ylim=(0, 0.35))
        axes.grid(alpha=0.3)
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    handles = {str(line.get_label()): line for line in lines if not str(line.get_label()).startswith("_")}
    figure.legend(handles.values(), list(handles), loc="outside lower center", ncols=7, fontsize="small")
    return figure


def _wilson(shares: NDArray[np.float64], counts: NDArray[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper ends of the 95 % intervals of shares of `counts` images; all arrays have the same shape."""
    z = 1.96
    centre = (shares + z**2 / (2 * counts)) / (1 + z**2 / counts)
    reach = z / (1 + z**2 / counts) * np.sqrt(shares * (1 - shares) / counts + z**2 / (4 * counts**2))
    return centre - reach, centre + reach


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without matplotlib's version in it, so that its updates alone leave the file as it is."""
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _panels(title: str, count: int, extra: float = 0.0) -> Figure:
    """A figure with a row of square axes; `extra` inches below them are left free."""
    figure = Figure(figsize=(_PANEL_INCHES * count, _PANEL_INCHES + 0.6 + extra), layout="constrained")
    figure.subplots(1, count)
    figure.suptitle(title)
    return figure
