"""`service.session.state`: a session as text that a client keeps."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from service.detector import Face
from service.errors import InvalidParameterError
from service.session.state import MAX_CHARACTERS, State
from service.session.tracker import Tracker


def long_session() -> State:
    state = State(session="0123456789abcdef" * 2, probabilities=(0.7, 0.1, 0.1, 0.1), time=1.0, frame=(640, 480))
    random = np.random.default_rng(0)
    for step in range(2_000):
        state.summary.add(
            step / 3, mood=int(random.integers(4)), probability=float(random.uniform()), balance=float(random.normal())
        )
    state.tracker, _ = Tracker().follow([Face(100 * column, 50, 80, 80, 0.987654) for column in range(16)], 1.0)
    return state


def test_what_was_written_is_read_again() -> None:
    state = long_session()
    state.encode()  # leaves out episodes that have no room
    again = State.decode(state.encode())
    assert again.tracker.subject == state.tracker.subject
    assert again.summary.frames == 2_000
    assert again.encode() == state.encode()


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
    from service.session import state

    packed = zlib.compress(b'{"session": "' + b"0" * 10_000_000 + b'"}', 9)
    monkeypatch.setattr(state, "MAX_CHARACTERS", 100_000)
    text = base64.urlsafe_b64encode(b"1" + state._checksum(packed) + packed).decode().rstrip("=")
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        State.decode(text)
