"""Functions of the C library that Python does not offer."""

from __future__ import annotations

import ctypes
from typing import Any


def function(name: str) -> Any:
    """A function of the C library; None if it has none of this name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
