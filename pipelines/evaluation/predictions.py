"""A model's answers to the validation images, one by one: what two models are compared by on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ValidationAnswers:
    """What n FER2013 faces and m photos of the validation split show, and what a model says of them.

    Attributes:
        moods: int8 (n,), index in `MOODS` of the mood by FER+ votes; the faces without a vote that counts are left out.
        probabilities: float32 (n, 4), calibrated.
        slices: names in `pipelines.evaluation.slices.SLICES`, s of them.
        slice_moods: int8 (s, n), index of the mood that is answered for each face in each slice.
        photo_moods: int8 (m,), index of the mood of each photo's face.
        photo_probabilities: float32 (m, 4), calibrated.
    """

    moods: NDArray[np.int8]
    probabilities: NDArray[np.float32]
    slices: tuple[str, ...]
    slice_moods: NDArray[np.int8]
    photo_moods: NDArray[np.int8]
    photo_probabilities: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write a compressed .npz file."""
        np.savez_compressed(path, **{**vars(self), "slices": np.array(self.slices, dtype=np.str_)})

    @classmethod
    def load(cls, path: Path) -> ValidationAnswers:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{**arrays, "slices": tuple(arrays["slices"].tolist())})
