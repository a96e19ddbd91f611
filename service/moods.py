"""The vocabulary of the system: the four moods, in the one order used in arrays, files and JSON."""

from __future__ import annotations

from typing import Final

MOODS: Final[tuple[str, ...]] = ("positive", "negative", "neutral", "other")
"""Names of the moods; the index of a name is its index on every probability axis."""
