"""Scripts of simulated sessions: stills, of one photo each, and sessions in which the mood changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from benchmarks.sessions.people import Photo, one_of_each
from benchmarks.sessions.sequences import Part, Script

RATE: Final = 4.0
"""Frames a second of a regular session."""

LEAST_STAY: Final = 3.0
MEAN_STAY: Final = 8.0
"""Least and mean time of a mood, in seconds."""

GAP_SHARE: Final = 0.04
GAP_SECONDS: Final = (2.0, 6.0)
"""Of irregular sessions: share of the frames that a gap follows, and its length."""


def stills(photos: Sequence[Photo], people: int, frames: int, seed: Sequence[int]) -> list[Script]:
    """One photo of each of some people, at `RATE` frames a second."""
    random = np.random.default_rng(seed)
    times = tuple(index / RATE for index in range(frames))
    chosen = one_of_each(list(photos), people, random)
    return [Script((Part(photo, 0.0),), times, int(random.integers(1 << 32))) for photo in chosen]


def sessions(
    photos: Sequence[Photo],
    prior: Sequence[float],
    count: int,
    seconds: float,
    seed: Sequence[int],
    *,
    irregular: bool = False,
) -> list[Script]:
    """Sessions in which one photo follows another of a different mood.

    In every other session all photos are of the same person, who has photos of at least two moods; in the others each
    is of somebody else, since most people have photos of one or two moods only. The face stays where it is.

    Args:
        photos: Photos to choose from.
        prior: How often each of `service.moods.MOODS` is drawn; the mood of now is not drawn again.
        count: Number of sessions.
        seconds: Length of each.
        seed: Seeds of all draws.
        irregular: Whether frames come at random times, with gaps; otherwise at `RATE` frames a second.
    """
    random = np.random.default_rng(seed)
    by_person: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_person[photo.person].append(photo)
    changing = [own for _, own in sorted(by_person.items()) if len({photo.mood for photo in own}) > 1]
    found = []
    for number in range(count):
        pool = changing[random.integers(len(changing))] if number % 2 else photos
        parts = tuple(_parts(pool, prior, seconds, random))
        times = tuple(_irregular_times(seconds, random)) if irregular else _regular_times(seconds)
        found.append(Script(parts, times, int(random.integers(1 << 32))))
    return found


def _parts(
    photos: Sequence[Photo], prior: Sequence[float], seconds: float, random: np.random.Generator
) -> Iterator[Part]:
    by_mood: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_mood[photo.mood].append(photo)
    start, mood = 0.0, None
    while start < seconds - (LEAST_STAY if start else 0.0):
        moods = [one for one in sorted(by_mood) if one != mood]
        chances = np.array([prior[one] for one in moods])
        mood = int(random.choice(moods, p=chances / chances.sum()))
        yield Part(by_mood[mood][random.integers(len(by_mood[mood]))], start)
        start += LEAST_STAY + random.exponential(MEAN_STAY - LEAST_STAY)


def _regular_times(seconds: float) -> tuple[float, ...]:
    return tuple(index / RATE for index in range(round(seconds * RATE)))


def _irregular_times(seconds: float, random: np.random.Generator) -> Iterator[float]:
    """Frames at random times, as many a second as regularly, with gaps."""
    time = 0.0
    while time < seconds:
        yield round(time, 3)
        time += 0.03 + random.exponential(1 / RATE - 0.03)
        if random.random() < GAP_SHARE:
            time += random.uniform(*GAP_SECONDS)
