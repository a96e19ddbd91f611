"""From candidates to a champion: comparing them, and writing the decision to the registry and to git's copy.

The registry's alias `champion` and `models/champion`, git's copy, say the same after each function that changes one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion

from pipelines import paths
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import ValidationPredictions, open_classifier
from pipelines.params import GateParams, Params
from pipelines.registry import decision_report, gate, mlflow_store, runs
from pipelines.registry.candidates import VALIDATION_FILE, Candidate, sha256
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.registry.gate import Decision, GateEntry
from service import faces
from service.classifier import GRAPH_FILE

DECISION_FILE: Final = "decision.json"
DECISION_REPORT: Final = "decision.md"
GATE_ARTIFACTS: Final = "gate"
"""Folder of a challenger's run with the two decision files."""


def current_champion(params: GateParams) -> Champion | None:
    """The champion, made the same in git's copy and in the registry.

    The registry decides, because a colleague may have promoted another model there. It takes git's champion if it has
    none, and if it does not know git's champion and the gate finds that one better than its own.

    Raises:
        LookupError: the registry's champion was not made by this pipeline.
    """
    released, version = Champion.read(), mlflow_store.champion_version()
    if version is None:
        if released is not None:
            sync_from_git(released)
        return released
    if released is not None and released.record.digest == version.tags.get(mlflow_store.DIGEST_TAG):
        return released
    with tempfile.TemporaryDirectory() as directory:
        registered = fetch(version, Path(directory))
        unknown = released is not None and mlflow_store.find_version(released.record.digest) is None
        if released is not None and unknown and judge([released.candidate], registered, params).promoted:
            sync_from_git(released)
            return released
        return registered.write()


def sync_from_git(champion: Champion) -> ModelVersion:
    """Make git's champion the registry's."""
    record = champion.record
    run_id = runs.ensure_run(champion.candidate, record.training_parameters)
    version = mlflow_store.ensure_version(record.digest, run_id)
    mlflow_store.annotate(
        version,
        record.reason,
        {"architecture": record.architecture, "decision": "taken from git", "released_as_version": record.version},
    )
    mlflow_store.set_champion_alias(version)
    if record.decision is not None:
        log_decision(run_id, record.decision)
    return version


