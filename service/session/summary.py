"""The summary of a session, kept up to date frame by frame: what came out so far, in a few numbers."""

from __future__ import annotations

import math
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from service.moods import MOODS, Mood, for_each_mood
from service.parameters import DEFAULT_STEP

MAX_EPISODES: Final[int] = 100
"""Most episodes that a summary lists: the latest."""

MAX_STEP: Final[float] = 2.0
"""Longest time that a frame stands for, in seconds; what is longer is a gap, in which the mood is not known."""

_LEAST_WEIGHT: Final[float] = 1e-9
"""Seconds that frames must stand for before their balance has a mean."""

_TYPICAL_DEVIATION: Final[float] = 0.4
_TYPICAL_COUNT: Final[float] = 2.0
"""What is assumed of the standard deviation of the balance before the frames tell it, and how many frames that counts
for: the balances of single frames of held-out photos have 0.4 (measured)."""

_LEAST_SPREAD: Final[float] = 1e-4
"""Least variance from which a correlation can be told; a session's text has its sums to five decimals."""


class Interval(BaseModel):
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float


class MoodShare(BaseModel):
    """How much of a session was one mood."""

    share: float = Field(ge=0, le=1, description="Share of the time in which the mood is known.")
    seconds: float = Field(ge=0)


class Episode(BaseModel):
    """A time of one mood."""

    mood: Mood
    start: float = Field(description="Time of its first frame, in seconds.")
    end: float = Field(description="Time at which the next episode or a gap begins, in seconds.")
    probability: float = Field(ge=0, le=1, description="Mean probability of the mood over its frames.")


class Summary(BaseModel):
    """What a session shows, from its first frame to its latest."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    seconds: float = Field(ge=0, description="From the first frame to the end of the time that the last stands for.")
    frames: int = Field(ge=0)
    answered: int = Field(ge=0, description="Frames in which the person's mood was estimated.")
    reliable_share: float = Field(ge=0, le=1, description="Share of all frames with a reliable estimate.")
    moods: dict[str, MoodShare] = Field(description="The filtered moods.", json_schema_extra=for_each_mood)
    episodes: list[Episode] = Field(description=f"The latest {MAX_EPISODES} at most, in order of time.")
    changes_per_minute: float = Field(
        ge=0, description="Changes from one mood to another, in a minute in which it is known."
    )
    balance: Interval | None = Field(
        description="Mean over time of the positive minus the negative probability, in [-1, 1]. The interval allows "
        "for neighbouring frames being alike. Null if no frame was answered."
    )


Seconds = Annotated[float, Field(ge=0)]
MoodIndex = Annotated[int, Field(ge=0, lt=len(MOODS))]


class Ongoing(BaseModel):
    """The episode to which the latest frame belongs: its mood, its start, and its frames' probabilities."""

    mood: MoodIndex
    start: float
    total: float = 0.0
    count: int = Field(default=0, ge=0)


class Balances(BaseModel):
    """Sums over the frames' balances, positive minus negative probability.

    Attributes:
        weight: Sum of the weights, in seconds.
        total: Weighted sum of the balances.
        squares: Weighted sum of their squares.
        count: Number of balances.
        seconds: Time that they stand for.
        steps: Number of pairs of neighbouring frames.
        differences: Sum of the squared differences of neighbouring balances.
        latest: Balance of the latest frame, and its weight; None if the frame was not answered.
    """

    weight: float = Field(default=0.0, ge=0)
    total: float = 0.0
    squares: float = 0.0
    count: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    steps: int = Field(default=0, ge=0)
    differences: float = Field(default=0.0, ge=0)
    latest: tuple[float, float] | None = None

    def begin(self, balance: float | None, weight: float) -> None:
        """The next frame, with its balance; None if it was not answered."""
        if balance is None:
            self.latest = None
            return
        if self.latest is not None:
            self.steps += 1
            self.differences += (balance - self.latest[0]) ** 2
        self.count += 1
        self.latest = balance, weight

    def hold(self, seconds: float) -> None:
        """The latest frame stands for a time."""
        if self.latest is not None:
            balance, weight = self.latest
            self.seconds += seconds
            self.weight += weight * seconds
            self.total += weight * seconds * balance
            self.squares += weight * seconds * balance**2

    def interrupt(self) -> None:
        """A gap: the next frame is no neighbour of the latest."""
        self.latest = None

    def interval(self, correlation_seconds: float) -> Interval | None:
        """The mean over the time with its 95 % interval; None if there is no balance.

        The variance of the mean is that of n (1 - r) / (1 + r) independent values, for n values and the correlation r
        of neighbours (first-order autoregression): as measured by their differences (von Neumann's ratio), but not less
        than the filter assumes.

        Args:
            correlation_seconds: See `service.session.mood_filter.FilterSettings`.
        """
        if self.weight < _LEAST_WEIGHT:
            return None
        mean = self.total / self.weight
        spread = max(0.0, self.squares / self.weight - mean**2)
        correlation = math.exp(-self.seconds / self.count / correlation_seconds)
        if self.steps and spread > _LEAST_SPREAD:
            correlation = max(correlation, 1 - self.differences / self.steps / (2 * spread))
        independent = max(1.0, self.count * (1 - correlation) / (1 + correlation))
        variance = (_TYPICAL_COUNT * _TYPICAL_DEVIATION**2 + independent * spread) / (_TYPICAL_COUNT + independent - 1)
        half = student_quantile(_TYPICAL_COUNT + independent - 1) * math.sqrt(variance / independent)
        return Interval(mean=mean, low=max(-1.0, mean - half), high=min(1.0, mean + half))


