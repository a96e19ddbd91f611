"""Outcome of an ingestion: rows written, rows left out on purpose, and rows that are invalid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """A row or a picture that cannot be ingested.

    Attributes:
        path: File with the row, or the picture.
        line: Line in the file, from 1; None if the problem concerns the whole file.
        reason: Description of the problem.
    """

    path: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.line is None else f"{self.path}:{self.line}: {self.reason}"


@dataclass
class Report:
    """Outcome of an ingestion.

    Attributes:
        came: Number of rows or pictures that were read from the source, valid or not.
        problems: Invalid rows and pictures, in the order of reading.
        left_out: Number of rows that were left out on purpose, by reason.
        classes: Number of rows that were written, by split (empty for photos) and emotion.
        existing: Number of those that the file had before, likewise.
    """

    came: int = 0
    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    existing: Counter[tuple[str, str]] = field(default_factory=Counter)

    def reject(self, path: Path, line: int | None, reason: str | Exception) -> None:
        """Record a problem."""
        self.problems.append(Problem(path, line, str(reason)))

    @property
    def written(self) -> int:
        """Number of rows that were written."""
        return self.classes.total()

    @property
    def new(self) -> int:
        """Number of rows that were written and not in the file before."""
        return self.written - self.existing.total()
