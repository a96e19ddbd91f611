"""From columns that have drifted to what probably happened, in a person's words, and since when."""

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
    """What may have happened.

    Attributes:
        name: stable, for machines.
        title: for people, a few words.
        explanation: what moved by how much, and what that usually is.
        column: the column that shows it best.
    """

    name: str
    title: str
    explanation: str
    column: str


@dataclass(frozen=True)
class _Direction:
    """What it means that a column moved one way."""

    name: str
    title: str
    guess: str


_PICTURE: Final[dict[str, tuple[str, _Direction, _Direction]]] = {
    "frame_height": (
        "height of the frames, in pixels,",
        _Direction("lower_resolution", "Smaller frames", "A camera or an app that sends fewer pixels."),
        _Direction("higher_resolution", "Larger frames", "Another camera, or an app that sends more pixels."),
    ),
    "face_share": (
        "face's size, as a share of the frame,",
        _Direction("smaller_faces", "Smaller faces", "People are farther away, or the lens is wider."),
        _Direction("larger_faces", "Larger faces", "People are nearer, or the frame is cropped."),
    ),
    "brightness": (
        "brightness of the faces, from 0 to 1,",
        _Direction("darker", "Darker faces", "A dark room, light from behind, or a camera that exposes less."),
        _Direction("brighter", "Brighter faces", "Strong light, or a camera that exposes more."),
    ),
    "sharpness": (
        "sharpness of the faces",
        _Direction(
            "blurred", "Blurred faces", "A dirty or unfocused lens, motion, strong compression or digital zoom."
        ),
        _Direction("sharper", "Sharper or noisier faces", "A better lens, sharpening in the camera, or noise."),
    ),
    "warmth": (
        "warmth of the faces' colours (red against blue)",
        _Direction(
            "colour_cast", "A cool colour cast", "Another light, a screen's glow, or a white balance gone wrong."
        ),
        _Direction("colour_cast", "A warm colour cast", "Lamp light, or a white balance gone wrong."),
    ),
    "tint": (
        "tint of the faces' colours (green against magenta)",
        _Direction("colour_cast", "A magenta colour cast", "Another light, or a white balance gone wrong."),
        _Direction("colour_cast", "A green colour cast", "Fluorescent light, or a white balance gone wrong."),
    ),
    "colourfulness": (
        "colourfulness of the faces",
        _Direction("less_colour", "Paler colours", "A camera that saturates less, or grey pictures."),
        _Direction("more_colour", "Stronger colours", "A camera that saturates more; or the reference is grey."),
    ),
    "contrast": (
        "contrast of the faces",
        _Direction("flatter", "Flatter faces", "Haze on the lens, or diffuse light."),
        _Direction("harsher", "Harsher faces", "Hard light from one side."),
    ),
}
"""What columns say of the picture; where several have moved, the one that moved furthest leads."""

_FRAME_SIZES: Final = ("frame_width", "frame_height")
_COLOURS: Final = ("warmth", "tint", "colourfulness")
_ANSWERS: Final = (*PROBABILITIES, "mood")
_CERTAINTY: Final = ("confidence", "entropy")
_MAIN_SHARE: Final = 0.6  # of the largest shift: what moved less is a side effect rather than a second cause


def name_causes(columns: Sequence[ColumnDrift]) -> list[Cause]:
    """The probable causes of what has drifted, the likeliest first; empty where nothing has.

    A changed picture changes the answers too, so that moods and confidence count only where no picture column has
    moved; of the pictures' columns those count that moved nearly as far as the one that moved furthest.
    """
    drifted = {column.column: column for column in columns if column.drifted}
    causes = []
    pictures = [drifted[name] for name in _PICTURE if name in drifted]
    if "frame_width" in drifted and "frame_height" not in drifted:
        causes.append(_of_width(drifted["frame_width"]))
    elif pictures:
        pictures.sort(key=_strength, reverse=True)
        furthest = _strength(pictures[0])
        main = [column for column in pictures if _strength(column) >= _MAIN_SHARE * furthest]
        # The three colour columns tell one story; warmth and tint tell it better than colourfulness.
        coloured = [column for column in main if column.column in _COLOURS]
        coloured.sort(key=lambda column: (column.column != "colourfulness", abs(column.shift)), reverse=True)
        causes += [_of_picture(column) for column in main if column not in coloured[1:]]
    if "outcome" in drifted:
        causes.append(_of_outcome(drifted["outcome"]))
    if not causes and any(name in drifted for name in _ANSWERS):
        causes.append(_of_moods(drifted, columns))
    if not causes and any(name in drifted for name in _CERTAINTY):
        causes.append(_of_certainty(next(drifted[name] for name in _CERTAINTY if name in drifted)))
    if not causes and drifted:
        causes.append(_of_detector(next(iter(drifted.values()))))
    return causes


