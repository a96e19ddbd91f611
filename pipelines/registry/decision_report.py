"""The gate's decision as Markdown, for `reports/register`, the registry's run and the model card.

Takes `dataclasses.asdict(pipelines.registry.gate.Decision)`, the form in which a decision is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines import markdown


def render(decision: Mapping[str, Any]) -> str:
    """The whole report."""
    title = "promoted" if decision["promoted"] else "not promoted"
    return f"# The gate's decision: {title}\n\n{decision['reason']}\n\n{details(decision)}"


def details(decision: Mapping[str, Any]) -> str:
    """The grounds of the decision: the two models, the candidates out of bounds, and the evidence."""
    return markdown.page(Path(__file__).with_name("decision_details.md.j2"), **decision)
