"""Where the time of an estimate goes: its steps on one thread, each without those inside it.

The steps are functions of `service/`, which are timed where they stand: what is profiled is what is served.
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

BETWEEN: Final = "between these (NumPy, Python)"


def steps(estimator: MoodEstimator) -> Iterator[tuple[str, object, str]]:
    """The steps of an estimate: name in the report, and the object and attribute that does it."""
    yield "decoding the JPEG", images, "decode_frame"
    yield "levels of the pyramid", detector, "_shrink"
    yield "pixels to the nets' range", detector, "_normalise"
    yield "P-Net", estimator.detector._pnet, "run"
    yield "non-maximum suppression", detector, "non_maximum_suppression"
    yield "patches of the candidates", detector, "crop_and_resize_fast"
    yield "R-Net", estimator.detector._rnet, "run"
    yield "O-Net", estimator.detector._onet, "run"
    yield "cutting the face out", faces, "crop"
    yield "mini-Xception", estimator.classifier, "predict"
    yield "row for the prediction log", Observation, "of"


class _Stopwatch:
    """Time by step, that of a step which runs within another counted for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does what `run` does, and counts its time."""

        @wraps(run)
        def counted(*args: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return run(*args, **options)
            finally:
                taken = time.perf_counter() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + taken - self._inner.pop()
                self._inner[-1] += taken

        return counted


def measure(bundle: Path, frames: list[tuple[int, int]], *, turns: int) -> list[dict[str, Any]]:
    """Profile estimates of JPEG frames with one face.

    Args:
        bundle: holds detector and classifier.
        frames: widths and heights.
        turns: estimates of each frame.

    Returns:
        A record for each frame: `frame`, `median_ms` of a whole estimate with its row for the log, and `steps`, the
        median of each in milliseconds, in the order of their work.
    """
    estimator = MoodEstimator(FaceDetector(bundle / "detector", threads=1), MoodClassifier(bundle / "classifier"))
    return [_profile(estimator, frame, turns) for frame in frames]


def _profile(estimator: MoodEstimator, frame: tuple[int, int], turns: int) -> dict[str, Any]:
    data = as_jpeg(scene(*frame, 1).pixels)
    taken: list[dict[str, float]] = []
    for _ in range(turns + 1):  # the first is to warm up
        watch = _Stopwatch()
        with ExitStack() as stack:
            for name, owner, attribute in steps(estimator):
                stack.enter_context(mock.patch.object(owner, attribute, watch.timed(name, getattr(owner, attribute))))
            watch.timed(BETWEEN, _estimate)(estimator, data)
        taken.append(watch.seconds)
    table = np.array([[one[name] for name in taken[-1]] for one in taken[1:]]) * 1e3
    medians = dict(zip(taken[-1], np.median(table, axis=0).round(3).tolist(), strict=True))
    return {
        "frame": f"{frame[0]}x{frame[1]}",
        "turns": turns,
        "median_ms": round(float(np.median(table.sum(axis=1))), 3),
        "steps": {name: medians[name] for name in [*(name for name, *_ in steps(estimator)), BETWEEN]},
    }


def _estimate(estimator: MoodEstimator, data: bytes) -> None:
    def log(frame: Any, estimate: Any) -> None:
        Observation.of(frame, estimate, model_version="0", seconds=0.0)

    estimator.estimate(data, inspect=log)
