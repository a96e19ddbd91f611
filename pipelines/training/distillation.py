"""What a teacher says of the training faces: the targets of distillation, made once by the stage `teach`.

After Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, and Beyer et al.,
"Knowledge distillation: A good teacher is patient and consistent", CVPR 2022: the teacher answers for the very view
that the pupil sees. To let it answer once and not in every epoch, the views of a face are a few, each drawn by a seed
that both know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.params import AugmentationParams
from pipelines.training.augmentation import augment

_CHUNK = 1024
"""Faces a seed: a view is the same however many faces are asked for at a time."""


@dataclass(frozen=True)
class Lessons:
    """A teacher's answers for some views of n training faces.

    Attributes:
        emotions: uint8 (views, n, 9), probabilities of `pipelines.data.dataset.EMOTIONS` in 255ths; the mood's is their sum.
        original: uint8 (views, n, 4), those of the moods by the head for original labels.
    """

    emotions: NDArray[np.uint8]
    original: NDArray[np.uint8]

    @property
    def views(self) -> int:
        """How many views there are."""
        return len(self.emotions)

    def targets(self, name: str, view: int) -> NDArray[np.float32]:
        """The answers of one head, by the attribute's name, for one view: float32 (n, classes), rows summing to 1."""
        answers = getattr(self, name)[view].astype(np.float32)
        return answers / answers.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write a compressed .npz file: it is kept in git."""
        np.savez_compressed(path, emotions=self.emotions, original=self.original)

    @classmethod
    def load(cls, path: Path) -> Lessons:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: the stage `teach` has not run.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: run the stage `teach` (`dvc repro`)")
        with np.load(path) as arrays:
            return cls(emotions=arrays["emotions"], original=arrays["original"])


def quantise(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Probabilities in 255ths: an error of 0.002 at most, in an eighth of the bytes."""
    return (probabilities * 255).round().astype(np.uint8)


def view(pixels: NDArray[np.uint8], index: int, augmentation: AugmentationParams, seed: int) -> NDArray[np.uint8]:
    """One view of all training faces, the same for teacher and pupil.

    Args:
        pixels: uint8 (n, size, size), the training faces in their order.
        index: of the view.
        augmentation: what may be changed.
        seed: of the changes.

    Returns:
        uint8 (n, size, size).
    """
    return np.concatenate(
        [
            augment(pixels[start : start + _CHUNK], augmentation, np.random.default_rng((seed, index, start)))
            for start in range(0, len(pixels), _CHUNK)
        ]
    )
