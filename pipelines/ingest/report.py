"""What became of the rows that were read: written, rightly left out, or wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """A row or a picture that cannot be ingested.

    Attributes:
        path: the file with the row, or the picture.
        line: of the file, from 1; None where the whole file is meant.
        reason: what is wrong with it.
    """

    path: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.line is None else f"{self.path}:{self.line}: {self.reason}"


@dataclass
class Report:
    """What became of everything that was read.

    Attributes:
        problems: what was wrong, in the order of reading.
        left_out: how many rows were rightly left out, by reason.
        classes: how many rows were written, by split (empty for photos) and emotion.
    """

    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def reject(self, path: Path, line: int | None, reason: str | Exception) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, line, str(reason)))

    @property
    def written(self) -> int:
        """How many rows were written."""
        return self.classes.total()