class Accumulator(BaseModel):
    """What a summary is made from.

    Attributes:
        first: Time of the first frame, in seconds; None if there is none.
        last: Time of the latest frame.
        step: Time from the frame before to the latest frame, in seconds.
        frames: Number of frames.
        answered: Number of answered frames.
        reliable: Number of reliable frames.
        seconds: Time of each mood, up to the latest frame.
        changes: Number of changes of mood.
        episodes: Episodes that have ended, the latest `MAX_EPISODES`: mood, start, end, mean probability.
        ongoing: Episode of the latest frame; None if the mood is not known now.
        balances: Balances of the frames until now.
    """

    first: float | None = None
    last: float = 0.0
    step: float = Field(default=DEFAULT_STEP, ge=0)
    frames: int = Field(default=0, ge=0)
    answered: int = Field(default=0, ge=0)
    reliable: int = Field(default=0, ge=0)
    seconds: tuple[Seconds, Seconds, Seconds, Seconds] = (0.0, 0.0, 0.0, 0.0)
    changes: int = Field(default=0, ge=0)
    episodes: list[tuple[MoodIndex, float, float, float]] = Field(default=[], max_length=MAX_EPISODES)
    ongoing: Ongoing | None = None
    balances: Balances = Balances()

    def add(
        self,
        time: float,
        *,
        mood: int | None,
        probability: float = 0.0,
        balance: float = 0.0,
        weight: float = 1.0,
        reliable: bool = False,
    ) -> None:
        """Take a frame in.

        Args:
            time: Time of the frame, in seconds, not before that of the latest frame.
            mood: Index of the filtered mood; None if the frame was not answered.
            probability: Filtered probability of the mood.
            balance: The frame's own positive minus negative probability.
            weight: Weight of the balance, in [0, 1].
            reliable: Whether the frame's estimate is reliable.
        """
        if self.first is None:
            self.first = time
        else:
            self.step = time - self.last
            self._pass(self.step)
        self.last = time
        self.frames += 1
        self.reliable += reliable
        if self.ongoing is not None and mood != self.ongoing.mood:
            self.changes += mood is not None
            self._end_episode(time)
        self.balances.begin(balance if mood is not None else None, weight)
        if mood is None:
            return
        self.answered += 1
        if self.ongoing is None:
            self.ongoing = Ongoing(mood=mood, start=time)
        self.ongoing.total += probability
        self.ongoing.count += 1

    def summary(self, correlation_seconds: float) -> Summary:
        """The summary of all frames until now.

        Args:
            correlation_seconds: See `service.session.mood_filter.FilterSettings`.
        """
        whole = self.model_copy(deep=True)
        tail = min(self.step, MAX_STEP) if self.frames else 0.0
        whole._pass(tail)
        if whole.ongoing is not None:
            whole._end_episode(self.last + tail)
        known = sum(whole.seconds)
        return Summary(
            seconds=0.0 if self.first is None else self.last + tail - self.first,
            frames=self.frames,
            answered=self.answered,
            reliable_share=self.reliable / max(1, self.frames),
            moods={
                mood: MoodShare(share=seconds / known if known else 0.0, seconds=seconds)
                for mood, seconds in zip(MOODS, whole.seconds, strict=True)
            },
            episodes=[
                Episode(mood=MOODS[mood], start=start, end=end, probability=probability)
                for mood, start, end, probability in whole.episodes
            ],
            changes_per_minute=60 * self.changes / known if known else 0.0,
            balance=whole.balances.interval(correlation_seconds),
        )

    def _pass(self, seconds: float) -> None:
        """Let time pass after the latest frame, which stands for it; if it is long, it is a gap."""
        stood = min(seconds, MAX_STEP)
        if self.ongoing is not None:
            before = self.seconds
            self.seconds = tuple(  # type: ignore[assignment]
                value + stood * (mood == self.ongoing.mood) for mood, value in enumerate(before)
            )
        self.balances.hold(stood)
        if seconds > MAX_STEP:
            if self.ongoing is not None:
                self._end_episode(self.last + MAX_STEP)
            self.balances.interrupt()

    def _end_episode(self, end: float) -> None:
        assert self.ongoing is not None
        one = self.ongoing
        self.episodes = [*self.episodes, (one.mood, one.start, end, one.total / one.count)][-MAX_EPISODES:]
        self.ongoing = None


def student_quantile(degrees: float) -> float:
    """The 0.975 quantile of Student's distribution, roughly, for more than one degree of freedom."""
    return 1.96 + 2.4 / degrees
