"""The filters side by side: each with the parameters that are best for it on validation, measured on test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.sessions import filters
from benchmarks.sessions.filters import MAJORITY, MARKOV, SMOOTHING, Choice
from benchmarks.sessions.measures import Played, Worth, worth
from service.session.mood_filter import FilterSettings

MAX_FLIP_RATIO: Final = 0.2
MAX_DELAY: Final = 1.5
"""What a filter is to reach: flips of jittered stills, as a share of those without a filter, and the median delay of a
change of mood at four frames a second, in seconds."""

TODAY: Final = "hidden Markov, as in the bundle"
"""Name of the service's filter with the parameters that it has now."""


@dataclass(frozen=True)
class Sequences:
    """The sequences of a split.

    Attributes:
        stills: One photo each.
        regular: Sessions at four frames a second.
        irregular: Sessions at irregular times, with gaps.
    """

    stills: list[Played]
    regular: list[Played]
    irregular: list[Played]


def choose(
    tried: Sequence[Choice], validation: Sequences, prior: Sequence[float]
) -> dict[str, tuple[Choice, dict[str, Any]]]:
    """The best parameters of each kind of filter, with what they are worth on validation.

    Best is the smallest log loss over all sessions, among those that reach both `MAX_FLIP_RATIO` and `MAX_DELAY` on
    validation; if none reaches both, among those that reach `MAX_DELAY`; if none does, among all.

    Args:
        tried: Filters with parameters.
        validation: Sequences of validation people.
        prior: Prior probabilities of the moods.
    """
    found: dict[str, tuple[Choice, dict[str, Any]]] = {}
    for kind in dict.fromkeys(choice.kind for choice in tried):
        rated = [(choice, _on(choice, validation)) for choice in tried if choice.kind == kind]
        chosen, (regular, both) = min(rated, key=lambda one: _rank(*one[1]))
        found[kind] = (
            chosen,
            {
                "parameters": dict(chosen.parameters),
                "tried": len(rated),
                "reaches_both": _rank(regular, both)[0] == 0,
                "regular": regular.as_json(),
                "log_loss_of_all": round(both.log_loss, 4),
            },
        )
    unfiltered = filters.none(prior)
    found[unfiltered.kind] = unfiltered, {"parameters": {}, "regular": _on(unfiltered, validation)[0].as_json()}
    return found


def _on(choice: Choice, sequences: Sequences) -> tuple[Worth, Worth]:
    """What a filter is worth on the regular sessions, and on all of them."""
    regular = worth(choice.apply, sequences.stills, sequences.regular)
    return regular, worth(choice.apply, [], [*sequences.regular, *sequences.irregular])


def _rank(regular: Worth, both: Worth) -> tuple[int, float]:
    """The less, the better."""
    follows = regular.median_delay <= MAX_DELAY
    return (0 if follows and regular.flip_ratio <= MAX_FLIP_RATIO else 1 if follows else 2), both.log_loss


def measure(choices: Mapping[str, Choice], sequences: Sequences) -> dict[str, dict[str, Any]]:
    """What filters are worth, by name: on the regular and on the irregular sessions."""
    return {
        name: {
            "parameters": dict(choice.parameters),
            "regular": worth(choice.apply, sequences.stills, sequences.regular).as_json(),
            "irregular": worth(choice.apply, [], sequences.irregular).as_json(),
        }
        for name, choice in choices.items()
    }


def curves(chosen: Mapping[str, Choice], settings: FilterSettings, sequences: Sequences) -> dict[str, Any]:
    """Flips and delay of each kind of filter, while the parameter that says how slow it is goes through its range and
    the others stay as chosen."""
    markov = chosen[MARKOV].parameters
    base = replace(settings, stay_seconds=markov["stay_seconds"], unreliable_weight=markov["unreliable_weight"])
    families = {
        MARKOV: (
            "correlation_seconds",
            [filters.markov(replace(base, correlation_seconds=seconds)) for seconds in filters.CORRELATIONS],
        ),
        MAJORITY: (
            "seconds",
            [
                filters.majority(seconds, chosen[MAJORITY].parameters["unreliable_weight"], settings.prior)
                for seconds in filters.SECONDS
            ],
        ),
        SMOOTHING: (
            "seconds",
            [
                filters.smoothing(seconds, chosen[SMOOTHING].parameters["unreliable_weight"], settings.prior)
                for seconds in filters.SECONDS
            ],
        ),
    }
    found: dict[str, Any] = {}
    for kind, (parameter, family) in families.items():
        found[kind] = {
            "parameter": parameter,
            "points": [_point(choice, parameter, sequences) for choice in family],
        }
    return found


def _point(choice: Choice, parameter: str, sequences: Sequences) -> dict[str, float | None]:
    one = worth(choice.apply, sequences.stills, sequences.regular)
    delay = one.median_delay
    return {
        "value": choice.parameters[parameter],
        "flip_ratio": round(one.flip_ratio, 4) if math.isfinite(one.flip_ratio) else None,
        "median_delay": round(delay, 3) if math.isfinite(delay) else None,
        "log_loss": round(one.log_loss, 4),
    }
