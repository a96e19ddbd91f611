"""A training as one MLflow run: its inputs, the metrics of every epoch, the model and its files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
from mlflow.models import infer_signature
from numpy.typing import NDArray

from pipelines import paths
from pipelines.callbacks.checkpoints import Checkpoints, fingerprint
from pipelines.callbacks.progress import EpochProgress
from pipelines.data.face_sets import FaceSet
from pipelines.registry import tracking
from pipelines.registry.candidates import HISTORY_FILE, MODEL_FILE, SUMMARY_FILE
from pipelines.training import networks
from pipelines.training.config import TrainingConfig
from pipelines.training.distillation import TeacherPredictions
from pipelines.training.fit import MONITOR, fit
from service.classifier import InputSpec, normalise


class LogToMlflow(keras.callbacks.Callback):
    """Logs the metrics of each epoch to the active run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's metrics, with its number as the step."""
        mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch)


def mean_face(faces: FaceSet, spec: InputSpec) -> NDArray[np.float32]:
    """An input example that shows nobody: the mean of all faces, float32 (1, size, size, 1)."""
    return normalise(faces.pixels.mean(axis=0).round().astype(np.uint8)[None], spec)


def log_inputs(config: TrainingConfig) -> None:
    """Record parameters, code and data of the active run."""
    mlflow.log_params(tracking.flatten(config.parameters()))
    mlflow.set_tags(
        {
            "architecture": config.model.name,
            "git_commit": tracking.git_commit(),
            "dvc.faces": tracking.dvc_hash(paths.FACES),
            "dvc.data": tracking.dvc_hash(Path("data")),
            "keras_backend": keras.backend.backend(),
        }
    )
    tracking.log_dataset(paths.face_set("train"), "training")


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
    checkpoints = Checkpoints(checkpoint, fingerprint(config.parameters(), *inputs))
    tracking.connect()
    run_id = checkpoints.run_id if checkpoints.run_id and tracking.run_exists(checkpoints.run_id) else None
    with mlflow.start_run(run_id=run_id, run_name=config.model.name) as active:
        checkpoints.run_id = active.info.run_id
        if run_id is None:
            log_inputs(config)
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
        mlflow.log_metrics({"parameters": summary["parameters"], "best_epoch": best_epoch})
        mlflow.log_artifact(str(directory / HISTORY_FILE))
        example = mean_face(faces, config.spec)
        # The flavour mlflow.tensorflow saves Keras 3 models; mlflow.keras fails on input examples (MLflow 3.17).
        mlflow.tensorflow.log_model(
            model,
            name="model",
            signature=infer_signature(example, model.predict(example, verbose=0)),
            input_example=example,
        )
    return model
