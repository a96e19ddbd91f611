"""From candidates to a champion: comparing them, and writing the decision to git and to the registry.

Git decides who the champion is and what its release is called: `models/champion` and the ledger, `models/releases.json`
(`pipelines.releases.ledger`). The registry follows; see `pipelines.releases.reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion

from pipelines import paths
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation import onnx_form
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import ValidationPredictions, open_classifier
from pipelines.params import GateParams, Params
from pipelines.registry import decision_report, descriptions, gate, mlflow_store, runs
from pipelines.registry.candidates import VALIDATION_FILE, Candidate, sha256
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.registry.costs import costs
from pipelines.registry.gate import Decision, GateEntry
from pipelines.releases.ledger import Action, Verdict
from pipelines.releases.releasing import enter
from service import faces
from service.classifier import GRAPH_FILE

DECISION_FILE: Final = "decision.json"
DECISION_REPORT: Final = "decision.md"
GATE_ARTIFACTS: Final = "gate"
"""Folder of a challenger's run with the two decision files."""
DECISION_ARTIFACT: Final = f"{GATE_ARTIFACTS}/{DECISION_REPORT}"
RELEASE_TAG: Final = "release"
RELEASE_DIGEST_TAG: Final = "release_digest"
"""Tags of a version in the registry: number and digest of the release, as in the ledger."""


def sync_from_git(champion: Champion, decision: str = "taken from git") -> ModelVersion:
    """Make git's champion the registry's.

    Args:
        champion: Git's champion.
        decision: The version's tag `decision`.
    """
    record = champion.record
    run_id = runs.ensure_run(champion.candidate, record.training_parameters)
    version = mlflow_store.ensure_version(record.digest, run_id)
    tags = {"architecture": record.architecture, "decision": decision, **release_tags(champion)}
    mlflow_store.annotate(version, record.reason, tags)
    mlflow_store.set_champion_alias(version)
    if record.decision is not None:
        log_decision(run_id, record.decision)
    descriptions.describe(version, DECISION_ARTIFACT if record.decision is not None else None)
    return version


def release_tags(champion: Champion) -> dict[str, str]:
    """The tags by which a version in the registry names its release."""
    return {RELEASE_TAG: champion.record.version, RELEASE_DIGEST_TAG: champion.served_digest}


def release(
    candidate: Candidate,
    *,
    action: Action,
    gate: Verdict,
    reason: str,
    decision: dict[str, Any] | None,
    training_parameters: Mapping[str, Any],
    withdraws: Iterable[str] = (),
) -> Champion:
    """Make a candidate the champion in git: `models/champion`, the ledger and the changelog.

    Args:
        candidate: The new champion.
        action: See `pipelines.releases.ledger.Release`.
        gate: See there.
        reason: Why it is the champion, in a sentence.
        decision: The gate's decision as a dictionary; None if it is not known.
        training_parameters: Parameters of its training.
        withdraws: See `pipelines.releases.ledger.Release`.
    """
    champion = as_champion(candidate, reason, decision, training_parameters)
    return enter(champion, action=action, gate=gate, reason=reason, withdraws=withdraws)


def as_champion(
    candidate: Candidate, reason: str, decision: dict[str, Any] | None, training_parameters: Mapping[str, Any]
) -> Champion:
    """A candidate as a champion without a number; the arguments are those of `release`."""
    record = ChampionRecord(
        architecture=candidate.architecture,
        version="0",
        digest=candidate.digest,
        run_id=candidate.run_id,
        reason=reason,
        decision=decision,
        temperature=candidate.metrics["temperature"],
        input=candidate.input,
        mirror_averaging=candidate.mirror_averaging,
        validation_faces=candidate.validation_faces,
        training_parameters={name: str(value) for name, value in training_parameters.items()},
        metrics=candidate.metrics,
    )
    return Champion(record, candidate)


def refresh(champion: Champion, candidates: Sequence[Candidate]) -> Champion:
    """The champion with its latest metrics, if its model was evaluated again since it was promoted.

    The detector or a measurement may have changed, and the released metrics must be those of what is served. The
    reason why it is champion stays as it was written. If what is served differs, in its calibration for example, it
    is a new release. A graph that only has other names is not taken over.

    Args:
        champion: Git's copy, which is updated.
        candidates: All candidates; the champion may be among them.
    """
    own = next((one for one in candidates if one.digest == champion.record.digest), None)
    if own is None or own.metrics == champion.record.metrics:
        return champion
    released = champion.candidate.model / GRAPH_FILE
    renamed = onnx_form.same(released, own.model / GRAPH_FILE)
    before = champion.served_digest
    measured = {"temperature": own.metrics["temperature"], "input": own.input, "metrics": own.metrics}
    record = champion.record.model_copy(update={**measured, "validation_faces": own.validation_faces})
    measured_again = Champion(record, own).write(graph=released if renamed else None)
    if measured_again.served_digest == before:
        return measured_again
    differs = [] if renamed else ["its graph"]
    differs += ["its calibration"] if record.temperature != champion.record.temperature else []
    differs += ["its input"] if record.input != champion.record.input else []
    reason = f"the champion was evaluated again, and {' and '.join(differs)} differ{'s' if len(differs) == 1 else ''}."
    return enter(measured_again, action="refresh", gate="not asked", reason=reason)


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
        name=candidate.architecture,
        digest=candidate.digest,
        score=metrics[params.metric],
        size_bytes=metrics["size_bytes"],
        latency_ms=metrics["latency_ms"],
        **costs(candidate)._asdict(),
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
    descriptions.describe(version, DECISION_ARTIFACT)
    if decision.promoted:
        champion = release(
            candidate,
            action="promote",
            gate="promoted",
            reason=decision.reason,
            decision=written,
            training_parameters=mlflow.get_run(run_id).data.params,
        )
        mlflow_store.annotate(version, decision.reason, release_tags(champion))
        descriptions.describe(version, DECISION_ARTIFACT)
        mlflow_store.set_champion_alias(version)
    else:
        mlflow_store.set_challenger_alias(version)


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
