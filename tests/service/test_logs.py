"""The log while the service serves: few lines, whatever is sent, and none that quotes it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.logs import MAX_LINES, WINDOW_SECONDS, LogGuard
from tests.conftest import ROOT

SECRET = "meaa-secret-61d0"


class Log:
    """A guarded log.

    Attributes:
        lines: What it has logged.
        now: The time, in seconds.
    """

    def __init__(self, name: str) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.logger = logging.getLogger(name)
        self.handler = logging.StreamHandler()
        self.handler.emit = lambda record: self.lines.append(self.handler.format(record))  # type: ignore[method-assign]
        self.handler.addFilter(LogGuard(lambda: self.now))
        self.logger.addHandler(self.handler)

    def warn(self, times: int) -> None:
        """Log a warning from one place in the code."""
        for _ in range(times):
            self.logger.warning("a request of %d bytes", 7)

    def fail(self) -> None:
        """Log an error that quotes data."""
        try:
            raise ValueError(SECRET)
        except ValueError:
            self.logger.exception(f"failed on {SECRET}")  # as libraries do


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    log = Log(getattr(request, "param", "library"))
    yield log
    log.logger.removeHandler(log.handler)


def test_a_place_in_the_code_logs_a_few_lines_a_minute_and_then_how_many_were_left_out(log: Log) -> None:
    log.warn(1000)
    assert len(log.lines) == MAX_LINES
    log.now = WINDOW_SECONDS
    log.warn(1000)
    assert len(log.lines) == 2 * MAX_LINES
    assert log.lines[MAX_LINES].endswith(f"({1000 - MAX_LINES} more like this were not logged)")
    assert "more like this" not in log.lines[MAX_LINES + 1]


def test_other_places_are_not_affected(log: Log) -> None:
    log.warn(1000)
    log.fail()
    assert len(log.lines) == MAX_LINES + 1


def test_what_a_library_says_about_data_is_left_out(log: Log) -> None:
    log.fail()
    log.logger.warning("expected %r, got %r", "-", SECRET)
    failed, warned = log.lines
    assert SECRET not in failed + warned
    assert "ValueError at test_logs.py:" in failed
    assert "Traceback" not in failed
    assert "expected %r, got %r" in warned


@pytest.mark.parametrize("log", ["service.service"], indirect=True)
def test_the_services_own_messages_are_told_but_no_exceptions(log: Log) -> None:
    log.warn(1)
    log.logger.warning("failed", exc_info=ValueError(SECRET))
    assert log.lines == ["a request of 7 bytes", "failed: ValueError at "]


def test_a_line_is_short(log: Log) -> None:
    log.logger.info("x" * 100_000)
    log.logger.warning("x" * 100_000 + "%s", "y")
    assert all(len(line) < 3_000 for line in log.lines)


def test_faults_in_threads_and_destructors_and_warnings_say_nothing_either() -> None:
    program = f"""
import logging, threading, warnings
from service import logs
logging.basicConfig()
logs.guard()
def fail(*_):
    raise ValueError({SECRET!r})
thread = threading.Thread(target=fail)
thread.start()
thread.join()
type("Broken", (), {{"__del__": fail}})()
warnings.warn({SECRET!r})
logging.getLogger("python_multipart.multipart").warning({SECRET!r})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert SECRET not in done.stdout + done.stderr
    assert done.stderr.count("ValueError at ") == 2
    assert len(done.stderr.splitlines()) == 2
