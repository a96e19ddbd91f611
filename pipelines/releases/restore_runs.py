"""Restore the candidates' runs and the champion in an MLflow store that lacks them, such as a fresh clone's.

By hand, or by `make mlflow`, which calls it every time: it changes nothing that the store already holds, and leaves a
champion that the registry has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from mlflow.entities.model_registry import ModelVersion

from pipelines import paths
from pipelines.model_card.render import MODEL_CARD_FILE
from pipelines.params import Params
from pipelines.registry import descriptions, mlflow_connection, mlflow_store, runs
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion
from pipelines.releases import promotion
from service.classifier import METADATA_FILE, ClassifierMetadata

UI: Final = "http://127.0.0.1:5000"


@mlflow_connection.plain_errors()
def main(
    ui: Annotated[str, typer.Option(help="Where the pages will be if the store is no server.")] = UI,
) -> None:
    """Restore every run whose model is here, the registry's champion and its last challenger."""
    mlflow_store.connect()
    candidates = []
    params = Params.read()
    for name in params.evaluated:
        if params.evaluation(name).exists():
            candidates.append(Candidate.of(name))
        else:
            print(f"{name}: not trained and evaluated yet (dvc repro)")
    candidates.sort(key=lambda candidate: runs.past_of_training(candidate.model).start)
    for candidate in candidates:
        runs.ensure_training_run(candidate.model)
    for candidate in candidates:
        print(f"{candidate.architecture}: run {runs.ensure_run(candidate)}")
    released = Champion.read()
    if mlflow_store.champion_version() is None and released is not None:
        promotion.sync_from_git(released)
    if mlflow_store.version_by_alias(mlflow_store.CHALLENGER_ALIAS) is None:
        restore_challenger(candidates)
    version = mlflow_store.champion_version()
    if version is not None and version.run_id:
        decided = promotion.logged_decision(version.run_id) is not None
        descriptions.describe(version, promotion.DECISION_ARTIFACT if decided else None, card_of(version))
    print(f"champion: {f'version {version.version}' if version else 'none yet'}")
    if mlflow_connection.is_server():
        ui = mlflow_connection.shown_uri()
        print("The store is a server, which has these pages itself.")
    print(f"Pages: {mlflow_connection.experiment_page(mlflow_store.experiment_id(), ui)}")


def restore_challenger(candidates: Sequence[Candidate]) -> None:
    """Give the alias `challenger` to the model that the gate last refused, if it is one of the candidates."""
    path = paths.REGISTRATION / promotion.DECISION_FILE
    decision = json.loads(path.read_text()) if path.exists() else {}
    digest = (decision.get("challenger") or {}).get("digest")
    challenger = next((one for one in candidates if one.digest == digest), None)
    champion = mlflow_store.champion_version()
    if challenger is None or champion is None or mlflow_store.model_digest(champion) == digest:
        return
    run_id = runs.ensure_run(challenger)
    version = mlflow_store.ensure_version(challenger.digest, run_id)
    tags = {"architecture": challenger.architecture, "decision": "refused"}
    mlflow_store.annotate(version, decision["reason"], tags)
    promotion.log_decision(run_id, decision)
    descriptions.describe(version, promotion.DECISION_ARTIFACT)
    mlflow_store.set_challenger_alias(version)


def card_of(version: ModelVersion) -> Path | None:
    """The released model card, if it is that of a version."""
    card, released = paths.BUNDLE / "classifier" / MODEL_CARD_FILE, Champion.read()
    if released is None or not card.exists() or released.record.digest != mlflow_store.model_digest(version):
        return None
    metadata = ClassifierMetadata.model_validate_json(card.with_name(METADATA_FILE).read_bytes())
    return (
        card if (metadata.name, metadata.version) == (released.record.architecture, released.record.version) else None
    )


if __name__ == "__main__":
    typer.run(main)
