"""Time that the served graph takes for one face."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.classifier import MoodClassifier

_WARM_UP: Final = 50
_ROUNDS: Final = 20
_PAUSE: Final = 0.25  # seconds


def measure_latency(classifier: MoodClassifier, face: NDArray[np.uint8], predictions: int) -> tuple[float, float]:
    """Time of one face on one thread, from grey crop to calibrated probabilities.

    The predictions are timed in rounds with pauses, and the fastest round counts: other processes, on these cores or
    on their host, make the other rounds slower (the documentation of `timeit` argues alike).

    Args:
        classifier: The classifier.
        face: uint8 (size, size).
        predictions: Number of timed predictions, over all rounds.

    Returns:
        Median and 99th percentile of the fastest round, in milliseconds.
    """
    batch, rounds = face[None], []
    for _ in range(_ROUNDS):
        time.sleep(_PAUSE)
        for _ in range(_WARM_UP):
            classifier.predict(batch)
        times = []
        for _ in range(max(1, predictions // _ROUNDS)):
            started = time.perf_counter()
            classifier.predict(batch)
            times.append((time.perf_counter() - started) * 1000)
        rounds.append(tuple(float(value) for value in np.percentile(times, [50, 99])))
    median, p99 = min(rounds)
    return median, p99
