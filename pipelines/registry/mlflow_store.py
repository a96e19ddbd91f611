"""MLflow in one place: where the store is, what experiment and registered model are called, runs and versions.

The store is an SQLite file in the project; `MLFLOW_TRACKING_URI` moves runs, artifacts and registry to a server. A
version carries the digest of its model (`pipelines.registry.candidates.identity`) as a tag. It identifies the model in
whatever run it was trained or restored, so registering it twice makes one version.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities.model_registry import ModelVersion

from pipelines.registry.provenance import dvc_hash

EXPERIMENT: Final = "mood-estimation"
REGISTERED_MODEL: Final = "mood-estimator"
CHAMPION_ALIAS: Final = "champion"
DEFAULT_TRACKING_URI: Final = "sqlite:///mlflow.db"
ORIGINAL_RUN: Final = "original_run_id"
"""Tag of a run that was restored from git: the id of the run in the store where the model was trained."""
DIGEST_TAG: Final = "model_digest"

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model; no such alias


def connect() -> None:
    """Point MLflow at the store and at the project's experiment, which is created if it is missing."""
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_TRACKING_URI))
    mlflow.set_experiment(EXPERIMENT)


def run_exists(run_id: str) -> bool:
    """Whether the store holds a run. It lacks those made elsewhere, for example before a clone."""
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except mlflow.MlflowException:
        return False


def find_run(run_id: str) -> str | None:
    """The run in this store that is the given one or restores it; None if there is neither."""
    if run_exists(run_id):
        return run_id
    restored = mlflow.search_runs(
        filter_string=f"tags.{ORIGINAL_RUN} = '{run_id}'", max_results=1, output_format="list"
    )
    return restored[0].info.run_id if restored else None


def logged_model_id(run_id: str) -> str:
    """The last model that a run logged.

    Raises:
        LookupError: the run logged none.
    """
    run = mlflow.get_run(run_id)
    models = mlflow.search_logged_models(
        experiment_ids=[run.info.experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        max_results=1,
        output_format="list",
    )
    if not models:
        raise LookupError(f"the run {run_id} has logged no model: train it again, or delete it and it is restored")
    return models[0].model_id


def log_dataset(path: Path, context: str) -> None:
    """Record a face set as an input of the active run, by name and DVC hash; its content is not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MLflow knows two kinds of source for a local file
        source = resolve_dataset_source(path.as_posix())
    dataset = MetaDataset(source, name=path.name, digest=dvc_hash(path.parent)[:36])  # type: ignore[abstract]
    mlflow.log_input(dataset, context=context)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as MLflow's flat ones: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def champion_version() -> ModelVersion | None:
    """The version with the alias `champion`; None if no version has it."""
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(REGISTERED_MODEL, CHAMPION_ALIAS)
    except mlflow.MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise


def find_version(digest: str) -> ModelVersion | None:
    """The version of a model by its digest; None if the registry does not know the model."""
    versions = mlflow.MlflowClient().search_model_versions(f"name = '{REGISTERED_MODEL}'")
    return next((version for version in versions if version.tags.get(DIGEST_TAG) == digest), None)


def ensure_version(digest: str, run_id: str) -> ModelVersion:
    """The version of a model, created if the registry does not know the model.

    Args:
        digest: See `pipelines.registry.candidates.identity`.
        run_id: The run in this store that logged the model.

    Raises:
        LookupError: the run logged no model.
    """
    found = find_version(digest)
    if found is not None:
        return found
    return mlflow.register_model(f"models:/{logged_model_id(run_id)}", REGISTERED_MODEL, tags={DIGEST_TAG: digest})


def annotate(version: ModelVersion, description: str, tags: Mapping[str, object]) -> None:
    """Write description and tags of a version."""
    client = mlflow.MlflowClient()
    client.update_model_version(REGISTERED_MODEL, str(version.version), description=description)
    for key, value in tags.items():
        client.set_model_version_tag(REGISTERED_MODEL, str(version.version), key, str(value))


def set_champion_alias(version: ModelVersion) -> None:
    """Move the alias `champion` to a version."""
    mlflow.MlflowClient().set_registered_model_alias(REGISTERED_MODEL, CHAMPION_ALIAS, str(version.version))
