"""Where a model comes from: commits in git, hashes and parameters in DVC's lock, the process that runs a stage."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from pipelines import paths

TRAINING_STAGES: Final = ("train", "fine_tune", "distil")
"""Stages that train a model; its name follows the `@`."""

_LOCKS: Final = (paths.DVC_LOCK, Path("models/dvc.lock"))


def git_commit_of(path: Path) -> str:
    """The commit that last changed a file; `unknown` if it is not committed."""
    logged = subprocess.run(["git", "log", "-1", "--format=%H", "--", str(path)], capture_output=True, text=True)
    return logged.stdout.strip() or "unknown"


def git_date_of(commit: str) -> datetime | None:
    """When a commit was made, with its time zone; None if there is no such commit."""
    logged = subprocess.run(["git", "log", "-1", "--format=%aI", commit, "--"], capture_output=True, text=True)
    return datetime.fromisoformat(logged.stdout.strip()) if logged.stdout.strip() else None


def git_subject_of(commit: str) -> str:
    """The first line of a commit's message; empty if there is no such commit."""
    logged = subprocess.run(["git", "log", "-1", "--format=%s", commit, "--"], capture_output=True, text=True)
    return logged.stdout.strip()


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


def locked_dependency(stage: str, path: Path) -> str:
    """MD5 of a file that a stage last read, as DVC recorded it; `unknown` if it did not.

    Args:
        stage: Name of the stage, for example `train@mini_xception`.
        path: Path as written in `dvc.yaml`.
    """
    for dependency in _locked_stages().get(stage, {}).get("deps", []):
        if dependency["path"] == path.as_posix():
            return str(dependency["md5"])
    return "unknown"


def md5(path: Path) -> str:
    """MD5 of a file, which is how DVC tells contents apart; `unknown` if there is no such file."""
    if not path.exists():
        return "unknown"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def dvc_process() -> psutil.Process | None:
    """The running `dvc` that started this process as a stage; None if something else started it."""
    if "DVC_STAGE" not in os.environ:  # DVC sets it for every stage
        return None
    for ancestor in psutil.Process().parents():
        try:
            words = ancestor.cmdline()
        except psutil.Error:  # a process of another user, or one that has just ended
            continue
        # `dvc repro`, `python dvc repro` or `python -m dvc repro`
        if any(Path(word).stem == "dvc" for word in words[:3]):
            return ancestor
    return None


def locked_params(stage: str) -> dict[str, Any]:
    """The parameters that a stage last ran with, as DVC recorded them; `params.yaml` may have others by now.

    Args:
        stage: Name of the stage, for example `train@mini_xception`.

    Returns:
        Values by their names in `dvc.yaml`; empty if DVC has not recorded the stage.
    """
    return dict(_locked_stages().get(stage, {}).get("params", {}).get("params.yaml", {}))


def _locked_stages() -> dict[str, Any]:
    """The stages in DVC's locks, by name."""
    locks = [yaml.safe_load(lock.read_text()) for lock in _LOCKS if lock.exists()]
    return {name: stage for lock in locks for name, stage in lock["stages"].items()}
