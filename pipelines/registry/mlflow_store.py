"""Versions of the registered model, and which of them is the champion, in whatever registry MLflow is pointed at.

A version carries the digest of its model (`pipelines.registry.candidates.identity`) as a tag. By that the same model is
recognised, in whatever run it was trained or restored, so that registering it twice makes one version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import mlflow
from mlflow.entities.model_registry import ModelVersion

from pipelines.registry.tracking import CHAMPION_ALIAS, REGISTERED_MODEL, logged_model_id

DIGEST_TAG: Final = "model_digest"

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model; no such alias


def champion_version() -> ModelVersion | None:
    """The version with the alias `champion`; None where no version has it."""
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(REGISTERED_MODEL, CHAMPION_ALIAS)
    except mlflow.MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise


def find_version(digest: str) -> ModelVersion | None:
    """The version of a model by its digest; None where the registry has never seen it."""
    versions = mlflow.MlflowClient().search_model_versions(f"name = '{REGISTERED_MODEL}'")
    return next((version for version in versions if version.tags.get(DIGEST_TAG) == digest), None)


def ensure_version(digest: str, run_id: str) -> ModelVersion:
    """The version of a model, created where the registry has never seen the model.

    Args:
        digest: see `pipelines.registry.candidates.identity`.
        run_id: the run in this store that logged the model.

    Raises:
        LookupError: the run logged no model.
    """
    found = find_version(digest)
    if found is not None:
        return found
    return mlflow.register_model(f"models:/{logged_model_id(run_id)}", REGISTERED_MODEL, tags={DIGEST_TAG: digest})


def annotate(version: ModelVersion, description: str, tags: Mapping[str, object]) -> None:
    """Write to a version what it is and what was decided about it."""
    client = mlflow.MlflowClient()
    client.update_model_version(REGISTERED_MODEL, str(version.version), description=description)
    for key, value in tags.items():
        client.set_model_version_tag(REGISTERED_MODEL, str(version.version), key, str(value))


def crown(version: ModelVersion) -> None:
    """Move the alias `champion` to a version."""
    mlflow.MlflowClient().set_registered_model_alias(REGISTERED_MODEL, CHAMPION_ALIAS, str(version.version))
