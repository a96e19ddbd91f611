"""Who is let in: bounds on what a worker holds and on how long an image waits, so that overload is answered at once.

Requests that are still being received are bounded by their bytes (`Buffer`), images that are there by the time they
would wait (`Admission`). A client that sends slowly therefore takes no place from those that do not.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import anyio

from service.errors import OverloadedError

T = TypeVar("T")

_MEMORY: Final[float] = 0.2
"""Weight of the latest image in the moving average of the seconds that one takes."""


class Buffer:
    """The bytes of all request bodies that a worker holds."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes

    @contextmanager
    def lease(self) -> Iterator[Callable[[int], None]]:
        """Room for a body as long as the request lasts.

        Yields:
            What to call with the number of bytes of each chunk before it is kept; raises OverloadedError where the
            buffer is full.
        """
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            if count > self._free:
                raise OverloadedError("Too many uploads are being received. Try again in a moment.")
            self._free -= count
            held += count

        try:
            yield hold
        finally:
            self._free += held


class Admission:
    """A queue for a few threads, with an end that is drawn where waiting would take too long.

    Used from one event loop; the work alone runs in threads.
    """

    def __init__(self, *, threads: int, max_queue: int, max_wait: float) -> None:
        """An empty queue.

        Args:
            threads: pieces of work done at once.
            max_queue: pieces of work that may wait or be done at once.
            max_wait: seconds that a piece of work may be expected to wait.
        """
        self._threads = anyio.CapacityLimiter(threads)
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._present = 0
        self._seconds = 0.0  # that a piece of work takes; a moving average

    def check(self) -> None:
        """Whether one more would be let in now; to be asked before an upload is read.

        Raises:
            OverloadedError: it would not.
        """
        threads = int(self._threads.total_tokens)
        ahead = self._present - threads + 1  # how many must be done before it has a thread
        if self._present >= self._max_queue or ahead * self._seconds / threads > self._max_wait:
            raise OverloadedError("Too many requests are waiting. Try again in a moment.")

    async def run(self, work: Callable[[], T], *, given_up: Callable[[], Awaitable[bool]]) -> T | None:
        """Do work in a thread, when its turn comes.

        In a thread, so that the event loop goes on answering: NumPy, OpenCV, Pillow and ONNX Runtime release the GIL.

        Args:
            work: what is to be done.
            given_up: asked when its turn has come; whether nobody waits for the result any more.

        Returns:
            What the work returns; None where it was given up.

        Raises:
            OverloadedError: there is no place for it.
        """
        self.check()
        self._present += 1
        try:
            async with self._threads:
                if await given_up():
                    return None
                started = time.perf_counter()
                try:
                    return await anyio.to_thread.run_sync(work)
                finally:
                    self._seconds += _MEMORY * (time.perf_counter() - started - self._seconds)
        finally:
            self._present -= 1
