"""Times of several things beside each other: they take turns, so that a busy machine slows all of them alike.

Who ran before leaves other data in the caches, and threads that wait for more work. In a turn a runner therefore runs
twice and the second time counts, as in a stream of frames; those that take so long that it is no matter run once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

_FEWEST_TURNS: Final = 3

_TWICE_BELOW: Final = 1000.0
"""Milliseconds of a run from which on the state that it begins in does not matter."""


@dataclass(frozen=True)
class Times:
    """How long something took, turn by turn, in milliseconds."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in milliseconds."""
        return float(np.median(self.milliseconds))

    @property
    def p99(self) -> float:
        """The 99th percentile, in milliseconds; of fewer than a hundred turns nearly the longest."""
        return float(np.percentile(self.milliseconds, 99))

    def as_json(self) -> dict[str, float]:
        """Number of turns, median and 99th percentile."""
        return {
            "turns": len(self.milliseconds),
            "median_ms": round(self.median, 3),
            "p99_ms": round(self.p99, 3),
        }


def take_turns(
    runners: dict[str, Callable[[], object]], *, seconds: float, most: int, fewest: int = _FEWEST_TURNS
) -> dict[str, Times]:
    """Time each runner; the turns of the slow ones are spread evenly among those of the fast ones.

    Args:
        runners: what to time, by name.
        seconds: that the turns of each may take, about; a slow one takes longer where this allows fewer than `fewest`
            turns.
        most: turns of a fast one.
        fewest: turns of a slow one.
    """
    turns, twice = {}, set()
    for name, run in runners.items():
        run()  # buffers, threads and, for TensorFlow, the graph for this shape
        taken_once = _milliseconds(run)
        if taken_once < _TWICE_BELOW:
            twice.add(name)
        turns[name] = int(np.clip(seconds / (taken_once / 1e3), fewest, most))
    schedule = sorted(((turn + 0.5) / count, name) for name, count in turns.items() for turn in range(count))
    taken: dict[str, list[float]] = {name: [] for name in runners}
    for _, name in schedule:
        if name in twice:
            runners[name]()
        taken[name].append(_milliseconds(runners[name]))
    return {name: Times(tuple(values)) for name, values in taken.items()}


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3
