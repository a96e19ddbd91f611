"""Stage `train@ARCHITECTURE`: fit one architecture to the training faces by the recipe in `params.yaml`.

Writes the model of the best epoch, the curves by epoch and a summary, and records the whole as one MLflow run. A run
that was interrupted goes on from its last finished epoch; see `pipelines.checkpoints`.

Keras 3 alone is used, so that `KERAS_BACKEND=jax` or `torch` trains on whatever accelerator those see.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # halves the time of a step on CPUs where it is off by default

import keras
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from numpy.typing import NDArray

from pipelines import architectures, paths, tracking
from pipelines.augmentation import augment
from pipelines.checkpoints import Checkpoints, fingerprint
from pipelines.face_sets import FaceSet
from pipelines.params import TrainParams, read_architecture, read_input, read_train
from pipelines.progress import EpochProgress
from service.classifier import InputSpec, normalise
from service.moods import MOODS

MODEL_FILE = "model.keras"
HISTORY_FILE = "history.csv"
SUMMARY_FILE = "training.json"

_MONITOR = "val_cross_entropy"  # without the L2 penalty, which falls for reasons of its own


class FaceBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches of one size; the last of an epoch is filled up with the first faces of the epoch.

    Order and augmentation depend on seed and epoch alone, so a resumed run sees what an uninterrupted one would have.
    """

    def __init__(self, faces: FaceSet, spec: InputSpec, params: TrainParams, first_epoch: int) -> None:
        super().__init__()
        self._faces, self._spec, self._params = faces, spec, params
        self._epoch = first_epoch
        self._order = self._shuffle()

    def _shuffle(self) -> NDArray[np.intp]:
        return np.random.default_rng((self._params.seed, self._epoch)).permutation(len(self._faces))

    def __len__(self) -> int:
        return -(-len(self._faces) // self._params.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Batch `index` of the epoch: float32 (batch, size, size, 1) and soft labels, float32 (batch, moods)."""
        size = self._params.batch_size
        # A smaller last batch crashes TensorFlow 2.21's oneDNN kernels ("double free") where they run on two threads or
        # more, and makes JAX compile the step a second time.
        rows = self._order.take(range(index * size, (index + 1) * size), mode="wrap")
        random = np.random.default_rng((self._params.seed, self._epoch, index))
        pixels = augment(self._faces.pixels[rows], self._params.augmentation, random)
        return normalise(pixels, self._spec), self._faces.soft_labels[rows]

    def on_epoch_end(self) -> None:
        """Shuffle anew."""
        self._epoch += 1
        self._order = self._shuffle()


class LogToMlflow(keras.callbacks.Callback):
    """Each epoch's figures as metrics of the active run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's figures, its number as the step."""
        mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch)


@dataclass(frozen=True)
class Job:
    """All that determines a training run."""

    architecture: str
    hyper_parameters: dict[str, Any]
    recipe: TrainParams
    spec: InputSpec

    @classmethod
    def read(cls, architecture: str) -> Job:
        """The job as `params.yaml` has it."""
        return cls(architecture, read_architecture(architecture), read_train(), read_input())

    def build(self) -> keras.Model:
        """The untrained model, compiled by the recipe."""
        model = architectures.build(self.architecture, self.spec.size, len(MOODS), **self.hyper_parameters)
        _penalise_kernels(model, self.recipe.weight_decay_l2)
        model.compile(
            optimizer=keras.optimizers.Adam(self.recipe.learning_rate),
            loss="categorical_crossentropy",
            metrics=[keras.metrics.CategoricalCrossentropy(name="cross_entropy"), "categorical_accuracy"],
            jit_compile=keras.backend.backend() == "jax",  # XLA is slower than TensorFlow's own kernels on a CPU
        )
        return model

    def parameters(self) -> dict[str, Any]:
        """The job as flat parameters for MLflow."""
        return tracking.flatten(
            {
                "architecture": self.architecture,
                **self.hyper_parameters,
                **self.recipe.model_dump(),
                "input": self.spec.model_dump(),
            }
        )


def _penalise_kernels(model: keras.Model, strength: float) -> None:
    """Add an L2 penalty to every convolution and dense kernel; `keras.applications` offers no argument for it."""
    for variable in model.trainable_variables:
        if "kernel" in variable.name:
            variable.regularizer = keras.regularizers.L2(strength) if strength else None


