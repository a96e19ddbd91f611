"""What the C library does with freed memory. By default glibc keeps it: large blocks too, once some have been freed."""

from __future__ import annotations

import asyncio
from typing import Final

from service import c_library

_LARGE_BLOCK: Final[int] = 8 << 20
"""Size in bytes from which on a block is the system's again as soon as it is freed. Ordinary frames have smaller ones,
which would get slower: the system hands out each page anew."""

_FREE_END: Final[int] = 16 << 20
"""Free bytes at the end of the heap above which they are given back. With glibc's 128 kB a frame would take up to a
tenth longer (measured)."""

_PAUSE: Final[float] = 1.0
"""Seconds between two calls of `malloc_trim`, which takes some milliseconds."""

_ARENAS: Final[int] = 2
"""Most heaps: each thread with one of its own would keep free memory of its own."""

# Parameters of `mallopt` (malloc.h).
_M_TRIM_THRESHOLD: Final[int] = -1
_M_MMAP_THRESHOLD: Final[int] = -3
_M_ARENA_MAX: Final[int] = -8


def configure() -> None:
    """Have freed memory given back to the system soon; only glibc needs it."""
    mallopt = c_library.function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _FREE_END)
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give all free memory back to the system; only glibc needs it."""
    malloc_trim = c_library.function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


class Trimmer:
    """Gives free memory back after large requests, at most once a second; for one event loop."""

    def __init__(self) -> None:
        self._due = False

    def schedule(self) -> None:
        """Give memory back in a second, unless that is due already."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_PAUSE, self._start)

    def _start(self) -> None:
        self._due = False
        asyncio.get_running_loop().run_in_executor(None, give_back)
