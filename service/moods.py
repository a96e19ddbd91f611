"""The vocabulary of the system: the four moods, in the one order used in arrays, files and JSON."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field
from typing_extensions import TypeAliasType

MOODS: Final[tuple[str, ...]] = ("positive", "negative", "neutral", "other")
"""Names of the moods; the index of a name is its index on every probability axis."""

# An alias with a name becomes a schema with that name, so that a generated client has one type for all moods.
Mood = TypeAliasType("Mood", Annotated[str, Field(json_schema_extra={"enum": list(MOODS)})])
"""Name of a mood in JSON."""


def for_each_mood(schema: dict[str, Any]) -> None:
    """Say in the JSON schema of a map that it has exactly the moods as its keys."""
    value = schema.pop("additionalProperties")
    schema |= {"properties": dict.fromkeys(MOODS, value), "required": list(MOODS), "additionalProperties": False}
