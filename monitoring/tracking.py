"""Monitoring results in MLflow: runs of an experiment of their own, and tags of the registered model's version.

Records are the least that a monitoring command does: a store that does not answer, or any other error of it, costs a
warning and seconds, never the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import mlflow
import typer
from mlflow.entities.model_registry import ModelVersion

from pipelines.registry import mlflow_connection, mlflow_store
from pipelines.releases.ledger import Ledger

EXPERIMENT: Final = "mood-monitoring"


def find_version(model_version: str) -> ModelVersion | None:
    """The registered version of a release; None if this registry does not know it.

    A registry numbers its versions for itself, so the model is found by its digest in the ledger.
    """
    ledger = Ledger.read()
    released = next((entry for entry in ledger.entries if str(entry.number) == model_version), None)
    return mlflow_store.find_version(released.model) if released else None


def log(
    model_version: str,
    run_name: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: tuple[Path, ...] = (),
) -> str | None:
    """Log a run of the experiment `EXPERIMENT` for a registered model version, and set tags of that version.

    Nothing is raised. If the store cannot be used, or its registry does not know the version, a warning goes to
    standard error.

    Args:
        model_version: Version of the classifier as stated in its bundle.
        run_name: Name of the run.
        metrics: Metrics of the run and of the version's logged model.
        tags: Tags of the run and of the version.
        artifacts: Files that the run keeps.

    Returns:
        Id of the run; None if nothing was recorded.
    """
    try:
        with mlflow_connection.plain_errors():
            return _log(model_version, run_name, metrics, tags, artifacts)
    except mlflow_connection.StoreUnreachable as error:
        warning = str(error)
    except Exception as error:  # whatever the client library of a store raises
        warning = next(iter(f"{type(error).__name__}: {error}".splitlines()))
    typer.echo(f"Nothing was recorded. {warning}", err=True)
    return None


def _log(
    model_version: str,
    run_name: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: tuple[Path, ...],
) -> str | None:
    """As `log`, which says what happens if the store cannot be used."""
    mlflow_connection.connect(EXPERIMENT)
    version = find_version(model_version)
    if version is None:
        typer.echo(f"The MLflow registry knows no version {model_version}: nothing was recorded there.", err=True)
        return None
    with mlflow.start_run(run_name=run_name, tags={"model_version": model_version, **tags}) as run:
        mlflow.log_metrics(dict(metrics), model_id=_logged_model(version))
        for path in artifacts:
            mlflow.log_artifact(str(path))
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(mlflow_store.REGISTERED_MODEL, str(version.version), key, value)
    return run.info.run_id


def _logged_model(version: ModelVersion) -> str | None:
    """Id of the logged model that a version was registered from, so that its page shows the metrics too."""
    kind, _, identity = (version.source or "").partition(":/")
    return identity if kind == "models" and "/" not in identity else None


def flat_metrics(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The numbers among nested values, by names such as `prefix/outer/inner`."""
    flat = mlflow_store.flatten(dict(values))
    return {
        f"{prefix}/{name.replace('.', '/')}": float(value)
        for name, value in flat.items()
        if isinstance(value, int | float)
    }
