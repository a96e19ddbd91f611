"""Attacks as checks of `make soak`: hostile files, hostile clients, and what a fuzzer makes up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from unittest.mock import Mock, patch

import psutil

from benchmarks import load
from benchmarks.memory import MemoryWatch
from benchmarks.robustness import fuzz, hostile_images
from benchmarks.robustness.fuzzing import http_mutation, image_target
from benchmarks.robustness.plan import Finding, Plan, duration
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import HOST, ROOT, UPLOAD, get, ready
from service import prediction_log

_MUTANTS: Final = {
    "http": 76_000,
    "image": 100_000,
    "multipart": 40_000,
    "connections": 6_000,
    "websocket": 5_000,
    "frames": 10_000,
    "state": 20_000,
}
"""Number of mutated inputs by target, the longest first."""

_REQUESTS: Final = 200_000
"""Least number of requests in the inputs of `http`."""

_GUIDED_SECONDS: Final = 30.0  # of CPU time, for each target
_MAX_FUZZ_GROWTH_MB: Final = 60

_MAX_ANSWER_SECONDS: Final = 2.5
_MAX_P99_SECONDS: Final = 1.0
_MAX_REFUSED_SHARE: Final = 0.1
_HOSTILE_CLIENTS: Final = 8

_MAX_WORKER_MB: Final = 600
_MAX_QUIET_MB: Final = 300
_MAX_GROWTH_MB: Final = 15
_MAX_UNAUTHORIZED_MB: Final = 64
_PROBES: Final = 3
_QUIET_SECONDS: Final = 10.0
_ROUNDS: Final = 10

_JUMP: Final = timedelta(days=100)
_LOG_DAYS: Final = 90
_LOG_WORKERS: Final = 4

_POST: Final = f"POST {UPLOAD} HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n".encode()
_CHUNKED: Final = _POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
_ASSET: Final = b"GET /static_content/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
_CLAIMS: Final = {
    "short trailers, 16 MB": (1, _CHUNKED + b"a:\r\n" * 4_000_000),
    "long trailers, 150 MB": (1, _CHUNKED + (b"a: " + b"x" * 20_000 + b"\r\n") * 7_500),
    "trailers": (2_000, _CHUNKED + b"a:\r\n" * 15_000),
    "half a head": (2_000, _POST + b"X: " + b"x" * 31_000),
    "half a head of many fields": (2_000, _POST + b"a:\r\n" * 90),
    "bodies": (2_000, _POST + b"Content-Length: 9000000\r\n\r\n" + b"x" * 250_000),
    "responses that are not read": (2_000, _ASSET * 100),
}
"""What clients without a token send, and on how many connections."""

_STATUS: Final = re.compile(rb"^HTTP/1\.1 (\d{3}) ", re.MULTILINE)
_SILENCE_SECONDS: Final = 0.3
"""Time without an answer after which a client with a fuzzed request gives up."""


def hostile_files(plan: Plan) -> Iterator[Finding]:
    """Files that are made to cost time: each alone, then the slowest beside ordinary clients."""
    took: dict[str, float] = {}
    files: dict[str, bytes] = {}
    statuses: Counter[int] = Counter()
    with plan.server("hostile") as server:
        for name, make in hostile_images.FILES.items():
            files[name] = load.upload_request(make())
            answer = load.run(server.port, [files[name]], clients=1, seconds=0.01)[0]
            took[name], statuses[answer.status] = answer.seconds, statuses[answer.status] + 1
        slowest = sorted(took, key=took.__getitem__, reverse=True)[:_HOSTILE_CLIENTS]
        finding = partial(Finding, f"{len(files)} hostile files, each alone")
        allowed = {status for status in statuses if 400 <= status < 500 or status == load.OK}
        yield finding("statuses", str(dict(statuses)), "no 5xx", set(statuses) == allowed)
        limit, worst = f"<= {duration(_MAX_ANSWER_SECONDS)}", took[slowest[0]]
        yield finding(f"slowest: {slowest[0]}", duration(worst), limit, worst <= _MAX_ANSWER_SECONDS)

        hostile: list[load.Answer] = []
        attack = threading.Thread(
            target=lambda: load.run(
                server.port,
                [files[name] for name in slowest],
                clients=_HOSTILE_CLIENTS,
                seconds=plan.scaled(40, 5),
                answers=hostile,
            )
        )
        attack.start()
        frame = load.upload_request(as_jpeg(scene(640, 480, 1).pixels))
        ordinary = load.run(server.port, [frame], clients=4, seconds=plan.scaled(40, 5), rate=8)
        attack.join()
    finding = partial(Finding, f"{_HOSTILE_CLIENTS} clients with the slowest, beside 8 requests/s")
    refused = sum(answer.status == load.OVERLOADED for answer in ordinary) / len(ordinary)
    others = {answer.status for answer in ordinary} - {load.OK, load.OVERLOADED}
    p99 = load.percentile([answer for answer in ordinary if answer.status == load.OK], 99)
    yield finding("hostile answers", str(dict(Counter(answer.status for answer in hostile))))
    limit = f"<= {_MAX_REFUSED_SHARE:.0%}"
    yield finding("ordinary requests refused", f"{refused:.1%}", limit, refused <= _MAX_REFUSED_SHARE)
    yield finding("ordinary requests, other statuses", str(others or "none"), "none", not others)
    yield finding("ordinary requests, p99", duration(p99), f"<= {_MAX_P99_SECONDS:g} s", p99 <= _MAX_P99_SECONDS)


def memory_mix(plan: Plan) -> Iterator[Finding]:
    """Large and hostile images of all kinds through one worker: each alone, then round after round several at once."""
    requests = [load.upload_request(make()) for make in hostile_images.FILES.values()]
    rounds = round(plan.scaled(_ROUNDS, 2))
    finding = partial(Finding, f"{rounds} rounds of {len(requests)} large and hostile files")
    with plan.server("mix", MEAA_WORKERS="1") as server, MemoryWatch(server) as watch:
        for request in requests:
            load.run(server.port, [request], clients=1, seconds=0.01)
        quiet = [_after_quiet(watch)]
        for number in range(rounds):
            turns = requests[number:] + requests[:number]
            load.run(server.port, turns, clients=4, seconds=plan.scaled(5, 2))
        quiet.append(_after_quiet(watch))
        peak = watch.peak
    growth = quiet[-1] - quiet[0]
    limit = f"<= {_MAX_WORKER_MB} MB"
    yield finding("peak memory of a worker and its processes", f"{peak:.0f} MB", limit, peak <= _MAX_WORKER_MB)
    limit = f"<= {_MAX_QUIET_MB} MB"
    metric = f"memory after {_QUIET_SECONDS:g} s of quiet"
    yield finding(metric, f"{max(quiet):.0f} MB", limit, max(quiet) <= _MAX_QUIET_MB)
    yield finding("growth by the rounds", f"{growth:.1f} MB", f"< {_MAX_GROWTH_MB} MB", growth < _MAX_GROWTH_MB)


def _after_quiet(watch: MemoryWatch) -> float:
    """Memory after some seconds without requests, in millions of bytes."""
    time.sleep(_QUIET_SECONDS)
    return watch.now()


def unauthorized(plan: Plan) -> Iterator[Finding]:
    """What clients without a token make a worker hold."""
    finding = partial(Finding, "clients without a token")
    settings = {"MEAA_TOKEN": "soak-5c11", "MEAA_WORKERS": "1", "MEAA_READ_SECONDS": "5"}
    with plan.server("unauthorized", **settings) as server:
        before = MemoryWatch(server).before
        for name, (count, data) in _CLAIMS.items():
            connections = round(plan.scaled(count, 1 if count == 1 else 50))
            with MemoryWatch(server) as watch, ExitStack() as stack:
                _send_all(_connect(stack, server.port, connections), data, seconds=plan.scaled(8, 2))
                # A probe may be among the connections that are closed for new ones, as an orchestrator's may.
                probe = next((number for number in range(1, _PROBES + 1) if ready(server.port)), 0)
            grown = watch.peak - before
            limit = f"<= {_MAX_UNAUTHORIZED_MB} MB, ready in {_PROBES} probes"
            kept = grown <= _MAX_UNAUTHORIZED_MB and probe > 0
            value = f"{grown:.0f} MB, {f'ready at probe {probe}' if probe else 'not ready'}"
            yield finding(f"growth since the start, {name} on {connections:,} connections", value, limit, kept)


def _connect(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    """Connections with the smallest receive buffers, so that responses that nobody reads stay at the server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = []
    for _ in range(count):
        connection = stack.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_304)
        connection.connect((HOST, port))
        connection.setblocking(False)
        connections.append(connection)
    return connections


