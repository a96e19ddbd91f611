"""The prediction log: one JSON line per prediction, for drift monitoring. It holds no part of any image."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from service.estimator import MoodEstimate
from service.metrics import LOG_FAILURES

_logger = logging.getLogger(__name__)


class Prediction(BaseModel):
    """A line of the log.

    Attributes:
        time: when the mood was estimated, UTC.
        request: random; tells lines apart and leads to nobody.
        mood: see `MoodEstimate`.
        probabilities: by mood.
        face_width: of the face's box, in pixels.
        face_height: of the face's box, in pixels.
        confidence: of the detector, in [0, 1].
        faces: how many the image showed.
        model_version: of the classifier.
    """

    model_config = ConfigDict(frozen=True)

    time: AwareDatetime
    request: str
    mood: str
    probabilities: dict[str, float]
    face_width: int
    face_height: int
    confidence: float
    faces: int
    model_version: str

    @classmethod
    def of(cls, estimate: MoodEstimate, model_version: str) -> Prediction:
        """The line for an estimate made just now."""
        return cls(
            time=datetime.now(UTC),
            request=uuid.uuid4().hex,
            mood=estimate.mood,
            probabilities=estimate.probabilities,
            face_width=estimate.face.width,
            face_height=estimate.face.height,
            confidence=estimate.face.confidence,
            faces=estimate.face_count,
            model_version=model_version,
        )


class PredictionLog:
    """Appends predictions to a file that several workers may share; a failure costs the line, not the request.

    A line is in the file before its request is answered, so that no end of a worker loses one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._warned = False

    def write(self, prediction: Prediction) -> None:
        """Append a line. Where that fails, count it, and warn the first time."""
        try:
            self._append((prediction.model_dump_json() + "\n").encode())
        except OSError as error:
            LOG_FAILURES.inc()
            if not self._warned:
                self._warned = True
                _logger.warning("The prediction log %s cannot be written: %s. Requests go on.", self._path, error)

    def _append(self, line: bytes) -> None:
        """Append a whole line, or nothing.

        Raises:
            OSError: it could not be written.
        """
        # Opened anew for each line, so that log rotation needs no signal; a pipe that nobody reads must not block.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # lines of several workers do not mix, and half a line can go again
            written = os.write(descriptor, line)
            if written < len(line):
                with contextlib.suppress(OSError):  # a pipe has no end to cut off
                    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_END) - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
