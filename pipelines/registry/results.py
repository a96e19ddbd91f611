"""The table of results: all candidates side by side, in `reports/register`, in the README and in the model card.

`python -m pipelines.registry.results` writes it from the evaluation reports; the stage `register` does so too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from pipelines import markdown, paths
from pipelines.params import Params
from pipelines.registry.candidates import METRICS_FILE
from pipelines.registry.champion import Champion

RESULTS_FILE: Final = "results.md"
README: Final = Path("README.md")
_BLOCK: Final = re.compile(r"(<!-- results: [^>]*-->\n).*?(<!-- /results -->)", re.DOTALL)


def table(params: Params) -> str:
    """The candidates in Markdown, best on the FER+ test labels first; the champion is bold."""
    champion = Champion.read()
    candidates = [
        {
            "name": name,
            "recipe": params.model(name).recipe,
            "metrics": json.loads((paths.EVALUATION / name / METRICS_FILE).read_text()),
        }
        for name in params.candidates
    ]
    candidates.sort(key=lambda one: one["metrics"]["test"]["ferplus"]["weighted_f1"], reverse=True)
    return markdown.page(
        Path(__file__).with_suffix(".md.j2"),
        candidates=candidates,
        champion=champion.record.architecture if champion else None,
    )


def write(params: Params) -> None:
    """Write the table to `reports/register` and between the README's markers."""
    rendered = table(params)
    paths.REGISTRATION.mkdir(parents=True, exist_ok=True)
    (paths.REGISTRATION / RESULTS_FILE).write_text(rendered)
    if README.exists():
        README.write_text(_BLOCK.sub(lambda found: f"{found[1]}{rendered}{found[2]}", README.read_text()))


if __name__ == "__main__":
    write(Params.read())
