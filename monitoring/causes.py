"""Probable causes of drift, in words, from the columns that have drifted; and the time of its onset.

One change moves several columns: a dark room lowers the contrast as well. Such side effects are left out, but only if

- the change can move the column: frames of another size do not darken faces; and
- both began together: what has differed from the reference all along, such as the camera, does not explain what began
  at noon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring import comparison, effect_sizes
from monitoring.comparison import ColumnDrift
from service.moods import MOODS
from service.observation import PROBABILITIES, RELIABLE


@dataclass(frozen=True)
class Onset:
    """Where in a window the drift of a column begins.

    Attributes:
        row: Number of the first drifted row.
        before_window: Whether the drift fills the window, so that it may have begun earlier.
    """

    row: int
    before_window: bool


@dataclass(frozen=True)
class Cause:
    """A probable cause.

    Attributes:
        name: Stable name for machines.
        title: Short title for people.
        explanation: The change in numbers, and what usually causes it.
        column: Column that shows it best.
        since: Time of the onset; None if it is not known.
        before_window: Whether it fills the window, so that it may have begun earlier.
    """

    name: str
    title: str
    explanation: str
    column: str
    since: datetime | None = None
    before_window: bool = False

    @property
    def onset(self) -> str | None:
        """The onset as a sentence; None if it is not known."""
        if self.since is None:
            return None
        time = f"{self.since:%Y-%m-%d %H:%M} UTC"
        return f"Since {time} or earlier: the drift fills the window." if self.before_window else f"Since about {time}."

    def at(self, since: datetime, before_window: bool) -> Cause:
        """The same cause with an onset."""
        return replace(self, since=since, before_window=before_window)


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
    "yaw": (
        "turn of the heads to the image's right, in degrees",
        _Change("turned", "Heads turned to the image's left", "a camera that stands to the side of the people"),
        _Change("turned", "Heads turned to the image's right", "a camera that stands to the side of the people"),
    ),
    "roll": (
        "tilt of the heads, clockwise, in degrees",
        _Change("tilted", "Heads tilted to the left", "a camera that is mounted or held at an angle"),
        _Change("tilted", "Heads tilted to the right", "a camera that is mounted or held at an angle"),
    ),
    "contrast": (
        "contrast of the faces",
        _Change("flatter", "Less contrast", "haze on the lens, or diffuse light"),
        _Change("harsher", "More contrast", "hard light from one side"),
    ),
}
"""Columns that describe the image: phrase, and meaning of shifts down and up. Among equal shifts the first leads."""

_SIDE_EFFECTS: Final[dict[str, tuple[str, ...]]] = {
    "frame_height": ("face_share", "sharpness", "contrast"),
    "face_share": ("sharpness", "contrast", "colourfulness"),
    "brightness": ("face_share", "sharpness", "contrast", "warmth", "tint", "colourfulness"),
    "sharpness": ("face_share", "contrast", "colourfulness"),
    "warmth": ("tint", "colourfulness", "contrast"),
    "tint": ("warmth", "colourfulness", "contrast"),
    "contrast": ("sharpness", "colourfulness"),
}
"""Columns that move as well if a column drifts, by that column."""

_COLOURS: Final = ("warmth", "tint", "colourfulness")
_CERTAINTY: Final = ("confidence", "entropy", "reliability")
_SIDE_EFFECT: Final = 0.6  # of the cause's shift: a column that has moved further is a cause of its own
_TOGETHER: Final = 0.1  # of the window's rows between two onsets: more, and they are two changes


def name_causes(
    columns: Sequence[ColumnDrift], baseline: str, *, onsets: Mapping[str, Onset] | None = None, rows: int = 0
) -> list[Cause]:
    """Probable causes of the drifted columns; empty if no column has drifted.

    What began within the window comes before what has differed all along, then what has shifted further. A changed
    image changes the predictions too, so moods, confidence and detections count only if no image column drifted with
    them.

    Args:
        columns: Columns of a comparison, drifted or not.
        baseline: Name of the reference, for sentences.
        onsets: Onsets by drifted column; the drift of any other column fills the window.
        rows: Number of rows of the window that the onsets refer to.
    """
    return _Namer({column.column: column for column in columns}, baseline, onsets or {}, rows).causes()


@dataclass(frozen=True)
class _Namer:
    """The columns of a comparison by name, and what else `name_causes` knows."""

    columns: dict[str, ColumnDrift]
    baseline: str
    onsets: Mapping[str, Onset]
    rows: int

    def causes(self) -> list[Cause]:
        found = self._of_images()
        if self._drifted("outcome"):
            found.append(self._of_outcome())
        moods = [name for name in ("mood", *PROBABILITIES) if self._drifted(name)]
        certainty = [name for name in _CERTAINTY if self._drifted(name)]
        others = [
            name
            for name in self.columns
            if self._drifted(name)
            and name not in (*_APPEARANCE, "frame_width", "outcome", "mood", *PROBABILITIES, *_CERTAINTY)
        ]
        for names, of in ((moods, self._of_moods), (certainty, self._of_certainty), (others, self._of_detections)):
            if names and not any(self._together(names[0], cause.column) for cause in found):
                found.append(of(names[0]))
        return sorted(found, key=lambda cause: self._onset(cause.column).before_window)

    def _of_images(self) -> list[Cause]:
        images = sorted((name for name in _APPEARANCE if self._drifted(name)), key=self._strength, reverse=True)
        main = [name for name in images if not any(self._is_side_effect(name, of) for of in images)]
        # The three colour columns share one cause; warmth and tint describe it better than colourfulness.
        coloured = [name for name in main if name in _COLOURS]
        coloured.sort(key=lambda name: (name != "colourfulness", self._strength(name)), reverse=True)
        found = [self._of_appearance(name) for name in main if name not in coloured[1:]]
        if self._drifted("frame_width") and not self._drifted("frame_height"):
            change = _Change("other_shape", "Frames of another shape", "another camera, or a rotated one")
            found.append(self._cause("frame_width", "width of the frames in pixels", change))
        return found

    def _drifted(self, name: str) -> bool:
        return name in self.columns and self.columns[name].drifted

    def _onset(self, name: str) -> Onset:
        return self.onsets.get(name, Onset(0, before_window=True))

    def _strength(self, name: str) -> float:
        """Absolute shift; among equal shifts the earlier column of `_APPEARANCE` is stronger."""
        return abs(self.columns[name].shift) + 0.001 * (len(_APPEARANCE) - list(_APPEARANCE).index(name))

    def _is_side_effect(self, name: str, of: str) -> bool:
        return (
            name in _SIDE_EFFECTS.get(of, ())
            and self._strength(name) < _SIDE_EFFECT * self._strength(of)
            and self._together(name, of)
        )

    def _together(self, name: str, other: str) -> bool:
        """Whether two drifts began together."""
        one, two = self._onset(name), self._onset(other)
        if one.before_window or two.before_window:
            return one.before_window == two.before_window
        return abs(one.row - two.row) <= _TOGETHER * self.rows

    def _cause(self, name: str, what: str, change: _Change) -> Cause:
        """Cause of a numerical column's drift."""
        column = self.columns[name]
        medians = f"The median {what} is {column.current:.3g}; in {self.baseline} it is {column.reference:.3g}."
        return Cause(change.name, change.title, f"{medians} Possible causes: {change.guess}.", name)

    def _of_appearance(self, name: str) -> Cause:
        what, down, up = _APPEARANCE[name]
        return self._cause(name, what, up if self.columns[name].shift > 0 else down)

    def _of_outcome(self) -> Cause:
        column = self.columns["outcome"]
        before, after = (_share(shares, "no_face") for shares in (column.reference, column.current))
        return Cause(
            "no_face",
            "More frames without a face",
            f"No face was found in {after:.1%} of the frames; in {self.baseline} it was {before:.1%}. Possible causes: "
            "nobody in the image, or faces that the detector misses because they are dark, small, covered or turned "
            "away.",
            "outcome",
        )

    def _of_moods(self, name: str) -> Cause:
        mood = self.columns["mood"]
        before, after = ({key: _share(shares, key) for key in MOODS} for shares in (mood.reference, mood.current))
        change = {key: after[key] - before[key] for key in MOODS}
        more, less = max(MOODS, key=lambda key: change[key]), min(MOODS, key=lambda key: change[key])
        shares = " and ".join(f"{after[key]:.0%} {key}, not {before[key]:.0%}" for key in (more, less))
        return Cause(
            "mood_mix",
            f"Other moods: more {more}, less {less}",
            f"The predictions are {shares} as in {self.baseline}. The images have not changed with them. Possible "
            "causes: other people, another use, or patients who feel different.",
            name,
        )

    def _of_certainty(self, name: str) -> Cause:
        if name == "reliability":
            return self._of_reliability()
        surer = (self.columns[name].shift > 0) == (name == "confidence")
        guess = "images and moods have not changed with it, so other people, or covered faces"
        title = "The model is more confident" if surer else "The model is less confident"
        return self._cause(name, f"{name} of the predictions", _Change("certainty", title, guess))

    def _of_reliability(self) -> Cause:
        column = self.columns["reliability"]
        before, after = (_share(shares, RELIABLE) for shares in (column.reference, column.current))
        return Cause(
            "reliability",
            "More answers can be trusted" if after > before else "Fewer answers can be trusted",
            f"{after:.0%} of the answers are reliable; in {self.baseline} it was {before:.0%}. The shares of the "
            "reasons are in the column `reliability`.",
            "reliability",
        )

    def _of_detections(self, name: str) -> Cause:
        change = _Change("detection", "Different face detections", "more people in the image, or turned heads")
        return self._cause(name, name.replace("_", " "), change)


