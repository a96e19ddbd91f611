"""The report for people: one HTML file whose first screen says what matters, with Evidently's own sections below."""

from __future__ import annotations

from html import escape
from typing import Final

import numpy as np
import pandas as pd

from monitoring.comparison import ColumnDrift
from monitoring.verdict import Verdict

_STYLE: Final = """
<style>
.meaa { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1180px; margin: 0 auto; padding: 28px 24px; }
.meaa h1 { font-size: 34px; line-height: 1.2; margin: 0 0 4px; }
.meaa h2 { font-size: 18px; margin: 22px 0 6px; }
.meaa .banner { border-left: 10px solid; padding: 14px 20px; border-radius: 4px; }
.meaa .drifted { border-color: #c62828; background: #fdecea; }
.meaa .quiet { border-color: #2e7d32; background: #eaf5ea; }
.meaa .unknown { border-color: #8a6d00; background: #fff8e1; }
.meaa .columns { display: flex; flex-wrap: wrap; gap: 8px 40px; align-items: flex-start; }
.meaa .columns > div { flex: 1 1 420px; }
.meaa table { border-collapse: collapse; font-size: 14px; width: 100%; }
.meaa td, .meaa th { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid #e4e7eb; font-weight: normal; }
.meaa th { color: #616e7c; }
.meaa .moved td { font-weight: 600; color: #c62828; }
.meaa td:first-child, .meaa td:last-child { white-space: nowrap; }
.meaa p { margin: 4px 0; }
.meaa .small { color: #616e7c; font-size: 14px; }
</style>
"""

_TITLES: Final = {
    "drifted": "Drifted",
    "quiet": "No drift",
    "unknown": "Cannot tell",
}


def render(verdict: Verdict, rows: pd.DataFrame, reference: pd.DataFrame, evidently: str | None) -> str:
    """The whole report.

    Args:
        verdict: on the window.
        rows: of the window, oldest first.
        reference: rows that it was compared with.
        evidently: Evidently's report as a HTML document; None where there was nothing to compare.
    """
    screen = f"{_STYLE}<main class='meaa'>{_banner(verdict)}{_body(verdict, rows, reference)}</main>"
    if evidently is None:
        return f"<!DOCTYPE html><html lang='en'><head><meta charset='UTF-8'></head><body>{screen}</body></html>"
    head, body, rest = evidently.partition("<body>")
    return f"{head}{body}{screen}{rest}"


def headline(verdict: Verdict) -> str:
    """The verdict in one line."""
    title = _TITLES[verdict.state]
    return f"{title}: {verdict.causes[0].title[0].lower()}{verdict.causes[0].title[1:]}" if verdict.causes else title


def since(verdict: Verdict) -> str:
    """When it began, in a sentence; empty where nothing did."""
    if verdict.since is None:
        return ""
    if verdict.before_window:
        return f"From the first prediction looked at, {verdict.since:%Y-%m-%d %H:%M} UTC, or earlier."
    return f"Since about {verdict.since:%Y-%m-%d %H:%M} UTC."


def _banner(verdict: Verdict) -> str:
    """What has to be read if nothing else is."""
    lines = [since(verdict), *(cause.explanation for cause in verdict.causes[:1])]
    lines += [f"Also: {cause.title[0].lower()}{cause.title[1:]}. {cause.explanation}" for cause in verdict.causes[1:]]
    if verdict.state == "unknown":
        lines.append(f"There are {verdict.rows} predictions of this model in the window: too few to tell.")
    if verdict.state == "quiet":
        lines.append("Pictures, faces and answers look as those of the reference.")
    text = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    return f"<section class='banner {verdict.state}'><h1>{escape(headline(verdict))}</h1>{text}</section>"


def _body(verdict: Verdict, rows: pd.DataFrame, reference: pd.DataFrame) -> str:
    """What was looked at, column by column, and what it says of the answers."""
    window = "no predictions"
    if verdict.first is not None and verdict.last is not None:
        window = (
            f"{verdict.rows:,} predictions from {verdict.first:%Y-%m-%d %H:%M} to {verdict.last:%Y-%m-%d %H:%M} UTC"
        )
    looked = (
        f"<p class='small'>Model version {escape(verdict.model_version)}, {window}, compared with "
        f"{escape(verdict.reference)}."
    )
    if not verdict.rebased:
        looked += (
            " These are no frames of your camera: once you have looked at a window and accept it, make it the "
            "reference (<code>python -m monitoring.rebase</code>)."
        )
    parts = [looked + "</p>", "<div class='columns'>"]
    if verdict.columns:
        parts.append(f"<div><h2>What moved</h2>{_columns(verdict.columns)}</div>")
    parts.append(f"<div>{_course(verdict, rows, reference)}{_answers(verdict)}{_labels(verdict)}{_bad(verdict)}</div>")
    parts.append("</div>")
    return "".join(parts)


