"""Stage `register`: the best candidate against the champion.

The gate (`pipelines.registry.gate`, section `gate` of `params.yaml`) looks at validation answers, size and latency. The
challenger becomes a version of the registered model, with the decision and its evidence written to it and to its run;
the alias `champion` moves only where the gate says so. `models/champion` is git's copy of the champion: a registry that
has never seen it, as that of a fresh clone, adopts it before any challenger is compared.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console
from rich.table import Column, Table

from pipelines import paths
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import ValidationPredictions
from pipelines.export import parity
from pipelines.params import GateParams, Params
from pipelines.registry import decision_report, gate, mlflow_store, runs, tracking
from pipelines.registry.candidates import VALIDATION_FILE, Candidate, sha256
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.registry.gate import Contender, Decision
from service import faces
from service.classifier import GRAPH_FILE

DECISION_FILE: Final = "decision.json"
DECISION_REPORT: Final = "decision.md"
COMPARISON_FILE: Final = "comparison.csv"
VALIDATION_FACES: Final = paths.FACES / "validation.npz"
GATE_ARTIFACTS: Final = "gate"
"""Folder of a challenger's run that holds the two decision files."""


def current_champion(params: GateParams) -> Champion | None:
    """Who is champion, the same in git's copy and in the registry after this.

    The registry has the last word, since a colleague may have promoted another there. It adopts git's champion where
    it has none, and where it has never seen git's and the gate finds that better than its own.

    Raises:
        LookupError: the registry's champion was not made by this pipeline.
    """
    released, version = Champion.read(), mlflow_store.champion_version()
    if version is None:
        if released is not None:
            adopt(released)
        return released
    if released is not None and released.record.digest == version.tags.get(mlflow_store.DIGEST_TAG):
        return released
    with tempfile.TemporaryDirectory() as directory:
        reigning = fetch(version, Path(directory))
        unknown = released is not None and mlflow_store.find_version(released.record.digest) is None
        if released is not None and unknown and judge([released.candidate], reigning, params).promoted:
            adopt(released)
            return released
        return reigning.write()


def adopt(champion: Champion) -> ModelVersion:
    """Make git's champion the registry's."""
    record = champion.record
    run_id = runs.ensure_run(champion.candidate, record.training_parameters)
    version = mlflow_store.ensure_version(record.digest, run_id)
    mlflow_store.annotate(
        version,
        record.reason,
        {"architecture": record.architecture, "decision": "adopted from git", "released_as_version": record.version},
    )
    mlflow_store.crown(version)
    if record.decision is not None:
        log_decision(run_id, record.decision)
    return version


def fetch(version: ModelVersion, directory: Path) -> Champion:
    """The registry's champion, its files in a directory.

    Raises:
        LookupError: its run holds no evaluated candidate.
    """
    if not version.run_id:
        raise LookupError(f"version {version.version} of {version.name} has no run: give the alias to one that has")
    candidate = runs.download_candidate(version.run_id, directory)
    return describe(candidate, version, version.run_id, version.description or "", logged_decision(version.run_id))


def describe(
    candidate: Candidate, version: ModelVersion, run_id: str, reason: str, decision: dict[str, Any] | None
) -> Champion:
    """A candidate as the champion.

    Args:
        candidate: the new champion.
        version: of it in the registry.
        run_id: of it in this store.
        reason: why it is the champion.
        decision: the gate's, as a dictionary; None where it is not known.
    """
    record = ChampionRecord(
        architecture=candidate.architecture,
        version=str(version.version),
        digest=candidate.digest,
        run_id=candidate.run_id,
        reason=reason,
        decision=decision,
        temperature=candidate.metrics["temperature"],
        input=candidate.input,
        mirror_averaging=candidate.mirror_averaging,
        validation_faces=candidate.validation_faces,
        training_parameters=mlflow.get_run(run_id).data.params,
        metrics=candidate.metrics,
    )
    return Champion(record, candidate)


