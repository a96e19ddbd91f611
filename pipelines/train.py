"""Stage `train@ARCHITECTURE`: fit one architecture to the training faces by the recipe in `params.yaml`.

Writes the model of the best epoch, the curves by epoch and a summary, and records the whole as one MLflow run. A run
that was interrupted goes on from its last finished epoch; see `pipelines.callbacks.checkpoints`.

Keras 3 alone is used, so that `KERAS_BACKEND=jax` or `torch` trains on whatever accelerator those see.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
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

from pipelines import paths
from pipelines.callbacks.checkpoints import Checkpoints, fingerprint
from pipelines.callbacks.progress import EpochProgress
from pipelines.data import dataset
from pipelines.data.face_sets import SOURCES, FaceSet
from pipelines.data.labels import one_hot
from pipelines.params import (
    ArchitectureParams,
    AugmentationParams,
    Params,
    TeacherParams,
    TrainParams,
    read_architecture,
    read_continued,
)
from pipelines.registry import tracking
from pipelines.training import distillation, networks
from pipelines.training.augmentation import augment, mirror
from pipelines.training.distillation import Lessons
from pipelines.training.networks import EMOTIONS, MOOD, ORIGINAL, Heads
from service.classifier import InputSpec, normalise
from service.moods import MOODS

MODEL_FILE = "model.keras"
HISTORY_FILE = "history.csv"
SUMMARY_FILE = "training.json"

_MONITOR = "val_cross_entropy"  # without the L2 penalty, which falls for reasons of its own

Targets = NDArray[np.float32] | dict[str, NDArray[np.float32]]
"""float32 (n, classes), or several such by head."""


def targets_of(faces: FaceSet, heads: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """What each head fits, by its name: float32 (n, classes)."""
    known = {MOOD: faces.soft_labels, EMOTIONS: faces.emotions, ORIGINAL: one_hot(faces.original_mood)}
    return {name: known[name] for name in (MOOD, *heads)}


def photo_weights(faces: FaceSet, exponent: float) -> NDArray[np.float32]:
    """How much each face counts: photos by the scarcity of their mood among the photos, see `TrainParams`.

    Returns:
        float32 (n,); 1 for other faces, 1 in the mean of the photos.
    """
    weights = np.ones(len(faces), np.float32)
    photos = faces.source == SOURCES.index("photos")
    if photos.any():
        moods = faces.soft_labels[photos].argmax(axis=1)
        scarcity = (len(moods) / np.maximum(np.bincount(moods, minlength=len(MOODS)), 1)) ** exponent
        weights[photos] = scarcity[moods] / scarcity[moods].mean()
    return weights


class FaceBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches of one size; the last of an epoch is filled up with the first faces of the epoch.

    Order and augmentation depend on seed and epoch alone, so a resumed run sees what an uninterrupted one would have.
    """

    def __init__(
        self,
        faces: FaceSet,
        spec: InputSpec,
        params: TrainParams,
        first_epoch: int,
        heads: Collection[str] = (),
        teaching: Teaching | None = None,
    ) -> None:
        """Begin with an epoch.

        Args:
            faces: to train on.
            spec: what the network takes.
            params: the recipe.
            first_epoch: 0, or that to go on with.
            heads: names of the auxiliary heads.
            teaching: the teacher's answers, where the recipe gives them weight.
        """
        super().__init__()
        self._faces, self._spec, self._params, self._teaching = faces, spec, params, teaching
        self._labels = targets_of(faces, heads)
        self._weights = photo_weights(faces, params.photo_balance)
        self._begin(first_epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.random.default_rng((self._params.seed, epoch)).permutation(len(self._faces))
        if self._teaching is not None:
            self._pixels, self._targets = self._teaching.lesson(self._faces.pixels, self._labels, epoch)

    def __len__(self) -> int:
        return -(-len(self._faces) // self._params.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Targets, Targets]:
        """Batch `index` of the epoch: float32 (batch, size, size, 1), targets, and weights, float32 (batch,)."""
        size = self._params.batch_size
        # A smaller last batch crashes TensorFlow 2.21's oneDNN kernels ("double free") where they run on two threads or
        # more, and makes JAX compile the step a second time.
        rows = self._order.take(range(index * size, (index + 1) * size), mode="wrap")
        random = np.random.default_rng((self._params.seed, self._epoch, index))
        if self._teaching is None:
            pixels, targets = augment(self._faces.pixels[rows], self._params.augmentation, random), self._labels
        else:
            pixels, targets = mirror(self._pixels[rows], random), self._targets
        faces, weights = normalise(pixels, self._spec), self._weights[rows]
        if len(targets) == 1:
            return faces, targets[MOOD][rows], weights
        return faces, {name: values[rows] for name, values in targets.items()}, dict.fromkeys(targets, weights)

    def on_epoch_end(self) -> None:
        """Shuffle anew."""
        self._begin(self._epoch + 1)


@dataclass(frozen=True)
class Teaching:
    """The teacher's answers, and how far they stand in for the labels.

    Attributes:
        answers: of the teacher for the training faces, in their order.
        weight: share of the answer in the target.
        augmentation: that makes the views which the teacher has answered for.
        seed: of the views.
        emotion_moods: index of the mood of each of `pipelines.data.dataset.EMOTIONS`.
    """

    answers: Lessons
    weight: float
    augmentation: AugmentationParams
    seed: int
    emotion_moods: tuple[int, ...]

    def lesson(
        self, pixels: NDArray[np.uint8], labels: Mapping[str, NDArray[np.float32]], epoch: int
    ) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
        """The view of all faces that an epoch shows, and the targets for it, labels and answers mixed."""
        view = epoch % self.answers.views
        emotions = self.answers.targets(EMOTIONS, view)
        said = {
            MOOD: emotions @ np.eye(len(MOODS), dtype=np.float32)[list(self.emotion_moods)],
            EMOTIONS: emotions,
            ORIGINAL: self.answers.targets(ORIGINAL, view),
        }
        targets = {name: self.weight * said[name] + (1 - self.weight) * label for name, label in labels.items()}
        return distillation.view(pixels, view, self.augmentation, self.seed), targets


class KeepMemory(keras.callbacks.Callback):
    """Lets the process keep the memory that a step frees, for the next step.

    TensorFlow 2.21 has the C library give it back ("Memory patch applied: M_TRIM_THRESHOLD"), which from then on also
    fixes the size above which a tensor is mapped anew. With batches of this size the kernel then clears pages for as
    long as the network computes: 1.5 million page faults in ten seconds, half the time. Elsewhere than on glibc this
    does nothing.
    """

    _TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Undo the patch; before each epoch's first steps, since it comes with the epoch's dataset."""
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        if batch == 0 and hasattr(library, "mallopt"):
            library.mallopt(self._TRIM_THRESHOLD, 1 << 30)
            library.mallopt(self._MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes


class LogToMlflow(keras.callbacks.Callback):
    """Each epoch's figures as metrics of the active run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch's figures, its number as the step."""
        mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch)


@dataclass(frozen=True)
class Job:
    """All that determines a training run, its data apart.

    Attributes:
        name: of the architecture in `params.yaml`.
        architecture: network, hyper-parameters and the name of the recipe.
        recipe: by which it is trained.
        spec: what the network takes.
        emotion_moods: index of the mood of each of `pipelines.data.dataset.EMOTIONS`.
        teacher: from whom it learns; None where the recipe gives a teacher no weight.
        start: the model whose weights it begins with; None begins with random ones.
    """

    name: str
    architecture: ArchitectureParams
    recipe: TrainParams
    spec: InputSpec
    emotion_moods: tuple[int, ...]
    teacher: TeacherParams | None = None
    start: str | None = None

    @classmethod
    def read(cls, name: str) -> Job:
        """The job of a name in one of the sections `architectures`, `continued` and `pupils` of `params.yaml`."""
        continued = read_continued(name)
        start = None if continued is None else continued.start
        architecture = read_architecture(name if continued is None else continued.architecture)
        if continued is not None:
            architecture = architecture.model_copy(update={"recipe": continued.recipe})
        recipe = Params.read().train[architecture.recipe]
        teacher = Params.read().teacher if recipe.teacher_weight else None
        return cls(name, architecture, recipe, Params.read().input, emotion_moods(), teacher, start)

    @property
    def head_weights(self) -> dict[str, float]:
        """Weights of the losses of the auxiliary heads that there are."""
        return {name: weight for name, weight in self.recipe.heads if weight > 0}

    def network(self) -> keras.Model:
        """The untrained network."""
        heads = Heads(self.emotion_moods if EMOTIONS in self.head_weights else None, ORIGINAL in self.head_weights)
        return networks.build(
            self.architecture.network,
            self.spec.size,
            len(MOODS),
            **self.architecture.hyper_parameters,
            **({"heads": heads} if self.head_weights else {}),
        )

    def build(self, steps: int) -> keras.Model:
        """The untrained network, compiled by the recipe for so many steps an epoch."""
        model, several = self.network(), bool(self.head_weights)
        if keras.backend.backend() == "tensorflow":
            _fuse_batch_normalization(model)
        loss, metrics = (
            "categorical_crossentropy",
            [keras.metrics.CategoricalCrossentropy(name="cross_entropy"), "categorical_accuracy"],
        )
        model.compile(
            optimizer=_optimizer(model, self.recipe, steps),
            loss=dict.fromkeys((MOOD, *self.head_weights), loss) if several else loss,
            loss_weights={MOOD: 1.0, **self.head_weights} if several else None,
            metrics={MOOD: metrics} if several else metrics,
            jit_compile=keras.backend.backend() == "jax",  # XLA is slower than TensorFlow's own kernels on a CPU
        )
        return model

    def parameters(self) -> dict[str, Any]:
        """The job as flat parameters for MLflow."""
        return tracking.flatten(
            {
                "architecture": self.name,
                "recipe": self.architecture.recipe,
                "network": self.architecture.network,
                **self.architecture.hyper_parameters,
                **self.recipe.model_dump(),
                "input": self.spec.model_dump(),
                **({"teacher": self.teacher.model_dump()} if self.teacher else {}),
                **({"start": self.start} if self.start else {}),
            }
        )


def emotion_moods() -> tuple[int, ...]:
    """The index of the mood of each of `pipelines.data.dataset.EMOTIONS`, by `params.yaml`."""
    params = Params.read().prepare
    return tuple(params.mood_of(emotion) for emotion in dataset.EMOTIONS)


def _optimizer(model: keras.Model, recipe: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """The recipe's optimizer for a network; with `adam` the penalty on its kernels is set as well."""
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "one_cycle":
        warm_up = round(recipe.warm_up * recipe.epochs * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 25,
            decay_steps=recipe.epochs * steps - warm_up,
            alpha=0.001,
            warmup_target=recipe.learning_rate,
            warmup_steps=warm_up,
        )
    if recipe.optimizer == "adam":
        _penalise_kernels(model, recipe.weight_decay)
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def _fuse_batch_normalization(model: keras.Model) -> None:
    """Let the network in training normalise its batches by TensorFlow's one kernel for it.

    Keras 3 composes the step of some ten others, which on a CPU take a fifth of the time of all training. The result
    is the same but for the running variance, which the kernel corrects by n / (n - 1), with n some thousands. The
    layers stay what they are, so that a saved model knows nothing of it.
    """
    import tensorflow

    def fused(layer: keras.layers.BatchNormalization) -> Any:
        plain = layer.call

        def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training or mask is not None:
                return plain(inputs, training=training, mask=mask)
            outputs, mean, variance = tensorflow.compat.v1.nn.fused_batch_norm(
                inputs, layer.gamma, layer.beta, epsilon=layer.epsilon, is_training=True
            )
            for running, seen in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
                running.assign(running * layer.momentum + seen * (1 - layer.momentum))
            return outputs

        return call

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center:
            layer.call = fused(layer)


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
    answers: Lessons | None = None,
    start: keras.Model | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train by the recipe.

    Args:
        job: what to train and how.
        train: faces to fit.
        validation: faces that decide on learning rate, end and best epoch.
        checkpoints: where to go on from, and where to save each epoch.
        reporters: tell of each epoch's figures; they have no part in the training.
        answers: the teacher's, where the recipe gives them weight.
        start: a network of the same build, whose weights are the first; None for random ones.

    Returns:
        The model of the best epoch, without optimizer state, and the figures of every epoch.
    """
    keras.utils.set_random_seed(job.recipe.seed)
    model = job.build(steps=-(-len(train) // job.recipe.batch_size))
    if start is not None:
        model.set_weights(start.get_weights())
    # Keras puts the head's name before the figure's where there are several.
    monitor = _MONITOR if not job.head_weights else _MONITOR.replace("val_", f"val_{MOOD}_")
    deciders: dict[str, keras.callbacks.Callback] = {}
    if job.recipe.reduce_on_plateau is not None:
        deciders["plateau"] = keras.callbacks.ReduceLROnPlateau(
            monitor,
            mode="min",
            factor=job.recipe.reduce_on_plateau.factor,
            patience=job.recipe.reduce_on_plateau.patience,
            min_lr=job.recipe.reduce_on_plateau.min_learning_rate,
            min_delta=0,
            verbose=0,
        )
    if job.recipe.early_stopping_patience is not None:
        deciders["stopping"] = keras.callbacks.EarlyStopping(
            monitor, mode="min", patience=job.recipe.early_stopping_patience
        )
    saver = checkpoints.callback(monitor=monitor, stateful=deciders)
    first_epoch = saver.restore(model)
    if not saver.finished:
        heads = list(job.head_weights)
        targets = targets_of(validation, heads)
        model.fit(
            FaceBatches(train, job.spec, job.recipe, first_epoch, heads, _teaching(job, answers)),
            validation_data=(normalise(validation.pixels, job.spec), targets if heads else targets[MOOD]),
            validation_batch_size=256,
            initial_epoch=first_epoch,
            epochs=job.recipe.epochs,
            # The saver comes last: it records what the others have decided.
            callbacks=[KeepMemory(), *deciders.values(), *reporters, saver],
            shuffle=False,  # Keras would permute the batches by a global state that no checkpoint holds
            verbose=0,
        )
    best = job.network()
    best.set_weights(saver.best_weights(model))
    return best, saver.history.rename(columns=lambda name: name.replace(f"{MOOD}_c", "c"))


def _teaching(job: Job, answers: Lessons | None) -> Teaching | None:
    """The teaching that a job asks for.

    Raises:
        ValueError: it asks for answers that are not there.
    """
    if job.teacher is None:
        return None
    if answers is None:
        raise ValueError(f"the recipe of {job.name} gives a teacher weight, but there are no answers of one")
    recipe = job.recipe
    return Teaching(answers, recipe.teacher_weight, recipe.augmentation, job.teacher.seed, job.emotion_moods)


def mean_face(faces: FaceSet, spec: InputSpec) -> NDArray[np.float32]:
    """An input example that shows nobody: the mean of all faces, float32 (1, size, size, 1)."""
    return normalise(faces.pixels.mean(axis=0).round().astype(np.uint8)[None], spec)


def log_inputs(job: Job, faces: Path) -> None:
    """Record parameters, code and data of the active run."""
    mlflow.log_params(job.parameters())
    mlflow.set_tags(
        {
            "architecture": job.name,
            "git_commit": tracking.git_commit(),
            "dvc.faces": tracking.dvc_hash(paths.FACES),
            "dvc.data": tracking.dvc_hash(Path("data")),
            "keras_backend": keras.backend.backend(),
        }
    )
    tracking.log_dataset(faces / "train.npz", "training")


def run(
    job: Job,
    faces: Path,
    directory: Path,
    answers: Path | None = None,
    checkpoint: Path | None = None,
    start: Path | None = None,
) -> keras.Model:
    """Train one job, write its files into a directory, record its run.

    Args:
        job: what to train and how.
        faces: directory of the face sets.
        directory: where model, curves and summary go.
        answers: the teacher's, where the recipe gives them weight.
        checkpoint: directory to go on from; by default that of the job's name.
        start: file of the model whose weights the job starts with; None for random ones.

    Returns:
        The trained model.
    """
    train, validation = FaceSet.load(faces / "train.npz"), FaceSet.load(faces / "validation.npz")
    inputs = [faces / "train.npz", faces / "validation.npz", Path(networks.__file__), answers, start]
    lesson = None if answers is None else Lessons.load(answers)
    first = None if start is None else keras.models.load_model(start, compile=False)
    checkpoints = Checkpoints(
        checkpoint or paths.CHECKPOINTS / job.name,
        fingerprint(job.parameters(), *(path for path in inputs if path is not None)),
    )
    tracking.connect()
    run_id = checkpoints.run_id if checkpoints.run_id and tracking.run_exists(checkpoints.run_id) else None
    with mlflow.start_run(run_id=run_id, run_name=job.name) as active:
        checkpoints.run_id = active.info.run_id
        if run_id is None:
            log_inputs(job, faces)
        started = time.monotonic()
        reporters = [LogToMlflow(), EpochProgress(job.name)]
        model, history = fit(job, train, validation, checkpoints, reporters, lesson, first)
        print(f"{job.name}: {time.monotonic() - started:.0f} s in this process")

        directory.mkdir(parents=True, exist_ok=True)
        model.save(directory / MODEL_FILE)
        history.to_csv(directory / HISTORY_FILE, index=False, float_format="%.6g", lineterminator="\n")
        best_epoch = int(history[_MONITOR].idxmin())
        summary = {
            "architecture": job.name,
            "recipe": job.architecture.recipe,
            "run_id": active.info.run_id,
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
    return model


def main(name: str, faces: Path = paths.FACES, models: Path = paths.MODELS) -> None:
    """Train one architecture."""
    job = Job.read(name)
    start = models / job.start / MODEL_FILE if job.start else None
    run(job, faces, models / name, paths.LESSONS if job.teacher else None, start=start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture", choices=sorted(Params.read().models.entries()))
    main(parser.parse_args().architecture)
