"""Time per step of an estimate on one thread; a step's time excludes the steps inside it.

The steps are functions of `service/`, timed by wrapping them in place: the profiled code is the served code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

from benchmarks.scenes import as_jpeg, scene
from service import detector, faces, images
from service.classifier import MoodClassifier
from service.detector import FaceDetector
from service.estimator import MoodEstimator
from service.observation import Observation

OTHER: Final = "other (NumPy, Python)"


def steps(estimator: MoodEstimator) -> Iterator[tuple[str, object, str]]:
    """The steps of an estimate: name in the report, and the object and attribute that implement it."""
    yield "JPEG decoding", images, "decode_frame"
    yield "image pyramid", detector, "_shrink"
    yield "pixel scaling", detector, "_normalise"
    yield "P-Net", estimator.detector._pnet, "run"
    yield "non-maximum suppression", detector, "non_maximum_suppression"
    yield "candidate patches", detector, "crop_and_resize_fast"
    yield "R-Net", estimator.detector._rnet, "run"
    yield "O-Net", estimator.detector._onet, "run"
    yield "face crop", faces, "crop"
    yield "mini-Xception", estimator.classifier, "predict"
    yield "prediction-log row", Observation, "of"


class Stopwatch:
    """Exclusive time by step: the time of a step inside another counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to a step."""

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                taken = time.perf_counter() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + taken - self._inner.pop()
                self._inner[-1] += taken

        return timed


def measure(bundle: Path, frames: list[tuple[int, int]], *, turns: int) -> list[dict[str, Any]]:
    """Profile estimates of JPEG frames with one face.

    Args:
        bundle: Directory with detector and classifier.
        frames: Widths and heights.
        turns: Estimates of each frame.

    Returns:
        A record for each frame: `frame`, `turns`, `median_ms` of a whole estimate with its row for the log, and
        `steps`, the median of each in milliseconds, in the order of execution.
    """
    estimator = MoodEstimator(FaceDetector(bundle / "detector", threads=1), MoodClassifier(bundle / "classifier"))
    return [_profile(estimator, frame, turns) for frame in frames]


def _profile(estimator: MoodEstimator, frame: tuple[int, int], turns: int) -> dict[str, Any]:
    data = as_jpeg(scene(*frame, 1).pixels)
    names = [*(name for name, *_ in steps(estimator)), OTHER]
    times = []
    for _ in range(turns + 1):
        watch = Stopwatch()
        with ExitStack() as stack:
            for name, owner, attribute in steps(estimator):
                stack.enter_context(mock.patch.object(owner, attribute, watch.timed(name, getattr(owner, attribute))))
            watch.timed(OTHER, _estimate)(estimator, data)
        times.append([watch.seconds[name] * 1e3 for name in names])
    table = np.array(times[1:])  # the first turn is the warm-up
    return {
        "frame": f"{frame[0]}x{frame[1]}",
        "turns": turns,
        "median_ms": round(float(np.median(table.sum(axis=1))), 3),
        "steps": dict(zip(names, np.median(table, axis=0).round(3).tolist(), strict=True)),
    }


def _estimate(estimator: MoodEstimator, data: bytes) -> None:
    def log(frame: Any, estimate: Any) -> None:
        Observation.of(frame, estimate, model=estimator.classifier.metadata, seconds=0.0)

    estimator.estimate(data, inspect=log)
