"""Memory of a server's worker, for the benchmarks and the tests of the API."""

from __future__ import annotations

import threading
from typing import Final

import psutil

from benchmarks.server import RunningServer

_PAUSE: Final = 0.02
"""Seconds between two measurements."""


class MemoryWatch:
    """Watches the memory of a server's only worker together with the processes that it has started.

    A page that several of them share counts once (Linux's proportional set size): a process that is just being started
    shares all pages of the worker. Other systems do not tell, and the resident size is taken.

    Attributes:
        before: Memory at the beginning, in millions of bytes.
        peak: Most memory since, in millions of bytes.
    """

    def __init__(self, server: RunningServer) -> None:
        (self._worker,) = server.workers()
        self.before = self.peak = self.now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def now(self) -> float:
        """Memory now, in millions of bytes."""
        total = 0
        for process in (self._worker, *self._worker.children(recursive=True)):
            try:
                memory = process.memory_full_info()
            except psutil.Error:  # it has just ended
                continue
            total += getattr(memory, "pss", memory.rss)
        return total / 1e6

    def _watch(self) -> None:
        while not self._ended.wait(_PAUSE):
            self.peak = max(self.peak, self.now())
