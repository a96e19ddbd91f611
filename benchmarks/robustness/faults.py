"""Faults of a server, each as a function that causes it and measures the outcome.

The tests run them for seconds and assert what must hold; `benchmarks.robustness.soak` runs them for minutes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import load
from benchmarks.server import RunningServer, get, ready


@dataclass(frozen=True)
class Overload:
    """Outcome of more requests than the server can answer.

    Attributes:
        capacity: Answers per second of a busy server, before the overload.
        offered: Requests per second.
        statuses: Number of answers by status.
        accepted_p99: 99th percentile of the response time of accepted requests, in seconds.
        refused_p99: 99th percentile of the response time of refused requests, in seconds.
        refused_max: Longest response time of a refused request, in seconds.
        without_retry_after: Number of refusals without a Retry-After header.
    """

    capacity: float
    offered: float
    statuses: dict[int, int]
    accepted_p99: float
    refused_p99: float
    refused_max: float
    without_retry_after: int


def overload(port: int, request: bytes, *, clients: int, seconds: float, busy_clients: int = 4) -> Overload:
    """Measure the server's capacity, then offer twice as much.

    Args:
        port: Port of the server.
        request: Request of all clients.
        clients: Number of clients that offer twice the capacity.
        seconds: Duration of the overload; the capacity is measured for a fifth of it.
        busy_clients: Number of clients that keep the server busy without being refused.
    """
    measured = max(1.0, seconds / 5)
    load.run(port, [request], clients=busy_clients, seconds=1)
    busy = load.run(port, [request], clients=busy_clients, seconds=measured)
    capacity = sum(answer.status == load.OK for answer in busy) / measured
    answers = load.run(port, [request], clients=clients, seconds=seconds, rate=2 * capacity)
    accepted = [answer for answer in answers if answer.status == load.OK]
    refused = [answer for answer in answers if answer.status == load.OVERLOADED]
    return Overload(
        capacity=round(capacity, 1),
        offered=round(len(answers) / seconds, 1),
        statuses=dict(Counter(answer.status for answer in answers)),
        accepted_p99=load.percentile(accepted, 99),
        refused_p99=load.percentile(refused, 99),
        refused_max=load.percentile(refused, 100),
        without_retry_after=sum(not answer.retry_after for answer in refused),
    )


@dataclass(frozen=True)
class Kill:
    """Outcome of a worker's sudden end.

    Attributes:
        connections: Number of the worker's connections, an upper bound for `lost`.
        lost: Number of requests without an answer.
        statuses: Number of answers by status.
        replaced_after: Seconds until the server had its number of workers again and the new one answered.
    """

    connections: int
    lost: int
    statuses: dict[int, int]
    replaced_after: float


def kill_a_worker(server: RunningServer, request: bytes, *, clients: int, seconds: float) -> Kill:
    """SIGKILL a worker while clients send, and wait for its replacement.

    Args:
        server: Running server.
        request: Request of all clients.
        clients: Number of clients that send without a pause.
        seconds: Duration of sending; the worker is killed after a third of it.
    """
    answers: list[load.Answer] = []
    sending = threading.Thread(
        target=lambda: load.run(server.port, [request], clients=clients, seconds=seconds, answers=answers)
    )
    sending.start()
    time.sleep(seconds / 3)
    before = server.workers()
    victim = max(before, key=_connections)
    connections = _connections(victim)
    victim.kill()
    killed = time.perf_counter()
    replaced_after = _until_replaced(server, victim, len(before)) - killed
    sending.join()
    statuses = Counter(answer.status for answer in answers)
    return Kill(connections, statuses.pop(load.LOST, 0), dict(statuses), round(replaced_after, 1))


def _connections(process: psutil.Process) -> int:
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections("tcp"))


def _until_replaced(server: RunningServer, victim: psutil.Process, count: int) -> float:
    """Wait for the number of workers from before; the time, on the clock of `time.perf_counter`.

    Raises:
        RuntimeError: No worker came within a minute.
    """
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        workers = [worker for worker in server.workers() if worker.pid != victim.pid]
        if len(workers) >= count and all(_is_loaded(worker) for worker in workers) and ready(server.port):
            return time.perf_counter()
        time.sleep(0.1)
    raise RuntimeError("the killed worker was not replaced within a minute")


def _is_loaded(worker: psutil.Process) -> bool:
    """Whether a worker has loaded its model: the library of ONNX Runtime is mapped."""
    try:
        return any("onnxruntime" in region.path for region in worker.memory_maps())
    except psutil.Error:
        return False


@dataclass(frozen=True)
class Drain:
    """Outcome of an orderly shutdown.

    Attributes:
        in_flight: Number of requests in flight at SIGTERM.
        lost: Number of those without an answer.
        exit_code: Exit status of the server.
        seconds: Duration of the shutdown.
    """

    in_flight: int
    lost: int
    exit_code: int
    seconds: float


def drain(server: RunningServer, request: bytes, *, clients: int) -> tuple[Drain, list[load.Answer]]:
    """SIGTERM a server as soon as it has answered the first of many requests.

    Args:
        server: Running server; it has ended afterwards.
        request: Request that each client sends once.
        clients: Number of simultaneous clients; more than the server's threads, so that some requests are in flight.

    Returns:
        The outcome, and the answers.
    """
    answers: list[load.Answer] = []
    sending = threading.Thread(
        target=lambda: load.run(server.port, [request], clients=clients, seconds=0.02, answers=answers)
    )
    sending.start()
    while sending.is_alive() and not answers:  # all connections are older than the first answer, and thus accepted
        time.sleep(0.001)
    ended = time.perf_counter()
    os.kill(server.process.pid, signal.SIGTERM)
    exit_code = server.process.wait(timeout=60)
    seconds = time.perf_counter() - ended
    sending.join()
    in_flight = [answer for answer in answers if answer.started < ended < answer.started + answer.seconds]
    lost = sum(answer.status == load.LOST for answer in answers if answer.started < ended)
    return Drain(len(in_flight), lost, exit_code, round(seconds, 2)), answers


def lines(log: Path) -> int:
    """The number of lines in a prediction log; 0 if there is no file.

    Raises:
        ValueError: The last line is incomplete.
    """
    content = log.read_bytes() if log.exists() else b""
    if content and not content.endswith(b"\n"):
        raise ValueError(f"{log} ends with half a line")
    return content.count(b"\n")


def log_failures(port: int, token: str | None = None) -> float:
    """The number of lines that could not be written, by the server's own count."""
    _, text = get(port, "/metrics", token)
    (line,) = (line for line in text.splitlines() if line.startswith("meaa_prediction_log_failures_total"))
    return float(line.split()[-1])
