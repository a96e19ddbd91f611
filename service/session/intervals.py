"""How certain the figures of a summary are, as its changes of mood tell.

A mood that stays for a minute was seen once, and not a hundred times because there were a hundred frames. Figures of a
session are therefore means of as many values as there were independent looks at the person.
"""

from __future__ import annotations

import math
from itertools import pairwise

from service.moods import MOODS
from service.session.summary import Interval, Summary, student_quantile


def share(summary: Summary, mood: str, stay_seconds: float) -> Interval:
    """A mood's share of the time in which the mood is known, with its 95 % interval (Wilson's).

    Args:
        summary: Summary of a session.
        mood: Mood.
        stay_seconds: See `effective_size`.
    """
    value, size = summary.moods[mood].share, effective_size(summary, stay_seconds)
    if not size:
        return Interval(mean=value, low=0.0, high=1.0)
    quantile = student_quantile(1 + size)
    spread = quantile**2 / size
    centre = (value + spread / 2) / (1 + spread)
    half = quantile * math.sqrt(value * (1 - value) / size + spread / (4 * size)) / (1 + spread)
    return Interval(mean=value, low=max(0.0, min(value, centre - half)), high=min(1.0, max(value, centre + half)))


def balance(summary: Summary, stay_seconds: float) -> Interval | None:
    """The balance with its 95 % interval; None if there is none.

    The summary's interval knows how alike neighbouring frames are. If single frames differ much and the mood seldom
    changes, that says little about how alike distant frames are. The changes of mood say it: the interval is at least
    that of the difference of the two shares, for as strong a balance as the two moods show.

    Args:
        summary: Summary of a session.
        stay_seconds: See `effective_size`.
    """
    own = summary.balance
    if own is None:
        return None
    positive, negative = (summary.moods[mood].share for mood in ("positive", "negative"))
    size = effective_size(summary, stay_seconds)
    strong = [one for one in summary.episodes if one.mood in ("positive", "negative")]
    seconds = sum(one.end - one.start for one in strong)
    strength = sum((one.end - one.start) * one.probability for one in strong) / seconds if seconds else 0.0
    deviation = strength * math.sqrt(max(0.0, positive + negative - (positive - negative) ** 2))
    half = student_quantile(1 + size) * deviation / math.sqrt(size) if size else 0.0
    return Interval(
        mean=own.mean,
        low=max(-1.0, min(own.low, own.mean - half)),
        high=min(1.0, max(own.high, own.mean + half)),
    )


def effective_size(summary: Summary, stay_seconds: float) -> float:
    """How many independent looks at a person the shares of the moods are worth; 0 if no mood is known.

    As in the filter, a mood is taken to stay for t seconds on average and then to be drawn anew, which changes it with
    the probability 1 - sum(shares ** 2). A share of T seconds has the variance of T / (2 t) independent values, with t
    as the changes tell it, but not less than the filter assumes.

    Args:
        summary: Summary of a session.
        stay_seconds: See `service.session.mood_filter.FilterSettings`: no mood changes faster than this on average.
    """
    known = sum(one.seconds for one in summary.moods.values())
    if not known:
        return 0.0
    seconds = [sum(one.end - one.start for one in summary.episodes if one.mood == mood) for mood in MOODS]
    listed = sum(seconds)
    # What happened in a gap counts only if the mood is another one after it.
    changes = sum(one.mood != other.mood for one, other in pairwise(summary.episodes))
    stay = (listed - sum(part**2 for part in seconds) / listed) / changes if changes and listed else 0.0
    return max(1.0, known / (2 * max(stay, stay_seconds)))
