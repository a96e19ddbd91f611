"""A hidden Markov filter of a person's mood over the frames of a session.

The mood is a Markov chain in continuous time: it stays for `stay_seconds` on average and then is drawn anew from the
prior, so that frames may come at any times, with gaps. A frame's calibrated probabilities, divided by the prior, are
the likelihood of the moods.

Neighbouring frames show nearly the same picture, and the classifier errs on them in the same way. Counted as
independent, a dozen of them would make any error certain. As the mean of n values with the correlation r of neighbours
is worth n (1 - r) / (1 + r) independent values, each frame's log-likelihood counts (1 - r) / (1 + r), with r falling
exponentially with the time between frames. How much evidence a second brings is thus nearly the same at every frame
rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.moods import MOODS

SETTINGS_FILE: Final[str] = "session/session.json"
"""The file of the filter's parameters in a model bundle."""

_LEAST: Final[float] = 1e-4
"""Smallest probability of a frame that is believed: a single frame rules nothing out."""


@dataclass(frozen=True)
class FilterSettings:
    """Parameters of the filter.

    Attributes:
        stay_seconds: Mean time until the mood is drawn anew from the prior, in seconds.
        correlation_seconds: Time after which the correlation of two frames has fallen to 1 / e, in seconds.
        unreliable_weight: Share of its evidence that an unreliable frame keeps, in [0, 1].
        prior: Prior probabilities of `service.moods.MOODS`.
    """

    stay_seconds: float
    correlation_seconds: float
    unreliable_weight: float
    prior: tuple[float, ...]

    @classmethod
    def read(cls, bundle: Path) -> FilterSettings:
        """The parameters in a model bundle.

        Raises:
            ValueError: They are not parameters of a filter.
        """
        return _Parameters.model_validate_json((bundle / SETTINGS_FILE).read_bytes()).settings()


class _Parameters(BaseModel):
    """The file `SETTINGS_FILE`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    stay_seconds: float = Field(gt=0)
    correlation_seconds: float = Field(gt=0)
    unreliable_weight: float = Field(ge=0, le=1)
    prior: dict[str, Annotated[float, Field(gt=0, lt=1)]]

    def settings(self) -> FilterSettings:
        """The parameters with the prior in the order of `service.moods.MOODS`."""
        if set(self.prior) != set(MOODS):
            raise ValueError(f"{SETTINGS_FILE} has the prior of {sorted(self.prior)}; expected {sorted(MOODS)}")
        values = self.model_dump(exclude={"prior"})
        return FilterSettings(**values, prior=tuple(self.prior[mood] for mood in MOODS))


class MoodFilter:
    """The probabilities of the moods now, given all frames until now.

    Attributes:
        settings: Parameters.
        probabilities: Probabilities of the moods after the latest frame, float64 (4,); the prior if there is none.
        time: Time of the latest frame, in seconds; None if there is none.
    """

    def __init__(
        self, settings: FilterSettings, probabilities: Sequence[float] | None = None, time: float | None = None
    ) -> None:
        """A filter before the first frame, or after the frame of which the probabilities and the time are given."""
        self.settings = settings
        self._prior: NDArray[np.float64] = np.asarray(settings.prior, np.float64) / sum(settings.prior)
        self.probabilities = self._prior if probabilities is None else np.asarray(probabilities, np.float64)
        self.time = time

    def predict(self, time: float) -> NDArray[np.float64]:
        """Probabilities of the moods at a time, without a frame at that time, float64 (4,)."""
        if self.time is None:
            return self._prior
        stayed = math.exp(-max(0.0, time - self.time) / self.settings.stay_seconds)
        return stayed * self.probabilities + (1 - stayed) * self._prior

    def update(self, time: float, probabilities: Sequence[float], *, reliable: bool = True) -> NDArray[np.float64]:
        """Take a frame in.

        Args:
            time: Time of the frame, in seconds, not before that of the latest frame.
            probabilities: The frame's own probabilities of the moods.
            reliable: Whether they can be trusted.

        Returns:
            Probabilities of the moods now, float64 (4,).
        """
        weight = self._weight(time) * (1.0 if reliable else self.settings.unreliable_weight)
        likelihood = np.maximum(np.asarray(probabilities, np.float64), _LEAST) / self._prior
        posterior = self.predict(time) * likelihood**weight
        self.probabilities, self.time = posterior / posterior.sum(), time
        return self.probabilities

    def _weight(self, time: float) -> float:
        """How many independent frames a frame is worth."""
        if self.time is None:
            return 1.0
        correlation = math.exp(-max(0.0, time - self.time) / self.settings.correlation_seconds)
        return (1 - correlation) / (1 + correlation)

    @property
    def mood(self) -> str:
        """The most probable mood."""
        return MOODS[int(np.argmax(self.probabilities))]
