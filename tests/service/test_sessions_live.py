"""`GET /meaa-session`: order, bad frames, overload, end, access and limits, met by a real WebSocket client."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_websocket
from websockets.typing import Subprotocol

from benchmarks.robustness.fuzzing.state_target import pack
from service import memory, request_id
from service.admission import Buffer, Rate
from service.classifier import MoodClassifier
from service.detector import FaceDetector
from service.estimator import MoodEstimate, MoodEstimator
from service.images import Frame
from service.moods import MOODS
from service.processing import Processing, Recorder
from service.session.live import LiveSessions, upgrade_required
from service.session.mood_filter import FilterSettings
from service.session.state import State
from service.settings import Settings
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode
from tests.support.websockets import END, SESSION, ask, connect, port_of, reply, serving

Live = Callable[..., Any]


@pytest.fixture(scope="module")
def estimator() -> MoodEstimator:
    """The released nets, with a rule that calls every estimate reliable."""
    bundle = ROOT / "bundle"
    return MoodEstimator(FaceDetector(bundle / "detector"), MoodClassifier(bundle / "classifier"))


@pytest.fixture
def live(estimator: MoodEstimator, monkeypatch: pytest.MonkeyPatch) -> Live:
    """A context manager: a server with settings that differ from the defaults; it gives its port.

    The server itself is put into the list `servers`, if there is one.
    """

    @contextmanager
    def start(
        *,
        record: Recorder | None = None,
        room: int = 64_000_000,
        servers: list[uvicorn.Server] | None = None,
        **settings: Any,
    ) -> Iterator[int]:
        values = Settings(**settings)
        filter_settings = FilterSettings.read(ROOT / "bundle")
        processing = Processing(estimator, filter_settings, values, trimmer=memory.Trimmer(), record=record)

        async def refuse(_: Request) -> Response:
            return upgrade_required()

        routes = [WebSocketRoute(SESSION, LiveSessions(processing, values).serve), Route(SESSION, refuse)]
        with serving(Starlette(routes=routes), monkeypatch, max_bytes=values.max_bytes, room=Buffer(room)) as server:
            if servers is not None:
                servers.append(server)
            yield port_of(server)

    return start


def close_code(connection: Any) -> int:
    """The code with which the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=10)
    assert closed.value.rcvd is not None
    return int(closed.value.rcvd.code)


