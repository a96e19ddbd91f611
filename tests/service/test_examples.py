"""The guides' clients and examples, as a reader copies them, against a running service."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import requests
from websockets.exceptions import InvalidStatus

from benchmarks.server import RunningServer
from benchmarks.server import serve as start_server
from tests.support.guides import code
from tests.support.pictures import Pixels, encode
from tests.support.server import Server
from tests.support.videos import quicktime
from tests.support.websockets import SESSION

pytestmark = pytest.mark.slow

CLIENTS = "integrate/clients.md"
TOKEN = "open sesame"
DARK = encode(np.zeros((480, 640, 3), np.uint8))
CHROMIUM = shutil.which("chromium")
CHROMIUM_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip
JARS = {
    "com/squareup/okhttp3/okhttp/4.12.0/okhttp-4.12.0.jar": "com.squareup.okhttp3:okhttp:4.12.0",
    "com/squareup/okio/okio-jvm/3.6.0/okio-jvm-3.6.0.jar": "com.squareup.okio:okio-jvm:3.6.0",
    "org/json/json/*/*.jar": "org.json:json",
}
"""What Android or its builds bring along: files in a Maven repository, and the names of what they belong to."""


@pytest.fixture(scope="module")
def page_port() -> int:
    """A port for web pages."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, page_port: int) -> Iterator[RunningServer]:
    """A service of two workers with a token, which pages at `page_port` may use."""
    settings = {
        "MEAA_TOKEN": TOKEN,
        "MEAA_WORKERS": "2",
        "MEAA_CORS_ORIGINS": f"http://127.0.0.1:{page_port}",
    }
    with start_server(tmp_path_factory.mktemp("server"), environment=settings) as server:
        yield server


def session_url(port: int) -> str:
    return f"ws://127.0.0.1:{port}{SESSION}"


def send_to_worker(running: RunningServer, number: signal.Signals) -> None:
    """Send a signal to the worker that has a session open."""
    for worker in running.workers():
        connections = worker.net_connections("tcp")
        if any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == running.port for one in connections):
            worker.send_signal(number)
            return
    pytest.fail("no worker has a connection")


