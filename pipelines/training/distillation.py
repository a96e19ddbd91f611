"""Distillation: the teacher's predictions for the training faces, as targets beside the labels.

After Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, and Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent", CVPR 2022: teacher and student see the very same
view of a face. The stage `teach` therefore predicts once for a few views of every face, drawn by a seed that the
student's training knows as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from pipelines.params import AugmentationParams
from pipelines.training.augmentation import augment
from pipelines.training.config import TrainingConfig
from pipelines.training.networks import EMOTIONS, MOOD, ORIGINAL
from service.moods import MOODS

_CHUNK = 1024  # faces for one seed: a view is the same however many faces are asked for at a time
_BATCH = 256


@dataclass(frozen=True)
class TeacherPredictions:
    """A teacher's predictions for some views of n training faces.

    Attributes:
        emotions: uint8 (views, n, 9), probabilities of `pipelines.data.dataset.EMOTIONS` in 255ths.
        original: uint8 (views, n, 4), probabilities of the moods from the head for original labels, in 255ths.
    """

    emotions: NDArray[np.uint8]
    original: NDArray[np.uint8]

    @property
    def views(self) -> int:
        """Number of views of each face."""
        return len(self.emotions)

    def probabilities(self, head: str, view: int) -> NDArray[np.float32]:
        """The predictions of `EMOTIONS` or `ORIGINAL` for one view: float32 (n, classes), rows sum to 1."""
        values = getattr(self, head)[view].astype(np.float32)
        return values / values.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write a compressed .npz file, since git keeps it."""
        np.savez_compressed(path, emotions=self.emotions, original=self.original)

    @classmethod
    def load(cls, path: Path) -> TeacherPredictions:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: the stage `teach` has not run.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: run the stage `teach` (`dvc repro`)")
        with np.load(path) as arrays:
            return cls(emotions=arrays["emotions"], original=arrays["original"])


@dataclass(frozen=True)
class Distillation:
    """The teacher's predictions and how they mix with the labels.

    Attributes:
        predictions: The teacher's predictions for the training faces, in their order.
        weight: Share of the prediction in the target.
        augmentation: Augmentation that makes the views.
        seed: Seed of the views.
        emotion_moods: Index of the mood of each of `pipelines.data.dataset.EMOTIONS`.
    """

    predictions: TeacherPredictions
    weight: float
    augmentation: AugmentationParams
    seed: int
    emotion_moods: tuple[int, ...]

    @classmethod
    def of(cls, config: TrainingConfig, predictions: TeacherPredictions | None) -> Distillation | None:
        """The distillation of a training; None if its recipe needs no teacher.

        Raises:
            ValueError: the recipe needs a teacher's predictions and there are none.
        """
        if config.teacher is None:
            return None
        if predictions is None:
            raise ValueError(f"the recipe of {config.model.name} needs the teacher's predictions; there are none")
        recipe = config.recipe
        return cls(predictions, recipe.teacher_weight, recipe.augmentation, config.teacher.seed, config.emotion_moods)

    def view(
        self, pixels: NDArray[np.uint8], labels: Mapping[str, NDArray[np.float32]], epoch: int
    ) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
        """The view of all faces in one epoch, and its targets: labels and predictions, mixed."""
        index = epoch % self.predictions.views
        emotions = self.predictions.probabilities(EMOTIONS, index)
        predicted = {
            MOOD: emotions @ np.eye(len(MOODS), dtype=np.float32)[list(self.emotion_moods)],
            EMOTIONS: emotions,
            ORIGINAL: self.predictions.probabilities(ORIGINAL, index),
        }
        targets = {name: self.weight * predicted[name] + (1 - self.weight) * label for name, label in labels.items()}
        return make_view(pixels, index, self.augmentation, self.seed), targets


def quantise(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Probabilities in 255ths: an error of at most 0.002 in a quarter of float32's bytes."""
    return (probabilities * 255).round().astype(np.uint8)


def make_view(pixels: NDArray[np.uint8], index: int, augmentation: AugmentationParams, seed: int) -> NDArray[np.uint8]:
    """One augmented view of all training faces, the same for teacher and student.

    Args:
        pixels: uint8 (n, size, size), the training faces in their order.
        index: Index of the view.
        augmentation: Ranges of the random changes.
        seed: Seed of the changes.

    Returns:
        uint8 (n, size, size).
    """
    return np.concatenate(
        [
            augment(pixels[start : start + _CHUNK], augmentation, np.random.default_rng((seed, index, start)))
            for start in range(0, len(pixels), _CHUNK)
        ]
    )


def predict_heads(models: Sequence[keras.Model], faces: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The mean prediction of one or more networks over faces and their horizontal flips (test-time augmentation).

    Args:
        models: Networks with the same heads.
        faces: float32 (n, size, size, 1).

    Returns:
        float32 (n, classes) by head, rows sum to 1; `MOOD` alone for a network without auxiliary heads.
    """
    predictions = [
        model.predict(seen, batch_size=_BATCH, verbose=0) for model in models for seen in (faces, faces[:, :, ::-1])
    ]
    by_head = [one if isinstance(one, dict) else {MOOD: one} for one in predictions]
    return {head: np.mean([one[head] for one in by_head], axis=0) for head in by_head[0]}
