"""MLflow, in one place: where it is, what the experiment and the registered model are called, what a run records.

The store is an SQLite file in the project; `MLFLOW_TRACKING_URI` moves runs, artifacts and registry to a server.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path
from typing import Any, Final

import mlflow
import yaml
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset

EXPERIMENT: Final = "mood-estimation"
REGISTERED_MODEL: Final = "mood-estimator"
CHAMPION_ALIAS: Final = "champion"
DEFAULT_TRACKING_URI: Final = "sqlite:///mlflow.db"
ORIGINAL_RUN: Final = "original_run_id"
"""Tag of a run that was restored from git: the run of another store that it stands for."""


def connect() -> None:
    """Point MLflow at the tracking store and the project's experiment, which is created where it is missing."""
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_TRACKING_URI))
    mlflow.set_experiment(EXPERIMENT)


def run_exists(run_id: str) -> bool:
    """Whether the store that `connect` chose holds a run (one made elsewhere, before a clone, is not there)."""
    try:
        return mlflow.get_run(run_id).info.lifecycle_stage == "active"
    except mlflow.MlflowException:
        return False


def find_run(run_id: str) -> str | None:
    """The run in this store that is, or restores, a run of the store where it was made; None where neither is here."""
    if run_exists(run_id):
        return run_id
    restored = mlflow.search_runs(
        filter_string=f"tags.{ORIGINAL_RUN} = '{run_id}'", max_results=1, output_format="list"
    )
    return restored[0].info.run_id if restored else None


def logged_model_id(run_id: str) -> str:
    """The model that a run logged, the last where it logged several.

    Raises:
        LookupError: it logged none.
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
        raise LookupError(f"the run {run_id} has logged no model: train it anew, or delete it and it is restored")
    return models[0].model_id


def log_dataset(path: Path, context: str) -> None:
    """Record as an input of the active run a file of the face sets, by name and DVC hash; its content is not read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that MLflow knows two kinds of source for a local file
        source = resolve_dataset_source(path.as_posix())
    mlflow.log_input(MetaDataset(source, name=path.name, digest=dvc_hash(path.parent)[:36]), context=context)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as MLflow's flat ones: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def git_commit_of(path: Path) -> str:
    """The commit that last changed a file; `unknown` where it is not committed."""
    logged = subprocess.run(["git", "log", "-1", "--format=%H", "--", str(path)], capture_output=True, text=True)
    return logged.stdout.strip() or "unknown"


def git_commit() -> str:
    """The checked-out commit, with `-dirty` where tracked files differ from it; `unknown` outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def dvc_hash(path: Path) -> str:
    """The hash that DVC last recorded for a stage output or a tracked dataset; `unknown` where it has none.

    Args:
        path: as written in `dvc.yaml`, or a dataset with its pointer file `<path>.dvc` beside it.
    """
    pointer = path.with_name(path.name + ".dvc")
    if pointer.exists():
        return str(yaml.safe_load(pointer.read_text())["outs"][0]["md5"])
    lock = Path("dvc.lock")
    if lock.exists():
        for stage in yaml.safe_load(lock.read_text())["stages"].values():
            for output in stage.get("outs", []):
                if output["path"] == path.as_posix():
                    return str(output["md5"])
    return "unknown"


def locked_params(stage: str) -> dict[str, Any]:
    """The parameters that a stage was last run with, as DVC recorded them; `params.yaml` may have others by now.

    Args:
        stage: its name, for example `train@mini_xception`.

    Returns:
        Values by the names in `dvc.yaml`; empty where DVC has not recorded the stage.
    """
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    return dict(stages.get(stage, {}).get("params", {}).get("params.yaml", {}))
