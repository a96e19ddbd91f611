"""Filters over time: the service's, and those that it is compared with.

Each turns the answers of a session into the probabilities of the moods now. The two others weigh a frame that is not
reliable less as well, and count time in seconds, so that all three see the same and may be used at irregular times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.sessions.sequences import Answers
from service.session.mood_filter import FilterSettings, MoodFilter

Probabilities = NDArray[np.float64]
Filter = Callable[[Answers], Probabilities]
"""Function from n answers to the probabilities of the moods now, float64 (n, 4). For a frame in which the person was
not found they are those of the frame before; before the first one that shows it they are the prior."""

MARKOV: Final = "hidden Markov"
MAJORITY: Final = "majority of a window"
SMOOTHING: Final = "exponential smoothing"
NONE: Final = "none"

SECONDS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
_WEIGHTS: Final = (0.1, 0.3, 1.0)
_STAYS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
CORRELATIONS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Parameters that are tried: seconds of a window or of smoothing and of correlation, weights of frames that are not
reliable, and mean stays."""


@dataclass(frozen=True)
class Choice:
    """A filter with its parameters.

    Attributes:
        kind: `MARKOV`, `MAJORITY`, `SMOOTHING` or `NONE`.
        parameters: Its parameters by name.
        apply: The filter.
    """

    kind: str
    parameters: Mapping[str, float]
    apply: Filter


def choices(settings: FilterSettings) -> list[Choice]:
    """Every filter that is tried, with the prior of the given parameters."""
    return [
        *(
            markov(replace(settings, stay_seconds=stay, correlation_seconds=correlation, unreliable_weight=weight))
            for stay, correlation, weight in product(_STAYS, CORRELATIONS, _WEIGHTS)
        ),
        *(majority(seconds, weight, settings.prior) for seconds, weight in product(SECONDS, _WEIGHTS)),
        *(smoothing(seconds, weight, settings.prior) for seconds, weight in product(SECONDS, _WEIGHTS)),
    ]


def markov(settings: FilterSettings) -> Choice:
    """The service's filter; see `service.session.mood_filter`."""

    def apply(answers: Answers) -> Probabilities:
        one = MoodFilter(settings)

        def update(time: float, own: Probabilities, reliable: bool) -> Probabilities:
            return one.update(time, own.tolist(), reliable=reliable)

        return _run(update, answers, settings.prior)

    return Choice(
        MARKOV,
        {
            "stay_seconds": settings.stay_seconds,
            "correlation_seconds": settings.correlation_seconds,
            "unreliable_weight": settings.unreliable_weight,
        },
        apply,
    )


def majority(seconds: float, unreliable_weight: float, prior: Sequence[float]) -> Choice:
    """Votes of the frames within a window until now. The prior counts as one vote, so that no mood is impossible.

    Args:
        seconds: Length of the window.
        unreliable_weight: Weight of the vote of a frame that is not reliable.
        prior: Prior probabilities of the moods.
    """

    def apply(answers: Answers) -> Probabilities:
        votes: list[tuple[float, int, float]] = []

        def update(time: float, own: Probabilities, reliable: bool) -> Probabilities:
            votes[:] = [vote for vote in votes if vote[0] > time - seconds + 1e-9]
            votes.append((time, int(own.argmax()), 1.0 if reliable else unreliable_weight))
            counts = np.array(prior) / sum(prior)
            for _, mood, weight in votes:
                counts[mood] += weight
            return counts / counts.sum()

        return _run(update, answers, prior)

    return Choice(MAJORITY, {"seconds": seconds, "unreliable_weight": unreliable_weight}, apply)


def smoothing(seconds: float, unreliable_weight: float, prior: Sequence[float]) -> Choice:
    """Mean of the frames' probabilities, in which a frame's weight falls exponentially with its age.

    Args:
        seconds: Time after which a frame's weight has fallen to 1 / e.
        unreliable_weight: Factor of the weight of a frame that is not reliable.
        prior: Prior probabilities of the moods.
    """

    def apply(answers: Answers) -> Probabilities:
        mean, before = np.array(prior) / sum(prior), -math.inf

        def update(time: float, own: Probabilities, reliable: bool) -> Probabilities:
            nonlocal mean, before
            new = (1 - math.exp(-(time - before) / seconds)) * (1.0 if reliable else unreliable_weight)
            mean, before = (1 - new) * mean + new * own, time
            return mean

        return _run(update, answers, prior)

    return Choice(SMOOTHING, {"seconds": seconds, "unreliable_weight": unreliable_weight}, apply)


def none(prior: Sequence[float]) -> Choice:
    """Each frame by itself."""
    return Choice(NONE, {}, lambda answers: _run(lambda time, own, reliable: own, answers, prior))


def _run(
    update: Callable[[float, Probabilities, bool], Probabilities], answers: Answers, prior: Sequence[float]
) -> Probabilities:
    """The probabilities after each frame, of a filter that takes one frame in after the other."""
    now = np.array(prior) / sum(prior)
    filtered = np.empty_like(answers.own)
    for index, found in enumerate(answers.answered.tolist()):
        if found:
            now = update(float(answers.times[index]), answers.own[index], bool(answers.reliable[index]))
        filtered[index] = now
    return filtered
