"""What the C library does with freed memory. By default glibc keeps it: large blocks too, once some have been freed."""

from __future__ import annotations

import ctypes
from typing import Any, Final

_LARGE_BLOCK: Final[int] = 4 << 20
"""Size in bytes from which on a block is the system's again as soon as it is freed. An ordinary frame has smaller ones,
which would get slower: the system hands out each page anew."""

_FREE_END: Final[int] = 16 << 20
"""Free bytes at the end of the heap above which they are given back."""

# Parameters of `mallopt` (malloc.h).
_M_TRIM_THRESHOLD: Final[int] = -1
_M_MMAP_THRESHOLD: Final[int] = -3


def configure() -> None:
    """Have freed memory given back to the system soon; only glibc needs it."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _FREE_END)


def give_back() -> None:
    """Give all free memory back to the system now, which takes some milliseconds; only glibc needs it."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    """A function of the C library; None if it has none of this name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
