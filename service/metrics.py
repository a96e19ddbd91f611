"""The metrics for Prometheus. Names follow its conventions; every label has few values, whatever clients send.

BentoML's own metrics are switched off: they count by the requested address, so that a client that tries out addresses
fills the memory of the service and of Prometheus.
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
    "Requests for a mood, by HTTP status and problem code (`ok` if there was no problem).",
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


def prepare(*, outcomes: Iterable[tuple[int, str]], stages: Iterable[str], moods: Iterable[str], version: str) -> None:
    """Create every possible series, at zero.

    Rates are then right from the first event on, and a disk that fills up later does no harm: each worker keeps its
    metrics in memory-mapped files, and a new page that the disk has no room for would kill it.

    Args:
        outcomes: Statuses and codes of `REQUESTS`.
        stages: Stages of `STAGE_DURATION`.
        moods: Moods of `PREDICTIONS`.
        version: Model version of `PREDICTIONS`.
    """
    for status, code in outcomes:
        REQUESTS.labels(status=status, code=code)
    for stage in stages:
        STAGE_DURATION.labels(stage=stage)
    for mood in moods:
        PREDICTIONS.labels(mood=mood, model_version=version)


def exposition() -> tuple[bytes, str]:
    """The metrics of all workers in Prometheus' text format, and its media type."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # set by BentoML: the directory of the workers' metrics
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
