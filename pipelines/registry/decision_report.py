"""The gate's decision as Markdown, for `reports/register`, the registry's run and the model card.

Takes `dataclasses.asdict(pipelines.registry.gate.Decision)`, the form in which a decision is stored.
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
    """The grounds of the decision: the two models, the candidates out of bounds, and the evidence."""
    models = [
        (role, model["name"], f"{model['score']:.4f}", model["size_bytes"], f"{model['latency_ms']:.2f} ms")
        for role in ("challenger", "champion")
        if (model := decision[role])
    ]
    parts = [markdown.table(["", "model", "score on validation", "bytes served", "one face"], models)]
    if decision["out_of_bounds"]:
        broken = "\n".join(f"- {name}: {'; '.join(bounds)}." for name, bounds in decision["out_of_bounds"].items())
        parts.append(f"Not considered:\n\n{broken}")
    if decision["evidence"]:
        parts.append(_evidence(decision["evidence"]))
    return "\n\n".join(parts)


def _evidence(evidence: Mapping[str, Any]) -> str:
    """The rule in words, and the table of the differences."""
    metric, parts = evidence["metric"], evidence["parts"]
    rows = [_row(metric, "better" if metric["holds"] else "not better")]
    rows += [_row(part, "holds" if part["holds"] else "**worse**") for part in parts]
    header = ["on", "metric", "images", "champion", "challenger", "difference", "interval", "margin", ""]
    return (
        f"Challenger minus champion on the same validation images, with two-sided {evidence['confidence']:.0%} "
        f"intervals of a paired bootstrap of {evidence['resamples']:,} resamples. The first row's interval must lie "
        "above its margin. Every other row holds unless the challenger loses more than the margin and the interval of "
        f"the difference lies below zero.\n\n{markdown.table(header, rows)}"
    )


def _row(part: Mapping[str, Any], verdict: str) -> list[object]:
    """One difference."""
    return [
        part["subject"],
        part["metric"],
        part["images"],
        f"{part['champion']:.4f}",
        f"{part['challenger']:.4f}",
        f"{part['difference']:+.4f}",
        f"{part['low']:+.4f} to {part['high']:+.4f}",
        f"{part['margin']:g}",
        verdict,
    ]
