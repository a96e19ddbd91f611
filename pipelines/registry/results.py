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
_HEADER: Final = (
    *("model", "recipe", "parameters", "bytes", "one face"),
    *("validation", "FER+", "original labels", "photos", "worst corruption"),
)
_BLOCK: Final = re.compile(r"(<!-- results: [^>]*-->\n).*?(\n<!-- /results -->)", re.DOTALL)


def table(params: Params) -> str:
    """The candidates in Markdown, best on the FER+ test labels first; the champion is bold."""
    champion = Champion.read()
    rows = []
    for name in params.candidates:
        metrics = json.loads((paths.EVALUATION / name / METRICS_FILE).read_text())
        test = metrics["test"]
        original = f"{test['original']['weighted_f1']:.3f}"
        if "original_head" in test:
            original += f"; own head {test['original_head']['weighted_f1']:.3f}"
        rows.append(
            (
                f"**{name}**" if champion is not None and champion.record.architecture == name else name,
                f"`{params.model(name).recipe}`",
                metrics["parameters"],
                metrics["size_bytes"],
                f"{metrics['latency_ms']:.2f} ms",
                f"{metrics['validation']['ferplus']['weighted_f1']:.3f}",
                f"{test['ferplus']['weighted_f1']:.3f}",
                original,
                f"{test['photos']['weighted_f1']:.3f}",
                f"{100 * test['worst_slice_loss']:.1f} points",
            )
        )
    rows.sort(key=lambda row: row[_HEADER.index("FER+")], reverse=True)
    return markdown.table(_HEADER, rows)


def write(params: Params) -> None:
    """Write the table to `reports/register` and between the README's markers."""
    rendered = table(params)
    paths.REGISTRATION.mkdir(parents=True, exist_ok=True)
    (paths.REGISTRATION / RESULTS_FILE).write_text(rendered + "\n")
    if README.exists():
        README.write_text(_BLOCK.sub(lambda found: f"{found[1]}{rendered}{found[2]}", README.read_text()))


if __name__ == "__main__":
    write(Params.read())
