"""Sessions made of numbers, as the command line keeps them after the last frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from service.appearance import Appearance
from service.classifier import ClassifierMetadata, InputSpec
from service.detector import Face
from service.errors import MeaaError, NoFaceError
from service.estimator import MoodEstimate
from service.moods import MOODS
from service.quality import Quality
from service.session.engine import SessionEstimate
from service.session.recording import Recording, Take
from service.session.summary import Accumulator, Summary

MODEL = ClassifierMetadata(
    name="mini_xception",
    version="4",
    digest="5f" * 32,
    moods=MOODS,
    input=InputSpec(size=48, margin=0.0, scale=1 / 255, offset=0.0),
)
FACE = Face(x=120, y=80, width=160, height=168, confidence=0.9998, yaw=-4.0, roll=1.5)


def estimate(
    probabilities: Sequence[float], *, own: Sequence[float] | None = None, reliable: bool = True
) -> SessionEstimate:
    """What a frame says.

    Args:
        probabilities: Filtered probabilities of `MOODS`.
        own: The frame's own; by default the same.
        reliable: Whether it is reliable.
    """
    own = own or probabilities
    quality = Quality(
        reliable=reliable,
        reasons=[] if reliable else ["blurred", "small"],
        face_share=0.35,
        brightness=0.5,
        contrast=0.2,
        sharpness=0.7,
        yaw=-4.0,
        roll=None,
    )
    one = MoodEstimate(
        mood=MOODS[max(range(len(MOODS)), key=lambda index: own[index])],
        probabilities=dict(zip(MOODS, own, strict=True)),
        face=FACE,
        face_count=1,
        appearance=Appearance(brightness=0.5, contrast=0.2, sharpness=0.7, colourfulness=0.1, warmth=0.0, tint=0.0),
        quality=quality,
    )
    mood = MOODS[max(range(len(MOODS)), key=lambda index: probabilities[index])]
    return SessionEstimate(one, 1, mood, dict(zip(MOODS, probabilities, strict=True)))


def recording(frames: Iterable[tuple[float, SessionEstimate | MeaaError | None]]) -> Recording:
    """A session of frames: each with its time in seconds, and None if it shows no face."""
    takes = [Take(time, outcome or NoFaceError("No face was found.")) for time, outcome in frames]
    found = Accumulator()
    for take in takes:
        one = take.estimate
        if one is None:
            found.add(take.time, mood=None)
            continue
        own, reliable = one.estimate.probabilities, one.estimate.quality.reliable
        found.add(
            take.time,
            mood=MOODS.index(one.mood),
            probability=one.probabilities[one.mood],
            balance=own["positive"] - own["negative"],
            weight=1.0 if reliable else 0.3,
            reliable=reliable,
        )
    return Recording(takes, found.summary(1.0), "0123456789abcdef" * 2, "state", MODEL)


def simulated(random: np.random.Generator, minutes: float, *, stay: float, prior: Sequence[float]) -> Summary:
    """A session with a frame a second, whose frames differ more than the moods that they show.

    Args:
        random: Source of randomness.
        minutes: Length.
        stay: Time that a mood lasts on average, in seconds, until it is drawn anew from the prior.
        prior: Probabilities of `MOODS`. The true balance is 0.7 times the difference of the first two.
    """
    found, mood = Accumulator(), int(random.choice(4, p=prior))
    for time in range(round(60 * minutes)):
        if random.uniform() < 1 - np.exp(-1 / stay):
            mood = int(random.choice(4, p=prior))
        balance = (0.7, -0.7, 0.0, 0.0)[mood] + 0.3 * random.normal()
        found.add(float(time), mood=mood, probability=0.9, balance=float(balance), reliable=True)
    return found.summary(1.0)
