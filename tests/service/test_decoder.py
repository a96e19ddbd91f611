"""`service.decoder`: images that may take long are decoded in a process, which has limits and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from benchmarks.robustness import hostile_images as hostile
from service import decoder, images
from service.decoder import DecoderProcess, needs_process
from service.errors import InvalidImageError, StoppedError, TooLargeError
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode, oriented, sixteen_bit

SIDE = 480
SLOW = images.read_header(hostile.refinement_scans(100))  # more than a second of CPU time


@pytest.fixture
def process() -> Iterator[DecoderProcess]:
    started = DecoderProcess(seconds=2)
    yield started
    started.close()


_servers: set[int] = set()


@pytest.fixture(autouse=True)
def servers() -> None:
    """Remember the servers of other tests, which are children of this process too."""
    _servers.clear()
    _servers.update(child.pid for child in psutil.Process().children())


def children() -> list[psutil.Process]:
    """The processes that this test has started."""
    return [child for child in psutil.Process().children() if child.pid not in _servers]


def grey(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("file", "needed"),
    [
        (encode(grey(640, 480)), False),
        (encode(grey(1920, 1080), progressive=True), False),
        (encode(grey(1920, 1080), "PNG"), False),
        (encode(grey(1920, 1080), "WEBP"), False),
        (encode(grey(4000, 3000)), False),  # a phone's photo
        (encode(grey(5000, 5000)), False),
        (encode(grey(1440, 480)), False),
        (encode(grey(1441, 480)), True),
        (encode(grey(480, 1441)), True),
        (encode(grey(4000, 3000), progressive=True), True),
        (encode(grey(2000, 1100), "PNG"), True),
        (encode(grey(2000, 1100), "WEBP"), True),
        (encode(grey(64, 64), "WEBP", lossless=True), True),
        (hostile.refinement_scans(100), True),
    ],
)
def test_only_what_may_take_long_needs_a_process(file: bytes, needed: bool) -> None:
    assert needs_process(images.read_header(file), SIDE) is needed


def test_the_process_decodes_as_the_thread_does(process: DecoderProcess, astronaut: Pixels) -> None:
    large = astronaut.repeat(2, axis=0).repeat(3, axis=1)
    for file in (
        encode(large),
        encode(large, progressive=True),
        oriented(large, 6),
        encode(large, "PNG", "RGBA"),
        sixteen_bit(astronaut, 4),
        encode(large, "WEBP", "RGBA", lossless=True),
    ):
        header = images.read_header(file)
        for side in (None, SIDE):
            here, there = images.load(header, side), process.load(header, side)
            np.testing.assert_array_equal(there.pixels, here.pixels)
            assert (there.width, there.height) == (here.width, here.height)


def test_a_damaged_image_is_the_same_error_in_the_process(process: DecoderProcess, astronaut: Pixels) -> None:
    header = images.read_header(encode(astronaut, "PNG")[:100_000])
    for _ in range(2):
        with pytest.raises(InvalidImageError, match="damaged or incomplete"):
            process.load(header)
    assert len(children()) == 1


def test_an_image_that_takes_too_long_is_stopped() -> None:
    process = DecoderProcess(seconds=0.3)
    started = time.monotonic()
    with pytest.raises(TooLargeError, match=r"0.3 seconds"):
        process.load(SLOW, SIDE)
    assert time.monotonic() - started < 0.3 * decoder._PATIENCE + 3
    assert not children()
    assert process.load(images.read_header(encode(grey(64, 64)))).width == 64  # and the next is decoded
    process.close()


def test_a_process_that_does_nothing_at_all_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_PATIENCE", 1.0)
    process = DecoderProcess(seconds=1.0)
    process.load(images.read_header(encode(grey(64, 64))))
    (child,) = children()
    child.suspend()
    with pytest.raises(TooLargeError):
        process.load(SLOW)
    assert not children()


def test_an_image_that_nobody_waits_for_is_stopped(process: DecoderProcess) -> None:
    threading.Timer(0.5, process.stop).start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        process.load(SLOW, SIDE)
    assert time.monotonic() - started < 1.5
    assert not children()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not limit memory")
@pytest.mark.parametrize("name", ["JPEG of noise, progressive and long", "WebP with 65,536 groups of codes"])
def test_an_image_gets_no_more_memory_than_its_share(process: DecoderProcess, name: str) -> None:
    header = images.read_header(hostile.FILES[name]())
    with pytest.raises((InvalidImageError, TooLargeError), match="memory"):
        process.load(header, SIDE)
    (child,) = children()
    assert child.memory_info().rss < decoder.MEMORY


def test_a_crash_costs_the_image_that_caused_it(process: DecoderProcess) -> None:
    def crash() -> None:
        while not children():
            time.sleep(0.01)
        children()[0].send_signal(signal.SIGSEGV)

    threading.Timer(0.4, crash).start()
    with pytest.raises(InvalidImageError, match="another program"):
        process.load(SLOW, SIDE)
    assert process.load(images.read_header(encode(grey(64, 64)))).width == 64


def test_a_process_without_work_ends_and_leaves_no_zombie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_IDLE_SECONDS", 0.2)
    process = DecoderProcess(seconds=2)
    process.load(images.read_header(encode(grey(64, 64))))
    assert len(children()) == 1
    deadline = time.monotonic() + 5
    while children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children()  # a zombie would be among them


def test_the_process_listens_nowhere_and_knows_no_token(
    process: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEAA_TOKEN", "open sesame")
    process.load(images.read_header(encode(grey(64, 64))))
    (child,) = children()
    assert not child.net_connections()
    assert not any(name.startswith("MEAA_") for name in child.environ())
    assert not child.children()


def test_the_process_ends_with_the_worker() -> None:
    program = """
import sys, time, numpy
from service import images
from service.decoder import DecoderProcess
from tests.support.pictures import encode
process = DecoderProcess(2)
process.load(images.read_header(encode(numpy.zeros((64, 64, 3), numpy.uint8))))
print(process._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        worker.kill()
    deadline = time.monotonic() + 5
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_that_cannot_start_is_a_fault_of_the_service(
    process: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("/dev/null", str(shutil.which("false"))):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(RuntimeError, match="did not start"):
            process.load(SLOW)
