"""What experiment and registered model are called in MLflow; runs, logged models and versions.

A version carries the digest of its model (`pipelines.registry.candidates.identity`) as a tag. It identifies the model
in whatever run it was trained or restored, so registering it twice makes one version.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion

from pipelines.registry import mlflow_connection

EXPERIMENT: Final = "mood-estimation"
REGISTERED_MODEL: Final = "mood-estimator"
CHAMPION_ALIAS: Final = "champion"
CHALLENGER_ALIAS: Final = "challenger"
"""Alias of the version that the gate last compared with the champion and refused."""
ORIGINAL_RUN: Final = "original_run_id"
"""Tag of a run that was restored from git: the id of the run in the store where the model was trained."""
DIGEST_TAG: Final = "model_digest"
REASON_TAG: Final = "reason"
TRAINED_TAG: Final = "trained"
"""When a model was trained; MLflow dates a restored one by its restoration."""

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such model; no such alias


def connect() -> None:
    """Point MLflow at the store and at the project's experiment, which is created if it is missing.

    Raises:
        StoreUnreachable: see `pipelines.registry.mlflow_connection.connect`.
    """
    mlflow_connection.connect(EXPERIMENT)


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


def logged_model(run_id: str) -> LoggedModel:
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
    return models[0]


def step_of(run_id: str, model_id: str) -> int:
    """The step, which is the epoch, at which a run logged a model."""
    outputs = mlflow.get_run(run_id).outputs
    found = outputs.model_outputs if outputs else []
    return next((output.step for output in found if output.model_id == model_id), 0)


def experiment_id() -> str:
    """Id of the project's experiment."""
    return str(mlflow.set_experiment(EXPERIMENT).experiment_id)


def dataset(path: Path, digest: str) -> MetaDataset:
    """A face set as MLflow's dataset, whose content is not read.

    Args:
        path: File of the face set.
        digest: Digest of its content, of which MLflow keeps 36 characters.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MLflow knows two kinds of source for a local file
        source = resolve_dataset_source(path.as_posix())
    return MetaDataset(source, name=path.as_posix().removesuffix(path.suffix), digest=digest[:36])  # type: ignore[abstract]


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
    return version_by_alias(CHAMPION_ALIAS)


def version_by_alias(alias: str) -> ModelVersion | None:
    """The version with an alias; None if no version has it."""
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(REGISTERED_MODEL, alias)
    except mlflow.MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise


def versions() -> list[ModelVersion]:
    """All versions of the registered model."""
    return list(mlflow.MlflowClient().search_model_versions(f"name = '{REGISTERED_MODEL}'"))


def find_version(digest: str) -> ModelVersion | None:
    """The version of a model by its digest; None if the registry does not know the model."""
    return next((version for version in versions() if model_digest(version) == digest), None)


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
    model = logged_model(run_id)
    tags = {DIGEST_TAG: digest, TRAINED_TAG: model.tags.get(TRAINED_TAG, "unknown")}
    return mlflow.register_model(f"models:/{model.model_id}", REGISTERED_MODEL, tags=tags)


def annotate(version: ModelVersion, reason: str, tags: Mapping[str, object]) -> None:
    """Write to a version why it has its place, and tags.

    Args:
        version: A version.
        reason: The gate's decision in one sentence: the first line of the description, and a tag.
        tags: Further tags.
    """
    client = mlflow.MlflowClient()
    client.update_model_version(REGISTERED_MODEL, str(version.version), description=reason)
    for key, value in {**tags, REASON_TAG: reason}.items():
        client.set_model_version_tag(REGISTERED_MODEL, str(version.version), key, str(value))


def model_digest(version: ModelVersion) -> str:
    """Digest of a version's trained model; empty if it has none."""
    return str(version.tags.get(DIGEST_TAG, ""))


def reason_of(version: ModelVersion) -> str:
    """The reason that `annotate` wrote to a version; empty if there is none."""
    return str(version.tags.get(REASON_TAG, ""))


def set_champion_alias(version: ModelVersion) -> None:
    """Move the alias `champion` to a version, which is no challenger any more."""
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION_ALIAS, str(version.version))
    challenger = version_by_alias(CHALLENGER_ALIAS)
    if challenger is not None and challenger.version == version.version:
        client.delete_registered_model_alias(REGISTERED_MODEL, CHALLENGER_ALIAS)


def set_challenger_alias(version: ModelVersion) -> None:
    """Move the alias `challenger` to a version."""
    mlflow.MlflowClient().set_registered_model_alias(REGISTERED_MODEL, CHALLENGER_ALIAS, str(version.version))
