"""Where a model comes from: commits in git, hashes and parameters in DVC's lock."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml


def git_commit_of(path: Path) -> str:
    """The commit that last changed a file; `unknown` if it is not committed."""
    logged = subprocess.run(["git", "log", "-1", "--format=%H", "--", str(path)], capture_output=True, text=True)
    return logged.stdout.strip() or "unknown"


def git_commit() -> str:
    """The checked-out commit, with `-dirty` if tracked files differ from it; `unknown` outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def dvc_hash(path: Path) -> str:
    """The hash that DVC last recorded for a stage output or a tracked dataset; `unknown` if there is none.

    Args:
        path: Path as written in `dvc.yaml`, or a dataset with its pointer file `<path>.dvc` beside it.
    """
    pointer = path.with_name(path.name + ".dvc")
    if pointer.exists():
        return str(yaml.safe_load(pointer.read_text())["outs"][0]["md5"])
    for stage in _locked_stages().values():
        for output in stage.get("outs", []):
            if output["path"] == path.as_posix():
                return str(output["md5"])
    return "unknown"


def locked_params(stage: str) -> dict[str, Any]:
    """The parameters that a stage last ran with, as DVC recorded them; `params.yaml` may have others by now.

    Args:
        stage: Name of the stage, for example `train@mini_xception`.

    Returns:
        Values by their names in `dvc.yaml`; empty if DVC has not recorded the stage.
    """
    return dict(_locked_stages().get(stage, {}).get("params", {}).get("params.yaml", {}))


def _locked_stages() -> dict[str, Any]:
    """The stages in `dvc.lock`."""
    lock = Path("dvc.lock")
    return dict(yaml.safe_load(lock.read_text())["stages"]) if lock.exists() else {}
