"""No image, crop or landmark is left anywhere, whatever the outcome of the request."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_websocket
from websockets.typing import Subprotocol

from benchmarks.robustness.traces import markers, search
from service import images, schema
from service.classifier import GRAPH_FILE, METADATA_FILE, InputSpec, digest_of
from service.estimator import MoodEstimator
from service.moods import MOODS
from service.quality import RULE_FILE
from service.session.state import State
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode
from tests.support.server import UPLOAD, Server, serve
from tests.support.websockets import END, SESSION, ask, connect

TELLTALE = b"meaa-telltale-7c1e44b09d"
"""Marker in the EXIF block of the images in these tests."""


@pytest.fixture(scope="module")
def telltale(astronaut: Pixels) -> bytes:
    """A photo with the marker in its metadata."""
    exif = Image.Exif()
    exif[0x010E] = TELLTALE.decode()  # ImageDescription
    return encode(astronaut, exif=exif)


@pytest.fixture(scope="module")
def wanted(telltale: bytes, estimator: MoodEstimator) -> list[bytes]:
    """Byte strings that any copy of the photo would contain."""
    return [TELLTALE, *markers(telltale, estimator.estimate(telltale).face)]


def send_all_ways(server: Server, photo: bytes) -> list[int]:
    """The statuses of uploads with a face, without one, and broken."""
    client = server.client
    broken = photo[: len(photo) // 2]
    responses = [
        *(server.upload(photo) for _ in range(5)),
        server.upload(broken),
        server.upload(photo, field="photo"),
        server.upload(photo + bytes(10_000_000)),
        client.post(UPLOAD, content=photo, headers={"content-type": "image/jpeg"}),
        client.post(UPLOAD, content=photo, headers={"content-type": "text/plain"}),
        client.post(UPLOAD, content=iter([photo[:9000], photo[9000:]])),
        client.post(UPLOAD, content=photo, headers={"content-type": "multipart/form-data; boundary=x"}),
        server.upload(photo[:300] + bytes(len(photo))),
        server.upload(encode(np.zeros((99, 99, 3), np.uint8)) + photo),  # no face, then one
    ]
    frames = client.post(schema.FRAMES_PATH, files=[("image", image) for image in (photo, broken, photo)])
    goes_on = client.post(
        schema.FRAMES_PATH, files=[("image", photo)], data={"session": frames.json().get("session", "")}
    )
    damaged = client.post(schema.FRAMES_PATH, files=[("image", photo)], data={"session": photo[:300].hex()})
    hint = client.post(UPLOAD, files={"image": photo}, params={"box": "180,60,100,120", "faces": "all"})
    times = client.post(schema.FRAMES_PATH, files=[("image", photo)], data={"times": photo[:300].decode("latin-1")})
    with connect(server.port) as live:
        for frame in (photo, broken, photo):
            ask(live, frame)
        live.send(photo)  # nobody waits for its reply
    openings: list[Any] = [
        [photo[at : at + 9_000] for at in range(0, len(photo), 9_000)],  # in pieces, and nobody waits
        photo.decode("latin-1")[:3_000],  # as text
        photo.decode("latin-1"),  # as too long a text
        photo + bytes(10_000_000),
        json.dumps({"type": "resume", "session": photo[:300].hex()}),
    ]
    for opening in openings:
        with connect(server.port) as live, contextlib.suppress(ConnectionClosed):
            live.send(opening)
    for raw in (b"\x82\xff" + len(photo).to_bytes(8, "big") + bytes(4) + broken, photo):  # cut off; no frame at all
        with connect(server.port) as live, contextlib.suppress(ConnectionClosed):
            live.socket.sendall(raw)
            live.recv(timeout=10) if raw is photo else live.socket.close()
    with contextlib.suppress(InvalidStatus):
        connect(server.port, additional_headers={"Origin": "https://" + photo[1_024:1_100].hex()}).close()
    return [response.status_code for response in (*responses, frames, goes_on, damaged, hint, times)]


def directories(server: Server) -> list[Path]:
    """Directories in which a server could leave data: for logs, home and temporary files, and its working directory."""
    return [server.log.parent, ROOT]


def test_the_search_finds_what_is_there(
    telltale: bytes, wanted: list[bytes], astronaut: Pixels, tmp_path: Path
) -> None:
    for name, content in {
        "a cut.jpg": telltale[5_000:20_000],
        "metadata.txt": b"..." + TELLTALE,
        "pixels.bin": images.decode(telltale).tobytes(),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert search([tmp_path], wanted) == [tmp_path / name]
        (tmp_path / name).unlink()
    Image.fromarray(astronaut).save(tmp_path / "other.jpg", quality=30)
    assert search([tmp_path], wanted) == []


def test_nothing_of_an_image_is_written_or_logged(server: Server, telltale: bytes, wanted: list[bytes]) -> None:
    begun = time.time() - 1
    assert set(send_all_ways(server, telltale)) == {200, 400, 413, 415, 422}
    assert search(directories(server), wanted, since=begun) == []


def test_nothing_of_a_frame_is_in_the_session_the_replies_or_the_metrics(
    server: Server, telltale: bytes, wanted: list[bytes]
) -> None:
    broken = telltale[: len(telltale) // 2]
    body = server.client.post(schema.FRAMES_PATH, files=[("image", image) for image in (telltale, broken)]).json()
    with connect(server.port) as live:
        replies = [ask(live, frame) for frame in (telltale, broken, telltale)]
        last = ask(live, END)
    states = [State.decode(session).model_dump_json() for session in (body["session"], last["session"])]
    told = [json.dumps(body), *map(json.dumps, replies), json.dumps(last), *states, server.client.get("/metrics").text]
    for text in told:
        assert not any(marker in text.encode() for marker in wanted)
    assert all(len(state) < 2_000 for state in states)  # the crop of the face alone has 2,304 pixels


def test_what_a_handshake_says_is_logged_nowhere(guarded_server: Server) -> None:
    secrets = {name: f"{name.lower()}-5be10c7a" for name in ("Origin", "User-Agent", "X-Anything")}
    for names, path in ((["bearer.token-5be10c7a"], ""), ([], "?token=query-5be10c7a")):
        with pytest.raises(InvalidStatus):
            open_websocket(
                f"ws://127.0.0.1:{guarded_server.port}{SESSION}{path}",
                subprotocols=[Subprotocol(name) for name in (schema.SUBPROTOCOL, *names)],
                additional_headers=secrets,
                user_agent_header=None,
            )
    assert "5be10c7a" not in guarded_server.log.read_text()
    assert "5be10c7a" not in guarded_server.client.get("/metrics").text


@pytest.mark.slow
def test_a_fault_of_the_service_leaves_nothing_either(telltale: bytes, wanted: list[bytes], tmp_path: Path) -> None:
    """A bundle that declares a wrong input size: every image with a face fails in ONNX Runtime."""
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundle", bundle)
    metadata = json.loads((bundle / "classifier" / METADATA_FILE).read_text())
    metadata["input"]["size"] = 40
    metadata["digest"] = digest_of(
        (bundle / "classifier" / GRAPH_FILE).read_bytes(),
        moods=MOODS,
        spec=InputSpec(**metadata["input"]),
        temperature=metadata["temperature"],
    )
    (bundle / "classifier" / METADATA_FILE).write_text(json.dumps(metadata))
    (bundle / "classifier" / RULE_FILE).unlink()  # it is another classifier's now
    begun = time.time() - 1
    with serve(tmp_path, MEAA_BUNDLE=str(bundle), MEAA_WORKERS="1") as server:
        response = server.upload(telltale)
        assert response.status_code == 500
        assert response.json()["code"] == "internal_server_error"
        assert f"(request {response.json()['request']})" in server.log.read_text()
        assert 500 in send_all_ways(server, telltale)
        log = server.log.read_text()
        assert "A request failed: " in log
        assert "Traceback" not in log
        assert search(directories(server), wanted, since=begun) == []


def test_the_runtime_of_the_models_keeps_no_identifier_and_nothing_to_report(tmp_path: Path) -> None:
    """ONNX Runtime reports its use to its maker by default, from files in the user's cache and the temporary folder."""
    variables = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    program = "from pathlib import Path; from service.estimator import MoodEstimator as M; M.load(Path('bundle'))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**variables, **places}, check=True)
    assert not [*tmp_path.rglob("*")]