def find_onset(reference: pd.Series, current: pd.Series, column: ColumnDrift, level: float) -> Onset:
    """The onset of a column's drift.

    The drift fills the window unless the rows before the onset differ from those after it by more than chance, and have
    drifted less than half as far as all rows.

    Args:
        reference: Comparable values of the reference.
        current: Comparable live values, oldest first, both with missing ones.
        column: Result of the column's comparison.
        level: Largest p-value that is no chance.
    """
    reference, rows = reference.dropna(), np.flatnonzero(current.notna())
    current = current.dropna()
    position = change_point(reference, current, column.shift)
    head, tail = current.iloc[:position], current.iloc[position:]
    if len(head) <= len(current) // 50:
        return Onset(int(rows[position]), before_window=True)
    if column.column == "outcome":
        before, early, all_rows = (comparison.without_face(values) for values in (reference, head, current))
        drifted = early - before >= (all_rows - before) / 2
    else:
        drifted = effect_sizes.shift(reference, head) * np.sign(column.shift) >= abs(column.shift) / 2
    if drifted or comparison.chance(head, tail, level) > level:
        return Onset(int(rows[0]), before_window=True)
    return Onset(int(rows[position]), before_window=False)


def change_point(reference: pd.Series, current: pd.Series, shift: float) -> int:
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


def _share(shares: float | dict[str, float], key: str) -> float:
    """Share of a category; 0 if it does not occur."""
    return shares.get(key, 0.0) if isinstance(shares, dict) else 0.0
