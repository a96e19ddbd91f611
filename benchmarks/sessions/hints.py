"""Answers with a `box` hint beside answers without one, on held-out photos.

The hint is the box of the cascade as another detector would give it, such as a phone's: moved and of another size.
Detectors disagree by some tenths of a face, since they frame a face differently (with or without the hair), and since
the camera's preview that they search is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.sessions.measures import interval
from benchmarks.sessions.people import Photo
from service import images
from service.detector import Face
from service.errors import NoFaceError
from service.estimator import MoodEstimate, MoodEstimator
from service.faces import overlap
from service.moods import MOODS

SHIFT: Final = 0.08
SIZE: Final = 0.12
"""Standard deviations of a phone's box: of its centre, in sides of the box along each axis, and of the logarithm of a
factor of its side. The median overlap of such a box with the cascade's is in the report."""

STRENGTHS: Final = {"close": 0.5, "phone": 1.0, "worse": 2.0}
"""Factors of both, for a detector that is nearly the service's own, for a phone's, and for one that is worse."""


def phone_box(face: Face, strength: float, random: np.random.Generator) -> Face:
    """A face's box as a phone's detector gives it: a square that is moved and scaled at random.

    Args:
        face: Box of the cascade.
        strength: Factor of `SHIFT` and `SIZE`.
        random: Source of the draws.
    """
    side = max(face.width, face.height)
    x, y = random.normal(0, strength * SHIFT * side, 2)
    scaled = max(1, round(side * float(np.exp(random.normal(0, strength * SIZE)))))
    centre = face.x + face.width / 2 + x, face.y + face.height / 2 + y
    return Face(round(centre[0] - scaled / 2), round(centre[1] - scaled / 2), scaled, scaled, confidence=1.0)


def margin(estimate: MoodEstimate) -> float:
    """How far the most probable mood is ahead of the next one, in probability."""
    first, second = sorted(estimate.probabilities.values(), reverse=True)[:2]
    return first - second


def measure(estimator: MoodEstimator, photos: Sequence[Photo], seed: Sequence[int]) -> dict[str, Any]:
    """Agreement of the answers, by the name of the strength."""
    without = [_answer(estimator, photo.data, None) for photo in photos]
    pairs = [(photo, answer) for photo, answer in zip(photos, without, strict=True) if answer is not None]
    return {
        name: _compare(estimator, pairs, strength, np.random.default_rng([*seed, index]))
        for index, (name, strength) in enumerate(STRENGTHS.items())
    }


def _answer(estimator: MoodEstimator, data: bytes, hint: Face | None) -> MoodEstimate | None:
    """The answer to an upload; None if it has no face."""

    def decode(side: int | None) -> images.Frame:
        return images.decode_frame(data, working_side=side)

    try:
        return estimator.estimate_people(decode, hint=hint)[0]
    except NoFaceError:
        return None


def _compare(
    estimator: MoodEstimator,
    pairs: Sequence[tuple[Photo, MoodEstimate]],
    strength: float,
    random: np.random.Generator,
) -> dict[str, Any]:
    hint_overlaps, overlaps, same, margins, right = [], [], [], [], []
    for photo, without in pairs:
        hint = phone_box(without.face, strength, random)
        answer = _answer(estimator, photo.data, hint)
        hint_overlaps.append(overlap(hint, without.face))
        overlaps.append(overlap(answer.face, without.face) if answer else 0.0)
        same.append(answer is not None and answer.mood == without.mood)
        margins.append(margin(without))
        right.append((without.mood == MOODS[photo.mood], answer is not None and answer.mood == MOODS[photo.mood]))
    other = ~np.array(same, bool)
    return {
        "photos": len(pairs),
        "same_mood": _mean(same),
        "same_mood_interval": interval(float(np.mean(same)), len(same)),
        "median_iou": round(float(np.median(overlaps)), 4),
        "low_iou": round(float(np.quantile(overlaps, 0.05)), 4),
        "hint_median_iou": round(float(np.median(hint_overlaps)), 4),
        "accuracy_without": _mean([one for one, _ in right]),
        "accuracy_with": _mean([one for _, one in right]),
        "other_mood": {
            "photos": int(other.sum()),
            "median_margin": _median(np.array(margins)[other]),
            "median_margin_of_the_rest": _median(np.array(margins)[~other]),
        },
    }


def _mean(values: Sequence[bool]) -> float:
    return round(float(np.mean(values)), 4)


def _median(values: NDArray[np.float64]) -> float | None:
    return round(float(np.median(values)), 4) if len(values) else None
