"""The table of results: all models side by side, in `reports/compare`, in the README and in the model card.

`python -m pipelines.registry.results` writes it from the evaluation reports; `register` and `make compare` do so too.
Models that are only compared stand in it as they were measured last. The table says so if that was on other sets.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from pipelines import markdown, paths
from pipelines.data import test_sets
from pipelines.params import Params
from pipelines.registry.candidates import METRICS_FILE, PROVENANCE_FILE, Candidate
from pipelines.registry.champion import Champion

RESULTS_FILE: Final = "results.md"
README: Final = Path("README.md")
_BLOCK: Final = re.compile(r"(<!-- results: [^>]*-->\n).*?(<!-- /results -->)", re.DOTALL)


def table(params: Params) -> str:
    """The evaluated models in Markdown, best on the FER+ test labels first; the champion is bold."""
    champion = Champion.read()
    models = [
        {
            "name": name,
            "released": champion is not None and _digest(name) == champion.record.digest,
            "recipe": params.model(name).recipe,
            "metrics": json.loads((params.evaluation(name) / METRICS_FILE).read_text()),
            "provenance": json.loads((params.evaluation(name) / PROVENANCE_FILE).read_text()),
        }
        for name in params.evaluated
        if name in params.candidates or (params.evaluation(name) / METRICS_FILE).exists()
    ]
    today, present = models[0]["provenance"]["faces"], test_sets.present()
    for one in models:
        provenance = one["provenance"]
        one["differs"] = test_sets.differences(provenance.get("test_sets", test_sets.FIRST), present)
        if not one["differs"] and provenance["faces"] != today:
            one["differs"] = ["faces cut otherwise than the candidates'"]
    models.sort(key=lambda one: one["metrics"]["test"]["ferplus"]["weighted_f1"], reverse=True)
    return markdown.page(Path(__file__).with_suffix(".md.j2"), candidates=models)


def _digest(name: str) -> str | None:
    """The digest of a model; None if its files are not here."""
    try:
        return Candidate.of(name).digest
    except FileNotFoundError:
        return None


def write(params: Params) -> None:
    """Write the table to `reports/compare` and between the README's markers."""
    rendered = table(params)
    paths.COMPARISON.mkdir(parents=True, exist_ok=True)
    (paths.COMPARISON / RESULTS_FILE).write_text(rendered)
    if README.exists():
        README.write_text(_BLOCK.sub(lambda found: f"{found[1]}{rendered}{found[2]}", README.read_text()))


if __name__ == "__main__":
    write(Params.read())
