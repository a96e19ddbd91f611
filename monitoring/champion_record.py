"""What MLflow is told of a champion in the field: figures on its version, and tags that say how it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow.entities.model_registry import ModelVersion

from pipelines import paths
from pipelines.registry import mlflow_store, tracking

EXPERIMENT: Final = "mood-monitoring"


def find_version(model_version: str) -> ModelVersion | None:
    """The version in this registry of the model that a bundle calls so; None where the registry has never seen it.

    A restored registry may count otherwise; the released champion is found there by its digest.
    """
    tracking.connect()
    # Read as plain JSON: `pipelines.registry.champion` would import TensorFlow.
    record = paths.CHAMPION / "champion.json"
    champion = json.loads(record.read_text()) if record.exists() else {}
    if champion.get("version") == model_version:
        return mlflow_store.find_version(champion["digest"])
    with suppress(mlflow.MlflowException):
        return mlflow.MlflowClient().get_model_version(tracking.REGISTERED_MODEL, model_version)
    return None


def log(
    model_version: str,
    run_name: str,
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: tuple[Path, ...] = (),
) -> str | None:
    """Record a run of the experiment `EXPERIMENT` on a model's version.

    Args:
        model_version: of the classifier, as its bundle has it.
        run_name: what was done.
        figures: metrics, of the run and of the version's logged model.
        tags: of the run and of the version.
        artifacts: files that the run keeps.

    Returns:
        The run's id; None where the registry has no such version, and nothing was recorded.
    """
    version = find_version(model_version)
    if version is None:
        return None
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=run_name, tags={"model_version": model_version, **tags}) as run:
        mlflow.log_metrics(dict(figures), model_id=_logged_model(version))
        for path in artifacts:
            mlflow.log_artifact(str(path))
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(tracking.REGISTERED_MODEL, str(version.version), key, value)
    return run.info.run_id


def _logged_model(version: ModelVersion) -> str | None:
    """The logged model that a version was registered from, so that its page shows the figures too."""
    kind, _, identity = (version.source or "").partition(":/")
    return identity if kind == "models" and "/" not in identity else None


def flat_figures(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The numbers among nested values, by names such as `prefix/outer/inner`."""
    flat = tracking.flatten(dict(values))
    return {
        f"{prefix}/{name.replace('.', '/')}": float(value)
        for name, value in flat.items()
        if isinstance(value, int | float)
    }
