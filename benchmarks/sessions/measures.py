"""What a filter is worth on sessions whose moods are known: flips, delay, log loss, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

from benchmarks.sessions.filters import Filter
from benchmarks.sessions.sequences import Answers, Script
from service.moods import MOODS

_LEAST: Final = 1e-4
"""Smallest probability of a mood that the log loss counts."""


@dataclass(frozen=True)
class Played:
    """A sequence that was played.

    Attributes:
        script: What was before the camera.
        answers: What the session said.
    """

    script: Script
    answers: Answers


def interval(share: float, count: float) -> list[float]:
    """95 % interval of a share of so many that are independent (Wilson, JASA 1927)."""
    low, high = proportion_confint(round(share * count), round(count), method="wilson")
    return [round(float(low), 4), round(float(high), 4)]


def flips(moods: NDArray[np.int64]) -> int:
    """Changes of mood between neighbouring frames; a frame without an answer (-1) is left out."""
    known = moods[moods >= 0]
    return int(np.count_nonzero(known[1:] != known[:-1]))


def shown(filtered: NDArray[np.float64], answers: Answers) -> NDArray[np.int64]:
    """Index of the mood that a filter shows with each frame, int64 (n,); -1 for a frame without an answer."""
    return np.where(answers.answered, filtered.argmax(axis=1), -1)


def episodes(moods: NDArray[np.int64], times: NDArray[np.float64]) -> list[tuple[float, str]]:
    """When which mood begins to be shown, in seconds.

    Args:
        moods: Mood of each frame, int64 (n,); frames without an answer (-1) are left out.
        times: Times of the frames, in seconds, float64 (n,).
    """
    known = moods >= 0
    chosen, begins = moods[known], times[known]
    first = np.flatnonzero(np.diff(chosen, prepend=-1))
    return [(round(float(begins[index]), 2), MOODS[chosen[index]]) for index in first]


def visible_changes(played: Played) -> list[int]:
    """Index of each part that the classifier sees as a change of mood: in most frames of it, and of the part before,
    it gives the labelled mood. Where it errs throughout, there is nothing for a filter to follow."""
    own, part = played.answers.own_moods, played.script.part

    def recognised(index: int) -> bool:
        moods = own[part == index]
        moods = moods[moods >= 0]
        return bool(len(moods)) and float(np.mean(moods == played.script.parts[index].photo.mood)) > 0.5

    return [index for index in range(1, len(played.script.parts)) if recognised(index) and recognised(index - 1)]


def delay(moods: NDArray[np.int64], script: Script, index: int) -> float:
    """Time from a part's start until its mood is shown, in seconds; infinite if it is not shown before the part ends.

    Args:
        moods: Mood that is shown with each frame, int64 (n,).
        script: What was before the camera.
        index: Index of the part.
    """
    times = np.asarray(script.times)[(script.part == index) & (moods == script.parts[index].photo.mood)]
    return float(times[0] - script.parts[index].start) if len(times) else math.inf


@dataclass(frozen=True)
class Worth:
    """What a filter is worth.

    Attributes:
        flips: Changes of mood that are shown in jittered stills, in all of which nothing changes.
        flip_ratio: The same, divided by the number without a filter; NaN if there is none.
        delays: Delay of each visible change, in seconds; infinite if it was not followed.
        all_delays: The same of all changes, also of those that the classifier does not see.
        log_loss: Mean negative logarithm of the probability of the labelled mood, over the frames with an answer.
        accuracy: Share of these frames with which the labelled mood is shown.
    """

    flips: int
    flip_ratio: float
    delays: tuple[float, ...]
    all_delays: tuple[float, ...]
    log_loss: float
    accuracy: float

    @property
    def median_delay(self) -> float:
        """Median of `delays`, in seconds; NaN if there is none."""
        return float(np.median(self.delays)) if self.delays else math.nan

    def as_json(self) -> dict[str, float | int | None]:
        """The numbers; None for what is not a number or infinite."""
        found = {
            "flips": self.flips,
            "flip_ratio": self.flip_ratio,
            "changes": len(self.delays),
            "median_delay": self.median_delay,
            "delay_90": float(np.quantile(self.delays, 0.9, method="higher")) if self.delays else math.nan,
            "followed": float(np.mean(np.isfinite(self.delays))) if self.delays else math.nan,
            "all_changes": len(self.all_delays),
            "median_delay_of_all": float(np.median(self.all_delays)) if self.all_delays else math.nan,
            "log_loss": self.log_loss,
            "accuracy": self.accuracy,
        }
        return {name: round(value, 4) if math.isfinite(value) else None for name, value in found.items()}


def worth(apply: Filter, stills: Sequence[Played], sessions: Sequence[Played]) -> Worth:
    """What a filter is worth.

    Args:
        apply: The filter.
        stills: Sequences of one photo each.
        sessions: Sequences in which the mood changes; at least one has an answered frame.
    """
    unfiltered = sum(flips(one.answers.own_moods) for one in stills)
    filtered = sum(flips(shown(apply(one.answers), one.answers)) for one in stills)
    delays: list[float] = []
    every: list[float] = []
    losses: list[NDArray[np.float64]] = []
    right: list[NDArray[np.bool_]] = []
    for one in sessions:
        probabilities = apply(one.answers)
        moods, labels, answered = shown(probabilities, one.answers), one.script.moods, one.answers.answered
        visible = visible_changes(one)
        for index in range(1, len(one.script.parts)):
            found = delay(moods, one.script, index)
            every.append(found)
            if index in visible:
                delays.append(found)
        chosen = probabilities[np.arange(len(labels)), labels]
        losses.append(-np.log(np.maximum(chosen[answered], _LEAST)))
        right.append(moods[answered] == labels[answered])
    return Worth(
        flips=filtered,
        flip_ratio=filtered / unfiltered if unfiltered else math.nan,
        delays=tuple(delays),
        all_delays=tuple(every),
        log_loss=float(np.concatenate(losses).mean()),
        accuracy=float(np.concatenate(right).mean()),
    )
