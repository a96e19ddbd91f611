"""A candidate's MLflow run: what `evaluate` adds to it, and how it is made again in a store that lacks it.

A fresh clone has the candidates' files and an empty store. A restored run holds what git holds: parameters, curves,
the model, figures and pictures. It carries the tag `restored_from_git`, and the original run's id, by which it is
found again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from pipelines import paths
from pipelines.params import ArchitectureParams, TeacherParams, TrainParams
from pipelines.registry import tracking
from pipelines.registry.candidates import MODEL_FILES, MOODS_FILE, Candidate
from pipelines.train import HISTORY_FILE, MODEL_FILE, SUMMARY_FILE, Job, emotion_moods
from service.classifier import InputSpec

CANDIDATE_ARTIFACTS: Final = "candidate"
EVALUATION_ARTIFACTS: Final = "evaluation"

_EVALUATED: Final = "evaluated_model_digest"


def training_parameters(architecture: str) -> dict[str, Any]:
    """The parameters that a candidate was trained with, as its run has them.

    DVC's record of the stage is asked first: `params.yaml` may have been edited since.
    """
    stages = (f"{stage}@{architecture}" for stage in ("train", "train_on", "distil"))
    locked = next(filter(None, map(tracking.locked_params, stages)), None)
    if not locked:
        return Job.read(architecture).parameters()
    continued = locked.get(f"continued.{architecture}") or locked.get(f"pupils.{architecture}")
    declared = ArchitectureParams.model_validate(
        locked[f"architectures.{architecture}"]
        if continued is None
        else locked[f"architectures.{continued['architecture']}"] | {"recipe": continued["recipe"]}
    )
    return Job(
        name=architecture,
        architecture=declared,
        recipe=TrainParams.model_validate(locked[f"train.{declared.recipe}"]),
        spec=InputSpec.model_validate(locked["input"]),
        emotion_moods=emotion_moods(),
        teacher=TeacherParams.model_validate(locked["teacher"]) if "teacher" in locked else None,
        start=None if continued is None else continued["start"],
    ).parameters()


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
