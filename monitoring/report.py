"""The drift report for people, one HTML file: a first screen from `report.html.j2`, then Evidently's own sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monitoring import label_summary
from monitoring.log import OTHER_VERSION
from monitoring.verdict import Verdict

_CHART: Final = (460, 96)  # width and height
_CHART_POINTS: Final = 24
_COLUMNS_SHOWN: Final = 12
_EMPTY_DOCUMENT: Final = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"></head><body></body></html>\n'

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(verdict: Verdict, rows: pd.DataFrame, reference: pd.DataFrame, evidently: str | None) -> str:
    """The report as an HTML document.

    Args:
        verdict: Verdict on the window.
        rows: Rows of the window, oldest first.
        reference: Reference rows.
        evidently: Evidently's report as an HTML document; None if there was nothing to compare.
    """
    screen = _ENVIRONMENT.get_template("report.html.j2").render(facts(verdict, rows, reference))
    head, body, rest = (evidently or _EMPTY_DOCUMENT).partition("<body>")
    return f"{head}{body}{screen}{rest}"


def facts(verdict: Verdict, rows: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    """Variables of the template."""
    return {
        "verdict": verdict,
        "compared": len(rows),
        "design_effects": _range_of_design_effects(verdict),
        "columns": sorted(verdict.columns, key=lambda column: (not column.drifted, -abs(column.shift)))[
            :_COLUMNS_SHOWN
        ],
        "label_metrics": label_summary.metric_rows(verdict.labels) if verdict.labels else [],
        "label_quality": label_summary.quality_rows(verdict.labels) if verdict.labels else [],
        "chart": _chart(verdict, rows, reference),
        "skipped": {
            **{reason: count for reason, count in verdict.bad_lines.items() if reason != OTHER_VERSION},
            **{f"version {name}": n for name, n in verdict.versions.items() if name != verdict.model_version},
        },
    }


def _range_of_design_effects(verdict: Verdict) -> tuple[float, float] | None:
    """Smallest and largest design effect; None if no column was tested."""
    effects = [column.design_effect for column in verdict.columns]
    return (min(effects), max(effects)) if effects else None


def _chart(verdict: Verdict, rows: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any] | None:
    """Medians of the main column over the window as a line, the reference's interquartile range as a band.

    None if the window has no values.
    """
    name = verdict.causes[0].column if verdict.causes else "confidence"
    if not pd.api.types.is_numeric_dtype(rows[name]):
        name = "confidence"
    values = rows[name].dropna().to_numpy()
    if not len(values):
        return None
    medians = [float(np.median(part)) for part in np.array_split(values, min(_CHART_POINTS, len(values)))]
    low, high = (float(reference[name].quantile(share)) for share in (0.25, 0.75))
    bottom, top = min(*medians, low), max(*medians, high)
    width, height = _CHART

    def y(value: float) -> float:
        return 6 + (height - 12) * (top - value) / ((top - bottom) or 1.0)

    points = ((width * (index + 0.5) / len(medians), y(median)) for index, median in enumerate(medians))
    return {
        "title": name.replace("_", " ").capitalize(),
        "width": width,
        "height": height,
        "points": " ".join(f"{across:.1f},{down:.1f}" for across, down in points),
        "band": (y(high), max(2.0, y(low) - y(high))),
        "range": (bottom, top),
    }
