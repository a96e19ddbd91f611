"""A candidate's MLflow run: what `evaluate` adds to it, and how it is restored in a store that lacks it.

A fresh clone has the candidates' files and an empty store. A restored run holds what git holds: parameters, curves,
the model, metrics and plots. It carries the tag `restored_from_git` and the original run's id, by which it is found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import keras
import mlflow
import pandas as pd

from pipelines import paths
from pipelines.params import FineTunedParams, ModelParams, Params, ScratchParams, TeacherParams, TrainParams
from pipelines.registry import mlflow_store, provenance, training_run
from pipelines.registry.candidates import HISTORY_FILE, MODEL_FILE, MODEL_FILES, MOODS_FILE, SUMMARY_FILE, Candidate
from pipelines.training.config import TrainingConfig, emotion_moods
from service.classifier import InputSpec

CANDIDATE_ARTIFACTS: Final = "candidate"
EVALUATION_ARTIFACTS: Final = "evaluation"

_EVALUATED: Final = "evaluated_model_digest"


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
    stages = (f"{stage}@{name}" for stage in ("train", "fine_tune", "distil"))
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
    """As `ensure_training_run`, with the candidate's metrics and plots in the run."""
    run_id = ensure_training_run(candidate.model, parameters)
    if mlflow.get_run(run_id).data.tags.get(_EVALUATED) != candidate.digest:
        log_evaluation(candidate, run_id)
    return run_id


def _restore_training(directory: Path, original_run_id: str, parameters: Mapping[str, Any]) -> str:
    """Record a training from its files.

    Returns:
        Id of the new run.
    """
    model = keras.models.load_model(directory / MODEL_FILE, compile=False)
    history = pd.read_csv(directory / HISTORY_FILE, index_col="epoch")
    with mlflow.start_run(run_name=str(parameters["architecture"])) as run:
        training_run.log_inputs(parameters, provenance.git_commit_of(directory / MODEL_FILE))
        mlflow.set_tag("restored_from_git", "true")
        for epoch, metrics in history.to_dict("index").items():
            mlflow.log_metrics({name: value for name, value in metrics.items() if value == value}, step=int(epoch))
        training_run.log_model(model, directory / HISTORY_FILE)
        # Last, so that an interrupted restoration is not taken for a complete one.
        mlflow.set_tag(mlflow_store.ORIGINAL_RUN, original_run_id)
        return str(run.info.run_id)


def log_evaluation(candidate: Candidate, run_id: str) -> None:
    """Add metrics, plots and graph to a candidate's run, and the metrics to the model that the run logged.

    Args:
        candidate: A trained and evaluated model.
        run_id: Its run in this store.
    """
    # Slashes, because MLflow groups its charts by what stands before the last one.
    metrics = {name.replace(".", "/"): value for name, value in mlflow_store.flatten(candidate.metrics).items()}
    for row in pd.read_csv(candidate.evaluation / MOODS_FILE).itertuples():
        for metric in ("precision", "recall", "f1"):
            metrics[f"test/{row.test}/by_mood/{row.mood}_{metric}"] = getattr(row, metric)
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metrics(metrics, model_id=mlflow_store.logged_model_id(run_id))
        mlflow.log_artifacts(str(candidate.evaluation), EVALUATION_ARTIFACTS)
        for name in MODEL_FILES:
            mlflow.log_artifact(str(candidate.model / name), CANDIDATE_ARTIFACTS)
        for split in ("validation", "test"):
            mlflow_store.log_dataset(paths.face_set(split), context=split)
        mlflow.set_tag(_EVALUATED, candidate.digest)


def download_candidate(run_id: str, directory: Path) -> Candidate:
    """Fetch the files that `log_evaluation` put into a run.

    Args:
        run_id: A run in this store.
        directory: Target directory.

    Raises:
        LookupError: the run holds no evaluated candidate.
    """
    try:
        for name in (CANDIDATE_ARTIFACTS, EVALUATION_ARTIFACTS):
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(directory))
        return Candidate.read(directory / CANDIDATE_ARTIFACTS, directory / EVALUATION_ARTIFACTS)
    except (mlflow.MlflowException, OSError) as error:
        raise LookupError(f"the run {run_id} holds no candidate that `evaluate` has seen: {error}") from error
