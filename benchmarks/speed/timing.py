"""The benchmarks' timer: several functions take turns, so that other load on the machine slows all of them alike.

The function that ran before leaves its data in the caches, and threads that wait for more work. Therefore each runs
twice in a turn and the second run counts, as in a stream of frames; slow ones run once, since for them it matters
little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

_MIN_TURNS: Final = 3

_TWICE_BELOW: Final = 1000.0
"""Milliseconds; a function that takes longer runs once in a turn."""


@dataclass(frozen=True)
class Times:
    """Times of one function, by turn, in milliseconds."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in milliseconds."""
        return float(np.median(self.milliseconds))

    @property
    def p99(self) -> float:
        """The 99th percentile in milliseconds; nearly the maximum if there are fewer than 100 turns."""
        return float(np.percentile(self.milliseconds, 99))

    def as_json(self) -> dict[str, float]:
        """Number of turns, median and 99th percentile."""
        return {
            "turns": len(self.milliseconds),
            "median_ms": round(self.median, 3),
            "p99_ms": round(self.p99, 3),
        }


def take_turns(
    functions: Mapping[str, Callable[[], object]], *, max_turns: int, seconds: float = float("inf")
) -> dict[str, Times]:
    """Time each function; the turns of slow functions are spread evenly among those of fast ones.

    Args:
        functions: Functions to time, by name.
        max_turns: Turns of a fast function.
        seconds: Approximate time for the turns of one function. Slow functions get fewer turns, but at least three.
    """
    turns, twice = {}, set()
    for name, function in functions.items():
        function()  # allocates buffers, starts threads and, in TensorFlow, traces the graph for this shape
        first = milliseconds(function)
        if first < _TWICE_BELOW:
            twice.add(name)
        turns[name] = int(np.clip(seconds / (first / 1e3), min(_MIN_TURNS, max_turns), max_turns))
    schedule = sorted(((turn + 0.5) / count, name) for name, count in turns.items() for turn in range(count))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _, name in schedule:
        if name in twice:
            functions[name]()
        times[name].append(milliseconds(functions[name]))
    return {name: Times(tuple(values)) for name, values in times.items()}


def milliseconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1e3
