"""What Prometheus is told at `/metrics`. Names follow its conventions; every label has few values, whoever calls.

BentoML's own figures are switched off: they count by the address as it was asked for, so that whoever tries out
addresses fills the memory of the service, and that of Prometheus.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS: Final = Counter(
    "meaa_requests",
    "Requests for a mood, by HTTP status and problem code (`ok` where there was none).",
    ["status", "code"],
)
DURATION: Final = Histogram(
    "meaa_request_duration_seconds", "Time from a request's headers to its response.", buckets=_SECONDS
)
STAGE_DURATION: Final = Histogram(
    "meaa_stage_duration_seconds",
    "Time that the stages of an estimate take: decoding, detection, classification.",
    ["stage"],
    buckets=_SECONDS,
)
FACES: Final = Counter("meaa_faces", "Faces found.")
PREDICTIONS: Final = Counter("meaa_predictions", "Moods estimated.", ["mood", "model_version"])
LOG_FAILURES: Final = Counter("meaa_prediction_log_failures", "Predictions that could not be written to the log.")


def prepare(*, answers: Iterable[tuple[int, str]], stages: Iterable[str], moods: Iterable[str], version: str) -> None:
    """Make every series that may come, at zero.

    So rates are right from the first event on; and a disk that is full later on costs nothing: each worker keeps its
    figures in files mapped into its memory, where a page that cannot be had any more would kill it.

    Args:
        answers: statuses and codes of `REQUESTS`.
        stages: of `STAGE_DURATION`.
        moods: of `PREDICTIONS`.
        version: of the model.
    """
    for status, code in answers:
        REQUESTS.labels(status=status, code=code)
    for stage in stages:
        STAGE_DURATION.labels(stage=stage)
    for mood in moods:
        PREDICTIONS.labels(mood=mood, model_version=version)


def exposition() -> tuple[bytes, str]:
    """The figures of all workers in Prometheus' text format, and the media type of that."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # BentoML says where the workers keep them
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
