"""Stage `register`: the best candidate against the champion.

The gate (`pipelines.registry.gate`, section `gate` of `params.yaml`) compares validation predictions, size and latency.
The challenger becomes a version of the registered model, and the decision with its evidence is written to the version
and to its run. The alias `champion` moves only if the gate says so. `models/champion` is git's copy of the champion: a
registry that does not know it, such as a fresh clone's, takes it over before any challenger is compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from pipelines import paths
from pipelines.params import GateParams, Params
from pipelines.registry import decision_report, mlflow_store, promotion, results
from pipelines.registry.candidates import Candidate
from pipelines.registry.gate import Decision

COMPARISON_FILE: Final = "comparison.csv"


def comparison(candidates: Sequence[Candidate]) -> pd.DataFrame:
    """All metrics of the candidates: one row per metric, one column per candidate."""
    columns = {candidate.architecture: mlflow_store.flatten(candidate.metrics) for candidate in candidates}
    return pd.DataFrame(columns, dtype=object).rename_axis("metric")  # object: whole numbers stay whole


def show(candidates: Sequence[Candidate], decision: Decision, params: GateParams) -> None:
    """Print the candidates side by side, and the decision."""
    table = Table("candidate", Column(params.metric, overflow="fold"), "bytes", "ms a face", "bounds")
    for candidate in candidates:
        seen = promotion.entry(candidate, params)
        bounds = "; ".join(decision.out_of_bounds.get(seen.name, ["inside"]))
        table.add_row(seen.name, f"{seen.score:.4f}", f"{seen.size_bytes:,}", f"{seen.latency_ms:.3g}", bounds)
    console = Console()
    console.print(table)
    console.print(decision.reason, style="bold", soft_wrap=True)


def main() -> None:
    """Compare the candidates with the champion; write the decision to the registry, to files and to the README."""
    params = Params.read()
    candidates = [Candidate.of(name) for name in params.candidates]
    mlflow_store.connect()
    champion = promotion.current_champion(params.gate)
    if champion is not None:
        champion = promotion.refresh(champion, candidates)
    decision = promotion.judge(candidates, champion, params.gate)
    challenger = decision.challenger
    if challenger is not None and (champion is None or challenger.digest != champion.record.digest):
        candidate = next(one for one in candidates if one.digest == challenger.digest)
        promotion.record_challenger(candidate, challenger, decision)
    show(candidates, decision, params.gate)

    paths.REGISTRATION.mkdir(parents=True, exist_ok=True)
    written = asdict(decision)
    (paths.REGISTRATION / promotion.DECISION_FILE).write_text(json.dumps(written, indent=2) + "\n")
    (paths.REGISTRATION / promotion.DECISION_REPORT).write_text(decision_report.render(written))
    comparison(candidates).to_csv(paths.REGISTRATION / COMPARISON_FILE, lineterminator="\n")
    results.write(params)


if __name__ == "__main__":
    main()