@pytest.fixture
def two_workers(running: RunningServer) -> RunningServer:
    """The service, with both workers again after one was stopped by another test."""
    deadline = time.monotonic() + 60
    while len(running.workers()) < 2 or requests.get(f"{running.url}/readyz", timeout=10).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return running


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`follow.py` as a module."""
    (tmp_path / "follow.py").write_text(code(CLIENTS, "python"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "follow", raising=False)
    return importlib.import_module("follow")


def test_the_python_client_follows_a_video_and_prints_moods_and_the_summary(
    running: RunningServer, follow: ModuleType, astronaut: Pixels, tmp_path: Path
) -> None:
    video = tmp_path / "video.mov"
    dark = np.zeros_like(astronaut)
    frames = [*[astronaut] * 4, *[dark] * 4, *[astronaut] * 4]
    video.write_bytes(quicktime(frames, [number / 8 for number in range(len(frames))]))
    ran = subprocess.run(
        [sys.executable, follow.__file__, session_url(running.port), video],
        env={**os.environ, "MOOD_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )
    lines, _, summary = ran.stdout.partition("{\n")
    shown = [line.split()[0] for line in lines.replace("not now: ", "").splitlines()]
    assert shown == ["positive"] * 2 + ["no_face"] * 2 + ["positive"] * 2
    assert json.loads("{" + summary)["answered"] == 4


def test_the_python_client_sends_a_frame_when_the_reply_to_the_one_before_has_come(
    running: RunningServer, follow: ModuleType, photo: bytes
) -> None:
    taken, shown = [0], [0]

    def frames() -> Iterator[bytes]:
        for _ in range(8):
            assert taken == shown
            taken[0] += 1
            yield photo

    def show(_: dict[str, Any]) -> None:
        shown[0] += 1

    session = follow.LiveSession(session_url(running.port), TOKEN, every=0.0)
    assert session.follow(frames(), show)["frames"] == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_the_python_client_goes_on_with_its_session_after_its_worker_has_ended(
    two_workers: RunningServer, follow: ModuleType, photo: bytes, number: signal.Signals
) -> None:
    replies: list[dict[str, Any]] = []

    def frames() -> Iterator[bytes]:
        for place in range(16):
            if place == 10:  # the session was fetched before frame 8
                send_to_worker(two_workers, number)
            yield photo

    session = follow.LiveSession(session_url(two_workers.port), TOKEN, every=0.25, keep=2.0)
    summary = session.follow(frames(), replies.append)
    assert {reply["mood"] for reply in replies} == {"positive"}
    assert {reply["estimate"]["face_id"] for reply in replies} == {1}
    lost = 16 - summary["frames"]
    assert 0 <= lost <= (1 if number is signal.SIGTERM else 9)
    assert summary["frames"] > 8  # not only those since the worker has ended


def test_the_python_client_begins_a_new_session_if_the_one_before_cannot_be_read(
    running: RunningServer, follow: ModuleType, photo: bytes
) -> None:
    session = follow.LiveSession(session_url(running.port), TOKEN, every=0.0)
    session._session = "of a release that is long gone"
    frames = iter([photo] * 4)
    summary = session.follow(frames, print)
    assert summary["frames"] == summary["answered"] == 3  # one was sent to the session that was refused


def test_the_python_client_does_not_try_again_with_a_wrong_token(
    running: RunningServer, follow: ModuleType, photo: bytes
) -> None:
    with pytest.raises(InvalidStatus, match="401"):
        follow.LiveSession(session_url(running.port), "wrong").follow(iter([photo]), print)


@contextmanager
def web_page(folder: Path, port: int) -> Iterator[str]:
    """The files of a folder as a web site; gives its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder))) as site:
        threading.Thread(target=site.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            site.shutdown()


def write_video(path: Path, picture: Pixels) -> None:
    """A video for Chromium's fake camera, in YUV4MPEG2: a picture of 640x480, then two more a little aside."""
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F10:1 Ip A1:1 C420jpeg\n")
        for shift in (0, 3, 6):
            frame = np.full((480, 640, 3), 90, np.uint8)
            frame[:, 64 + shift : 576 + shift] = picture[:480]
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())


@pytest.fixture
def browser(tmp_path: Path, astronaut: Pixels) -> Iterator[Any]:
    """A page of Chromium, with a fake camera before which the astronaut smiles."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (pip install playwright)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt install chromium)")
    video = tmp_path / "camera.y4m"
    write_video(video, astronaut)
    options = [*CHROMIUM_OPTIONS, f"--use-file-for-fake-video-capture={video}"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        page = chromium.new_page()
        page.set_default_timeout(30_000)
        yield page
        chromium.close()


def write_page(folder: Path, port: int) -> None:
    """The guide's page, for a service with a token."""
    folder.mkdir()
    (folder / "live-session.js").write_text(code(CLIENTS, "javascript"))
    html = code(CLIENTS, "html").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    (folder / "index.html").write_text(html.replace("        url,\n", f'        url, token: "{TOKEN}",\n'))


def test_the_web_page_follows_its_camera_also_when_a_worker_stops(
    two_workers: RunningServer, page_port: int, browser: Any, tmp_path: Path
) -> None:
    write_page(tmp_path / "site", two_workers.port)
    errors: list[str] = []
    browser.on("pageerror", lambda error: errors.append(str(error)))
    with web_page(tmp_path / "site", page_port) as address:
        browser.goto(address)
        browser.click("#start")
        browser.wait_for_function("document.getElementById('now').textContent.startsWith('positive, ')")
        before = time.monotonic()
        send_to_worker(two_workers, signal.SIGTERM)
        browser.wait_for_function("document.body.dataset.state === 'waiting 1012'")
        browser.wait_for_function("document.body.dataset.state === 'connected'")
        browser.evaluate("document.getElementById('now').textContent = ''")
        browser.wait_for_function("document.getElementById('now').textContent.startsWith('positive, ')")
        browser.click("#end")
        browser.wait_for_function("document.body.dataset.state === 'ended'")
        summary = json.loads(browser.text_content("#summary"))
    assert errors == []
    assert summary["moods"]["positive"]["share"] == 1
    assert len(summary["episodes"]) == 1
    assert summary["frames"] <= 4 * (time.monotonic() - before) + 10