def renew(champion: Champion, candidates: Sequence[Candidate]) -> Champion:
    """The champion with the figures of today, where its model was evaluated anew since it was promoted.

    The detector or a measure may have changed, and the released figures must be those of what is served. Why it is
    champion stays as it was written.

    Args:
        champion: git's copy, which follows.
        candidates: perhaps it among them.
    """
    own = next((one for one in candidates if one.digest == champion.record.digest), None)
    if own is None or own.metrics == champion.record.metrics:
        return champion
    figures = {"temperature": own.metrics["temperature"], "input": own.input, "metrics": own.metrics}
    record = champion.record.model_copy(update={**figures, "validation_faces": own.validation_faces})
    return Champion(record, own).write()


def judge(candidates: Sequence[Candidate], champion: Champion | None, params: GateParams) -> Decision:
    """What the gate says of the candidates.

    Args:
        candidates: at least one, measured on the same validation faces.
        champion: who holds the place.
        params: the rule.
    """
    contenders = {one.digest: contender(one, params) for one in candidates}
    if champion is None:
        return gate.decide(list(contenders.values()), None, params, {})
    # The champion may be among the candidates, with figures of today.
    own = next((one for one in candidates if one.digest == champion.record.digest), champion.candidate)
    reigning, challenger = contender(own, params), gate.best_inside(list(contenders.values()), params)
    answers: dict[str, ValidationPredictions] = {}
    if challenger is not None and challenger.digest != reigning.digest:
        answers = comparable_answers(next(one for one in candidates if one.digest == challenger.digest), own)
        reigning = replace(reigning, score=gate.score(answers[reigning.digest], params))
    return gate.decide(list(contenders.values()), reigning, params, answers)


def contender(candidate: Candidate, params: GateParams) -> Contender:
    """A candidate as the gate sees it."""
    return gate.contender(candidate.architecture, candidate.digest, candidate.metrics, params)


def comparable_answers(challenger: Candidate, champion: Candidate) -> dict[str, ValidationPredictions]:
    """Both models' answers to the same images, by digest.

    Those that `evaluate` recorded, where they are to the same validation faces and slices. Else, because the data have
    changed since or the champion was released before answers were kept, whoever was not measured on today's is
    measured now.

    Raises:
        FileNotFoundError: that needs today's validation faces, and they are not there.
    """
    models = (challenger, champion)
    recorded = {one.digest: recorded_answers(one) for one in models}
    found = {digest: answers for digest, answers in recorded.items() if answers is not None}
    same_faces = challenger.validation_faces == champion.validation_faces
    if (
        same_faces
        and len({frozenset(answers.corrupted) for answers in found.values()}) == 1
        and len(found) == len(recorded)
    ):
        return found
    if not VALIDATION_FACES.exists():
        raise FileNotFoundError(f"{VALIDATION_FACES} does not exist: run the stage `prepare` (`dvc repro`)")
    today = sha256(VALIDATION_FACES)
    return {
        one.digest: found[one.digest]
        if one.validation_faces == today
        and one.digest in found
        and set(found[one.digest].corrupted) == set(CORRUPTIONS)
        else measure_answers(one)
        for one in models
    }


def recorded_answers(candidate: Candidate) -> ValidationPredictions | None:
    """The answers that `evaluate` wrote; None for a model that was measured before it did."""
    path = candidate.evaluation / VALIDATION_FILE
    return ValidationPredictions.load(path) if path.exists() else None


def measure_answers(candidate: Candidate) -> ValidationPredictions:
    """A model's answers to today's validation faces, which may have been cut for another input size."""
    validation = FaceSet.load(VALIDATION_FACES)
    classifier = parity.open_classifier(
        candidate.model / GRAPH_FILE, candidate.architecture, candidate.input, candidate.metrics["temperature"]
    )
    pixels = np.stack([faces.resize(face, candidate.input.size) for face in validation.pixels])
    return ValidationPredictions.measure(classifier, replace(validation, pixels=pixels), Params.read().evaluate.seed)


def record_challenger(candidate: Candidate, challenger: Contender, decision: Decision) -> None:
    """Write the decision about a challenger to the registry; where it was promoted, move the alias and git's copy.

    Args:
        candidate: the challenger's files.
        challenger: the challenger as the gate saw it.
        decision: about it.
    """
    run_id = runs.ensure_run(candidate)
    version = mlflow_store.ensure_version(candidate.digest, run_id)
    mlflow_store.annotate(
        version,
        decision.reason,
        {
            "architecture": candidate.architecture,
            "decision": "promoted" if decision.promoted else "refused",
            **{f"gate.{key}": value for key, value in asdict(challenger).items() if key != "digest"},
            **evidence_tags(decision),
        },
    )
    written = asdict(decision)
    log_decision(run_id, written)
    if decision.promoted:
        mlflow_store.crown(version)
        describe(candidate, version, run_id, decision.reason, written).write()


