"""The prepared faces of one split, as the stages after `prepare` read them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

SOURCES: Final[tuple[str, ...]] = ("fer2013", "photos")
"""Datasets; the index of a name here is its code in `FaceSet.source`."""


@dataclass(frozen=True)
class FaceSet:
    """Faces with their labels, n of them.

    Attributes:
        pixels: uint8 (n, size, size), grey crops.
        soft_labels: float32 (n, 4), the share of each mood, rows summing to 1; what training fits.
        emotions: float32 (n, 9), the share of each of FER+'s emotions (`pipelines.data.dataset.EMOTIONS`) among the votes
            that count; what an auxiliary head of the network may fit.
        ferplus_mood: int8 (n,), index of the mood by the FER+ votes; -1 where no vote counts. A photo has one label,
            which stands here too.
        original_mood: int8 (n,), index of the mood by the dataset's own label.
        source: uint8 (n,), index in `SOURCES`.
        row: int32 (n,), row in the source's Parquet file.
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
        """The faces at some rows, by mask or index."""
        return FaceSet(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def of_source(self, name: str) -> FaceSet:
        """The faces that come from one of `SOURCES`."""
        return self.select(self.source == SOURCES.index(name))

    def save(self, path: Path) -> None:
        """Write an uncompressed .npz file: the same bytes for the same faces, whatever zlib is installed."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> FaceSet:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @classmethod
    def concatenate(cls, parts: list[FaceSet]) -> FaceSet:
        """Several sets as one, in order."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})
