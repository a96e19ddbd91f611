"""Probable causes of drift, in words, from the columns that have drifted; and the time of its onset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.comparison import ColumnDrift
from service.moods import MOODS
from service.observation import PROBABILITIES


@dataclass(frozen=True)
class Cause:
    """A probable cause.

    Attributes:
        name: Stable name for machines.
        title: Short title for people.
        explanation: The change in numbers, and what usually causes it.
        column: Column that shows it best.
    """

    name: str
    title: str
    explanation: str
    column: str


@dataclass(frozen=True)
class _Change:
    """Meaning of a column's shift in one direction: name and title of the cause, and what usually causes it."""

    name: str
    title: str
    guess: str


_APPEARANCE: Final[dict[str, tuple[str, _Change, _Change]]] = {
    "frame_height": (
        "height of the frames in pixels",
        _Change("lower_resolution", "Smaller frames", "a camera or an app that sends fewer pixels"),
        _Change("higher_resolution", "Larger frames", "another camera, or an app that sends more pixels"),
    ),
    "face_share": (
        "size of the faces as a share of the frame",
        _Change("smaller_faces", "Smaller faces", "people are farther away, or the lens is wider"),
        _Change("larger_faces", "Larger faces", "people are nearer, or the frame is cropped"),
    ),
    "brightness": (
        "brightness of the faces (0 to 1)",
        _Change("darker", "Darker faces", "a dark room, backlight, or a shorter exposure"),
        _Change("brighter", "Brighter faces", "strong light, or a longer exposure"),
    ),
    "sharpness": (
        "sharpness of the faces",
        _Change("blurred", "Blurred faces", "a dirty or unfocused lens, motion, strong compression, or digital zoom"),
        _Change("sharper", "Sharper or noisier faces", "a better lens, sharpening in the camera, or noise"),
    ),
    "warmth": (
        "warmth of the faces' colours (red against blue)",
        _Change("colour_cast", "A cool colour cast", "other light, the glow of a screen, or a wrong white balance"),
        _Change("colour_cast", "A warm colour cast", "lamp light, or a wrong white balance"),
    ),
    "tint": (
        "tint of the faces' colours (green against magenta)",
        _Change("colour_cast", "A magenta colour cast", "other light, or a wrong white balance"),
        _Change("colour_cast", "A green colour cast", "fluorescent light, or a wrong white balance"),
    ),
    "colourfulness": (
        "colourfulness of the faces",
        _Change("less_colour", "Paler colours", "a camera that saturates less, or grey images"),
        _Change("more_colour", "Stronger colours", "a camera that saturates more, or a grey reference"),
    ),
    "contrast": (
        "contrast of the faces",
        _Change("flatter", "Less contrast", "haze on the lens, or diffuse light"),
        _Change("harsher", "More contrast", "hard light from one side"),
    ),
}
"""Columns that describe the image: phrase, and meaning of shifts down and up. Among equal shifts the first leads."""

_COLOURS: Final = ("warmth", "tint", "colourfulness")
_CERTAINTY: Final = ("confidence", "entropy")
_MAIN_SHARE: Final = 0.6  # of the largest shift: columns below are side effects rather than further causes


def name_causes(columns: Sequence[ColumnDrift]) -> list[Cause]:
    """Probable causes of the drifted columns, the most probable first; empty if no column has drifted.

    A changed image changes the predictions too, so moods and confidence count only if no image column has drifted.
    Image columns count only if they have shifted nearly as far as the one that has shifted furthest.
    """
    drifted = {column.column: column for column in columns if column.drifted}
    causes = []
    images = sorted((drifted[name] for name in _APPEARANCE if name in drifted), key=_strength, reverse=True)
    if "frame_width" in drifted and "frame_height" not in drifted:
        causes.append(
            _cause(
                drifted["frame_width"],
                "width of the frames in pixels",
                _Change("other_shape", "Frames of another shape", "another camera, or a rotated one"),
            )
        )
    elif images:
        main = [column for column in images if _strength(column) >= _MAIN_SHARE * _strength(images[0])]
        # The three colour columns share one cause; warmth and tint describe it better than colourfulness.
        coloured = [column for column in main if column.column in _COLOURS]
        coloured.sort(key=lambda column: (column.column != "colourfulness", abs(column.shift)), reverse=True)
        causes += [_of_appearance(column) for column in main if column not in coloured[1:]]
    if "outcome" in drifted:
        causes.append(_of_outcome(drifted["outcome"]))
    if not causes and any(name in drifted for name in (*PROBABILITIES, "mood")):
        causes.append(_of_moods(drifted, columns))
    if not causes and any(name in drifted for name in _CERTAINTY):
        causes.append(_of_certainty(next(drifted[name] for name in _CERTAINTY if name in drifted)))
    if not causes and drifted:
        column = next(iter(drifted.values()))
        change = _Change("detection", "Different face detections", "more people in the image, or turned heads")
        causes.append(_cause(column, column.column.replace("_", " "), change))
    return causes


