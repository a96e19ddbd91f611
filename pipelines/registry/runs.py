"""A candidate's two MLflow runs, of its training and of its evaluation, and how they are restored from git.

The evaluation's metrics belong to the logged model, at the step of its epoch, and to the face sets that they were
measured on. A fresh clone has the candidates' files and an empty store. Restored runs hold what git holds: parameters,
curves, the model, metrics, plots and dates. They have the tag `restored_from_git`; that of the training also has the
original run's id, by which it is found.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import keras
import mlflow
import pandas as pd

from pipelines import paths
from pipelines.params import FineTunedParams, ModelParams, Params, ScratchParams, TeacherParams, TrainParams
from pipelines.registry import mlflow_store, pipeline_run, provenance, training_run
from pipelines.registry.candidates import (
    METRICS_FILE,
    MODEL_FILE,
    MODEL_FILES,
    MOODS_FILE,
    PROVENANCE_FILE,
    SUMMARY_FILE,
    Candidate,
    sha256,
)
from pipelines.registry.pipeline_run import Past
from pipelines.training.config import TrainingConfig, emotion_moods
from service.classifier import InputSpec

CANDIDATE_ARTIFACTS: Final = "candidate"
EVALUATION_ARTIFACTS: Final = "evaluation"

_EVALUATED: Final = "evaluated"
"""Tag of a training's run: digest of the metrics that its latest evaluation wrote."""
_EVALUATION_RUN: Final = "evaluation_run_id"
"""Tag of a training's run: id of the run of its latest evaluation."""


def training_parameters(name: str) -> dict[str, Any]:
    """The parameters that a candidate was trained with, as its run has them.

    DVC's record of the stage comes first, because `params.yaml` may have been edited since.
    """
    params, locked = Params.read(), _locked(name)
    if not locked:
        return mlflow_store.flatten(TrainingConfig.of(params, params.model(name)).parameters())
    model = _locked_model(name)
    return mlflow_store.flatten(
        TrainingConfig(
            model=model,
            recipe=TrainParams.model_validate(locked[f"train.{model.recipe}"]),
            spec=InputSpec.model_validate(locked["input"]),
            emotion_moods=emotion_moods(params.prepare),
            teacher=TeacherParams.model_validate(locked["teacher"]) if "teacher" in locked else None,
        ).parameters()
    )


def _locked(name: str) -> dict[str, Any]:
    """DVC's record of the parameters of the stage that trains a model; empty if there is none."""
    stages = (f"{stage}@{name}" for stage in provenance.TRAINING_STAGES)
    return next(filter(None, map(provenance.locked_params, stages)), {})


def _locked_model(name: str) -> ModelParams:
    """A model by DVC's record; a fine-tuned one has the network of the model that it starts from."""
    values = next(value for key, value in _locked(name).items() if key.startswith("models."))
    if "init_from" not in values:
        scratch = ScratchParams.model_validate(values)
        return ModelParams(name, scratch.recipe, scratch.network, scratch.hyper_parameters)
    tuned = FineTunedParams.model_validate(values)
    return replace(_locked_model(tuned.init_from), name=name, recipe=tuned.recipe, init_from=tuned.init_from)


def ensure_training_run(model: Path, parameters: Mapping[str, Any] | None = None) -> str:
    """The run in this store that trained a model; restored from the model's files if it is missing.

    Args:
        model: Directory that `train` wrote.
        parameters: Parameters of the training; by default those of the model's stage.

    Returns:
        Id of the run in this store.
    """
    summary = json.loads((model / SUMMARY_FILE).read_text())
    found = mlflow_store.find_run(summary["run_id"])
    if found is not None:
        return found
    return _restore_training(model, summary["run_id"], parameters or training_parameters(summary["architecture"]))


def ensure_run(candidate: Candidate, parameters: Mapping[str, Any] | None = None) -> str:
    """As `ensure_training_run`, with the run of the candidate's evaluation."""
    run_id = ensure_training_run(candidate.model, parameters)
    if mlflow.get_run(run_id).data.tags.get(_EVALUATED) != sha256(candidate.evaluation / METRICS_FILE):
        log_evaluation(candidate, run_id, _past_of_evaluation(candidate.evaluation))
    return run_id


def _restore_training(directory: Path, original_run_id: str, parameters: Mapping[str, Any]) -> str:
    """Record a training from its files.

    Returns:
        Id of the new run.
    """
    model = keras.models.load_model(directory / MODEL_FILE, compile=False)
    name, past = str(parameters["architecture"]), past_of_training(directory)
    faces = (
        provenance.locked_dependency(f"{stage}@{name}", paths.face_set("train")) for stage in provenance.TRAINING_STAGES
    )
    with pipeline_run.stage("train", name, past=past) as run_id:
        training_run.log_inputs(parameters, past.commit, next((md5 for md5 in faces if md5 != "unknown"), "unknown"))
        training_run.record_results(model, directory, past.end)
        # Last, so that an interrupted restoration is not taken for a complete one.
        mlflow.set_tag(mlflow_store.ORIGINAL_RUN, original_run_id)
    return run_id


