"""Stage `register`: the best candidate against the champion.

The gate (`pipelines.gate`, section `gate` of `params.yaml`) looks at validation figures, size and latency. The
challenger becomes a version of the registered model, with the decision written to it; the alias `champion` moves only
where the gate says so. `models/champion` is git's copy of the champion: a registry that has never seen it, as that of
a fresh clone, adopts it before any challenger is compared.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.table import Column, Table

from pipelines import evaluate, gate, metrics, paths, registry, runs, tracking
from pipelines.candidates import Candidate
from pipelines.champion import Champion, ChampionRecord
from pipelines.face_sets import FaceSet
from pipelines.gate import Contender, Decision
from pipelines.params import GateParams, read_evaluate, read_gate, read_section
from service import faces
from service.classifier import GRAPH_FILE

DECISION_FILE: Final = "decision.json"
COMPARISON_FILE: Final = "comparison.csv"


def current_champion(params: GateParams) -> Champion | None:
    """Who is champion, the same in git's copy and in the registry after this.

    The registry has the last word, since a colleague may have promoted another there. It adopts git's champion where
    it has none, and where it has never seen git's and the gate finds that better than its own.

    Raises:
        LookupError: the registry's champion was not made by this pipeline.
    """
    released, version = Champion.read(), registry.champion_version()
    if version is None:
        if released is not None:
            adopt(released)
        return released
    if released is not None and released.record.digest == version.tags.get(registry.DIGEST_TAG):
        return released
    with tempfile.TemporaryDirectory() as directory:
        reigning = fetch(version, Path(directory))
        if released is not None and registry.find_version(released.record.digest) is None:
            record = released.record
            challenger = gate.contender(record.architecture, record.digest, record.metrics, params)
            if gate.decide([challenger], contend(reigning, [released.candidate], params), params).promoted:
                adopt(released)
                return released
        return reigning.write()


def adopt(champion: Champion) -> ModelVersion:
    """Make git's champion the registry's."""
    record = champion.record
    run_id = runs.ensure_run(champion.candidate, record.training_parameters)
    version = registry.ensure_version(record.digest, run_id)
    registry.annotate(
        version,
        record.reason,
        {"architecture": record.architecture, "decision": "adopted from git", "released_as_version": record.version},
    )
    registry.crown(version)
    return version


def fetch(version: ModelVersion, directory: Path) -> Champion:
    """The registry's champion, its files in a directory.

    Raises:
        LookupError: its run holds no evaluated candidate.
    """
    if not version.run_id:
        raise LookupError(f"version {version.version} of {version.name} has no run: give the alias to one that has")
    candidate = runs.download_candidate(version.run_id, directory)
    return describe(candidate, version, version.run_id, version.description or "")


def describe(candidate: Candidate, version: ModelVersion, run_id: str, reason: str) -> Champion:
    """A candidate as the champion.

    Args:
        candidate: the new champion.
        version: of it in the registry.
        run_id: of it in this store.
        reason: why it is the champion.
    """
    record = ChampionRecord(
        architecture=candidate.architecture,
        version=str(version.version),
        digest=candidate.digest,
        run_id=candidate.run_id,
        reason=reason,
        temperature=candidate.metrics["temperature"],
        input=candidate.input,
        mirror_averaging=candidate.mirror_averaging,
        validation_faces=candidate.validation_faces,
        training_parameters=mlflow.get_run(run_id).data.params,
        metrics=candidate.metrics,
    )
    return Champion(record, candidate)


def contend(champion: Champion, candidates: Sequence[Candidate], params: GateParams) -> Contender:
    """The champion as the gate sees it, with a score on the images that the candidates were scored on.

    Where the data have changed since it was measured, and it is not among the candidates, it is measured again.

    Args:
        champion: who holds the place.
        candidates: at least one.
        params: the rule.
    """
    record = champion.record
    own = [candidate for candidate in candidates if candidate.digest == record.digest]
    contender = gate.contender(record.architecture, record.digest, own[0].metrics if own else record.metrics, params)
    if own or record.validation_faces == candidates[0].validation_faces:
        return contender
    measured = metrics.rounded({"validation": measure_validation(champion)})
    return replace(contender, score=gate.figure(measured, params.metric))


def measure_validation(champion: Champion) -> dict[str, dict[str, float]]:
    """The champion's figures on today's validation faces, which may have been cut for another input size."""
    record, validation = champion.record, FaceSet.load(paths.FACES / "validation.npz")
    classifier = evaluate.open_classifier(
        champion.candidate.model / GRAPH_FILE, record.architecture, record.input, record.temperature
    )
    fitting = replace(
        validation, pixels=np.stack([faces.resize(face, record.input.size) for face in validation.pixels])
    )
    bins = read_evaluate().calibration_bins
    return {
        name: metrics.summarise(predictions, bins)
        for name, predictions in evaluate.predict_validation(classifier, fitting).items()
    }


def record_challenger(candidate: Candidate, challenger: Contender, decision: Decision) -> None:
    """Write the decision about a challenger to the registry; where it was promoted, move the alias and git's copy.

    Args:
        candidate: the challenger's files.
        challenger: the challenger as the gate saw it.
        decision: about it.
    """
    run_id = runs.ensure_run(candidate)
    version = registry.ensure_version(candidate.digest, run_id)
    registry.annotate(
        version,
        decision.reason,
        {
            "architecture": candidate.architecture,
            "decision": "promoted" if decision.promoted else "refused",
            **{f"gate.{key}": value for key, value in asdict(challenger).items() if key != "digest"},
        },
    )
    if decision.promoted:
        registry.crown(version)
        describe(candidate, version, run_id, decision.reason).write()


def comparison(candidates: Sequence[Candidate]) -> pd.DataFrame:
    """All figures of the candidates: one row a figure, one column an architecture."""
    columns = {candidate.architecture: tracking.flatten(candidate.metrics) for candidate in candidates}
    return pd.DataFrame(columns, dtype=object).rename_axis("figure")  # object: whole numbers stay whole


def show(candidates: Sequence[Candidate], decision: Decision, params: GateParams) -> None:
    """Print the candidates side by side, and the decision."""
    table = Table("candidate", Column(params.metric, overflow="fold"), "bytes", "ms a face", "bounds")
    for candidate in candidates:
        seen = gate.contender(candidate.architecture, candidate.digest, candidate.metrics, params)
        bounds = "; ".join(decision.out_of_bounds.get(seen.name, ["inside"]))
        table.add_row(seen.name, f"{seen.score:.4f}", f"{seen.size_bytes:,}", f"{seen.latency_ms:.3g}", bounds)
    console = Console()
    console.print(table)
    console.print(decision.reason, style="bold", soft_wrap=True)


def main() -> None:
    """Compare the candidates with the champion, write the decision to registry and files."""
    params = read_gate()
    candidates = [Candidate.of(architecture) for architecture in read_section("architectures")]
    tracking.connect()
    champion = current_champion(params)
    decision = gate.decide(
        [gate.contender(one.architecture, one.digest, one.metrics, params) for one in candidates],
        None if champion is None else contend(champion, candidates, params),
        params,
    )
    challenger = decision.challenger
    if challenger is not None and (champion is None or challenger.digest != champion.record.digest):
        candidate = next(one for one in candidates if one.digest == challenger.digest)
        record_challenger(candidate, challenger, decision)
    show(candidates, decision, params)

    paths.REGISTRATION.mkdir(parents=True, exist_ok=True)
    (paths.REGISTRATION / DECISION_FILE).write_text(json.dumps(asdict(decision), indent=2) + "\n")
    comparison(candidates).to_csv(paths.REGISTRATION / COMPARISON_FILE, lineterminator="\n")


if __name__ == "__main__":
    main()