def fit(
    job: Job,
    train: FaceSet,
    validation: FaceSet,
    checkpoints: Checkpoints,
    reporters: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, pd.DataFrame]:
    """Train until the validation loss stops falling.

    Args:
        job: what to train and how.
        train: faces to fit.
        validation: faces that decide on learning rate, end and best epoch.
        checkpoints: where to go on from, and where to save each epoch.
        reporters: tell of each epoch's figures; they have no part in the training.

    Returns:
        The model of the best epoch, without optimizer state, and the figures of every epoch.
    """
    keras.utils.set_random_seed(job.recipe.seed)
    model = job.build()
    plateau = keras.callbacks.ReduceLROnPlateau(
        _MONITOR,
        mode="min",
        factor=job.recipe.reduce_on_plateau.factor,
        patience=job.recipe.reduce_on_plateau.patience,
        min_lr=job.recipe.reduce_on_plateau.min_learning_rate,
        min_delta=0,
        verbose=0,
    )
    stopping = keras.callbacks.EarlyStopping(_MONITOR, mode="min", patience=job.recipe.early_stopping_patience)
    saver = checkpoints.callback(monitor=_MONITOR, stateful={"plateau": plateau, "stopping": stopping})
    first_epoch = saver.restore(model)
    if not saver.finished:
        model.fit(
            FaceBatches(train, job.spec, job.recipe, first_epoch),
            validation_data=(normalise(validation.pixels, job.spec), validation.soft_labels),
            validation_batch_size=256,
            initial_epoch=first_epoch,
            epochs=job.recipe.epochs,
            # The saver comes last: it records what the others have decided.
            callbacks=[plateau, stopping, *reporters, saver],
            shuffle=False,  # Keras would permute the batches by a global state that no checkpoint holds
            verbose=0,
        )
    best = architectures.build(job.architecture, job.spec.size, len(MOODS), **job.hyper_parameters)
    best.set_weights(saver.best_weights(model))
    return best, saver.history


def mean_face(faces: FaceSet, spec: InputSpec) -> NDArray[np.float32]:
    """An input example that shows nobody: the mean of all faces, float32 (1, size, size, 1)."""
    return normalise(faces.pixels.mean(axis=0).round().astype(np.uint8)[None], spec)


def log_inputs(job: Job, train: FaceSet) -> None:
    """Record parameters, code and data of the active run."""
    mlflow.log_params(job.parameters())
    faces_hash, data_hash = tracking.dvc_hash(paths.FACES), tracking.dvc_hash(Path("data"))
    mlflow.set_tags(
        {
            "architecture": job.architecture,
            "git_commit": tracking.git_commit(),
            "dvc.faces": faces_hash,
            "dvc.data": data_hash,
            "keras_backend": keras.backend.backend(),
        }
    )
    dataset = mlflow.data.from_numpy(
        train.pixels,
        source=str(paths.FACES / "train.npz"),
        targets=train.soft_labels,
        name="faces",
        digest=faces_hash[:36],
    )
    mlflow.log_input(dataset, context="training")


def main(architecture: str, faces: Path = paths.FACES, models: Path = paths.MODELS) -> None:
    """Train one architecture, write its files, record its run."""
    job = Job.read(architecture)
    train, validation = FaceSet.load(faces / "train.npz"), FaceSet.load(faces / "validation.npz")
    depends_on = [faces / "train.npz", faces / "validation.npz", Path(architectures.__file__)]
    checkpoints = Checkpoints(paths.CHECKPOINTS / architecture, fingerprint(job.parameters(), *depends_on))
    tracking.connect()
    run_id = checkpoints.run_id if checkpoints.run_id and tracking.run_exists(checkpoints.run_id) else None
    with mlflow.start_run(run_id=run_id, run_name=architecture) as run:
        checkpoints.run_id = run.info.run_id
        if run_id is None:
            log_inputs(job, train)
        started = time.monotonic()
        model, history = fit(job, train, validation, checkpoints, [LogToMlflow(), EpochProgress(architecture)])
        print(f"{architecture}: {time.monotonic() - started:.0f} s in this process")

        directory = models / architecture
        directory.mkdir(parents=True, exist_ok=True)
        model.save(directory / MODEL_FILE)
        history.to_csv(directory / HISTORY_FILE, index=False, float_format="%.6g", lineterminator="\n")
        best_epoch = int(history[_MONITOR].idxmin())
        summary = {
            "architecture": architecture,
            "run_id": run.info.run_id,
            "parameters": model.count_params(),
            "epochs": len(history),
            "best_epoch": best_epoch,
            "validation_cross_entropy": round(float(history[_MONITOR][best_epoch]), 6),
            "training_faces": len(train),
            "keras_backend": keras.backend.backend(),
        }
        (directory / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
        mlflow.log_metrics({"parameters": summary["parameters"], "best_epoch": best_epoch})
        mlflow.log_artifact(str(directory / HISTORY_FILE))
        example = mean_face(train, job.spec)
        # The flavour mlflow.tensorflow saves Keras 3 models; mlflow.keras fails on input examples (MLflow 3.17).
        mlflow.tensorflow.log_model(
            model,
            name="model",
            signature=infer_signature(example, model.predict(example, verbose=0)),
            input_example=example,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture", choices=sorted(architectures.ARCHITECTURES))
    main(parser.parse_args().architecture)
