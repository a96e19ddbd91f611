"""Batches of training faces with their targets and weights."""

from __future__ import annotations

from collections.abc import Collection

import keras
import numpy as np
from numpy.typing import NDArray

from pipelines.data.face_sets import SOURCES, FaceSet
from pipelines.data.labels import one_hot
from pipelines.params import TrainParams
from pipelines.training.augmentation import augment, flip
from pipelines.training.distillation import Distillation
from pipelines.training.networks import EMOTIONS, MOOD, ORIGINAL
from service.classifier import InputSpec, normalise
from service.moods import MOODS

Targets = NDArray[np.float32] | dict[str, NDArray[np.float32]]
"""float32 (n, classes), or such an array for each head."""


def head_targets(faces: FaceSet, heads: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The labels of the mood and of the given auxiliary heads, by head: float32 (n, classes)."""
    known = {MOOD: faces.soft_labels, EMOTIONS: faces.emotions, ORIGINAL: one_hot(faces.original_mood)}
    return {name: known[name] for name in (MOOD, *heads)}


def sample_weights(faces: FaceSet, exponent: float) -> NDArray[np.float32]:
    """The weight of each face: photos of rare moods weigh more; see `TrainParams.photo_balance`.

    Returns:
        float32 (n,): 1 for faces of FER2013, 1 on average for photos.
    """
    weights = np.ones(len(faces), np.float32)
    photos = faces.source == SOURCES.index("photos")
    if photos.any():
        moods = faces.soft_labels[photos].argmax(axis=1)
        by_mood = (len(moods) / np.maximum(np.bincount(moods, minlength=len(MOODS)), 1)) ** exponent
        weights[photos] = by_mood[moods] / by_mood[moods].mean()
    return weights


class FaceBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches of equal size; the last one of an epoch is filled up with the epoch's first faces.

    Order and augmentation depend on seed and epoch alone, so a resumed training sees what an uninterrupted one would.
    """

    def __init__(
        self,
        faces: FaceSet,
        spec: InputSpec,
        recipe: TrainParams,
        first_epoch: int,
        heads: Collection[str] = (),
        distillation: Distillation | None = None,
    ) -> None:
        """Start at an epoch.

        Args:
            faces: Training faces.
            spec: The network's input.
            recipe: Batch size, augmentation, class-weight exponent and seed.
            first_epoch: 0, or the epoch to resume with.
            heads: Names of the auxiliary heads.
            distillation: The teacher's predictions; None trains on labels alone.
        """
        super().__init__()
        self._faces, self._spec, self._recipe, self._distillation = faces, spec, recipe, distillation
        self._labels = head_targets(faces, heads)
        self._weights = sample_weights(faces, recipe.photo_balance)
        self._begin(first_epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.random.default_rng((self._recipe.seed, epoch)).permutation(len(self._faces))
        if self._distillation is not None:
            self._pixels, self._targets = self._distillation.view(self._faces.pixels, self._labels, epoch)

    def __len__(self) -> int:
        return -(-len(self._faces) // self._recipe.batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Targets, Targets]:
        """Batch `index` of the epoch: float32 (batch, size, size, 1), targets, and weights, float32 (batch,)."""
        size = self._recipe.batch_size
        # A smaller last batch crashes TensorFlow 2.21's oneDNN kernels ("double free") on two or more threads, and
        # makes JAX compile the step a second time.
        rows = self._order.take(range(index * size, (index + 1) * size), mode="wrap")
        random = np.random.default_rng((self._recipe.seed, self._epoch, index))
        if self._distillation is None:
            pixels, targets = augment(self._faces.pixels[rows], self._recipe.augmentation, random), self._labels
        else:
            pixels, targets = flip(self._pixels[rows], random), self._targets
        faces, weights = normalise(pixels, self._spec), self._weights[rows]
        if len(targets) == 1:
            return faces, targets[MOOD][rows], weights
        return faces, {name: values[rows] for name, values in targets.items()}, dict.fromkeys(targets, weights)

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self._begin(self._epoch + 1)
