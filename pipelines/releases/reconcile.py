"""Git's champion and the registry's: what is done if they differ.

**Git decides.** The registry's alias `champion` follows `models/champion`, and what differed is said. There is one
exception: a registry that several clones share may have a release with a higher number than this clone's ledger knows.
Then this clone is behind, the alias stays, and the gate promotes nothing until the clone has pulled.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from pipelines import paths
from pipelines.registry import mlflow_connection, mlflow_store, runs
from pipelines.registry.champion import Champion
from pipelines.releases import promotion
from pipelines.releases.ledger import Ledger, Release


def follow_git(champion: Champion | None, ledger: Ledger) -> str:
    """Make git's champion the registry's, except in the case that the module's docstring names.

    Returns:
        What differed, which champion was taken and why; empty if nothing differed.
    """
    version = mlflow_store.champion_version()
    if champion is None:
        if version is None:
            return ""
        return (
            f"Git has no champion, the registry has {_title(version)}. Git decides: the gate chooses the first one. "
            f"To take the registry's: {_promote(version)}"
        )
    mine = f"release {champion.record.version} ({champion.record.architecture})"
    if version is None:
        promotion.sync_from_git(champion)
        return f"The registry had no champion. It has git's now, {mine}."
    if mlflow_store.model_digest(version) == champion.record.digest:
        if any(version.tags.get(key) != value for key, value in promotion.release_tags(champion).items()):
            promotion.sync_from_git(champion)
        return ""
    differs = f"The champions differ: git has {mine}, the registry has {_title(version)}."
    if _is_newer(version, ledger):
        return f"{differs} That release is newer than {paths.RELEASES} knows: git pull. Until then git's is compared."
    promotion.sync_from_git(champion)
    known = [entry for entry in ledger.entries if entry.model == mlflow_store.model_digest(version)]
    why = (
        f"in {paths.RELEASES} it was replaced by {mine}" if known else f"{paths.RELEASES} has never had it as a release"
    )
    return f"{differs} Git decides, and {why}: the registry has git's now. To take the other: {_promote(version)}"


def require_newest(ledger: Ledger) -> None:
    """Check that the registry's champion is no release that this clone has not pulled yet.

    Raises:
        LookupError: it is; the next release would have a number that is taken.
    """
    version = mlflow_store.champion_version()
    if version is not None and _is_newer(version, ledger):
        raise LookupError(
            f"The registry has {_title(version)}, which {paths.RELEASES} does not know: git pull, then dvc repro. If "
            "nobody has pushed that release, promote by hand: python -m pipelines.releases.promote NAME --reason WHY"
        )


def fetch(release: Release, directory: Path) -> Champion:
    """A release with the files that MLflow has of it.

    Args:
        release: Entry of the ledger.
        directory: Target directory.

    Raises:
        LookupError: MLflow does not know its model, or its run holds no evaluated candidate.
        StoreUnreachable: MLflow does not answer.
    """
    with mlflow_connection.plain_errors():
        mlflow_store.connect()
        version = mlflow_store.find_version(release.model)
        if version is None or not version.run_id:
            raise LookupError(
                f"The files of {release.title} are neither in git's history nor in MLflow. If this is a shallow clone: "
                "git fetch --unshallow"
            )
        candidate = runs.download_candidate(version.run_id, directory)
        decision = promotion.logged_decision(version.run_id)
        parameters = mlflow.get_run(version.run_id).data.params
    return promotion.as_champion(candidate, release.reason, decision, parameters)


def _promote(version: ModelVersion) -> str:
    """The command that releases a version's model."""
    return f"python -m pipelines.releases.promote {mlflow_store.model_digest(version)[:12]} --reason WHY"


def _is_newer(version: ModelVersion, ledger: Ledger) -> bool:
    """Whether a version is a release with a higher number than the ledger has."""
    number = str(version.tags.get(promotion.RELEASE_TAG, ""))
    return number.isdecimal() and int(number) > ledger.highest


def _title(version: ModelVersion) -> str:
    """A version in words."""
    number = version.tags.get(promotion.RELEASE_TAG)
    name = version.tags.get("architecture", "a model of unknown name")
    return f"{f'release {number}' if number else 'an unreleased model'} ({name}, version {version.version} there)"
