"""Stage `register`: the best candidate against the champion.

The gate (`pipelines.registry.gate`, section `gate` of `params.yaml`) compares validation predictions, size and latency.
The challenger becomes a version of the registered model, and the decision with its evidence is written to the version
and to its run. If the gate promotes it, it becomes the next release: `models/champion`, the ledger
`models/releases.json`, the changelog and the registry's alias `champion`.

Git decides who the champion is. If the registry has another one, the stage says so, and which it took and why
(`pipelines.releases.reconcile`). A model that a maintainer's decision has withdrawn (`pipelines.releases.promote`,
`pipelines.releases.rollback`) is not promoted; the ledger says which these are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

import keras
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from pipelines import paths
from pipelines.data import test_sets
from pipelines.export.original_head import original_head
from pipelines.params import GateParams, Params
from pipelines.registry import decision_report, measurement, mlflow_connection, mlflow_store, pipeline_run, results
from pipelines.registry.candidates import MODEL_FILE, Candidate
from pipelines.registry.champion import Champion
from pipelines.registry.gate import Decision
from pipelines.releases import changelog, promotion, reconcile
from pipelines.releases.ledger import Ledger, require_consistent
from pipelines.releases.transaction import transaction

COMPARISON_FILE: Final = "comparison.csv"
_CHANGED: Final = (paths.CHAMPION, paths.RELEASES, changelog.CHANGELOG)
"""What a promotion changes beside the stage's reports."""
_WIDTH_IN_A_PIPE: Final = 160
"""Columns of the table in a log, where Rich would take 80."""


def comparison(candidates: Sequence[Candidate]) -> pd.DataFrame:
    """All metrics of the candidates and the versions of their sets: one row per metric, one column per candidate."""
    columns = {
        one.architecture: mlflow_store.flatten({**one.metrics, "test_sets": dict(one.test_sets)}) for one in candidates
    }
    return pd.DataFrame(columns, dtype=object).rename_axis("metric")  # object: whole numbers stay whole


def on_present_sets(champion: Champion, settings: Params) -> Champion:
    """The champion, measured again if its metrics are of other validation or test sets than the present ones.

    Raises:
        FileNotFoundError: the faces are missing.
    """
    differs = test_sets.differences(champion.candidate.test_sets, test_sets.present())
    if not differs:
        return champion
    print(f"The champion is measured again, because its metrics are of other sets: {'; '.join(differs)}.")
    record, sets = champion.record, measurement.face_sets(champion.record.input)
    head = original_head(
        keras.models.load_model(champion.candidate.model / MODEL_FILE, compile=False),
        record.architecture,
        record.input,
        sets["validation"],
        settings.evaluate.max_parity_difference,
        mirror_averaging=record.mirror_averaging,
    )
    return measurement.measure_again(champion, head, sets, settings)


def decide(candidates: Sequence[Candidate], champion: Champion | None, ledger: Ledger, params: GateParams) -> Decision:
    """The gate's decision about the candidates that are not withdrawn and were measured on the present validation sets;
    it says which the others are."""
    present = test_sets.present()
    differs = {one.architecture: test_sets.differences(one.test_sets, present, "validation") for one in candidates}
    entries = ledger.withdrawn()
    withdrawn = {one.architecture: entries[one.digest] for one in candidates if one.digest in entries}
    left = [one for one in candidates if one.architecture not in withdrawn and not differs[one.architecture]]
    if left or champion is None:
        decision = promotion.judge(left, champion, params)
    else:
        entry = promotion.entry(champion.candidate, params)
        why = "no candidate is left to compare" if any(differs.values()) else "all candidates are withdrawn"
        decision = Decision(False, None, entry, {}, None, f"The champion stays: {why}.")
    words = {
        name: [
            f"withdrawn on {entry.at:%Y-%m-%d} by {entry.by}, with the "
            f"{'rollback to' if entry.action == 'rollback' else 'promotion of'} release {entry.number}: {entry.reason}"
        ]
        for name, entry in withdrawn.items()
    }
    for name, sets in differs.items():
        if sets:
            words.setdefault(name, []).append(
                f"its metrics are of other sets ({'; '.join(sets)}): dvc repro models/dvc.yaml:evaluate@{name}"
            )
    return replace(decision, out_of_bounds={**decision.out_of_bounds, **words})


def show(candidates: Sequence[Candidate], decision: Decision, ledger: Ledger, params: GateParams) -> None:
    """Print the candidates side by side, and the decision."""
    columns = ("candidate", params.metric, "bytes", "ms a face", "release", "in MLflow", "bounds")
    table = Table(*(Column(name, overflow="fold", no_wrap=name == columns[0]) for name in columns))
    table.columns[0].min_width = max(len(candidate.architecture) for candidate in candidates)  # a name is never cut
    for candidate in candidates:
        seen = promotion.entry(candidate, params)
        bounds = "; ".join(decision.out_of_bounds.get(seen.name, ["inside"]))
        numbers = {str(entry.number): None for entry in ledger.entries if entry.model == candidate.digest}
        version = mlflow_store.find_version(candidate.digest)
        table.add_row(
            seen.name,
            f"{seen.score:.4f}",
            f"{seen.size_bytes:,}",
            f"{seen.latency_ms:.3g}",
            ", ".join(numbers) or "–",
            f"version {version.version}" if version else "–",
            bounds,
        )
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_A_PIPE
    console.print(table)
    console.print(decision.reason, style="bold", soft_wrap=True)


@mlflow_connection.plain_errors("Run the stage again once it does.")
def main() -> None:
    """Compare the candidates with the champion; write the decision to the registry, to files and to the README.

    Raises:
        LookupError: champion and ledger do not belong together, or this clone lacks a release that the registry has.
    """
    params = Params.read()
    candidates = [Candidate.of(name) for name in params.candidates]
    mlflow_store.connect()
    with transaction(_CHANGED):
        champion, ledger = Champion.read(), Ledger.read()
        require_consistent(ledger, champion)
        if champion is not None:
            champion = on_present_sets(promotion.refresh(champion, candidates), params)
            ledger = Ledger.read()
        said = reconcile.follow_git(champion, ledger)
        if said:
            print(said)
        decision = decide(candidates, champion, ledger, params.gate)
        challenger = decision.challenger
        if decision.promoted:
            reconcile.require_newest(ledger)
        if challenger is not None and (champion is None or challenger.digest != champion.record.digest):
            candidate = next(one for one in candidates if one.digest == challenger.digest)
            promotion.record_challenger(candidate, challenger, decision)
    show(candidates, decision, Ledger.read(), params.gate)

    paths.REGISTRATION.mkdir(parents=True, exist_ok=True)
    written = asdict(decision)
    (paths.REGISTRATION / promotion.DECISION_FILE).write_text(json.dumps(written, indent=2) + "\n")
    (paths.REGISTRATION / promotion.DECISION_REPORT).write_text(decision_report.render(written))
    comparison(candidates).to_csv(paths.REGISTRATION / COMPARISON_FILE, lineterminator="\n")
    results.write(params)
    outcome = "promoted" if decision.promoted else "the champion stays"
    pipeline_run.log_stage("register", "register", paths.REGISTRATION, {"decision": outcome})


if __name__ == "__main__":
    main()
