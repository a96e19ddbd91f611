"""Sessions, hints and all faces at the service as it runs: through BentoML, with its log and its metrics."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from benchmarks import load
from benchmarks.robustness import hostile_images as hostile
from benchmarks.server import ready
from benchmarks.server import serve as start_server
from service.session.state import State
from tests.support.pictures import Pixels, encode
from tests.support.server import UPLOAD, Server, serve
from tests.support.websockets import END, ask, connect, reply

FRAMES = "/upload-meaa-frames"
NO_FACE = encode(np.zeros((100, 120, 3), np.uint8))
TOKEN = {"Authorization": "Bearer open sesame"}


def upload_frames(server: Server, images: list[bytes], **fields: str) -> httpx.Response:
    """The response to frames."""
    return server.client.post(FRAMES, files=[("image", image) for image in images], data=fields)


def counted(server: Server) -> dict[str, float]:
    """The requests that the metrics have counted, by code."""
    lines = server.client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("meaa_requests_total{")]
    return {line.split('code="')[1].split('"')[0]: float(line.split()[-1]) for line in found}


def rows(server: Server) -> list[dict[str, Any]]:
    """The rows of the prediction log."""
    return [json.loads(line) for line in server.prediction_log.read_text().splitlines()]


@pytest.fixture(scope="module")
def group(astronaut: Pixels) -> bytes:
    """Three faces of different sizes."""
    head = astronaut[20:220, 120:320]
    scene = np.full((420, 900, 3), 200, np.uint8)
    scene[20:120, 20:120] = head[::2, ::2]
    scene[10:410, 150:550] = head.repeat(2, axis=0).repeat(2, axis=1)
    scene[100:300, 650:850] = head
    return encode(scene)


def test_all_faces_are_listed_with_the_largest_first(server: Server, group: bytes) -> None:
    answer = server.client.post(UPLOAD, params={"faces": "all"}, files={"image": group}).json()
    assert answer["faces"] == 3
    people = answer["people"]
    assert [list(person) for person in people] == [["mood", "probabilities", "face", "quality"]] * 3
    widths = [person["face"]["width"] for person in people]
    assert widths == sorted(widths, reverse=True)
    assert people[0] == {name: answer[name] for name in ("mood", "probabilities", "face", "quality")}
    few = server.client.post(UPLOAD, params={"faces": "all", "max_faces": 2}, files={"image": group}).json()
    assert (few["faces"], few["people"]) == (3, people[:2])
    plain = server.client.post(UPLOAD, files={"image": group}).json()
    assert "people" not in plain
    assert plain["face"] == answer["face"]


def test_a_hint_finds_its_face_and_a_wrong_one_does_no_harm(server: Server, group: bytes) -> None:
    everybody = server.client.post(UPLOAD, params={"faces": "all"}, files={"image": group}).json()["people"]
    for person in everybody:
        box = person["face"]
        near = f"{box['x'] + 4},{box['y'] - 3},{box['width']},{box['height']}"
        answer = server.client.post(UPLOAD, params={"box": near}, files={"image": group}).json()
        assert answer["faces"] == 1
        for side in ("x", "y", "width", "height"):
            assert answer["face"][side] == pytest.approx(box[side], abs=0.12 * box["width"])
    for wrong in ("560,20,60,60", "-5000,0,10,10", "99999,99999,1,1", "0,0,100000,100000"):
        answer = server.client.post(UPLOAD, params={"box": wrong}, files={"image": group}).json()
        assert answer["face"]["width"] > 140


def test_quality_says_whether_an_answer_can_be_trusted(server: Server, photo: bytes) -> None:
    quality = server.upload(photo).json()["quality"]
    assert list(quality) == [
        "reliable", "reasons", "face_share", "brightness", "contrast", "sharpness", "yaw", "roll",
    ]  # fmt: skip
    assert quality["reliable"] == (quality["reasons"] == [])
    assert 0.15 < quality["face_share"] < 0.3
    assert abs(quality["roll"]) < 30


@pytest.mark.parametrize("query", ["faces=some", "max_faces=0", "box=1,2,3", "faces=all&faces=all"])
def test_a_parameter_that_cannot_be_read_is_a_problem(server: Server, photo: bytes, query: str) -> None:
    response = server.client.post(f"{UPLOAD}?{query}", files={"image": photo})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_parameter")


def test_frames_make_a_session_that_the_client_keeps(server: Server, photo: bytes) -> None:
    before = counted(server)
    first = upload_frames(server, [photo, b"no image", NO_FACE, photo], times="0,0.2,0.4,0.6")
    assert first.status_code == 200
    body = first.json()
    assert [frame["status"] for frame in body["frames"]] == [200, 400, 422, 200]
    second = upload_frames(server, [photo], session=body["session"]).json()
    assert second["frames"][0]["time"] == pytest.approx(1.1)
    assert (second["summary"]["frames"], second["summary"]["answered"]) == (5, 3)
    after = counted(server)
    assert {code: after[code] - before[code] for code in ("ok", "invalid_image", "no_face")} == {
        "ok": 3,
        "invalid_image": 1,
        "no_face": 1,
    }
    logged = rows(server)[-4:]
    assert [row["outcome"] for row in logged] == ["answered", "no_face", "answered", "answered"]
    assert {row["session"] for row in logged} == {State.decode(body["session"]).session}
    assert [row["request"] for row in logged] == [
        body["frames"][0]["estimate"]["request"],
        body["frames"][2]["problem"]["request"],
        body["frames"][3]["estimate"]["request"],
        second["frames"][0]["estimate"]["request"],
    ]


def test_a_session_holds_numbers_and_nothing_of_a_frame(server: Server, photo: bytes) -> None:
    state = State.decode(upload_frames(server, [photo] * 4).json()["session"])
    session, rest = state.session, state.model_dump(exclude={"session"})
    assert len(session) == 32

    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict | list | tuple):
            return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]
        return [value]

    assert {type(leaf) for leaf in leaves(rest)} <= {int, float, type(None)}
    assert len(leaves(rest)) < 60


@pytest.mark.parametrize(
    ("images", "fields", "expected"),
    [
        ([b"1"] * 33, {}, (413, "too_many_images")),
        ([bytes(9_000_000)] * 2, {}, (413, "too_large")),
        ([], {"times": "1"}, (400, "missing_image")),
        ([b"1"], {"session": "x"}, (400, "invalid_parameter")),
        ([b"1"], {"times": "1,2"}, (400, "invalid_parameter")),
    ],
    ids=["too many", "too large", "none", "no session", "wrong times"],
)
def test_frames_that_cannot_be_read_are_a_problem(
    server: Server, images: list[bytes], fields: dict[str, str], expected: tuple[int, str]
) -> None:
    files: Any = [("image", image) for image in images] or [("other", b"x")]
    response = server.client.post(FRAMES, files=files, data=fields)
    assert (response.status_code, response.json()["code"]) == expected


def test_a_live_session_is_logged_and_counted_as_uploads_are(server: Server, photo: bytes) -> None:
    before = counted(server)
    with connect(server.port) as connection:
        replies = [ask(connection, frame) for frame in (photo, b"no image", photo)]
        summary = ask(connection, END)["summary"]
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=10)
        assert connection.close_code == 1000
    assert [one.get("mood") for one in replies] == ["positive", None, "positive"]
    assert (summary["frames"], summary["answered"]) == (3, 2)
    after = counted(server)
    assert after["ok"] - before["ok"] == 2
    assert after["invalid_image"] - before["invalid_image"] == 1
    logged = rows(server)[-2:]
    assert [row["request"] for row in logged] == [replies[0]["estimate"]["request"], replies[2]["estimate"]["request"]]
    assert logged[0]["session"] == logged[1]["session"] is not None


def test_the_address_of_a_session_without_a_handshake(server: Server) -> None:
    response = server.client.get("/meaa-session")
    assert (response.status_code, response.json()["code"]) == (426, "upgrade_required")
    assert server.client.post("/meaa-session").status_code == 405


def test_sessions_need_a_token_if_there_is_one(guarded_server: Server, photo: bytes) -> None:
    assert upload_frames(guarded_server, [photo]).status_code == 401
    with connect(guarded_server.port, additional_headers=TOKEN) as connection:
        assert ask(connection, photo)["mood"] == "positive"
    page = {"origin": "https://clinic.example"}
    with connect(guarded_server.port, "bearer.open%20sesame", **page) as connection:  # as a browser does
        assert ask(connection, photo)["mood"] == "positive"
    for options in ({}, {"origin": "https://elsewhere.example", "additional_headers": TOKEN}):
        with pytest.raises(InvalidStatus):
            connect(guarded_server.port, **options).__enter__()


def test_no_line_of_the_log_tells_who_opened_a_session(server: Server, photo: bytes) -> None:
    with connect(server.port) as connection:
        ask(connection, photo)
    log = server.log.read_text()
    assert "127.0.0.1:" not in log.replace(f"127.0.0.1:{server.port}", "")
    assert "meaa-session" not in log


@pytest.mark.slow
def test_a_worker_that_stops_hands_its_sessions_over_to_the_next(photo: bytes, tmp_path: Path) -> None:
    with start_server(tmp_path, environment={"MEAA_WORKERS": "1", "TMPDIR": str(tmp_path)}) as running:
        with connect(running.port) as connection:
            assert ask(connection, photo)["frame"] == 0
            (worker,) = running.workers()
            worker.send_signal(signal.SIGTERM)
            last = reply(connection)
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=20)
        assert connection.close_code == 1012
        deadline = time.monotonic() + 60
        while not ready(running.port) and time.monotonic() < deadline:
            time.sleep(0.2)
        with connect(running.port) as connection:
            connection.send(json.dumps({"type": "resume", "session": last["session"]}))
            assert ask(connection, photo)["time"] == pytest.approx(0.5)
            assert ask(connection, END)["summary"]["frames"] == 2


@pytest.mark.slow
def test_a_request_of_slow_images_has_an_end_and_costs_ordinary_clients_nothing(server: Server, photo: bytes) -> None:
    slow = hostile.FILES["JPEG of 100 arithmetic scans"]()
    answers: list[httpx.Response] = []

    def attack() -> None:
        files = [("image", slow)] * 32
        answers.append(httpx.post(f"{server.client.base_url}{FRAMES}", files=files, timeout=100))

    attacking = threading.Thread(target=attack)
    attacking.start()
    ordinary = load.run(server.port, [load.upload_request(photo)], clients=4, seconds=5, rate=8)
    attacking.join()
    statuses = [frame["status"] for frame in answers[0].json()["frames"]]
    assert len(statuses) == 32
    assert set(statuses) <= {413, 422, 503}
    assert sum(answer.status == load.OK for answer in ordinary) >= 0.9 * len(ordinary)


@pytest.mark.slow
def test_a_session_may_be_longer_than_any_request(photo: bytes, tmp_path: Path) -> None:
    """BentoML cancels what takes longer than its timeout, which a session must not be."""
    with serve(tmp_path, MEAA_WORKERS="1", MEAA_READ_SECONDS="1") as server, connect(server.port) as connection:
        end = time.monotonic() + 65
        while time.monotonic() < end:
            assert ask(connection, photo)["mood"] == "positive"
            time.sleep(1)
        assert ask(connection, END)["summary"]["answered"] > 30
