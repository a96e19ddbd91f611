"""`service.session.state`: a session as text that a client keeps."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.detector import Face
from service.errors import InvalidParameterError
from service.moods import MOODS
from service.session import state as state_module
from service.session.intervals import balance, share
from service.session.mood_filter import FilterSettings, MoodFilter
from service.session.state import MAX_CHARACTERS, State
from service.session.tracker import Tracker


def long_session() -> State:
    state = State(session="0123456789abcdef" * 2, probabilities=(0.7, 0.1, 0.1, 0.1), time=1.0, frame=(640, 480))
    random = np.random.default_rng(0)
    for step in range(2_000):
        state.summary.add(
            step / 3, mood=int(random.integers(4)), probability=float(random.uniform()), balance=float(random.normal())
        )
    tracker, _ = Tracker().follow([Face(100 * column, 50, 80, 80, 0.98765) for column in range(16)], 1.0)
    state.tracker, _ = tracker.follow([Face(30, 50, 90, 90, 0.98765)], 1.25)  # a sudden move of the subject
    return state


def test_what_was_written_is_read_again() -> None:
    state = long_session()
    again = State.decode(state.encode())
    assert again.tracker == state.tracker
    assert again.tracker.home is not None
    assert again.summary.frames == 2_000
    assert again.encode() == state.encode()


def test_writing_a_state_changes_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_CHARACTERS", 1_500)
    state = long_session()
    before = state.model_copy(deep=True)
    assert len(State.decode(state.encode()).summary.episodes) < len(before.summary.episodes)
    assert state == before


def test_the_longest_session_has_room_and_keeps_its_latest_episodes() -> None:
    state = long_session()
    latest = state.summary.episodes[-1]
    text = state.encode()
    assert len(text) <= MAX_CHARACTERS
    assert State.decode(text).summary.episodes[-1] == pytest.approx(latest, abs=1e-4)
    assert text.replace("-", "").replace("_", "").isalnum()  # no form, header or log has to quote it


@pytest.mark.parametrize("damage", [0, 1, 9, 40, -1])
def test_a_damaged_text_is_refused(damage: int) -> None:
    text = list(long_session().encode())
    text[damage] = "A" if text[damage] != "A" else "B"
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        State.decode("".join(text))


@pytest.mark.parametrize("text", ["", "x", "é" * 20, "A" * (MAX_CHARACTERS + 1), "MQ", "1" * 100, " " * 50])
def test_what_is_no_session_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        State.decode(text)


def test_text_that_would_inflate_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = zlib.compress(b'{"session": "' + b"0" * 10_000_000 + b'"}', 9)
    monkeypatch.setattr(state_module, "MAX_CHARACTERS", 100_000)
    text = base64.urlsafe_b64encode(b"1" + state_module._checksum(packed) + packed).decode().rstrip("=")
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        State.decode(text)


def forged(document: Any) -> str:
    """A document with the checksum that a state has."""
    packed = zlib.compress(json.dumps(document).encode(), 9)
    return base64.urlsafe_b64encode(b"1" + state_module._checksum(packed) + packed).decode().rstrip("=")


def paths(document: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where the numbers of a document are."""
    if isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from paths(value, *before, key)
    elif isinstance(document, int | float):
        yield before


def test_whoever_makes_a_state_up_deceives_himself_and_does_not_hurt_the_service() -> None:
    """Each number of a state is replaced by others; what is then read can be used like any other state."""
    state = State.decode(long_session().encode())
    state.summary.episodes = state.summary.episodes[-2:]
    state.places = state.places[:2]
    document = json.loads(state.model_dump_json())
    read = 0
    for path in paths(document):
        for value in (0, -1, 1, 2, -1e-300, 1e-300, 0.5, 1e5, 1e6, -1e12, 1e12, 1e13, 1e308, -1e308, 10**400, math.nan):
            changed: Any = json.loads(json.dumps(document))
            *way, last = path
            at = changed
            for key in way:
                at = at[key]
            at[last] = value
            try:
                other = State.decode(forged(changed))
            except InvalidParameterError:
                continue
            read += 1
            for step in range(3):
                time = other.summary.last + step
                tracker, _ = other.tracker.follow([Face(150, 60, 80, 80, 0.9), Face(900, 60, 80, 80, 0.9)], time)
                other.tracker = tracker
                other.summary.add(time, mood=step, probability=0.5, balance=0.1, reliable=True)
                settings = FilterSettings(5.0, 1.0, 0.3, (0.25, 0.25, 0.25, 0.25))
                MoodFilter(settings, other.probabilities, other.time).update(time, (0.1, 0.2, 0.3, 0.4))
                found = other.summary.summary(1.0)
                assert "NaN" not in found.model_dump_json() + f"{balance(found, 5.0)}{share(found, MOODS[0], 5.0)}"
            with contextlib.suppress(InvalidParameterError):  # it may have grown out of bounds
                State.decode(other.encode())
    assert read > 100


@pytest.mark.parametrize("document", [None, 1, [], "x", {}, {"session": 1}, {"session": "0" * 31}])
def test_a_document_of_another_kind_is_refused(document: Any) -> None:
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        State.decode(forged(document))


def test_what_a_later_release_adds_is_ignored() -> None:
    state = State.decode(long_session().encode())
    document = json.loads(state.model_dump_json())
    document["later"] = document["summary"]["later"] = document["places"][0]["later"] = 1
    assert State.decode(forged(document)) == state


def test_a_deep_document_is_refused() -> None:
    packed = zlib.compress(b"[" * 30_000, 9)
    text = base64.urlsafe_b64encode(b"1" + state_module._checksum(packed) + packed).decode().rstrip("=")
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        State.decode(text)
