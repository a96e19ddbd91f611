"""What the checks of `make soak` share: how long they run, where their servers live, and what they find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.server import RunningServer, serve


@dataclass(frozen=True)
class Finding:
    """A metric with its limit.

    Attributes:
        check: Check that measured it, and its conditions.
        metric: Metric.
        value: Measured value, formatted.
        limit: Limit, formatted; empty if there is none.
        kept: Whether the limit was kept.
    """

    check: str
    metric: str
    value: str
    limit: str = ""
    kept: bool = True


@dataclass(frozen=True)
class Plan:
    """Extent of the checks.

    Attributes:
        share: Share of a full run's durations and counts, in (0, 1].
        directory: Directory for logs and homes of the servers.
    """

    share: float
    directory: Path

    def scaled(self, full: float, minimum: float = 1) -> float:
        """A duration or a count, from that of a full run."""
        return max(minimum, full * self.share)

    @contextmanager
    def server(self, name: str, **environment: str) -> Iterator[RunningServer]:
        """A server with a directory of its own."""
        directory = self.directory / name
        temporary = directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        with serve(directory, environment={"TMPDIR": str(temporary), **environment}) as running:
            yield running


def duration(value: float) -> str:
    """A number of seconds, formatted."""
    if not np.isfinite(value):
        return "-"
    return f"{value * 1000:.0f} ms" if value < 2 else f"{value:.1f} s"
