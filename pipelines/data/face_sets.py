"""Prepared faces with their labels: what the stage `prepare` writes and the later stages read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

SOURCES: Final[tuple[str, ...]] = ("fer2013", "photos")
"""Files of the dataset, ordered by their codes in `FaceSet.source`."""


@dataclass(frozen=True)
class FaceSet:
    """n faces with their labels.

    Attributes:
        pixels: Grey crops, uint8 (n, size, size).
        soft_labels: Shares of the moods, float32 (n, 4), rows summing to 1. Training fits these.
        emotions: Shares of `pipelines.data.dataset.EMOTIONS` among the votes that count, float32 (n, 9). An auxiliary
            head of the network may fit these.
        ferplus_mood: Index of the mood by the FER+ votes, int8 (n,); -1 if no vote counts. For a photo, the mood of its
            only label.
        original_mood: Index of the mood by the dataset's own label, int8 (n,).
        source: Index in `SOURCES`, uint8 (n,).
        row: Row in the Parquet file of the source, int32 (n,).
    """

    pixels: NDArray[np.uint8]
    soft_labels: NDArray[np.float32]
    emotions: NDArray[np.float32]
    ferplus_mood: NDArray[np.int8]
    original_mood: NDArray[np.int8]
    source: NDArray[np.uint8]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> FaceSet:
        """Select faces by mask or index."""
        return FaceSet(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def of_source(self, name: str) -> FaceSet:
        """Select the faces of one of `SOURCES`."""
        return self.select(self.source == SOURCES.index(name))

    def save(self, path: Path) -> None:
        """Write an .npz file without compression, so that its bytes do not depend on the installed zlib."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> FaceSet:
        """Read a file that `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @classmethod
    def concatenate(cls, parts: list[FaceSet]) -> FaceSet:
        """Join sets in order."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})