def onset(reference: pd.Series, current: pd.Series, shift: float) -> int:
    """Position of the first drifted row: the start of the suffix with the largest sum of evidence (CUSUM).

    Page, "Continuous inspection schemes", Biometrika 1954, with the size of the change estimated from the data.

    Args:
        reference: Reference values.
        current: Live values, oldest first.
        shift: Direction of the drift by its sign; ignored for categories.

    Returns:
        Index into `current` without missing values.
    """
    reference, current = reference.dropna(), current.dropna()
    if pd.api.types.is_numeric_dtype(reference):
        ordered = np.sort(reference.to_numpy())
        left, right = (np.searchsorted(ordered, current, side=side) for side in ("left", "right"))
        moved = np.sign(shift) * ((left + right) / 2 / len(ordered) - 0.5)
        largest = float(max(part.mean() for part in np.array_split(moved, 3) if len(part)))
        evidence: NDArray[np.float64] = moved - largest / 2
    else:
        kinds = sorted({*reference, *current})
        late = current.iloc[-max(1, len(current) // 3) :]
        before, after = (
            (values.value_counts().reindex(kinds, fill_value=0) + 1) / (len(values) + len(kinds))
            for values in (reference, late)
        )
        evidence = current.map(np.log(after / before)).to_numpy(dtype=np.float64)
    return int(np.argmax(np.cumsum(evidence[::-1])[::-1]))


def _strength(column: ColumnDrift) -> float:
    """Absolute shift; among equal shifts the earlier column of `_APPEARANCE` is stronger."""
    return abs(column.shift) + 0.001 * (len(_APPEARANCE) - list(_APPEARANCE).index(column.column))


def _cause(column: ColumnDrift, what: str, change: _Change) -> Cause:
    """Cause of a numerical column's drift."""
    medians = f"The median {what} went from {column.reference:.3g} to {column.current:.3g}."
    return Cause(change.name, change.title, f"{medians} Possible causes: {change.guess}.", column.column)


def _of_appearance(column: ColumnDrift) -> Cause:
    what, down, up = _APPEARANCE[column.column]
    return _cause(column, what, up if column.shift > 0 else down)


def _of_outcome(column: ColumnDrift) -> Cause:
    before, after = (_share(shares, "no_face") for shares in (column.reference, column.current))
    return Cause(
        "no_face",
        "More frames without a face",
        f"No face was found in {after:.1%} of the frames, {before:.1%} in the reference. Possible causes: nobody in the"
        " image, or faces that the detector misses because they are dark, small, covered or turned away.",
        "outcome",
    )


def _of_moods(drifted: dict[str, ColumnDrift], columns: Sequence[ColumnDrift]) -> Cause:
    mood = next(column for column in columns if column.column == "mood")
    before, after = ({key: _share(shares, key) for key in MOODS} for shares in (mood.reference, mood.current))
    more, less = (
        max(MOODS, key=lambda key: after[key] - before[key]),
        min(MOODS, key=lambda key: after[key] - before[key]),
    )
    changes = " and ".join(f"{key} from {before[key]:.0%} to {after[key]:.0%}" for key in (more, less))
    return Cause(
        "mood_mix",
        f"Other moods: more {more}, less {less}",
        f"The share of {changes} of the predictions. The images look as before. Possible causes: other people, another "
        "use, or patients who feel different.",
        "mood" if "mood" in drifted else next(name for name in PROBABILITIES if name in drifted),
    )


def _of_certainty(column: ColumnDrift) -> Cause:
    surer = (column.shift > 0) == (column.column == "confidence")
    guess = "images and moods are as before, so other people, or covered faces"
    title = "The model is more confident" if surer else "The model is less confident"
    return _cause(column, f"{column.column} of the predictions", _Change("certainty", title, guess))


def _share(shares: float | dict[str, float], key: str) -> float:
    """Share of a category; 0 if it does not occur."""
    return shares.get(key, 0.0) if isinstance(shares, dict) else 0.0
