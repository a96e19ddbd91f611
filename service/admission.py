"""Admission control: limits on what a worker holds and on how long an image waits, so that overload is refused at once.

`Buffer` limits the bytes of requests that are still being received; `Admission` limits the waiting time of images that
have arrived. A slow sender therefore takes no place in the queue. `Rate` limits how often something may happen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import anyio

from service.errors import MeaaError, OverloadedError, StoppedError

T = TypeVar("T")

_LARGE_BODY: Final[int] = 1_000_000  # bytes

_WATCH_SECONDS: Final[float] = 0.2
"""Time between two looks whether somebody still waits for work that can be stopped."""

_LATEST_WEIGHT: Final[float] = 0.2
"""Weight of the latest image in the exponential moving average of the seconds per image."""


class Rate:
    """A token bucket: so many events a second, and some seconds' worth of them at once."""

    def __init__(self, per_second: float, now: float, *, burst_seconds: float = 5.0) -> None:
        """A full bucket.

        Args:
            per_second: Events that are allowed in a second.
            now: Time now, in seconds.
            burst_seconds: Time over which the rate is averaged, in seconds: what a line held up arrives at once.
        """
        self._per_second = per_second
        self._most = max(1.0, per_second * burst_seconds)
        self._left = self._most
        self._time = now

    def allows(self, now: float) -> bool:
        """Count an event; whether it is allowed."""
        self._left = min(self._most, self._left + (now - self._time) * self._per_second)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Buffer:
    """A limit on the bytes of all request bodies that a worker holds."""

    def __init__(self, max_bytes: int, *, after_large: Callable[[], None] = lambda: None) -> None:
        """An empty buffer.

        Args:
            max_bytes: Most bytes of all bodies together.
            after_large: Function that is called after a body of more than a megabyte has been given up.
        """
        self._free = max_bytes
        self._after_large = after_large

    def take(self, count: int) -> None:
        """Take room for some bytes.

        Raises:
            OverloadedError: There is none.
        """
        if count > self._free:
            raise OverloadedError("Too many uploads are being received. Try again in a moment.")
        self._free -= count

    def give_up(self, count: int) -> None:
        """Give up the room of one body or message, in bytes."""
        self._free += count
        if count > _LARGE_BODY:
            self._after_large()

    @contextmanager
    def lease(self) -> Iterator[Callable[[int], None]]:
        """Room for one body until its request ends.

        Yields:
            Function to call with the number of bytes of each chunk before it is kept; it raises OverloadedError if
            the buffer is full.
        """
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            self.take(count)
            held += count

        try:
            yield hold
        finally:
            self.give_up(held)


class Admission:
    """A queue for a few threads, which refuses work whose expected waiting time is too long.

    It is used from one event loop; only the work itself runs in threads.
    """

    def __init__(self, *, threads: int, max_queue: int, max_wait: float, expected: float = 0.0) -> None:
        """An empty queue.

        Args:
            threads: Number of pieces of work done in parallel.
            max_queue: Most pieces of work in the queue, including those being done.
            max_wait: Longest expected waiting time of a piece of work, in seconds.
            expected: Expected time of a piece of work, in seconds, before any was done.
        """
        self._threads = anyio.CapacityLimiter(threads)
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._present = 0
        self._seconds = expected  # moving average per piece of work

    def check(self) -> None:
        """Check whether one more piece of work would be admitted now; to be called before an upload is read.

        Raises:
            OverloadedError: It would be refused.
        """
        threads = int(self._threads.total_tokens)
        ahead = self._present - threads + 1  # pieces of work to finish before it gets a thread
        if self._present >= self._max_queue or ahead * self._seconds / threads > self._max_wait:
            raise OverloadedError("Too many requests are waiting. Try again in a moment.")

    async def run(
        self,
        work: Callable[[], T],
        *,
        given_up: Callable[[], Awaitable[bool]],
        stop: Callable[[], None] | None = None,
    ) -> T | None:
        """Do work in a thread when its turn comes.

        The event loop goes on serving meanwhile: NumPy, OpenCV, Pillow and ONNX Runtime release the GIL.

        Args:
            work: Function that does the work.
            given_up: Function that tells whether nobody waits for the result any more; called when the turn comes,
                and again and again if there is a function to stop the work.
            stop: Function that makes the work raise StoppedError soon.

        Returns:
            The result of the work; None if it was given up.

        Raises:
            OverloadedError: The queue is full, or the expected waiting time is too long.
        """
        self.check()
        self._present += 1
        try:
            async with self._threads:
                if await given_up():
                    return None
                box: list[Any] = [work]
                started = time.perf_counter()
                watch = None if stop is None else asyncio.create_task(_watch(given_up, stop))
                try:
                    await anyio.to_thread.run_sync(_exchange, box)
                finally:
                    if watch is not None:
                        watch.cancel()
                    self._seconds += _LATEST_WEIGHT * (time.perf_counter() - started - self._seconds)
        finally:
            self._present -= 1
        outcome = box.pop()
        if isinstance(outcome, StoppedError):
            return None
        if isinstance(outcome, MeaaError):
            try:
                raise outcome
            finally:
                del outcome  # its traceback holds this frame, and this frame the work: a cycle would keep the image
        result: T = outcome
        return result


def _exchange(box: list[Any]) -> None:
    """Replace the work in a box by its result, or by the error that it raised.

    A thread keeps what it was given and what it has returned until it has other work: an image would stay in memory by
    way of the function, or of the frames in the error's traceback. It keeps the box, which is emptied.
    """
    work = box.pop()
    try:
        box.append(work())
    except (MeaaError, StoppedError) as error:
        error.__traceback__ = error.__context__ = error.__cause__ = None
        box.append(error)


async def _watch(given_up: Callable[[], Awaitable[bool]], stop: Callable[[], None]) -> None:
    """Stop work as soon as nobody waits for it."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if await given_up():
            stop()
