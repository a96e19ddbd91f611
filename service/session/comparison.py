"""How a session differs from another one of the same person: the baseline.

Both sessions are known by their summaries alone. A difference of balances gets its interval from the two intervals by
the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008). A difference of mood shares
gets it in the same way from two Wilson intervals (Newcombe, Statistics in Medicine 17, 1998, method 10).
"""

from __future__ import annotations

import math

from pydantic import BaseModel, Field

from service.moods import MOODS
from service.session.intervals import balance, share
from service.session.summary import Interval, Summary


class Difference(BaseModel):
    """A figure of this session beside that of the baseline."""

    baseline: float
    session: float
    difference: Interval = Field(description="This session's minus the baseline's, with its 95 % interval.")

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.difference.low > 0 or self.difference.high < 0


class Comparison(BaseModel):
    """How a session differs from the baseline."""

    moods: dict[str, Difference] = Field(description="Shares of the moods.")
    balance: Difference | None = Field(description="Null if one of the sessions has none.")


def compare(session: Summary, baseline: Summary, *, stay_seconds: float) -> Comparison:
    """How a session differs from the baseline.

    Args:
        session: Summary of the session.
        baseline: Summary of the other session.
        stay_seconds: See `service.session.mood_filter.FilterSettings`: no mood changes faster than this on average.
    """
    one, other = (balance(summary, stay_seconds) for summary in (session, baseline))
    return Comparison(
        moods={
            mood: _difference(share(session, mood, stay_seconds), share(baseline, mood, stay_seconds)) for mood in MOODS
        },
        balance=None if one is None or other is None else _difference(one, other),
    )


def _difference(session: Interval, baseline: Interval) -> Difference:
    mean = session.mean - baseline.mean
    return Difference(
        baseline=baseline.mean,
        session=session.mean,
        difference=Interval(
            mean=mean,
            low=mean - math.hypot(session.mean - session.low, baseline.high - baseline.mean),
            high=mean + math.hypot(session.high - session.mean, baseline.mean - baseline.low),
        ),
    )