def fetch(version: ModelVersion, directory: Path) -> Champion:
    """The registry's champion, with its files in a directory.

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
        candidate: The new champion.
        version: Its version in the registry.
        run_id: Its run in this store.
        reason: Why it is the champion.
        decision: The gate's decision as a dictionary; None if it is not known.
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


def refresh(champion: Champion, candidates: Sequence[Candidate]) -> Champion:
    """The champion with its latest metrics, if its model was evaluated again since it was promoted.

    The detector or a measurement may have changed, and the released metrics must be those of what is served. The
    reason why it is champion stays as it was written.

    Args:
        champion: Git's copy, which is updated.
        candidates: All candidates; the champion may be among them.
    """
    own = next((one for one in candidates if one.digest == champion.record.digest), None)
    if own is None or own.metrics == champion.record.metrics:
        return champion
    measured = {"temperature": own.metrics["temperature"], "input": own.input, "metrics": own.metrics}
    record = champion.record.model_copy(update={**measured, "validation_faces": own.validation_faces})
    return Champion(record, own).write()


def judge(candidates: Sequence[Candidate], champion: Champion | None, params: GateParams) -> Decision:
    """The gate's decision about the candidates.

    Args:
        candidates: At least one candidate, all measured on the same validation faces.
        champion: The champion; None if there is none.
        params: The rule.
    """
    entries = {one.digest: entry(one, params) for one in candidates}
    if champion is None:
        return gate.decide(list(entries.values()), None, params, {})
    # The champion may be among the candidates, with newer metrics.
    own = next((one for one in candidates if one.digest == champion.record.digest), champion.candidate)
    incumbent, challenger = entry(own, params), gate.best_inside(list(entries.values()), params)
    predictions: dict[str, ValidationPredictions] = {}
    if challenger is not None and challenger.digest != incumbent.digest:
        predictions = comparable_predictions(next(one for one in candidates if one.digest == challenger.digest), own)
        incumbent = replace(incumbent, score=gate.score(predictions[incumbent.digest], params))
    return gate.decide(list(entries.values()), incumbent, params, predictions)


def entry(candidate: Candidate, params: GateParams) -> GateEntry:
    """A candidate as the gate sees it."""
    metrics = mlflow_store.flatten(candidate.metrics)
    return GateEntry(
        candidate.architecture, candidate.digest, metrics[params.metric], metrics["size_bytes"], metrics["latency_ms"]
    )


def comparable_predictions(challenger: Candidate, champion: Candidate) -> dict[str, ValidationPredictions]:
    """Both models' predictions for the same images, by digest.

    The recorded ones are used if both are for the same validation faces and corruptions. Otherwise a model that was
    not measured on the present faces is measured now.

    Raises:
        FileNotFoundError: the validation faces are needed and missing.
    """
    models = (challenger, champion)
    recorded = {one.digest: ValidationPredictions.load(one.evaluation / VALIDATION_FILE) for one in models}
    corruptions = {frozenset(predictions.corrupted) for predictions in recorded.values()}
    if challenger.validation_faces == champion.validation_faces and len(corruptions) == 1:
        return recorded
    faces_file = paths.face_set("validation")
    if not faces_file.exists():
        raise FileNotFoundError(f"{faces_file} does not exist: run the stage `prepare` (`dvc repro`)")
    present = sha256(faces_file)

    def is_present(one: Candidate) -> bool:
        return one.validation_faces == present and set(recorded[one.digest].corrupted) == set(CORRUPTIONS)

    return {one.digest: recorded[one.digest] if is_present(one) else measure(one) for one in models}


def measure(candidate: Candidate) -> ValidationPredictions:
    """A model's predictions for the present validation faces, which may have been cut for another input size."""
    validation = FaceSet.load(paths.face_set("validation"))
    classifier = open_classifier(
        candidate.model / GRAPH_FILE, candidate.architecture, candidate.input, candidate.metrics["temperature"]
    )
    pixels = np.stack([faces.resize(face, candidate.input.size) for face in validation.pixels])
    return ValidationPredictions.measure(classifier, replace(validation, pixels=pixels), Params.read().evaluate.seed)


def record_challenger(candidate: Candidate, challenger: GateEntry, decision: Decision) -> None:
    """Write the decision about a challenger to the registry; a promotion moves the alias and git's copy.

    Args:
        candidate: The challenger's files.
        challenger: The challenger as the gate saw it.
        decision: The decision.
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
        mlflow_store.set_champion_alias(version)
        describe(candidate, version, run_id, decision.reason, written).write()


def evidence_tags(decision: Decision) -> dict[str, str]:
    """The evidence in a few words, for the registry's page; empty if there is none. The run holds all of it."""
    evidence = decision.evidence
    if evidence is None:
        return {}
    metric = evidence.metric
    narrowest = min(evidence.parts, key=lambda part: part.difference + part.margin)  # closest to being refused
    return {
        "gate.champion": decision.champion.name if decision.champion else "",
        "gate.difference": f"{metric.difference:+.4f}",
        "gate.interval": f"{metric.low:+.4f} to {metric.high:+.4f}",
        "gate.worse_on": ", ".join(part.subject for part in evidence.parts if not part.holds) or "nothing",
        "gate.narrowest": f"{narrowest.subject}: {narrowest.metric} {narrowest.difference:+.4f}",
    }


def log_decision(run_id: str, decision: Mapping[str, Any]) -> None:
    """Write a decision, as a dictionary, to a run: as JSON for programs and as Markdown for people."""
    client = mlflow.MlflowClient()
    client.log_dict(run_id, dict(decision), f"{GATE_ARTIFACTS}/{DECISION_FILE}")
    client.log_text(run_id, decision_report.render(decision), f"{GATE_ARTIFACTS}/{DECISION_REPORT}")


def logged_decision(run_id: str) -> dict[str, Any] | None:
    """The decision that `log_decision` wrote to a run; None if there is none."""
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(run_id, GATE_ARTIFACTS)}
    path = f"{GATE_ARTIFACTS}/{DECISION_FILE}"
    return mlflow.artifacts.load_dict(f"runs:/{run_id}/{path}") if path in artifacts else None
