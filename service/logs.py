"""The worker's log while it serves: few lines, whatever is sent, and none that quotes it.

Libraries log what they cannot read, byte by byte; with a line for each request, anybody could fill a disk.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

MAX_LINES: Final[int] = 5
"""Most lines that a place in the code may log within `WINDOW_SECONDS`."""

WINDOW_SECONDS: Final[float] = 60.0

_MAX_CHARACTERS: Final[int] = 2_000
_OWN: Final[str] = __name__.partition(".")[0]

_logger = logging.getLogger(__name__)


def kind_and_place(error: BaseException) -> str:
    """What is wrong and where, without the error's message, which may quote the data that was being read."""
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__qualname__} at {' > '.join(places)}"


class LogGuard(logging.Filter):
    """Limits the lines of each place in the code, and what a line may say.

    The service's own messages are written to quote nothing. Of a library's warnings and errors only the part that
    stands in its source is kept: the format, not its values; the kind and place of an exception, not its message.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._places: dict[tuple[str, int], tuple[float, int]] = {}  # start of the window, lines since then
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; it is changed to what may be said."""
        dropped = self._count((record.pathname, record.lineno))
        if dropped is None:
            return False
        message = _message(record)
        if record.exc_info and record.exc_info[1]:
            message = f"{message}: {kind_and_place(record.exc_info[1])}"
        if dropped:
            message = f"{message} ({dropped} more like this were not logged)"
        record.msg, record.args, record.exc_info, record.exc_text, record.stack_info = message, (), None, None, None
        return True

    def _count(self, place: tuple[str, int]) -> int | None:
        """Number of lines that were dropped in the last window; None if this line is to be dropped, too."""
        now = self._clock()
        with self._lock:
            start, lines = self._places.get(place, (now, 0))
            if now >= start + WINDOW_SECONDS:
                self._places[place] = (now, 1)
                return max(0, lines - MAX_LINES)
            self._places[place] = (start, lines + 1)
            return None if lines >= MAX_LINES else 0


def _message(record: logging.LogRecord) -> str:
    if record.levelno < logging.WARNING or record.name.partition(".")[0] == _OWN:
        return record.getMessage()[:_MAX_CHARACTERS]
    told = str(record.msg) if record.args else "a message that may quote a request"
    return f"{record.name}, {Path(record.pathname).name}:{record.lineno}: {told}"[:_MAX_CHARACTERS]


def guard() -> None:
    """Limit the log from now on; what happens before, at the start, is told in full."""
    shared = LogGuard()
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        handler.addFilter(shared)
    logging.getLogger("uvicorn.error").handlers.clear()  # BentoML's logs it twice: there, and at the root
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings are about clients' mistakes
    warnings.simplefilter("ignore")  # Pillow's quote the image
    threading.excepthook = lambda hook: _fault(hook.exc_value)
    sys.unraisablehook = lambda hook: _fault(hook.exc_value)


def _fault(error: Any) -> None:
    _logger.error("A fault outside of a request: %s", kind_and_place(error) if error else "unknown")