def _columns(columns: list[ColumnDrift]) -> str:
    """A table of the columns, those that drifted first, then by how far they moved."""
    ordered = sorted(columns, key=lambda column: (not column.drifted, -abs(column.shift)))
    lines = []
    for column in ordered[:12]:
        state = "drifted" if column.drifted else "moved a little" if column.significant else "as before"
        cells = (column.column.replace("_", " "), _value(column.reference), _value(column.current), state)
        mark = " class='moved'" if column.drifted else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    header = "".join(f"<th>{name}</th>" for name in ("column", "reference", "live", ""))
    return f"<table><tr>{header}</tr>{''.join(lines)}</table>"


def _value(value: float | dict[str, float]) -> str:
    """A median, or shares, for a table."""
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {share:.0%}" for key, share in value.items())
    return f"{value:.3g}"


def _course(verdict: Verdict, rows: pd.DataFrame, reference: pd.DataFrame) -> str:
    """A line of the leading column's level over the window, with the reference's middle half as a band."""
    name = verdict.causes[0].column if verdict.causes else "confidence"
    if not verdict.columns or not pd.api.types.is_numeric_dtype(rows[name]):
        name = "confidence"
    values = rows[name].dropna().to_numpy()
    if not len(values):
        return ""
    levels = [float(np.median(part)) for part in np.array_split(values, min(24, len(values)))]
    low, high = (float(reference[name].quantile(share)) for share in (0.25, 0.75))
    bottom, top = min(*levels, low), max(*levels, high)
    span = (top - bottom) or 1.0
    width, height = 460, 96

    def y(value: float) -> float:
        return 6 + (height - 12) * (top - value) / span

    points = " ".join(f"{width * (i + 0.5) / len(levels):.1f},{y(level):.1f}" for i, level in enumerate(levels))
    band = f"<rect x='0' y='{y(high):.1f}' width='{width}' height='{max(2.0, y(low) - y(high)):.1f}' fill='#c8e6c9'/>"
    line = f"<polyline points='{points}' fill='none' stroke='#1f2933' stroke-width='2'/>"
    label = name.replace("_", " ").capitalize()
    return (
        f"<h2>{escape(label)} over the window</h2><svg viewBox='0 0 {width} {height}' width='100%'>{band}{line}</svg>"
        f"<p class='small'>First to last prediction, {bottom:.3g} to {top:.3g}; green: the reference's middle half.</p>"
    )


def _answers(verdict: Verdict) -> str:
    """Confidence and what it promises."""
    if not verdict.proxies:
        return ""
    figures = verdict.proxies
    return (
        f"<h2>Answers</h2><p>Mean confidence {figures['live_confidence']:.3f}, reference "
        f"{figures['reference_confidence']:.3f}; expected accuracy {figures['live_expected_accuracy']:.1%}, reference "
        f"{figures['reference_expected_accuracy']:.1%}, if confidence still means what it did on labelled pictures.</p>"
    )


def _labels(verdict: Verdict) -> str:
    """What the labels say that came later."""
    if verdict.labels is None:
        return ""
    figures = verdict.labels
    recall = ", ".join(f"{mood} {share:.0%}" for mood, share in figures["recall"].items())
    return (
        f"<h2>Labels</h2><p>{figures['images']} of these predictions have a label: weighted F1 "
        f"{figures['weighted_f1']:.3f}, calibration error {figures['expected_calibration_error']:.3f}; recall: "
        f"{escape(recall)}.</p>"
    )


def _bad(verdict: Verdict) -> str:
    """What in the log was of no use."""
    versions = {name: count for name, count in verdict.versions.items() if name != verdict.model_version}
    parts = [f"{count:,} x {reason}" for reason, count in verdict.bad_lines.items()]
    if versions:
        parts.append("other versions: " + ", ".join(f"{name} ({count:,})" for name, count in versions.items()))
    parts += [f"{name} missing in {share:.1%}" for name, share in verdict.missing.items()]
    text = "; ".join(parts) if parts else "no bad lines, no missing values"
    return f"<h2>Quality of the log</h2><p>{escape(text)}.</p>"
