"""The prediction log: a JSON line per answered picture, for `monitoring`. It holds no part of any image.

Rows go through `bentoml.monitor`, so that BentoML's configuration can send them elsewhere (type `otlp`). The default is
`PredictionLog`, not BentoML's own files: those are rotated by each process on its own, so that two that share one, as
the old and the new worker of a restart do, overwrite each other's; and a directory that cannot be written fails the
request.
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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.monitoring.base import MonitorBase

from service.estimator import MoodEstimate
from service.images import Frame
from service.metrics import LOG_FAILURES
from service.observation import Observation

MONITOR: Final[str] = "predictions"

_DAILY: Final = re.compile(r"predictions-(\d{4}-\d{2}-\d{2})\.jsonl")
_ROLES: Final = {"mood": "prediction"}

_logger = logging.getLogger(__name__)


class PredictionLog(MonitorBase[Any]):
    """Appends rows to files that several workers share; a failure costs the row, not the request.

    A row is in the file before its request is answered, so that no end of a worker loses one.
    """

    def __init__(self, name: str, path: str, days: int | None = None, **_: Any) -> None:
        """Nothing is opened yet.

        Args:
            name: of the monitor.
            path: a directory, which gets a file for each day (UTC) and is made if need be; or a file, a pipe or a
                device, where the name has a suffix or the path is no directory.
            days: files of a directory that are older are deleted; None keeps them.
        """
        super().__init__(name)
        self._path = Path(path)
        self._days = days
        self._today: date | None = None
        self._warned = False

    def export_schema(self, columns_schema: dict[str, dict[str, str]]) -> None:
        """Nothing: the schema is `Observation`."""

    def export_data(self, datas: dict[str, deque[Any]]) -> None:
        """Append the rows that were recorded. Where that fails, count it, and warn the first time."""
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
        """Where the line goes; on the first one of a day old files are deleted."""
        if self._path.suffix or (self._path.exists() and not self._path.is_dir()):
            return self._path
        today = datetime.now(UTC).date()
        if today != self._today:
            self._path.mkdir(parents=True, exist_ok=True)
            if self._days is not None:
                _delete_before(self._path, today - timedelta(days=self._days))
            self._today = today
        # A new day has a new name, so that nothing has to be moved under the hands of other workers.
        return self._path / f"predictions-{today}.jsonl"

    def _append(self, line: bytes) -> None:
        """Append a whole line, or nothing.

        Raises:
            OSError: it could not be written.
        """
        # Opened anew for each line, so that log rotation needs no signal; a pipe that nobody reads must not block.
        descriptor = os.open(self._file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # lines of several workers do not mix, and half a line can go again
            written = os.write(descriptor, line)
            if written < len(line):
                with contextlib.suppress(OSError):  # a pipe has no end to cut off
                    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_END) - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def enabled() -> bool:
    """Whether rows are wanted, by the service's settings or by BentoML's configuration."""
    return bool(BentoMLContainer.config.monitoring.enabled.get())


def record(frame: Frame, estimate: MoodEstimate | None, *, model_version: str, seconds: float) -> None:
    """Give the row of a request to the monitor that BentoML is configured to have; see `Observation.of`.

    Whatever goes wrong costs the row, and is counted.
    """
    try:
        row = Observation.of(frame, estimate, model_version=model_version, seconds=seconds)
        # In a context of its own: a monitor that raises leaves BentoML's variables set, and fails every row after.
        contextvars.copy_context().run(_monitor, row)
    except Exception as error:
        LOG_FAILURES.inc()
        _logger.warning("A prediction could not be logged: %s", type(error).__qualname__)


def _monitor(row: Observation) -> None:
    """Give a row to the monitor."""
    with bentoml.monitor(MONITOR) as monitor:
        for name, value in vars(row).items():
            kind = "numerical" if isinstance(value, int | float) else "categorical"
            monitor.log(value, name, _ROLES.get(name, "feature"), kind)


def _delete_before(directory: Path, first: date) -> None:
    """Delete the daily files of a directory from before a day; one that another worker was quicker to is no matter."""
    for path in directory.iterdir():
        named = _DAILY.fullmatch(path.name)
        if named and date.fromisoformat(named[1]) < first:
            with contextlib.suppress(OSError):
                path.unlink()
