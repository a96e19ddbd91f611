"""The metrics for Prometheus. Names follow its conventions; every label has few values, whatever clients send.

BentoML's own metrics are switched off: they count by the requested address, so that a client that tries out addresses
fills the memory of the service and of Prometheus.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from service import instance

if TYPE_CHECKING:  # not needed by the process that starts the workers
    from service.classifier import ClassifierMetadata

FrameResult = Literal["answered", "lost", "failed"]

_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS: Final = Counter(
    "meaa_requests",
    "Images sent for a mood, one by one or as frames of a session, by HTTP status and problem code (`ok` if there was "
    "no problem).",
    ["status", "code"],
)
REFUSALS: Final = Counter(
    "meaa_refusals",
    "Requests to any address that were refused before the service saw them, by HTTP status: malformed, sent too "
    "slowly, with too long a head.",
    ["status"],
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
ANSWERS: Final = Counter(
    "meaa_answers",
    "Moods estimated, by whether they can be trusted: `reliable`, or the main reason why not.",
    ["reliability"],
)
SESSIONS_OPEN: Final = Gauge("meaa_sessions_open", "Live sessions that are open now.", multiprocess_mode="livesum")
SESSION_ENDS: Final = Counter(
    "meaa_session_ends",
    "Live sessions that have ended, by the code with which the service closed them; 1005 if the client left.",
    ["code"],
)
SESSION_FRAMES: Final = Counter(
    "meaa_session_frames",
    "Frames of sessions, live or uploaded: `answered`, `lost` if they do not show the session's person, or `failed`.",
    ["result"],
)
MODEL_INFO: Final = Gauge(
    "meaa_model_info",
    "The classifier that is served: always 1, with its name, the number of its release and its digest as labels.",
    ["name", "version", "digest"],
    multiprocess_mode="livemax",  # all workers together have one series; that of an ended worker goes
)
LOG_FAILURES: Final = Counter("meaa_prediction_log_failures", "Predictions that could not be written to the log.")


def prepare(
    *,
    outcomes: Iterable[tuple[int, str]],
    refusals: Iterable[int],
    stages: Iterable[str],
    moods: Iterable[str],
    reliabilities: Iterable[str],
    closes: Iterable[int],
    model: ClassifierMetadata,
) -> None:
    """Create every possible series, at zero.

    Rates are then right from the first event on, and a disk that fills up later does no harm: each worker keeps its
    metrics in memory-mapped files, and a new page that the disk has no room for would kill it.

    Args:
        outcomes: Statuses and codes of `REQUESTS`.
        refusals: Statuses of `REFUSALS`.
        stages: Stages of `STAGE_DURATION`.
        moods: Moods of `PREDICTIONS`.
        reliabilities: Values of `ANSWERS`.
        closes: Codes of `SESSION_ENDS`.
        model: Classifier of `MODEL_INFO`, whose version is also that of `PREDICTIONS`.
    """
    for status, code in outcomes:
        REQUESTS.labels(status=status, code=code)
    for status in refusals:
        REFUSALS.labels(status=int(status))
    for stage in stages:
        STAGE_DURATION.labels(stage=stage)
    for mood in moods:
        PREDICTIONS.labels(mood=mood, model_version=model.version)
    for reliability in reliabilities:
        ANSWERS.labels(reliability=reliability)
    for close in closes:
        SESSION_ENDS.labels(code=close)
    for result in get_args(FrameResult):
        SESSION_FRAMES.labels(result=result)
    MODEL_INFO.labels(name=model.name, version=model.version, digest=model.digest).set(1)


def exposition() -> tuple[bytes, str]:
    """The metrics of all workers in Prometheus' text format, and its media type."""
    directory = _directory()
    if directory is None:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    with _locked(directory, fcntl.LOCK_SH):
        return generate_latest(registry), CONTENT_TYPE_LATEST


def merge_ended() -> None:
    """Add the counts of workers that have ended up in one file for each type, and delete theirs.

    A gauge of an ended worker says nothing any more, and is deleted.

    Each worker leaves 130 kB; every scrape reads all files.
    """
    directory = _directory()
    if directory is None:
        return
    with _locked(directory, fcntl.LOCK_EX):
        for path in directory.glob("*_[0-9]*.db"):
            kind, _, pid = path.stem.rpartition("_")
            if instance.runs(int(pid)):
                continue
            if kind.startswith("gauge"):
                path.unlink()
                continue
            together = directory / f"{kind}_ended.db"
            if not together.exists():
                path.rename(together)  # takes no room on a disk that may be full
                continue
            if path.stat().st_size:  # else the worker was killed before it wrote anything
                total = MmapedDict(str(together))  # type: ignore[no-untyped-call]
                for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
                total.close()  # type: ignore[no-untyped-call]
            path.unlink()


def _directory() -> Path | None:
    """The directory of the workers' metrics; None in a process that BentoML did not start."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(directory) if directory else None


@contextlib.contextmanager
def _locked(directory: Path, lock: int) -> Iterator[None]:
    """A lock on the files, so that a scrape counts no ended worker twice."""
    with (directory / "lock").open("w") as file:
        fcntl.flock(file, lock)
        yield