def past_of_training(directory: Path) -> Past:
    """When a model was trained: as `training.json` says, or else when Keras saved it."""
    summary = json.loads((directory / SUMMARY_FILE).read_text())
    commit = provenance.git_commit_of(directory / MODEL_FILE)
    committed = provenance.git_date_of(commit)
    if "ended" in summary:
        start, end = (datetime.fromisoformat(summary[key]) for key in ("started", "ended"))
    else:
        with zipfile.ZipFile(directory / MODEL_FILE) as saved:
            date = json.loads(saved.read("metadata.json"))["date_saved"]
        # Keras writes no time zone; the commit has that of the machine.
        zone = committed.tzinfo if committed else UTC
        start = end = datetime.strptime(date, "%Y-%m-%d@%H:%M:%S").replace(tzinfo=zone)
    return Past(start, end, commit)


def _past_of_evaluation(directory: Path) -> Past:
    """When a model was evaluated: when its metrics were committed, or else written."""
    metrics = directory / METRICS_FILE
    commit = provenance.git_commit_of(metrics)
    end = provenance.git_date_of(commit) or datetime.fromtimestamp(metrics.stat().st_mtime, UTC)
    return Past(end, end, commit)


def log_evaluation(candidate: Candidate, run_id: str, past: Past | None = None) -> None:
    """Record an evaluation as a run: its plots, and its metrics at the model that the training logged.

    Args:
        candidate: A trained and evaluated model.
        run_id: The run of its training in this store.
        past: When it was evaluated, for a run that is restored; None if that is now.
    """
    client, model = mlflow.MlflowClient(), mlflow_store.logged_model(run_id)
    step = mlflow_store.step_of(run_id, model.model_id)
    faces = json.loads((candidate.evaluation / PROVENANCE_FILE).read_text())["faces"]
    with pipeline_run.stage("evaluate", f"evaluate {candidate.architecture}", past=past) as evaluation:
        for split, metrics in _metrics_by_split(candidate).items():
            dataset = mlflow_store.dataset(paths.face_set(split), faces[split]) if split in faces else None
            if dataset is not None:
                mlflow.log_input(dataset, context=split)
            mlflow.log_metrics(metrics, step=step, model_id=model.model_id, dataset=dataset)
        mlflow.set_tags(training_run.data_tags() | {"architecture": candidate.architecture})
        mlflow.set_tag(mlflow_store.DIGEST_TAG, candidate.digest)
        mlflow.set_tags(mlflow_store.flatten({"test_sets": dict(candidate.test_sets)}))
        mlflow.log_artifacts(str(candidate.evaluation), EVALUATION_ARTIFACTS)
    for name in MODEL_FILES:
        client.log_artifact(run_id, str(candidate.model / name), CANDIDATE_ARTIFACTS)
    mlflow.set_logged_model_tags(model.model_id, {mlflow_store.DIGEST_TAG: candidate.digest})
    client.set_tag(run_id, mlflow_store.DIGEST_TAG, candidate.digest)
    client.set_tag(run_id, _EVALUATION_RUN, evaluation)
    client.set_tag(run_id, _EVALUATED, sha256(candidate.evaluation / METRICS_FILE))


def _metrics_by_split(candidate: Candidate) -> dict[str, dict[str, float]]:
    """A candidate's metrics by the split that they were measured on; those of the model itself have the key `model`."""
    found: dict[str, dict[str, float]] = {"model": {}}
    # Slashes, because MLflow groups its charts by what stands before the last one.
    for name, value in mlflow_store.flatten(candidate.metrics).items():
        split = name.split(".")[0] if "." in name else "model"
        found.setdefault(split, {})[name.replace(".", "/")] = value
    for row in pd.read_csv(candidate.evaluation / MOODS_FILE).itertuples():
        for metric in ("precision", "recall", "f1"):
            found["test"][f"test/{row.test}/by_mood/{row.mood}_{metric}"] = getattr(row, metric)
    return found


def download_candidate(run_id: str, directory: Path) -> Candidate:
    """Fetch the files that `log_evaluation` put into MLflow.

    Args:
        run_id: The run of a training in this store.
        directory: Target directory.

    Raises:
        LookupError: the model of the run was not evaluated.
    """
    try:
        evaluation = mlflow.get_run(run_id).data.tags.get(_EVALUATION_RUN, run_id)
        for run, name in ((run_id, CANDIDATE_ARTIFACTS), (evaluation, EVALUATION_ARTIFACTS)):
            mlflow.artifacts.download_artifacts(run_id=run, artifact_path=name, dst_path=str(directory))
        return Candidate.read(directory / CANDIDATE_ARTIFACTS, directory / EVALUATION_ARTIFACTS)
    except (mlflow.MlflowException, OSError) as error:
        raise LookupError(f"the run {run_id} holds no candidate that `evaluate` has seen: {error}") from error
