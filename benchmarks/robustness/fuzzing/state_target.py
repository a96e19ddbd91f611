"""Sessions that clients keep, and may make up: what the service makes of the text, and of the frames after it.

An input is a JSON document, which gets the right packing and checksum, or, after a line feed, the text itself.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np

from benchmarks.robustness.fuzzing.mutation import damage
from benchmarks.server import ROOT
from service.appearance import Appearance
from service.detector import Face
from service.errors import InvalidParameterError, NoFaceError
from service.estimator import MoodEstimate, MoodEstimator
from service.images import Frame
from service.moods import MOODS
from service.parameters import read_times
from service.problems import describe
from service.quality import Quality
from service.schema import AnsweredFrame, FailedFrame, FramesResponse
from service.session.engine import Session
from service.session.mood_filter import FilterSettings
from service.session.state import MAX_CHARACTERS, State

MAX_BYTES: Final = 40_000
CPU_SECONDS: Final = 0.5

_NUMBERS: Final = (
    0, 1, -1, 2, 16, 17, 100, 101, 0.5, -0.5, 1e-9, 1e-300, 5e-324, 99_999, 100_000, 100_001, -100_000, 999_999,
    1_000_000, 1_000_001, 2**31, 2**53, 2**63, 1e9, 9_999_999_999, 1e12, -1e12, 1.0001e12, 1e300, -1e300, 10**400,
    float("nan"), float("inf"), float("-inf"), 0.1 + 0.2, 3, -3, 0.25, True, None,
)  # fmt: skip
_OTHERS: Final[tuple[Any, ...]] = (
    "",
    "x",
    "0" * 32,
    "f" * 32,
    "\ud800",
    [],
    {},
    [[]],
    [0, 0, 0, 0],
    [1, 1],
    [0.25] * 4,
)
_BOX: Final = (10, 20, 60, 64)


def _face(x: int, y: int, width: int, height: int) -> Face:
    return Face(x=x, y=y, width=width, height=height, confidence=0.999, yaw=-4.0, roll=1.5)


class _Stage:
    """An estimator whose answers are made up; O-Net alone is asked, for what it does at any place."""

    def __init__(self) -> None:
        self._real = MoodEstimator.load(ROOT / "bundle")
        self.metadata = self._real.classifier.metadata
        self.faces: list[Face] = []
        self.confirmed: Face | None = None
        self.chance = random.Random(0)
        settings = self._real.detector.settings
        self.detector = SimpleNamespace(confirm=self._confirm, detect=lambda _: list(self.faces), settings=settings)

    def _confirm(self, pixels: Any, face: Face) -> Face | None:
        self._real.detector.confirm(pixels, face)
        return self.confirmed

    def classify(self, frame: Frame, face: Face, *, face_count: int) -> MoodEstimate:
        """An estimate by chance."""
        own = np.array([self.chance.random() ** 3 + 1e-6 for _ in MOODS])
        probabilities = dict(zip(MOODS, (own / own.sum()).tolist(), strict=True))
        reliable = self.chance.random() < 0.7
        values = dict.fromkeys(("brightness", "contrast", "sharpness"), 0.5)
        return MoodEstimate(
            mood=max(probabilities, key=probabilities.__getitem__),
            probabilities=probabilities,
            face=face,
            face_count=face_count,
            appearance=Appearance(**values, colourfulness=0.1, warmth=0.0, tint=0.0),
            quality=Quality(
                reliable=reliable,
                reasons=[] if reliable else ["blurred"],
                face_share=0.3,
                **values,
                yaw=0.0,
                roll=None,
            ),
        )


_FRAME: Final = Frame(np.zeros((120, 160, 3), np.uint8), 160, 120)


@cache
def _stage() -> _Stage:
    return _Stage()


@cache
def _settings() -> FilterSettings:
    return FilterSettings.read(ROOT / "bundle")


def _after(state: State | None, times: list[float], chance: random.Random) -> tuple[FramesResponse, State]:
    """The response to frames after a state, as `service.session.frames` makes it, and the state then."""
    stage = _stage()
    stage.chance = chance
    session = Session(cast(MoodEstimator, stage), _settings(), state)
    frames: list[AnsweredFrame | FailedFrame] = []
    for time in times:
        stage.faces = [
            _face(*(max(1, value + chance.randrange(-30, 30)) for value in _BOX))
            for _ in range(chance.choice((0, 1, 1, 2, 40)))
        ]
        stage.confirmed = chance.choice((None, _face(*_BOX)))
        if chance.random() < 0.2:
            session.miss(time)
            continue
        session.working_side()
        try:
            frames.append(AnsweredFrame.of(time, session.take(_FRAME, time), stage.metadata))
        except NoFaceError as error:
            frames.append(FailedFrame(status=422, time=time, problem=describe(NoFaceError, str(error))))
    return FramesResponse(frames=frames, session=session.state.encode(), summary=session.summary()), session.state


@cache
def seeds() -> tuple[bytes, ...]:
    """Sessions from short to long."""
    documents = []
    for count in (0, 1, 2, 20, 300):
        response, _ = _after(None, [index * 0.25 for index in range(count)], random.Random(count))
        packed = base64.urlsafe_b64decode(response.session + "=" * (-len(response.session) % 4))[9:]
        documents.append(zlib.decompress(packed))
    return (*documents, b"\n" + pack(documents[2]).encode(), b"\n")


def pack(document: bytes) -> str:
    """A document as text, as `State.encode` packs its own."""
    packed = zlib.compress(document, 9)
    checksum = hashlib.blake2b(packed, digest_size=8).digest()
    return base64.urlsafe_b64encode(b"1" + checksum + packed).decode().rstrip("=")


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A document in which some values are others, or a text with other bytes."""
    if not data or chance.random() < 0.05:
        data = chance.choice(seeds())
    if data.startswith(b"\n") or chance.random() < 0.05:
        changed = bytearray(data)
        damage(changed, chance, seeds())
        return bytes(changed)[:MAX_BYTES]
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = json.loads(seeds()[3])
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        _change(document, chance)
    try:
        return json.dumps(document).encode()[:MAX_BYTES]
    except RecursionError:
        return chance.choice(seeds())