def refusal(port: int, *subprotocols: str, **options: Any) -> tuple[int, str]:
    """The status and the code of the problem with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as refused:
        connect(port, *subprotocols, **options).__enter__()
    response = refused.value.response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.body is not None
    return response.status_code, httpx.Response(200, content=bytes(response.body)).json()["code"]


NO_FACE = encode(np.zeros((100, 120, 3), np.uint8))


def test_each_frame_gets_one_reply_in_order_and_the_end_a_summary(live: Live, photo: bytes) -> None:
    with live() as port, connect(port) as connection:
        assert connection.subprotocol == "meaa.v1"
        for _ in range(6):
            connection.send(photo)
        replies = [reply(connection) for _ in range(6)]
        assert [one["frame"] for one in replies] == list(range(6))
        times = [one["time"] for one in replies]
        assert times[0] == 0
        assert times == sorted(times)
        for one in replies:
            assert list(one) == ["frame", "time", "estimate", "mood", "probabilities"]
            assert one["mood"] == one["estimate"]["mood"] == "positive"
            assert list(one["probabilities"]) == list(MOODS)
            assert sum(one["probabilities"].values()) == pytest.approx(1)
            assert one["estimate"]["face_id"] == 1
        assert len({one["estimate"]["request"] for one in replies}) == 6
        summary = ask(connection, END)["summary"]
        assert (summary["frames"], summary["answered"], summary["reliable_share"]) == (6, 6, 1)
        assert summary["moods"]["positive"]["share"] == 1
        assert close_code(connection) == 1000


def test_a_bad_frame_costs_that_frame_and_not_the_session(live: Live, photo: bytes) -> None:
    with live() as port, connect(port) as connection:
        frames = [photo, b"", photo[: len(photo) // 2], b"GIF89a", NO_FACE, photo]
        replies = [ask(connection, frame) for frame in frames]
        codes = [one["problem"]["code"] if "problem" in one else None for one in replies]
        assert codes == [None, "invalid_image", "invalid_image", "unsupported_type", "no_face", None]
        assert [one["frame"] for one in replies] == list(range(6))
        assert [one["problem"]["status"] for one in replies[1:5]] == [400, 400, 415, 422]
        assert replies[0]["estimate"]["face_id"] == replies[5]["estimate"]["face_id"]
        summary = ask(connection, END)["summary"]
        assert (summary["frames"], summary["answered"]) == (6, 2)


def test_a_fault_costs_that_frame_and_not_the_session(
    live: Live, photo: bytes, estimator: MoodEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret of the image")

    with live() as port, connect(port) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(estimator.classifier, "predict", fail)
            problem = ask(connection, photo)["problem"]
        assert (problem["status"], problem["code"]) == (500, "internal_server_error")
        assert "secret" not in str(problem)
        assert ask(connection, photo)["mood"] == "positive"
        assert ask(connection, END)["summary"]["frames"] == 2


def test_frames_are_logged_with_the_id_of_their_session(live: Live, photo: bytes) -> None:
    rows: list[dict[str, Any]] = []

    def record(frame: Frame, estimate: MoodEstimate | None, **values: Any) -> None:
        rows.append({"answered": estimate is not None, "request": request_id.current(), **values})

    with live(record=record) as port:
        replies = []
        for _ in range(2):
            with connect(port) as connection:
                replies += [ask(connection, frame) for frame in (photo, NO_FACE, b"no image", photo)]
    assert [row["answered"] for row in rows] == [True, False, True] * 2
    assert len({row["session"] for row in rows[:3]}) == len({row["session"] for row in rows[3:]}) == 1
    assert rows[0]["session"] != rows[3]["session"]
    assert len({row["request"] for row in rows}) == 6
    assert [one["estimate"]["request"] if "estimate" in one else one["problem"]["request"] for one in replies[:2]] == [
        row["request"] for row in rows[:2]
    ]


def test_a_large_frame_goes_through_the_decoder_process(live: Live, astronaut: Pixels) -> None:
    large = encode(np.asarray(astronaut).repeat(4, axis=0).repeat(4, axis=1), "PNG")
    with live() as port, connect(port) as connection:
        assert ask(connection, large)["mood"] == "positive"
        face = ask(connection, large)["estimate"]["face"]
        assert 4 * 205 - 400 < face["x"] < 4 * 205


def test_an_overload_costs_that_frame_and_not_the_session(live: Live, photo: bytes) -> None:
    entered, may_go = threading.Event(), threading.Event()

    def hold_up(*_: Any, **__: Any) -> None:
        entered.set()
        assert may_go.wait(timeout=30)

    with live(record=hold_up, max_queue=1, threads=1) as port, connect(port) as first, connect(port) as second:
        first.send(photo)
        assert entered.wait(timeout=30)
        assert ask(second, photo)["problem"]["code"] == "overloaded"
        may_go.set()
        assert reply(first)["mood"] == "positive"
        assert ask(second, photo)["mood"] == "positive"
        summary = ask(second, END)["summary"]
        assert (summary["frames"], summary["answered"]) == (2, 1)


def test_a_frame_for_whose_bytes_there_is_no_room_is_an_overload(live: Live, photo: bytes) -> None:
    with live(room=200_000) as port, connect(port) as connection:
        assert ask(connection, photo)["mood"] == "positive"
        assert ask(connection, bytes(300_000))["problem"]["code"] == "overloaded"
        assert ask(connection, photo)["frame"] == 2


def test_a_frame_with_too_many_bytes_ends_the_session_with_1009(live: Live, photo: bytes) -> None:
    with live(max_bytes=len(photo)) as port, connect(port) as connection:
        assert ask(connection, photo)["mood"] == "positive"
        connection.send(photo + b"x")
        assert close_code(connection) == 1009


@pytest.mark.parametrize(
    "text", ["", "end", "{}", '{"type": "begin"}', '{"type": "end", "x": 1}', "[" * 900, "1" * 2000]
)
def test_any_other_text_ends_the_session_with_1008(live: Live, text: str) -> None:
    with live() as port, connect(port) as connection:
        connection.send(text)
        assert close_code(connection) == 1008


def test_the_end_of_an_empty_session_has_a_summary_too(live: Live) -> None:
    with live() as port, connect(port) as connection:
        summary = ask(connection, END)["summary"]
        assert (summary["frames"], summary["seconds"], summary["balance"], summary["episodes"]) == (0, 0, None, [])


def resume(session: str) -> str:
    """The text message with which a session goes on."""
    return json.dumps({"type": "resume", "session": session})


def test_a_session_goes_on_in_another_connection_and_by_requests(live: Live, photo: bytes) -> None:
    with live() as port:
        with connect(port) as connection:
            for frame in (photo, b"no image", photo):
                ask(connection, frame)
            ended = ask(connection, END)
        with connect(port) as connection:
            connection.send(resume(ended["session"]))
            further = ask(connection, photo)
            summary = ask(connection, END)
    assert set(ended) == {"summary", "session"}
    assert len(ended["session"]) <= 4_000
    last = State.decode(ended["session"]).summary.last
    assert (further["frame"], further["time"]) == (0, pytest.approx(last + 0.5))
    assert further["estimate"]["face_id"] == 1
    assert (summary["summary"]["frames"], summary["summary"]["answered"]) == (4, 3)
    assert State.decode(summary["session"]).session == State.decode(ended["session"]).session


@pytest.mark.parametrize("session", ["", "x", "A" * 4_001, "\u00e9", State(session="0" * 32).encode()[:-1]])
def test_a_session_that_cannot_be_read_is_closed_with_1008(live: Live, session: str) -> None:
    with live() as port, connect(port) as connection:
        connection.send(resume(session))
        assert close_code(connection) == 1008


def test_a_made_up_session_before_the_beginning_of_time_is_closed_with_1008(live: Live) -> None:
    document = {"session": "0" * 32, "summary": {"frames": 1, "first": -9.0, "last": -5.0}}
    with live() as port, connect(port) as connection:
        connection.send(resume(pack(json.dumps(document).encode())))
        connection.send(b"no image")  # its reply could not have told its time
        assert close_code(connection) == 1008


def test_a_session_is_resumed_before_its_frames_or_not_at_all(live: Live, photo: bytes) -> None:
    with live() as port, connect(port) as connection:
        assert ask(connection, photo)["frame"] == 0
        connection.send(resume(State(session="0" * 32).encode()))
        assert close_code(connection) == 1008


def test_a_worker_that_stops_hands_the_session_over(live: Live, photo: bytes) -> None:
    entered, may_go = threading.Event(), threading.Event()

    def hold_up(*_: Any, **__: Any) -> None:
        entered.set()
        assert may_go.wait(timeout=30)

    servers: list[uvicorn.Server] = []
    with live(record=hold_up, servers=servers) as port, connect(port) as connection:
        connection.send(photo)
        assert entered.wait(timeout=30)
        connection.send(photo)  # this one will not have begun
        time.sleep(0.2)
        servers[0].should_exit = True
        time.sleep(0.2)
        may_go.set()
        assert reply(connection)["mood"] == "positive"
        last = reply(connection)
        assert last["summary"]["answered"] == State.decode(last["session"]).summary.answered == 1
        assert close_code(connection) == 1012


def test_memory_is_given_back_after_a_session(live: Live, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = threading.Event()
    monkeypatch.setattr(memory, "give_back", given_back.set)
    with live() as port:
        with connect(port) as connection:
            assert ask(connection, photo)["frame"] == 0
            assert not given_back.is_set()
        assert given_back.wait(timeout=10)


def test_a_crowd_of_faces_costs_no_more_than_the_subject(live: Live, astronaut: Pixels) -> None:
    head = astronaut[20:220, 120:320]
    crowd = encode(np.tile(head[::2, ::2], (6, 8, 1)))
    with live() as port, connect(port) as connection:
        answers = [ask(connection, crowd) for _ in range(3)]
        state = State.decode(ask(connection, END)["session"])
    assert answers[0]["estimate"]["faces"] > 16
    assert answers[1]["estimate"]["faces"] == 1  # within a second nobody else is looked for
    assert len(state.places) == 16


def test_too_many_frames_a_second_end_the_session_with_1008(live: Live) -> None:
    with live(session_rate=2) as port, connect(port) as connection:
        for number in range(10):  # what a line held up may come at once
            assert ask(connection, b"no image")["frame"] == number
        connection.send(b"no image")
        assert close_code(connection) == 1008


def test_a_rate_recovers_with_time() -> None:
    rate = Rate(2.0, now=100.0)
    assert [rate.allows(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert not rate.allows(100.4)
    assert rate.allows(100.6)
    assert not rate.allows(100.7)
    assert [rate.allows(1000.0) for _ in range(11)] == [True] * 10 + [False]


def test_a_silent_session_is_closed_with_1001(live: Live, photo: bytes) -> None:
    with live(session_idle_seconds=1) as port, connect(port) as connection:
        started = time.monotonic()
        for _ in range(3):
            time.sleep(0.6)
            assert ask(connection, photo)["mood"] == "positive"
        assert close_code(connection) == 1001
        assert time.monotonic() - started > 2.5


def test_a_long_session_is_closed_with_1001_however_busy(live: Live) -> None:
    with live(session_seconds=1) as port, connect(port) as connection:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                ask(connection, b"no image")
                time.sleep(0.05)
        assert connection.close_code == 1001


def test_no_more_than_so_many_sessions_are_open_and_a_dropped_one_makes_room(live: Live, photo: bytes) -> None:
    with live(max_sessions=2) as port, ExitStack() as stack:
        first, _ = (stack.enter_context(connect(port)) for _ in range(2))
        with connect(port) as third:
            assert close_code(third) == 1013
        first.send(photo)
        first.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.socket.close()
        time.sleep(1)
        with connect(port) as fourth:
            assert ask(fourth, photo)["frame"] == 0


def test_a_client_that_does_not_read_loses_its_session(
    live: Live, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(session_rate=10_000, max_sessions=1) as port:
        monkeypatch.setattr("service.connections.Connection.seconds", 0.5)
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(
                f"GET {SESSION} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n"
                "Sec-WebSocket-Protocol: meaa.v1\r\n\r\n".encode()
            )
            raw.settimeout(12)
            frame = b"\x82\xfe\x10\x00" + bytes(4 + 4_096)  # no more of them in a read than may wait
            # Who sends into a full line need not hear of its end; that the next one finds room is what counts.
            with contextlib.suppress(ConnectionError, TimeoutError):
                while True:
                    raw.sendall(frame)
        time.sleep(0.5)
        with connect(port) as connection:
            assert ask(connection, photo)["mood"] == "positive"


def test_a_token_comes_in_the_header_or_as_a_second_subprotocol(live: Live, photo: bytes) -> None:
    with live(token=("open sesame", "AB-c.1_2")) as port:
        for options in ({"additional_headers": {"Authorization": "Bearer open sesame"}}, {}):
            names = () if options else ("bearer.AB-c.1_2",)
            with connect(port, *names, **options) as connection:
                assert connection.subprotocol == "meaa.v1"  # never the token
                assert ask(connection, photo)["mood"] == "positive"
        with connect(port, "bearer." + quote("open sesame")) as connection:
            assert ask(connection, photo)["frame"] == 0
        unauthorized = (401, "unauthorized")
        assert refusal(port) == unauthorized
        assert refusal(port, "bearer.") == unauthorized
        assert refusal(port, "bearer.AB-c.1_3") == unauthorized
        assert refusal(port, "AB-c.1_2") == unauthorized
        wrong = {"Authorization": "Bearer wrong"}
        assert refusal(port, "bearer.AB-c.1_2", additional_headers=wrong) == unauthorized


def test_pages_of_other_origins_may_not_open_a_session(live: Live) -> None:
    forbidden = (403, "forbidden")
    with live(cors_origins=("https://clinic.example",)) as port:
        for origin in (None, "https://clinic.example", f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}"):
            with connect(port, origin=origin) as connection:
                assert ask(connection, END)["summary"]["frames"] == 0
        for origin in ("https://clinic.example.evil", "http://127.0.0.1", "null", "https://", "x"):
            assert refusal(port, origin=origin) == forbidden
    with live(cors_origins=("*",)) as port, connect(port, origin="https://anywhere.example") as connection:
        assert ask(connection, END)["summary"]["frames"] == 0


def test_a_page_of_another_origin_gets_no_session_by_adding_ours(live: Live) -> None:
    with live() as port:
        own = {"Origin": f"http://127.0.0.1:{port}"}
        assert refusal(port, origin="https://evil.example", additional_headers=own) == (403, "forbidden")


def test_a_token_in_the_address_is_no_token(live: Live) -> None:
    with live(token=("abc",)) as port, pytest.raises(InvalidStatus) as refused:
        open_websocket(
            f"ws://127.0.0.1:{port}{SESSION}?token=abc&access_token=abc", subprotocols=[Subprotocol("meaa.v1")]
        )
    assert refused.value.response.status_code == 401


def test_a_client_must_offer_the_subprotocol(live: Live) -> None:
    with live() as port:
        assert refusal(port, subprotocols=["meaa.v2"]) == (400, "invalid_parameter")
        assert refusal(port, subprotocols=None) == (400, "invalid_parameter")


def test_a_request_without_a_handshake_is_told_to_upgrade(live: Live) -> None:
    with live() as port:
        response = httpx.get(f"http://127.0.0.1:{port}{SESSION}")
        assert response.status_code == 426
        assert response.json()["code"] == "upgrade_required"
        assert response.headers["upgrade"] == "websocket"