def onset(reference: pd.Series, current: pd.Series, shift: float) -> int:
    """The row from which a column's drift shows, by the largest sum of evidence from there to the end (CUSUM).

    Page, "Continuous inspection schemes", Biometrika 1954, with the size of the change taken from the data.

    Args:
        reference: values of the reference.
        current: live values, oldest first.
        shift: which way they moved; of categories it does not count.

    Returns:
        The position in `current` of the first row that has drifted.
    """
    reference, current = reference.dropna(), current.dropna()
    if pd.api.types.is_numeric_dtype(reference):
        ordered = np.sort(reference.to_numpy())
        left, right = (np.searchsorted(ordered, current, side=side) for side in ("left", "right"))
        moved = np.sign(shift) * ((left + right) / 2 / len(ordered) - 0.5)
        evidence: NDArray[np.float64] = moved - _largest_block_mean(moved) / 2
    else:
        kinds = sorted({*reference, *current})
        late = current.iloc[-max(1, len(current) // 3) :]
        before, after = (
            (values.value_counts().reindex(kinds, fill_value=0) + 1) / (len(values) + len(kinds))
            for values in (reference, late)
        )
        evidence = current.map(np.log(after / before)).to_numpy(dtype=np.float64)
    return int(np.argmax(np.cumsum(evidence[::-1])[::-1]))


def _largest_block_mean(values: NDArray[np.float64]) -> float:
    """The largest mean of three parts in a row."""
    return float(max(part.mean() for part in np.array_split(values, 3) if len(part)))


def _strength(column: ColumnDrift) -> float:
    """How far a column has moved; a little more counts what is a cause rather than an effect where two are equal."""
    return abs(column.shift) + 0.001 * (len(_PICTURE) - list(_PICTURE).index(column.column))


def _moved(what: str, column: ColumnDrift) -> str:
    """A sentence that says how far a numerical column moved."""
    return f"The median {what} went from {column.reference:.3g} to {column.current:.3g}."


def _of_picture(column: ColumnDrift) -> Cause:
    what, down, up = _PICTURE[column.column]
    direction = up if column.shift > 0 else down
    return Cause(direction.name, direction.title, f"{_moved(what, column)} {direction.guess}", column.column)


def _of_width(column: ColumnDrift) -> Cause:
    moved = _moved("width of the frames, in pixels,", column)
    return Cause(
        "other_shape", "Frames of another shape", f"{moved} Another camera, or one held another way.", "frame_width"
    )


def _of_outcome(column: ColumnDrift) -> Cause:
    before, after = (_share(shares, "no_face") for shares in (column.reference, column.current))
    found = f"No face was found in {after:.1%} of the frames, against {before:.1%}."
    guess = "People out of the picture, or faces that the detector misses: too dark, too small, covered, turned away."
    return Cause("no_face", "More frames without a face", f"{found} {guess}", "outcome")


def _of_moods(drifted: dict[str, ColumnDrift], columns: Sequence[ColumnDrift]) -> Cause:
    mood = next(column for column in columns if column.column == "mood")
    changes = {key: _share(mood.current, key) - _share(mood.reference, key) for key in MOODS}
    more, fewer = max(changes, key=lambda key: changes[key]), min(changes, key=lambda key: changes[key])
    moved = "; ".join(
        f"{_share(mood.current, key):.0%} of the answers were {key}, against {_share(mood.reference, key):.0%}"
        for key in (more, fewer)
    )
    return Cause(
        "mood_mix",
        f"Other moods: more {more}, less {fewer}",
        f"{moved}. The pictures look as before: other people, another use, or patients who feel otherwise.",
        "mood" if "mood" in drifted else next(name for name in PROBABILITIES if name in drifted),
    )


def _of_certainty(column: ColumnDrift) -> Cause:
    surer = (column.shift > 0) == (column.column == "confidence")
    title = "The model is surer than it was" if surer else "The model is less sure than it was"
    moved = _moved(f"{column.column} of the answers", column)
    return Cause(
        "certainty", title, f"{moved} Pictures and moods are as before: other people, or covered faces.", column.column
    )


def _of_detector(column: ColumnDrift) -> Cause:
    moved = _moved(f"{column.column.replace('_', ' ')}", column)
    return Cause(
        "detection", "Faces are found otherwise", f"{moved} More people in the picture, or turned heads.", column.column
    )


def _share(shares: float | dict[str, float], key: str) -> float:
    """The share of a category, 0 where it does not occur."""
    return shares.get(key, 0.0) if isinstance(shares, dict) else 0.0
