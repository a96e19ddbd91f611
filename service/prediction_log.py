"""The prediction log: one JSON line per processed image, for `monitoring`. It holds no part of any image.

Rows go through `bentoml.monitor`, so that BentoML's configuration can send them elsewhere (type `otlp`). The default is
`PredictionLog` instead of BentoML's own log files. Each process rotates those by itself, so that two processes that
share a file, as the old and the new worker of a restart do, overwrite each other's rows; and if the directory cannot be
written, the request fails.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import fcntl
import json
import logging
import os
import re
from collections import deque
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.monitoring.base import MonitorBase

from service.classifier import ClassifierMetadata
from service.estimator import MoodEstimate
from service.images import Frame
from service.metrics import LOG_FAILURES
from service.observation import Observation

MONITOR: Final[str] = "predictions"

_DAILY: Final = re.compile(r"predictions-(\d{4}-\d{2}-\d{2})\.jsonl(\.gz)?")
_ROLES: Final = {"mood": "prediction"}

_logger = logging.getLogger(__name__)


class PredictionLog(MonitorBase[Any]):
    """Appends rows to files that several workers share; a failure loses the row, not the request.

    A row is in the file before its response is sent, so that no row is lost when a worker ends.
    """

    def __init__(self, name: str, path: str, days: int | None = None, **_: Any) -> None:
        """A log that opens nothing yet.

        Args:
            name: Name of the monitor.
            path: Directory that gets one file per day (UTC) and is created if necessary; or a file, pipe or device,
                if the name has a suffix or the path exists and is not a directory.
            days: Age in days after which a file in the directory is deleted, see `_delete_oldest`; None keeps all.
        """
        super().__init__(name)
        self._path = Path(path)
        self._days = days
        self._hour: datetime | None = None
        self._warned = False

    def export_schema(self, columns_schema: dict[str, dict[str, str]]) -> None:
        """Do nothing: the schema is `Observation`."""

    def export_data(self, datas: dict[str, deque[Any]]) -> None:
        """Append the recorded rows. If that fails, count the failure, and warn the first time."""
        for values in zip(*datas.values(), strict=True):
            self._write((json.dumps(dict(zip(datas, values, strict=True))) + "\n").encode())

    def _write(self, line: bytes) -> None:
        try:
            self._append(line)
        except OSError as error:
            LOG_FAILURES.inc()
            if not self._warned:
                self._warned = True
                _logger.warning("The prediction log %s cannot be written: %s. Requests go on.", self._path, error)

    def _file(self) -> Path:
        """The file for the next line; before the first line of an hour the oldest file is deleted if it is too old."""
        if self._path.suffix or (self._path.exists() and not self._path.is_dir()):
            return self._path
        now = datetime.now(UTC)
        hour = now.replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self._path.mkdir(parents=True, exist_ok=True)
            self._hour = hour
            if self._days is not None:
                _delete_oldest(self._path, now.date(), self._days)
        # Each day has its own name, so that no file has to be moved while other workers write to it.
        return self._path / f"predictions-{now.date()}.jsonl"

    def _append(self, line: bytes) -> None:
        """Append a whole line, or nothing.

        Raises:
            OSError: The line could not be written.
        """
        # Opened again for each line, so that log rotation needs no signal. A pipe that nobody reads must not block.
        descriptor = os.open(self._file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # keeps workers' lines apart, and lets half a line be removed
            written = os.write(descriptor, line)
            if written < len(line):
                with contextlib.suppress(OSError):  # a pipe cannot be truncated
                    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_END) - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def enabled() -> bool:
    """Whether the service's settings or BentoML's configuration ask for a log."""
    return bool(BentoMLContainer.config.monitoring.enabled.get())


def record(
    frame: Frame,
    estimate: MoodEstimate | None,
    *,
    model: ClassifierMetadata,
    seconds: float,
    session: str | None = None,
) -> None:
    """Log the row of a request through BentoML's monitor; the arguments are those of `Observation.of`.

    Any failure loses the row, and is counted.
    """
    try:
        row = Observation.of(frame, estimate, model=model, seconds=seconds, session=session)
        # In a context of its own: a monitor that raises leaves BentoML's variables set, and all later rows would fail.
        contextvars.copy_context().run(_monitor, row)
    except Exception as error:
        LOG_FAILURES.inc()
        _logger.warning("A prediction could not be logged: %s", type(error).__qualname__)


def _monitor(row: Observation) -> None:
    """Give a row to BentoML's monitor."""
    with bentoml.monitor(MONITOR) as monitor:
        for name, value in vars(row).items():
            kind = "numerical" if isinstance(value, int | float) else "categorical"
            monitor.log(value, name, _ROLES.get(name, "feature"), kind)


def _delete_oldest(directory: Path, today: date, days: int) -> None:
    """Delete a directory's oldest daily file if it is too old.

    Its age is counted from the last day before today that has a file. On the first day after a jump of the clock
    nothing is deleted therefore; if nobody corrects the clock, one file each time from the second day on.

    Args:
        directory: Directory of the log.
        today: Today's date (UTC).
        days: Largest age, in days.
    """
    past = sorted(entry for path in directory.iterdir() if (entry := (_date(path), path))[0] < today)
    if past and (past[-1][0] - past[0][0]).days >= days:
        with contextlib.suppress(OSError):  # another worker has just deleted it
            past[0][1].unlink()


def _date(path: Path) -> date:
    """The day of a daily file; the last of all days for any other file."""
    named = _DAILY.fullmatch(path.name)
    try:
        return date.fromisoformat(named[1]) if named else date.max
    except ValueError:  # there is no such day
        return date.max