def test_the_web_page_says_that_it_is_refused(
    running: RunningServer, page_port: int, browser: Any, tmp_path: Path
) -> None:
    write_page(tmp_path / "site", running.port)
    page = tmp_path / "site" / "index.html"
    page.write_text(page.read_text().replace(TOKEN, "wrong"))
    with web_page(tmp_path / "site", page_port) as address:
        browser.goto(address)
        browser.click("#start")
        browser.wait_for_function("document.body.dataset.state === 'failed 1006'")


MAIN = """
import java.io.File
import java.util.concurrent.CountDownLatch

fun main(arguments: Array<String>) {
    val (url, token, photo, count) = arguments
    val jpeg = File(photo).readBytes()
    val ended = CountDownLatch(1)
    var replies = 0
    var session: LiveSession? = null
    session = LiveSession(
        url,
        token,
        grab = { jpeg },
        onReply = {
            replies += 1
            println(it.optString("mood"))
            if (replies == count.toInt()) session!!.end()
        },
        onEnd = { summary, code ->
            println("end $code ${summary?.getInt("answered")}")
            ended.countDown()
        },
        keep = 2_000,
    )
    ended.await()
}
"""

PICTURE_MAIN = """
import java.io.File
import okhttp3.OkHttpClient

fun main(arguments: Array<String>) {
    val (service, photo, token) = arguments
    val client = OkHttpClient()
    val jpeg = File(photo).readBytes()
    println(estimate(client, service, jpeg, "180,60,87,112", token)!!.getString("mood"))
    println(estimate(client, service, File(arguments[3]).readBytes(), token = token))
    try {
        estimate(client, service, jpeg, "here", token)
    } catch (problem: Problem) {
        println(problem.code)
    }
    client.dispatcher.executorService.shutdown()
}
"""


@pytest.fixture(scope="module")
def kotlin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """A function that starts the guide's Kotlin client on a Java virtual machine."""
    compiler = Path(os.environ.get("KOTLIN_HOME", "/nowhere"), "bin", "kotlinc")
    if not compiler.is_file() or shutil.which("java") is None:
        pytest.skip("needs Java, and KOTLIN_HOME with Kotlin 1.8 or later (npm's kotlin-compiler has it)")
    repositories = (Path.home() / ".m2" / "repository", Path("/usr/share/maven-repo"))
    jars = []
    for pattern, name in JARS.items():
        found = [jar for repository in repositories for jar in sorted(repository.glob(pattern))]
        if not found:
            pytest.skip(f"needs {name} in Maven's local repository (mvn dependency:get -Dartifact={name}:VERSION)")
        jars.append(found[0])
    folder = tmp_path_factory.mktemp("kotlin")
    (folder / "LiveSession.kt").write_text(code(CLIENTS, "kotlin"))
    (folder / "Picture.kt").write_text(code("integrate/examples.md", "kotlin"))
    (folder / "Main.kt").write_text(MAIN)
    (folder / "PictureMain.kt").write_text(PICTURE_MAIN)
    sources = sorted(folder.glob("*.kt"))
    path = os.pathsep.join(map(str, jars))
    subprocess.run(
        ["bash", compiler, "-Werror", "-cp", path, *sources, "-include-runtime", "-d", folder / "client.jar"],
        check=True,
    )

    def start(main: str, *arguments: object) -> subprocess.Popen[str]:
        classes = os.pathsep.join([str(folder / "client.jar"), path])
        return subprocess.Popen(["java", "-cp", classes, main, *map(str, arguments)], stdout=subprocess.PIPE, text=True)

    return start


