"""Fuzzing for seconds, as `make soak` does for minutes, and `make fuzz` for as long as one likes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.robustness import fuzz
from benchmarks.robustness.fuzzing import http_mutation, image_target, jpeg, multipart_target, png, webp
from benchmarks.robustness.fuzzing.recorder import Recorder, cpu_seconds
from benchmarks.robustness.fuzzing.state_target import pack
from benchmarks.robustness.schemathesis_run import run
from benchmarks.server import ROOT
from service import images
from service.errors import InvalidParameterError, UnsupportedTypeError
from service.session.state import State
from tests.support.raw_http import connect, exchange, parse, received
from tests.support.server import Server, serve

OTHER_FORMATS = (b"GIF8", b"II*\0")


def test_damaged_images_raise_nothing_but_the_typed_errors(tmp_path: Path) -> None:
    result = fuzz.run_random("image", 1500, 7, tmp_path)
    assert not result.findings
    assert {"decoded", "decoded in a process", "invalid_image", "too_large", "unsupported_type"} <= set(result.outcomes)


@pytest.mark.parametrize(
    ("target", "count", "outcomes"),
    [
        ("http", 300, {"200", "400", "401", "404", "422", "431"}),
        ("multipart", 1000, {"read", "missing_image", "too_large", "unsupported_type"}),
        ("connections", 200, {"done", "served"}),
        ("frames", 1000, {"read", "missing_image", "too_many_images", "invalid_parameter", "unsupported_type"}),
        ("state", 1000, {"refused", "taken"}),
        (
            "websocket",
            200,
            {"101", "426", "no_face", "invalid_image", "summary", "closed with 1000", "closed with 1002"},
        ),
    ],
)
def test_damaged_requests_do_not_break_what_holds_for_all_requests(
    target: str, count: int, outcomes: set[str], tmp_path: Path
) -> None:
    # In a process of its own, since it replaces the event loop, the log and the threads.
    command = [
        sys.executable,
        "-m",
        fuzz.__name__,
        "random",
        target,
        "--count",
        str(count),
        "--directory",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout)
    assert not result["findings"]
    assert outcomes <= set(result["outcomes"])


@pytest.mark.parametrize("target", [image_target, http_mutation, multipart_target])
def test_the_mutants_are_the_same_for_the_same_seed(target: SimpleNamespace) -> None:
    first, again, other = (list(fuzz.mutants(target, 50, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_all_image_seeds_but_those_of_two_formats_are_read() -> None:
    refused = [seed for seed in image_target.seeds() if seed.startswith(OTHER_FORMATS)]
    assert len(refused) == 2
    for seed in image_target.seeds():
        if seed not in refused:
            assert images.decode(seed).ndim == 3
    for seed in refused:
        with pytest.raises(UnsupportedTypeError):
            images.decode(seed)


def test_an_image_that_is_taken_apart_and_put_together_is_the_same() -> None:
    for seed in image_target.seeds():
        if seed.startswith(jpeg.SIGNATURE):
            assert b"".join(segment.to_bytes() for segment in jpeg.parse(seed)) == seed
        elif seed.startswith(png.SIGNATURE):
            assert png.SIGNATURE + b"".join(chunk.to_bytes() for chunk in png.parse(seed)) == seed
        elif seed.startswith(webp.SIGNATURE):
            assert seed[:12] + b"".join(chunk.to_bytes() for chunk in webp.parse(seed[12:])) == seed


def test_mutants_of_mutants_of_images_are_still_images() -> None:
    chance, data = random.Random(1), image_target.seeds()[0]
    for _ in range(200):
        data = jpeg.mutate(data, chance)[: image_target.MAX_BYTES]
    assert jpeg.parse(data)


def test_a_broken_promise_is_found_and_its_input_kept(tmp_path: Path) -> None:
    def fail_for_b(data: bytes) -> list[str]:
        if data == b"b":
            raise ValueError("b is refused")
        return ["fine"]

    recorder = Recorder("letters", SimpleNamespace(CPU_SECONDS=1.0, run=fail_for_b), tmp_path)
    for data in (b"a", b"b", b"b", b"c"):
        recorder.feed(data)
    assert recorder.result.outcomes == {"fine": 2, "broken": 2}
    (kind,) = recorder.result.findings
    assert kind.endswith("b is refused")
    assert Path(recorder.result.findings[kind]).read_bytes() == b"b"


def test_an_input_that_takes_too_long_is_found(tmp_path: Path) -> None:
    recorder = Recorder("slow", SimpleNamespace(CPU_SECONDS=0.0, run=lambda _: [str(sum(range(100_000)))]), tmp_path)
    recorder.feed(b"a")
    assert "more than 0 seconds of CPU time" in recorder.result.findings


def test_the_time_of_a_child_that_has_ended_is_not_that_of_the_input(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"

    def run(_: bytes) -> list[str]:
        subprocess.run([sys.executable, "-c", busy], check=True)
        return ["done"]

    recorder = Recorder("busy child", SimpleNamespace(CPU_SECONDS=0.1, run=run), tmp_path)
    before = cpu_seconds()
    recorder.feed(b"a")
    assert cpu_seconds() - before > 0.1
    assert not recorder.result.findings


# What fuzzing has found


def test_an_empty_query_is_as_good_as_none(tmp_path: Path) -> None:
    body = http_mutation.IMAGE
    fields = b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nAuthorization: Bearer fuzz\r\n"
    head = b"POST /upload-meaa-image? HTTP/1.1\r\n" + fields + b"Content-Length: %d\r\n\r\n" % len(body)
    (tmp_path / "requests").write_bytes(head + body + b"HEAD /? HTTP/1.1\r\nHost: a\r\n\r\n")
    command = [sys.executable, "-m", fuzz.__name__, "replay", "http", str(tmp_path / "requests")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "['422', '200', '422', '200']\n", done.stderr


def test_a_head_request_that_is_refused_gets_no_body(server: Server) -> None:
    # All in one piece, so that the broken body is met before the application has answered.
    (answer,) = exchange(
        server.port, b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno chunk", bodiless=True
    )
    assert answer.status == 400


def test_a_client_that_leaves_without_reading_keeps_no_connection_open(tmp_path: Path) -> None:
    upload = http_mutation.seeds()[0]
    actions = bytes([4, 1]) + bytes([1, 1]) + len(upload).to_bytes(2, "big") + upload + bytes([5, 1])
    (tmp_path / "actions").write_bytes(actions)  # reads nothing, sends an upload, closes its half
    command = [sys.executable, "-m", fuzz.__name__, "replay", "connections", str(tmp_path / "actions")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "['done']\n", done.stderr


def test_a_made_up_session_with_more_reliable_frames_than_frames_is_refused() -> None:
    session = {"session": "0" * 32, "summary": {"frames": 0, "reliable": 1, "answered": 1, "first": 0.0}}
    with pytest.raises(InvalidParameterError):  # the next reliable frame would have been a fault of the service
        State.decode(pack(json.dumps(session).encode()))
    session["summary"] = {"frames": 1, "reliable": 1, "answered": 1, "first": 0.0}
    assert State.decode(pack(json.dumps(session).encode())).summary.frames == 1


@pytest.mark.slow
def test_line_ends_after_a_response_do_not_keep_a_connection_open(server: Server) -> None:
    with connect(server.port) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.recv(65_536)
        connection.sendall(b"\r\n")
        rest = received(connection)  # until the server closes; it would time out otherwise
    assert b"HTTP/1.1" not in rest


@pytest.mark.slow
def test_a_head_that_begins_before_the_response_to_the_request_before_it_has_its_time(tmp_path: Path) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
    with serve(tmp_path) as server, connect(server.port) as connection:
        connection.sendall(request + b"\r\n" + request)
        time.sleep(6)  # an idle connection would be closed after 5
        connection.sendall(b"Connection: close\r\n\r\n")
        assert [answer.status for answer in parse(received(connection))] == [200, 200]


@pytest.mark.slow
def test_responses_conform_to_the_openapi_document(server: Server, tmp_path: Path) -> None:
    result = run(str(server.client.base_url), tmp_path, examples=5)
    assert result.returncode == 0, result.stdout
