"""The parameters of requests, beside the images: from text to checked values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import QueryParams

from service.errors import InvalidParameterError

MAX_FACES: Final[int] = 16
"""Most people in a response."""

DEFAULT_FACES: Final[int] = 5
"""People in a response that is to have all, if the request does not say how many."""

MAX_IMAGES: Final[int] = 32
"""Most images of a request with several frames."""

DEFAULT_STEP: Final[float] = 0.5
"""Time between two frames, in seconds, if the request names no times."""

_LARGEST: Final[int] = 100_000
"""Largest coordinate of a box, in pixels: no image has such a side."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,7}(\.[0-9]{0,20})?")
_TIME: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{0,20})?")
_COUNT: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Box:
    """A place in an image, in whole pixels of the upright image; it may reach beyond the image."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Options:
    """What a client asks for beside the mood.

    Attributes:
        people: Most people that the response lists; None if it is to list none.
        box: Where the face is, as far as the client knows.
    """

    people: int | None = None
    box: Box | None = None

    @classmethod
    def of(cls, query: QueryParams) -> Options:
        """The options in a query; names that are unknown are ignored.

        Raises:
            InvalidParameterError: A parameter cannot be read, is out of its range, or is there twice.
        """
        for name in ("faces", "max_faces", "box"):
            if len(query.getlist(name)) > 1:
                raise InvalidParameterError(f"The parameter {name!r} is there twice. Send it once.")
        faces, count = query.get("faces"), query.get("max_faces", str(DEFAULT_FACES))
        if faces not in (None, "all"):
            raise InvalidParameterError("The parameter 'faces' is not 'all'. Send faces=all, or leave it out.")
        if not _COUNT.fullmatch(count) or not 1 <= int(count) <= MAX_FACES:
            raise InvalidParameterError(f"The parameter 'max_faces' is no whole number from 1 to {MAX_FACES}.")
        box = query.get("box")
        return cls(int(count) if faces else None, None if box is None else _read_box(box))


def _read_box(text: str) -> Box:
    """A box.

    Raises:
        InvalidParameterError: The text is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 4 and all(map(_NUMBER.fullmatch, parts)):
        x, y, width, height = (round(float(part)) for part in parts)
        if max(abs(x), abs(y)) <= _LARGEST and min(width, height) >= 1 and max(width, height) <= _LARGEST:
            return Box(x, y, width, height)
    raise InvalidParameterError(
        "The parameter 'box' is not x,y,width,height: four numbers in pixels of the upright image, "
        "width and height at least 1."
    )


def read_times(text: str | None, count: int, latest: float | None) -> Sequence[float]:
    """The times of frames, in seconds.

    Args:
        text: Numbers, separated by commas; None for frames that are `DEFAULT_STEP` apart.
        count: Number of frames.
        latest: Time of the latest frame before them; None if there is none.

    Raises:
        InvalidParameterError: The text is not as many rising numbers, or they begin before the latest frame.
    """
    if text is None:
        start = 0.0 if latest is None else latest + DEFAULT_STEP
        return [start + index * DEFAULT_STEP for index in range(count)]
    parts = [part.strip() for part in text.split(",", MAX_IMAGES)]
    if len(parts) != count or not all(map(_TIME.fullmatch, parts)):
        raise InvalidParameterError(
            f"The field 'times' is not {count} numbers, one for each image: seconds, separated by commas."
        )
    times = [float(part) for part in parts]
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        raise InvalidParameterError("The field 'times' does not rise: send the images in order of time.")
    if latest is not None and times[0] <= latest:
        raise InvalidParameterError(
            f"The field 'times' begins at {times[0]:g}; the session is at {latest:g} seconds already."
        )
    return times
