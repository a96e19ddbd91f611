"""MLflow, in one place: where it is, what the experiment and the registered model are called, what a run records.

The store is an SQLite file in the project; `MLFLOW_TRACKING_URI` moves runs, artifacts and registry to a server.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final

import mlflow
import yaml

EXPERIMENT: Final = "mood-estimation"
REGISTERED_MODEL: Final = "mood-estimator"
CHAMPION_ALIAS: Final = "champion"
DEFAULT_TRACKING_URI: Final = "sqlite:///mlflow.db"


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


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as MLflow's flat ones: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


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