def _change(document: Any, chance: random.Random) -> None:
    """Change one value somewhere in a document."""
    places: list[tuple[Any, Any]] = []
    _collect(document, places.append)
    if not places:
        return
    holder, key = chance.choice(places)
    old = holder[key]
    match chance.randrange(8):
        case 0 | 1 | 2:
            holder[key] = chance.choice(_NUMBERS)
        case 3:
            holder[key] = old * chance.choice((-1, 2, 1_000, 10**9)) if isinstance(old, int | float) else old
        case 4:
            holder[key] = copy.deepcopy(chance.choice(_OTHERS))
        case 5 if isinstance(holder, dict):
            del holder[key]
        case 5 | 6 if isinstance(holder, list):
            holder[key:key] = [old] * chance.choice((1, 2, 16, 100))
        case 7:
            other, name = chance.choice(places)
            holder[key] = copy.deepcopy(other[name])


def _collect(value: Any, keep: Callable[[tuple[Any, Any]], None], depth: int = 20) -> None:
    """Keep each place in a document that holds a value, as far as it is not nested deeper."""
    keys: Iterable[Any] = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys if depth else ():
        keep((value, key))
        _collect(value[key], keep, depth - 1)


def run(data: bytes) -> list[str]:
    """Read a session, and take frames into it.

    Returns:
        Whether it was refused.

    Raises:
        AssertionError: Something is not as it must be.
    """
    chance = random.Random(zlib.crc32(data))
    text = data[1:].decode("latin-1") if data.startswith(b"\n") else pack(data)
    try:
        state = State.decode(text)
    except InvalidParameterError:
        return ["refused"]
    latest = state.summary.last if state.summary.first is not None else None
    gap = chance.choice((0, 0, 1, 40))
    times = [time + gap for time in read_times(None, chance.choice((1, 2, 8)), latest)]
    response, after = _after(state, times, chance)
    json.dumps(response.model_dump(), allow_nan=False)  # as Starlette does
    assert all(frame.time >= 0 for frame in response.frames), "a time that no live session can have"
    assert len(response.session) <= MAX_CHARACTERS, "a long session"
    assert after.session == state.session, "another session"
    try:
        State.decode(response.session)
    except InvalidParameterError:  # made-up numbers may come to the limits, to whose harm is clear
        return ["taken once"]
    return ["taken"]