def test_the_kotlin_client_follows_also_when_a_worker_stops(
    two_workers: RunningServer, kotlin: Callable[..., subprocess.Popen[str]], photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    with kotlin("MainKt", session_url(two_workers.port), TOKEN, tmp_path / "photo.jpg", 16) as client:
        assert client.stdout is not None
        assert [client.stdout.readline() for _ in range(4)] == ["positive\n"] * 4
        send_to_worker(two_workers, signal.SIGTERM)
        lines = client.stdout.read().splitlines()
    assert lines[:-1] == ["positive"] * 12
    assert lines[-1] == "end 1000 16"


def test_the_kotlin_client_does_not_try_again_with_a_wrong_token(
    running: RunningServer, kotlin: Callable[..., subprocess.Popen[str]], photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    with kotlin("MainKt", session_url(running.port), "wrong", tmp_path / "photo.jpg", 1) as client:
        assert client.stdout is not None
        assert client.stdout.read() == "end 401 null\n"


def test_the_kotlin_example_sends_the_box_and_knows_problems(
    running: RunningServer, kotlin: Callable[..., subprocess.Popen[str]], photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    (tmp_path / "dark.jpg").write_bytes(DARK)
    with kotlin("PictureMainKt", running.url, tmp_path / "photo.jpg", TOKEN, tmp_path / "dark.jpg") as client:
        assert client.stdout is not None
        assert client.stdout.read().splitlines() == ["positive", "null", "invalid_parameter"]


def test_the_python_example_prints_the_mood_only_if_it_is_reliable(
    server: Server, photo: bytes, astronaut: Pixels, tmp_path: Path
) -> None:
    program = code("integrate/examples.md", "python").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    tilted = cv2.warpAffine(astronaut, cv2.getRotationMatrix2D((220, 120), 35, 1.0), (512, 512))
    shown = []
    for image in (photo, DARK, encode(tilted)):
        (tmp_path / "photo.jpg").write_bytes(image)
        shown.append(run_python(program, tmp_path))
    assert shown == ["positive\n", "no face\n", "not sure: turned\n"]


def test_the_python_examples_of_sessions_run(server: Server, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    (tmp_path / "dark.jpg").write_bytes(DARK)
    live, frames = (
        code("integrate/sessions.md", "python", place).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        for place in (0, 1)
    )
    lines = run_python(live, tmp_path, "photo.jpg", "dark.jpg").splitlines()
    assert lines[:2] == ["photo.jpg positive", "dark.jpg no_face"]
    assert "'answered': 1" in lines[2]
    assert run_python(frames, tmp_path) == "4\n"


def run_python(program: str, folder: Path, *arguments: str) -> str:
    """What a program prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_curl_examples_get_the_mood(server: Server, photo: bytes, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (tmp_path / "photo.jpg").write_bytes(photo)
    commands = code("integrate/examples.md", "").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").splitlines()
    for command in commands:
        answer = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert json.loads(answer)["mood"] == "positive"
    assert len(commands) == 3


def test_the_javascript_example_sends_a_canvas_and_the_box_of_the_answer_before(
    running: RunningServer, page_port: int, browser: Any, photo: bytes, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "photo.jpg").write_bytes(photo)
    (tmp_path / "site" / "index.html").write_text("<!doctype html>")
    example = code("integrate/examples.md", "javascript").replace("127.0.0.1:8000", f"127.0.0.1:{running.port}")
    headers = f'{{ method: "POST", headers: {{ Authorization: "Bearer {TOKEN}" }},'
    program = f"""async () => {{
        {example.replace('{ method: "POST",', headers)}
        const canvas = document.createElement("canvas");
        const image = new Image();
        image.src = "photo.jpg";
        await image.decode();
        [canvas.width, canvas.height] = [image.width, image.height];
        const empty = await estimate(canvas);
        canvas.getContext("2d").drawImage(image, 0, 0);
        const first = await estimate(canvas);
        const second = await estimate(canvas, first.face);
        const refused = await estimate(canvas, {{ x: "here" }}).catch((error) => error.message);
        return [empty, first.mood, second.mood, refused];
    }}"""
    with web_page(tmp_path / "site", page_port) as address:
        browser.goto(address)
        empty, first, second, refused = browser.evaluate(program)
    assert (empty, first, second) == (None, "positive", "positive")
    assert refused.startswith("invalid_parameter: ")
