"""A candidate's MLflow run: what `evaluate` adds to it, and how it is made again in a store that lacks it.

A fresh clone has the candidates' files and an empty store. A restored run holds what git holds: parameters, curves,
the model, figures and pictures. It carries the tag `restored_from_git`, and the original run's id, by which it is
found again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from pipelines import paths
from pipelines.params import FineTunedParams, ModelParams, Params, ScratchParams, TeacherParams, TrainParams
from pipelines.registry import tracking
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
        return tracking.flatten(TrainingConfig.of(params, params.model(name)).parameters())
    model = _locked_model(name)
    return tracking.flatten(
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
    return next(filter(None, map(tracking.locked_params, stages)), {})


def _locked_model(name: str) -> ModelParams:
    """A model by DVC's record; a fine-tuned one has the network of the model that it starts from."""
    values = next(value for key, value in _locked(name).items() if key.startswith("models."))
    if "init_from" not in values:
        scratch = ScratchParams.model_validate(values)
        return ModelParams(name, scratch.recipe, scratch.network, scratch.hyper_parameters)
    tuned = FineTunedParams.model_validate(values)
    return replace(_locked_model(tuned.init_from), name=name, recipe=tuned.recipe, init_from=tuned.init_from)


def ensure_training_run(model: Path, parameters: Mapping[str, Any] | None = None) -> str:
    """The run in this store that trained a model, restored from the model's files where it is missing.

    Args:
        model: directory that `train` wrote.
        parameters: of the training; those of the architecture's stage where none are given.

    Returns:
        Its id in this store.
    """
    summary = json.loads((model / SUMMARY_FILE).read_text())
    found = tracking.find_run(summary["run_id"])
    if found is not None:
        return found
    return _restore_training(model, summary["run_id"], parameters or training_parameters(summary["architecture"]))


def ensure_run(candidate: Candidate, parameters: Mapping[str, Any] | None = None) -> str:
    """As `ensure_training_run`, with the candidate's figures and pictures in the run."""
    run_id = ensure_training_run(candidate.model, parameters)
    if mlflow.get_run(run_id).data.tags.get(_EVALUATED) != candidate.digest:
        log_evaluation(candidate, run_id)
    return run_id


def _restore_training(directory: Path, original_run_id: str, parameters: Mapping[str, Any]) -> str:
    """Record a training anew from its files.

    Returns:
        The new run's id.
    """
    model = keras.models.load_model(directory / MODEL_FILE, compile=False)
    history = pd.read_csv(directory / HISTORY_FILE, index_col="epoch")
    with mlflow.start_run(run_name=str(parameters["architecture"])) as run:
        mlflow.log_params(dict(parameters))
        mlflow.set_tags(
            {
                "architecture": parameters["architecture"],
                "git_commit": tracking.git_commit_of(directory / MODEL_FILE),
                "dvc.faces": tracking.dvc_hash(paths.FACES),
                "dvc.data": tracking.dvc_hash(Path("data")),
                "restored_from_git": "true",
            }
        )
        tracking.log_dataset(paths.FACES / "train.npz", context="training")
        for epoch, figures in history.iterrows():
            mlflow.log_metrics(figures.dropna().to_dict(), step=int(epoch))
        mlflow.log_metrics(
            {"parameters": model.count_params(), "best_epoch": int(history["val_cross_entropy"].idxmin())}
        )
        mlflow.log_artifact(str(directory / HISTORY_FILE))
        example = np.zeros((1, *model.input_shape[1:]), np.float32)  # mid-grey: shows nobody
        # Requirements are given because MLflow would else find them out by loading the model in another process.
        mlflow.tensorflow.log_model(
            model,
            name="model",
            signature=infer_signature(example, model.predict(example, verbose=0)),
            input_example=example,
            pip_requirements=mlflow.tensorflow.get_default_pip_requirements(),
        )
        # Last, so that a restoration that was interrupted is not taken for a whole one.
        mlflow.set_tag(tracking.ORIGINAL_RUN, original_run_id)
        return run.info.run_id


def log_evaluation(candidate: Candidate, run_id: str) -> None:
    """Add figures, pictures and graph to a candidate's run, and the figures to the model that it logged.

    Args:
        candidate: trained and evaluated.
        run_id: its run in this store.
    """
    # Slashes, because MLflow's charts are grouped by what stands before the last one.
    figures = {name.replace(".", "/"): value for name, value in tracking.flatten(candidate.metrics).items()}
    for row in pd.read_csv(candidate.evaluation / MOODS_FILE).itertuples():
        for figure in ("precision", "recall", "f1"):
            figures[f"test/{row.test}/by_mood/{row.mood}_{figure}"] = getattr(row, figure)
    with mlflow.start_run(run_id=run_id):
        mlflow.log_metrics(figures, model_id=tracking.logged_model_id(run_id))
        mlflow.log_artifacts(str(candidate.evaluation), EVALUATION_ARTIFACTS)
        for name in MODEL_FILES:
            mlflow.log_artifact(str(candidate.model / name), CANDIDATE_ARTIFACTS)
        for split in ("validation", "test"):
            tracking.log_dataset(paths.FACES / f"{split}.npz", context=split)
        mlflow.set_tag(_EVALUATED, candidate.digest)


def download_candidate(run_id: str, directory: Path) -> Candidate:
    """Fetch what `log_evaluation` put into a run.

    Args:
        run_id: a run in this store.
        directory: where to put it.

    Raises:
        LookupError: the run holds no evaluated candidate.
    """
    try:
        for name in (CANDIDATE_ARTIFACTS, EVALUATION_ARTIFACTS):
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(directory))
        return Candidate.read(directory / CANDIDATE_ARTIFACTS, directory / EVALUATION_ARTIFACTS)
    except (mlflow.MlflowException, OSError) as error:
        raise LookupError(f"the run {run_id} holds no candidate that `evaluate` has seen: {error}") from error
