"""A training as one MLflow run: its inputs, the metrics of every epoch, the model and its files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from pipelines import paths
from pipelines.callbacks.checkpoints import Checkpoints, fingerprint
from pipelines.callbacks.progress import EpochProgress
from pipelines.data.face_sets import FaceSet
from pipelines.registry import mlflow_store, provenance
from pipelines.registry.candidates import HISTORY_FILE, MODEL_FILE, SUMMARY_FILE
from pipelines.training import networks
from pipelines.training.config import TrainingConfig
from pipelines.training.distillation import TeacherPredictions
from pipelines.training.fit import MONITOR, fit


class LogToMlflow(keras.callbacks.Callback):
    """Logs the metrics of each epoch to the active run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's metrics, with its number as the step."""
        mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch)


def log_inputs(parameters: Mapping[str, Any], git_commit: str) -> None:
    """Record flat parameters, code and data of a training in the active run."""
    mlflow.log_params(dict(parameters))
    mlflow.set_tags(
        {
            "architecture": parameters["architecture"],
            "git_commit": git_commit,
            "dvc.faces": provenance.dvc_hash(paths.FACES),
            "dvc.data": provenance.dvc_hash(Path("data")),
        }
    )
    mlflow_store.log_dataset(paths.face_set("train"), "training")


def log_model(model: keras.Model, history: Path) -> None:
    """Record a trained network and the file of its curves in the active run."""
    best_epoch = int(pd.read_csv(history)[MONITOR].idxmin())
    mlflow.log_metrics({"parameters": model.count_params(), "best_epoch": best_epoch})
    mlflow.log_artifact(str(history))
    example = np.zeros((1, *model.input_shape[1:]), np.float32)  # mid-grey: shows nobody
    # The flavour mlflow.tensorflow saves Keras 3 models; mlflow.keras fails on input examples (MLflow 3.17). The
    # requirements are given because MLflow would otherwise find them by loading the model in another process.
    mlflow.tensorflow.log_model(
        model,
        name="model",
        signature=infer_signature(example, model.predict(example, verbose=0)),
        input_example=example,
        pip_requirements=mlflow.tensorflow.get_default_pip_requirements(),
    )


def train(config: TrainingConfig, directory: Path, checkpoint: Path) -> keras.Model:
    """Train a network, write its files into a directory and record its run.

    Args:
        config: What to train and how.
        directory: Where model, curves and summary go.
        checkpoint: Directory of the checkpoints, to resume from and to write to.

    Returns:
        The trained model.
    """
    inputs = [paths.face_set("train"), paths.face_set("validation"), Path(networks.__file__)]
    faces, validation = FaceSet.load(inputs[0]), FaceSet.load(inputs[1])
    predictions = init_from = None
    if config.teacher:
        predictions = TeacherPredictions.load(paths.TEACHER_PREDICTIONS)
        inputs.append(paths.TEACHER_PREDICTIONS)
    if config.model.init_from:
        inputs.append(paths.MODELS / config.model.init_from / MODEL_FILE)
        init_from = keras.models.load_model(inputs[-1], compile=False)
    parameters = mlflow_store.flatten(config.parameters())
    checkpoints = Checkpoints(checkpoint, fingerprint(parameters, *inputs))
    mlflow_store.connect()
    run_id = checkpoints.run_id if checkpoints.run_id and mlflow_store.run_exists(checkpoints.run_id) else None
    with mlflow.start_run(run_id=run_id, run_name=config.model.name) as active:
        checkpoints.run_id = active.info.run_id
        if run_id is None:
            log_inputs(parameters, provenance.git_commit())
            mlflow.set_tag("keras_backend", keras.backend.backend())
        started = time.monotonic()
        reporters = [LogToMlflow(), EpochProgress(config.model.name)]
        model, history = fit(config, faces, validation, checkpoints, reporters, predictions, init_from)
        print(f"{config.model.name}: {time.monotonic() - started:.0f} s in this process")

        directory.mkdir(parents=True, exist_ok=True)
        model.save(directory / MODEL_FILE)
        history.to_csv(directory / HISTORY_FILE, index=False, float_format="%.6g", lineterminator="\n")
        best_epoch = int(history[MONITOR].idxmin())
        summary = {
            "architecture": config.model.name,
            "recipe": config.model.recipe,
            "run_id": active.info.run_id,
            "parameters": model.count_params(),
            "epochs": len(history),
            "best_epoch": best_epoch,
            "validation_cross_entropy": round(float(history[MONITOR][best_epoch]), 6),
            "training_faces": len(faces),
            "keras_backend": keras.backend.backend(),
        }
        (directory / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
        log_model(model, directory / HISTORY_FILE)
    return model