def evidence_tags(decision: Decision) -> dict[str, str]:
    """The evidence in a few words, for the registry's page; all of it is in the run. Empty where there is none."""
    evidence = decision.evidence
    if evidence is None:
        return {}
    metric = evidence.metric
    # The part that came nearest to tripping the gate, by what is left of its margin.
    narrowest = min(evidence.parts, key=lambda part: part.difference + part.margin)
    return {
        "gate.champion": decision.champion.name if decision.champion else "",
        "gate.difference": f"{metric.difference:+.4f}",
        "gate.interval": f"{metric.low:+.4f} to {metric.high:+.4f}",
        "gate.worse_on": ", ".join(part.subject for part in evidence.parts if not part.holds) or "nothing",
        "gate.narrowest": f"{narrowest.subject}: {narrowest.figure} {narrowest.difference:+.4f}",
    }


def log_decision(run_id: str, decision: Mapping[str, Any]) -> None:
    """Write a decision, as a dictionary, to a run: for programs and for people."""
    client = mlflow.MlflowClient()
    client.log_dict(run_id, dict(decision), f"{GATE_ARTIFACTS}/{DECISION_FILE}")
    client.log_text(run_id, decision_report.render(decision), f"{GATE_ARTIFACTS}/{DECISION_REPORT}")


def logged_decision(run_id: str) -> dict[str, Any] | None:
    """What `log_decision` wrote to a run; None where it wrote nothing."""
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(run_id, GATE_ARTIFACTS)}
    path = f"{GATE_ARTIFACTS}/{DECISION_FILE}"
    return mlflow.artifacts.load_dict(f"runs:/{run_id}/{path}") if path in artifacts else None


def comparison(candidates: Sequence[Candidate]) -> pd.DataFrame:
    """All figures of the candidates: one row a figure, one column an architecture."""
    columns = {candidate.architecture: tracking.flatten(candidate.metrics) for candidate in candidates}
    return pd.DataFrame(columns, dtype=object).rename_axis("figure")  # object: whole numbers stay whole


def show(candidates: Sequence[Candidate], decision: Decision, params: GateParams) -> None:
    """Print the candidates side by side, and the decision."""
    table = Table("candidate", Column(params.metric, overflow="fold"), "bytes", "ms a face", "bounds")
    for candidate in candidates:
        seen = contender(candidate, params)
        bounds = "; ".join(decision.out_of_bounds.get(seen.name, ["inside"]))
        table.add_row(seen.name, f"{seen.score:.4f}", f"{seen.size_bytes:,}", f"{seen.latency_ms:.3g}", bounds)
    console = Console()
    console.print(table)
    console.print(decision.reason, style="bold", soft_wrap=True)


def main() -> None:
    """Compare the candidates with the champion, write the decision to registry and files."""
    params = Params.read().gate
    candidates = [Candidate.of(architecture) for architecture in Params.read().candidates]
    tracking.connect()
    champion = current_champion(params)
    if champion is not None:
        champion = renew(champion, candidates)
    decision = judge(candidates, champion, params)
    challenger = decision.challenger
    if challenger is not None and (champion is None or challenger.digest != champion.record.digest):
        candidate = next(one for one in candidates if one.digest == challenger.digest)
        record_challenger(candidate, challenger, decision)
    show(candidates, decision, params)

    paths.REGISTRATION.mkdir(parents=True, exist_ok=True)
    written = asdict(decision)
    (paths.REGISTRATION / DECISION_FILE).write_text(json.dumps(written, indent=2) + "\n")
    (paths.REGISTRATION / DECISION_REPORT).write_text(decision_report.render(written))
    comparison(candidates).to_csv(paths.REGISTRATION / COMPARISON_FILE, lineterminator="\n")


if __name__ == "__main__":
    main()
