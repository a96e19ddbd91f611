"""Image files that are made to cost time or memory: what they cost the server, and what they cost the others."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import load
from benchmarks.memory import MemoryWatch
from benchmarks.robustness import hostile_images as hostile
from benchmarks.server import RunningServer, serve
from service import images
from service.decoder import DecoderProcess, needs_process
from service.errors import MeaaError
from service.estimator import MoodEstimator
from tests.support.pictures import Pixels, encode
from tests.support.server import Server

WORKING_SIDE = 480
CPU_SECONDS = 1.5
"""Bound for CPU time, with room for a busy machine; the slowest takes 0.6 s."""


@pytest.fixture(scope="module")
def process() -> Iterator[DecoderProcess]:
    started = DecoderProcess(seconds=2)
    yield started
    started.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile.FILES)
def test_no_file_costs_a_worker_more_than_a_bounded_time(
    name: str, process: DecoderProcess, estimator: MoodEstimator
) -> None:
    """The worker's own CPU time; that of the decoder has a limit, which the system keeps."""
    file = hostile.FILES[name]()
    started = time.process_time()
    try:
        header = images.read_header(file, max_pixels=25_000_000)
        load_image = process.load if needs_process(header, WORKING_SIDE) else images.load
        estimator.estimate_decoded(lambda side: load_image(header, side))
    except MeaaError:
        pass
    assert time.process_time() - started < CPU_SECONDS


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with one worker, and more patience with its decoder than a test has."""
    with serve(tmp_path, environment={"MEAA_WORKERS": "1", "MEAA_DECODE_SECONDS": "60"}) as running:
        yield running


def decoders(server: RunningServer) -> list[psutil.Process]:
    (worker,) = server.workers()
    return worker.children(recursive=True)


def test_a_decoding_whose_client_has_gone_is_stopped(one_worker: RunningServer) -> None:
    request = load.upload_request(hostile.refinement_scans(100))
    with socket.create_connection(("127.0.0.1", one_worker.port)) as client:
        client.sendall(request)
        deadline = time.monotonic() + 10
        while not decoders(one_worker) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert decoders(one_worker)
        time.sleep(0.3)
    gone = time.monotonic()
    while decoders(one_worker) and time.monotonic() < gone + 5:
        time.sleep(0.02)
    assert not decoders(one_worker)
    assert time.monotonic() - gone < 1.5  # it would have gone on decoding, then waited for another image for 5 s


def test_small_images_are_answered_while_a_large_one_is_decoded(one_worker: RunningServer, photo: bytes) -> None:
    large: list[load.Answer] = []
    request = load.upload_request(hostile.refinement_scans(100))
    with _attack(one_worker, request, clients=1, answers=large):
        time.sleep(0.3)
        small = load.run(one_worker.port, [load.upload_request(photo)], clients=1, seconds=0.01)
    assert [answer.status for answer in small] == [load.OK]
    assert [answer.status for answer in large] == [load.NO_FACE]
    assert small[0].started + small[0].seconds < large[0].started + large[0].seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["JPEG of 100 refining scans", "PNG with alpha, 16 bits, interlaced", "mosaic of faces, 27 to 1"]
)
def test_eight_slow_images_at_once_cost_ordinary_clients_next_to_nothing(
    name: str, server: Server, photo: bytes
) -> None:
    load.run(server.port, [load.upload_request(photo)], clients=2, seconds=1)
    with _attack(server, load.upload_request(hostile.FILES[name]()), clients=8):
        ordinary = load.run(server.port, [load.upload_request(photo)], clients=4, seconds=4, rate=8)
    refused = sum(answer.status == load.OVERLOADED for answer in ordinary)
    assert {answer.status for answer in ordinary} <= {load.OK, load.OVERLOADED}
    assert refused <= 0.1 * len(ordinary)


@contextmanager
def _attack(
    server: Server | RunningServer, request: bytes, *, clients: int, answers: list[load.Answer] | None = None
) -> Iterator[None]:
    """The same request from some clients, once, beside what happens in the context."""
    attack = threading.Thread(
        target=lambda: load.run(server.port, [request], clients=clients, seconds=0.01, answers=answers)
    )
    attack.start()
    yield
    attack.join()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what only Linux records")
def test_a_worker_and_its_decoder_hold_a_bounded_memory_and_give_it_back(tmp_path: Path) -> None:
    files = [encode(_grey(5000, 5000), "PNG", "RGBA"), *(hostile.FILES[name]() for name in _LARGE)]
    requests = [load.upload_request(file) for file in files]
    with serve(tmp_path, environment={"MEAA_WORKERS": "1"}) as server:
        with MemoryWatch(server) as watch:
            answers = load.run(server.port, requests, clients=8, seconds=8)
        assert {answer.status for answer in answers} <= {load.NO_FACE, load.OK, load.OVERLOADED, 400, 413}
        assert watch.peak < 600
        time.sleep(10)
        assert watch.now() < 300


_LARGE = (
    "JPEG of noise, long",
    "JPEG of noise, progressive and long",
    "PNG with alpha, 65,535 pixels long",
    "WebP with alpha, lossless",
    "mosaic of faces, 27 to 1",
)


def _grey(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)
