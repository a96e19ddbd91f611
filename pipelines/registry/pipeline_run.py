"""Stages as MLflow runs: a parent for each `dvc repro`, a child for each stage of it that records something.

The parent is found by DVC's process, which all stages of one `dvc repro` share. A stage that is started by hand has a
run without a parent. A restored stage belongs to the pipeline run whose results its commit holds; that run starts with
the stage that is restored first.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import mlflow
import psutil
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from pipelines.registry import mlflow_connection, mlflow_store, provenance

STAGE_TAG: Final = "stage"
PIPELINE: Final = "pipeline"
"""Value of `STAGE_TAG` for parents; children have the name of their stage."""
RESTORED_TAG: Final = "restored_from_git"

_PROCESS_TAG: Final = "pipeline_process"
_COMMIT_TAG: Final = "git_commit"


@dataclass(frozen=True)
class Past:
    """When a stage ran whose run is restored, as far as git knows.

    Attributes:
        start: When it started; its end if that is all that is known.
        end: When it ended.
        commit: The commit that holds its results; `unknown` if they are not committed.
    """

    start: datetime
    end: datetime
    commit: str


@contextmanager
def stage(
    name: str,
    run_name: str,
    *,
    run_id: str | None = None,
    past: Past | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The active run of a stage, which ends with the block.

    Args:
        name: The stage, for example `train`.
        run_name: Name of the run.
        run_id: A run to go on with; None creates one.
        past: When the stage ran, for a run that is restored; None if it is running now.
        tags: Further tags of the run.

    Yields:
        Id of the run.
    """
    client = mlflow.MlflowClient()
    parent = _parent(past)
    own = {STAGE_TAG: name, **(tags or {}), **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
    if past:
        own |= {RESTORED_TAG: "true"} | ({"start": "not recorded"} if past.start == past.end else {})
    if run_id is None:
        start = past.start if past else datetime.fromtimestamp(psutil.Process().create_time(), UTC)
        run_id = _create(start, run_name, own)
    else:
        for key, value in own.items():
            client.set_tag(run_id, key, value)
    if parent:
        client.update_run(parent, "RUNNING")
    status = "FAILED"
    try:
        with mlflow.start_run(run_id=run_id):
            yield run_id
        status = "FINISHED"
    finally:
        with _quietly_if_unreachable(status):
            if past:
                client.set_terminated(run_id, status, milliseconds(past.end))
            if parent:
                _end_parent(parent, status, past)


def log_stage(name: str, run_name: str, files: Path, tags: Mapping[str, str], past: Past | None = None) -> None:
    """Record a stage that has written its results: its files and tags as one run."""
    with stage(name, run_name, past=past, tags=tags):
        (mlflow.log_artifacts if files.is_dir() else mlflow.log_artifact)(str(files))


def milliseconds(moment: datetime) -> int:
    """A moment as MLflow writes it: milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def _parent(past: Past | None) -> str | None:
    """The pipeline run that a stage belongs to, created if it is missing; None if there is none."""
    if past:
        if past.commit == "unknown":
            return None
        subject = provenance.git_subject_of(past.commit)
        name, tags = f"pipeline {past.start:%m-%d %H:%M}", {_COMMIT_TAG: past.commit, MLFLOW_RUN_NOTE: subject}
        tags |= {RESTORED_TAG: "true", MLFLOW_GIT_COMMIT: past.commit}
        return _find({_COMMIT_TAG: past.commit, RESTORED_TAG: "true"}) or _create(past.start, name, tags)
    process = provenance.dvc_process()
    if process is None:
        return None
    key = f"{socket.gethostname()} {process.pid} {process.create_time():.2f}"
    start = datetime.fromtimestamp(process.create_time(), UTC)
    tags = {_PROCESS_TAG: key, _COMMIT_TAG: provenance.git_commit()}
    return _find({_PROCESS_TAG: key}) or _create(start, f"pipeline {start:%m-%d %H:%M}", tags)


def _find(tags: Mapping[str, str]) -> str | None:
    """The parent with these tags."""
    wanted = " AND ".join(f"tags.{key} = '{value}'" for key, value in {STAGE_TAG: PIPELINE, **tags}.items())
    found = mlflow.search_runs(
        experiment_names=[mlflow_store.EXPERIMENT], filter_string=wanted, max_results=1, output_format="list"
    )
    return str(found[0].info.run_id) if found else None


def _create(start: datetime, name: str, tags: Mapping[str, str]) -> str:
    """A new run; it is a parent unless the tags name its stage.

    Returns:
        Its id.
    """
    client = mlflow.MlflowClient()
    source = {} if STAGE_TAG in tags else {STAGE_TAG: PIPELINE, MLFLOW_SOURCE_NAME: "dvc repro"}
    resolved: dict[str, Any] = resolve_tags({**source, **tags})
    return str(client.create_run(mlflow_store.experiment_id(), milliseconds(start), resolved, name).info.run_id)


def _end_parent(parent: str, status: str, past: Past | None) -> None:
    """Mark a pipeline run as ended with the stage that ended last."""
    client = mlflow.MlflowClient()
    ended = None
    if past:
        ended = max(client.get_run(parent).info.end_time or 0, milliseconds(past.end))
    client.set_terminated(parent, status, ended)


@contextmanager
def _quietly_if_unreachable(status: str) -> Iterator[None]:
    """If a stage has failed, hide that the store does not answer either: the first error is the one to see."""
    try:
        yield
    except mlflow.MlflowException as error:
        if status == "FINISHED" or not mlflow_connection.does_not_answer(error):
            raise
