"""What a training costs: epochs, faces and an estimate of its time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from pipelines import paths
from pipelines.data.dataset import EMOTIONS
from pipelines.data.face_sets import FaceSet
from pipelines.params import Params, ParamsError
from pipelines.registry.candidates import SUMMARY_FILE
from service.moods import MOODS

_TIMED_STEPS: Final = 8


@dataclass(frozen=True)
class TrainingCost:
    """The cost of training one model.

    Attributes:
        model: Name of the model.
        epochs: Number of epochs; that of the last training if a training can stop early and there was one.
        max_epochs: Number of epochs that the recipe allows.
        faces: Number of training faces; None if it is not known yet.
        seconds_per_epoch: Estimated time of an epoch; None if the number of faces is not known.
        measured: Where the time comes from: `last training` or `steps timed now`.
    """

    model: str
    epochs: int
    max_epochs: int
    faces: int | None
    seconds_per_epoch: float | None
    measured: str

    @property
    def seconds(self) -> float | None:
        """Estimated time of the training."""
        return None if self.seconds_per_epoch is None else self.epochs * self.seconds_per_epoch


def training_cost(params: Params, name: str, *, changed: bool) -> TrainingCost:
    """The cost of training a model.

    Args:
        params: The file.
        name: A model.
        changed: Whether its network or recipe have changed since it was trained, so that its time says nothing.

    Raises:
        ParamsError: its network does not exist or does not take the hyper-parameters.
    """
    recipe = params.train[params.model(name).recipe]
    summary = _summary(name)
    faces = _present_faces() or summary.get("training_faces")
    epochs = recipe.epochs
    if recipe.early_stopping_patience is not None and not changed:
        epochs = min(epochs, summary.get("epochs", epochs))
    seconds, measured = summary.get("seconds_per_epoch"), "last training"
    if seconds is not None and not changed and faces:
        seconds *= faces / summary["training_faces"]
    elif faces:
        seconds, measured = time_of_an_epoch(params, name, faces), "steps timed now"
    return TrainingCost(name, epochs, recipe.epochs, faces, seconds, measured)


def time_of_an_epoch(params: Params, name: str, faces: int) -> float:
    """Seconds that an epoch would take on this machine, from a few training steps; validation is not in it.

    Args:
        params: The file.
        name: A model.
        faces: Number of training faces.

    Raises:
        ParamsError: its network does not exist or does not take the hyper-parameters.
    """
    # Not at the top, because TensorFlow takes seconds to load and most plans need no timing.
    from pipelines.training.batches import FaceBatches
    from pipelines.training.config import TrainingConfig
    from pipelines.training.fit import compile_network

    config = TrainingConfig.of(params, params.model(name))
    # Steps towards a teacher's predictions take the same time; the predictions may not be there yet.
    config = replace(config, recipe=config.recipe.model_copy(update={"teacher_weight": 0.0}), teacher=None)
    size = config.recipe.batch_size
    steps = -(-faces // size)
    try:
        model = compile_network(config, steps)
    except (TypeError, KeyError, ValueError) as error:
        raise ParamsError(f"{paths.PARAMS}: the network of {name} cannot be built: {error}") from None
    noise = _noise(size * (_TIMED_STEPS + 1), config.spec.size)
    batches = FaceBatches(noise, config.spec, config.recipe, 0, [*config.head_weights])
    seconds = []
    for index in range(len(batches)):
        started = time.perf_counter()
        pixels, targets, weights = batches[index]
        model.train_on_batch(pixels, targets, sample_weight=weights)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) * steps  # the first step compiles; the fastest is least disturbed by other processes


def _noise(count: int, size: int) -> FaceSet:
    """Noise with labels in turn: what a step shows makes no difference to its time."""
    moods = (np.arange(count) % len(MOODS)).astype(np.int8)
    return FaceSet(
        pixels=np.random.default_rng(0).integers(0, 256, (count, size, size)).astype(np.uint8),
        soft_labels=np.eye(len(MOODS), dtype=np.float32)[moods],
        emotions=np.eye(len(EMOTIONS), dtype=np.float32)[moods],
        ferplus_mood=moods,
        original_mood=moods,
        source=(np.arange(count) % 2).astype(np.uint8),
        row=np.arange(count, dtype=np.int32),
    )


def _summary(name: str) -> dict[str, Any]:
    """What the last training of a model wrote about itself; empty if there was none."""
    path = paths.MODELS / name / SUMMARY_FILE
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _present_faces() -> int | None:
    """Number of training faces that `prepare` last made; None if they are not here."""
    path = paths.face_set("train")
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return len(arrays["row"])
