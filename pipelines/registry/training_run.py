"""A training as one MLflow run: its inputs, the metrics of every epoch, the model and its files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric
from mlflow.models import infer_signature
from mlflow.utils.validation import MAX_METRICS_PER_BATCH

from pipelines import paths
from pipelines.callbacks.checkpoints import Checkpoints, fingerprint
from pipelines.callbacks.progress import EpochProgress
from pipelines.data.face_sets import FaceSet
from pipelines.registry import mlflow_connection, mlflow_store, pipeline_run, provenance
from pipelines.registry.candidates import HISTORY_FILE, MODEL_FILE, SUMMARY_FILE
from pipelines.training import networks
from pipelines.training.config import TrainingConfig
from pipelines.training.distillation import TeacherPredictions
from pipelines.training.fit import MONITOR, fit


class LogToMlflow(keras.callbacks.Callback):
    """Logs the metrics of each epoch to the active run.

    A store that stops answering does not end the training: the curves are in its files, from which `record_results`
    fills the gaps.
    """

    def __init__(self) -> None:
        super().__init__()
        self._warned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's metrics, with its number as the step."""
        try:
            mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch)
        except mlflow.MlflowException as error:
            if not mlflow_connection.does_not_answer(error):
                raise
            if not self._warned:
                print("MLflow has stopped answering; the training goes on, and its curves are logged at the end.")
            self._warned = True


def log_inputs(parameters: Mapping[str, Any], git_commit: str, faces: str) -> None:
    """Record flat parameters, code and data of a training in the active run.

    Args:
        parameters: Parameters of the training.
        git_commit: The commit that holds the code.
        faces: MD5 of the training faces.
    """
    mlflow.log_params(dict(parameters))
    mlflow.set_tags(data_tags() | {"architecture": parameters["architecture"], "git_commit": git_commit})
    mlflow.log_input(mlflow_store.dataset(paths.face_set("train"), faces), context="training")


def data_tags() -> dict[str, str]:
    """DVC's hashes of the labelled images and of the faces cut from them."""
    return {"dvc.faces": provenance.dvc_hash(paths.FACES), "dvc.data": provenance.dvc_hash(Path("data"))}


def record_results(model: keras.Model, directory: Path, ended: datetime) -> None:
    """Record curves, files and the trained network of a training in the active run.

    The network is logged at the step of its epoch, the best one, so that MLflow's comparison of models shows the
    metrics of that epoch. Epochs that the run has are not logged again.

    Args:
        model: The network of the best epoch.
        directory: Directory that `train` wrote.
        ended: When the training ended.
    """
    run = mlflow.active_run()
    assert run is not None
    client, run_id, timestamp = mlflow.MlflowClient(), run.info.run_id, pipeline_run.milliseconds(ended)
    history = pd.read_csv(directory / HISTORY_FILE, index_col="epoch")
    best_epoch = int(history[MONITOR].idxmin())
    logged = {metric.step for metric in client.get_metric_history(run_id, MONITOR)}
    missing = [
        Metric(name, value, timestamp, int(epoch))
        for epoch, metrics in history.to_dict("index").items()
        for name, value in metrics.items()
        if int(epoch) not in logged and value == value
    ]
    for first in range(0, len(missing), MAX_METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=missing[first : first + MAX_METRICS_PER_BATCH])
    facts = {"parameters": model.count_params(), "best_epoch": best_epoch}
    mlflow.log_metrics(facts, step=best_epoch, timestamp=timestamp)
    for name in (HISTORY_FILE, SUMMARY_FILE):
        mlflow.log_artifact(str(directory / name))
    architecture = json.loads((directory / SUMMARY_FILE).read_text())["architecture"]
    example = np.zeros((1, *model.input_shape[1:]), np.float32)  # mid-grey: shows nobody
    # The flavour mlflow.tensorflow saves Keras 3 models; mlflow.keras fails on input examples (MLflow 3.17). The
    # requirements are given because MLflow would otherwise find them by loading the model in another process.
    mlflow.tensorflow.log_model(
        model,
        name=architecture,
        model_type="classifier",
        step=best_epoch,
        tags=data_tags()
        | {"architecture": architecture, mlflow_store.TRAINED_TAG: ended.isoformat(timespec="seconds")},
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

    Raises:
        StoreUnreachable: MLflow does not answer before the training or after it.
    """
    mlflow_store.connect()  # first, because a training that nobody records need not start
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
    run_id = checkpoints.run_id if checkpoints.run_id and mlflow_store.run_exists(checkpoints.run_id) else None
    resumed = run_id is not None
    with (
        mlflow_connection.plain_errors("The training is kept: the same command goes on from there."),
        pipeline_run.stage("train", config.model.name, run_id=run_id) as run_id,
    ):
        checkpoints.run_id = run_id
        if not resumed:
            log_inputs(parameters, provenance.git_commit(), provenance.md5(inputs[0]))
            mlflow.set_tag("keras_backend", keras.backend.backend())
        first_start = datetime.fromtimestamp(mlflow.get_run(run_id).info.start_time / 1000, UTC)
        started = time.monotonic()
        progress = EpochProgress(config.model.name)
        reporters = [LogToMlflow(), progress]
        model, history = fit(config, faces, validation, checkpoints, reporters, predictions, init_from)
        print(f"{config.model.name}: {time.monotonic() - started:.0f} s in this process")

        directory.mkdir(parents=True, exist_ok=True)
        model.save(directory / MODEL_FILE)
        history.to_csv(directory / HISTORY_FILE, index=False, float_format="%.6g", lineterminator="\n")
        best_epoch = int(history[MONITOR].idxmin())
        ended = datetime.now(UTC)
        summary = {
            "architecture": config.model.name,
            "recipe": config.model.recipe,
            "run_id": run_id,
            "parameters": model.count_params(),
            "epochs": len(history),
            "best_epoch": best_epoch,
            "validation_cross_entropy": round(float(history[MONITOR][best_epoch]), 6),
            "training_faces": len(faces),
            # None if an interrupted run had ended its last epoch
            "seconds_per_epoch": round(median(progress.seconds), 2) if progress.seconds else None,
            "keras_backend": keras.backend.backend(),
            "started": first_start.isoformat(timespec="seconds"),
            "ended": ended.isoformat(timespec="seconds"),
        }
        (directory / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
        record_results(model, directory, ended)
    return model