def _send_all(connections: list[socket.socket], data: bytes, seconds: float) -> None:
    """Send as much of the same bytes on each connection as the server takes in some time."""
    sent, view = dict.fromkeys(connections, 0), memoryview(data)
    end = time.monotonic() + seconds
    while sent and time.monotonic() < end:
        for connection in list(sent):
            try:
                sent[connection] += connection.send(view[sent[connection] : sent[connection] + 65_536])
            except BlockingIOError:
                continue
            except OSError:  # the server has closed it
                del sent[connection]
                continue
            if sent[connection] == len(data):
                del sent[connection]
        time.sleep(0.001)


def instances(plan: Plan) -> Iterator[Finding]:
    """Two instances of one checkout on one machine."""
    finding = partial(Finding, "two instances of a checkout")
    temporary = plan.directory / "shared-tmp"
    temporary.mkdir()
    shared = {"BENTOML_HOME": str(plan.directory / "shared"), "TMPDIR": str(temporary)}
    frame = load.upload_request(as_jpeg(scene(640, 480, 1).pixels))
    with plan.server("first", **shared) as first:
        processes = [psutil.Process(first.process.pid), *psutil.Process(first.process.pid).children(recursive=True)]
        ports = {
            (connection.laddr.ip, connection.laddr.port)
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        yield finding("listening sockets", str(len(ports)), "1", ports == {(HOST, first.port)})
        answered = len(load.run(first.port, [frame], clients=2, seconds=1))
        with plan.server("second", **shared) as second:
            others = len(load.run(second.port, [frame], clients=2, seconds=1))
            counted = _counted(first.port), _counted(second.port)
        value = f"{counted[0]:.0f}, {counted[1]:.0f}"
        yield finding("requests in the metrics of each", value, f"{answered}, {others}", counted == (answered, others))
        left = _counted(first.port)
        yield finding("in the first after the second's end", f"{left:.0f}", str(answered), left == answered)


def _counted(port: int) -> float:
    """The number of uploads that a server has answered, by its metrics."""
    _, text = get(port, "/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("meaa_requests_total"))


def clock_jump(plan: Plan) -> Iterator[Finding]:
    """A clock that is a hundred days ahead for two days, and workers that log and delete old files by it."""
    finding = partial(Finding, f"a clock {_JUMP.days} days ahead, {_LOG_WORKERS} workers")
    directory = plan.directory / "log"
    directory.mkdir()
    now = datetime.now(UTC).replace(hour=0)
    for days in range(_LOG_DAYS):
        (directory / f"predictions-{(now - timedelta(days=days)).date()}.jsonl").write_text("{}\n")
    before = set(directory.iterdir())
    workers = [prediction_log.PredictionLog("predictions", str(directory), _LOG_DAYS + 1) for _ in range(_LOG_WORKERS)]
    deleted = []
    for day in range(2):
        for hour in range(24):
            clock = Mock(wraps=datetime, now=Mock(return_value=now + _JUMP + timedelta(days=day, hours=hour)))
            with patch.object(prediction_log, "datetime", clock):
                for log in workers:
                    log.export_data({"hour": deque([hour])})
        deleted.append(len(before - set(directory.iterdir())))
    yield finding("files deleted on the first day", str(deleted[0]), "0", deleted[0] == 0)
    yield finding("and by the end of the second", f"{deleted[1]} of {_LOG_DAYS}")


def mutated(plan: Plan) -> Iterator[Finding]:
    """Mutated inputs through the service's code, reproducibly, on all cores."""
    counts = {name: round(plan.scaled(count)) for name, count in _MUTANTS.items()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        processes = list(pool.map(lambda name: _mutate(name, counts[name]), counts))
    for (name, count), done in zip(counts.items(), processes, strict=True):
        finding = partial(Finding, f"{count:,} mutated inputs: {name}")
        if done.returncode:
            yield finding(f"exit status {done.returncode}", done.stderr.strip()[-200:], "0", False)
            continue
        result = json.loads(done.stdout)
        outcomes = Counter(result["outcomes"])
        growth = result["growth_mb"]
        yield finding("outcomes", ", ".join(f"{kind} {number:,}" for kind, number in outcomes.most_common()))
        if name == "http":
            least, requests = round(plan.scaled(_REQUESTS)), outcomes.total()
            errors = {kind: number for kind, number in outcomes.items() if kind.startswith("5") and kind != "503"}
            yield finding("requests answered", f"{requests:,}", f">= {least:,}", requests >= least)
            yield finding("5xx other than 503", str(errors or 0), "0", not errors)
        yield finding("broken promises", str(result["findings"] or 0), "0", not result["findings"])
        yield finding("slowest, CPU time", duration(result["slowest_seconds"]))
        yield finding("growth", f"{growth:.0f} MB", f"< {_MAX_FUZZ_GROWTH_MB} MB", growth < _MAX_FUZZ_GROWTH_MB)


def _mutate(name: str, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", fuzz.__name__, "random", name, "--count", str(count)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def guided(plan: Plan) -> Iterator[Finding]:
    """Inputs that Atheris makes up, guided by the branches that they take; `make fuzz` runs it for longer."""
    if not fuzz.has_atheris():
        yield Finding("fuzzing guided by coverage", "Atheris", "not installed; see `make fuzz`")
        return
    seconds = plan.scaled(_GUIDED_SECONDS, 20)
    names = list(fuzz.TargetName)
    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(lambda name: fuzz.run_guided(name, seconds), names))
    for result in results:
        finding = partial(Finding, f"{seconds:.0f} CPU seconds guided by coverage: {result.target}")
        value = f"{result.executions:,}, {result.branches:,}, {result.corpus:,}"
        yield finding("inputs, branches, inputs kept", value)
        yield finding("broken promises", str(result.findings or 0), "0", not result.findings)


def fuzzed_server(plan: Plan) -> Iterator[Finding]:
    """Mutated requests, and proper requests with mutated images, to a running server."""
    finding = partial(Finding, "mutated requests to a server")
    token = http_mutation.TOKEN
    with plan.server("fuzzed", MEAA_READ_SECONDS="2", MEAA_TOKEN=token, MEAA_MAX_WAIT="10") as server:
        before = {worker.pid for worker in server.workers()}
        statuses = asyncio.run(_send_mutants(server.port, plan.scaled(30, 3)))
        mutants = fuzz.mutants(image_target, round(plan.scaled(5_000)), 21)
        images = [load.upload_request(data, token) for data in mutants]
        answers = load.run(server.port, images, clients=8, seconds=plan.scaled(30, 3))
        workers = {worker.pid for worker in server.workers()}
        lines = len(server.log.read_text().splitlines())
    by_status = Counter(answer.status for answer in answers)
    for name, found in (("requests", statuses), ("images", by_status)):
        errors = {status: count for status, count in found.items() if status >= 500 and status != load.OVERLOADED}
        yield finding(f"{name}, by status", str(dict(found.most_common())))
        yield finding(f"{name}, 5xx other than 503", str(errors or 0), "0", not errors)
    yield finding("images without an answer", str(by_status[load.LOST]), "0", not by_status[load.LOST])
    yield finding("workers that ended", str(len(before - workers)), "0", before == workers)
    yield finding("lines in the log", str(lines), "<= 20", lines <= 20)


async def _send_mutants(port: int, seconds: float) -> Counter[int]:
    """Statuses of the responses to mutated requests, sent on many connections at once."""
    statuses: Counter[int] = Counter()
    end = time.monotonic() + seconds
    mutants = fuzz.mutants(http_mutation, 10**9, 22)

    async def send() -> None:
        while time.monotonic() < end:
            statuses.update(await _exchange(port, next(mutants)))

    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(send())
    return statuses


async def _exchange(port: int, data: bytes) -> list[int]:
    """The statuses of the responses to bytes on a connection, until the server closes it or is silent."""
    received = b""
    with contextlib.suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(data)
            while part := await asyncio.wait_for(reader.read(65_536), _SILENCE_SECONDS):
                received += part
        finally:
            writer.close()
    return [int(status) for status in _STATUS.findall(received)]


CHECKS: Final = (hostile_files, memory_mix, unauthorized, instances, clock_jump, mutated, guided, fuzzed_server)
"""The checks, in the order of a full run."""
