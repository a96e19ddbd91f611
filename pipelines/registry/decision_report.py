"""The gate's decision as Markdown: for `reports/register`, the registry's run and the model card.

Reads the decision as it is written, `dataclasses.asdict(pipelines.registry.gate.Decision)`: one from an earlier release, or out
of a registry, is no object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines import markdown


def render(decision: Mapping[str, Any]) -> str:
    """The whole report."""
    title = "promoted" if decision["promoted"] else "not promoted"
    return f"# The gate's decision: {title}\n\n{decision['reason']}\n\n{details(decision)}\n"


def details(decision: Mapping[str, Any]) -> str:
    """What the decision rests on: the two models, who was out of bounds, and the evidence."""
    parts = [_contenders(decision)]
    if decision["out_of_bounds"]:
        broken = "\n".join(f"- {name}: {'; '.join(bounds)}." for name, bounds in decision["out_of_bounds"].items())
        parts.append(f"Not considered:\n\n{broken}")
    if decision.get("evidence"):
        parts.append(_evidence(decision["evidence"]))
    return "\n\n".join(parts)


def _contenders(decision: Mapping[str, Any]) -> str:
    """Challenger and champion side by side."""
    rows = [
        (role, model["name"], f"{model['score']:.4f}", model["size_bytes"], f"{model['latency_ms']:.2f} ms")
        for role in ("challenger", "champion")
        if (model := decision[role])
    ]
    return markdown.table(["", "architecture", "score on validation", "bytes served", "one face"], rows)


def _evidence(evidence: Mapping[str, Any]) -> str:
    """What was asked of the challenger, and the table of the differences."""
    metric, parts = evidence["metric"], evidence["parts"]
    rows = [_row(metric, "better" if metric["holds"] else "not better")]
    rows += [_row(part, "holds" if part["holds"] else "**worse**") for part in parts]
    header = ["on", "figure", "images", "champion", "challenger", "difference", "interval", "margin", ""]
    return (
        f"Challenger minus champion on the same validation images, with two-sided {evidence['confidence']:.0%} "
        f"intervals of a paired bootstrap of {evidence['resamples']:,} resamples. The first row's interval must lie "
        "above its margin. Every other row holds unless the difference is a loss of more than the margin and its "
        f"interval lies below zero.\n\n{markdown.table(header, rows)}"
    )


def _row(part: Mapping[str, Any], verdict: str) -> list[object]:
    """One difference."""
    return [
        part["subject"],
        part["figure"],
        part["images"],
        f"{part['champion']:.4f}",
        f"{part['challenger']:.4f}",
        f"{part['difference']:+.4f}",
        f"{part['low']:+.4f} to {part['high']:+.4f}",
        f"{part['margin']:g}",
        verdict,
    ]
