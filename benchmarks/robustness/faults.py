"""What a server must withstand, each as a function that brings it about and says what came of it.

The tests run them for seconds and assert what must hold; `benchmarks.robustness.soak` runs them for minutes and measures.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks import load
from benchmarks.server import HOST, RunningServer

OK: Final = 200
NO_FACE: Final = 422
OVERLOADED: Final = 503


@dataclass(frozen=True)
class Overload:
    """What came of more requests than can be answered.

    Attributes:
        capacity: answers per second that a busy server gave before.
        offered: requests per second.
        statuses: how many answers had each status.
        accepted_p99: seconds within which 99 % of the accepted were answered.
        refused_p99: seconds within which 99 % of the refused were told so.
        refused_max: the slowest of those.
        without_retry_after: refusals that did not say when to come back.
    """

    capacity: float
    offered: float
    statuses: dict[int, int]
    accepted_p99: float
    refused_p99: float
    refused_max: float
    without_retry_after: int


def overload(port: int, request: bytes, *, clients: int, seconds: float, busy_clients: int = 4) -> Overload:
    """Find out what the server can do, then offer twice that.

    Args:
        port: of the server.
        request: what all clients send.
        clients: that offer twice the capacity.
        seconds: for which they do; the capacity is measured over a fifth of it.
        busy_clients: enough to keep the server busy, and few enough that it refuses nobody.
    """
    measured = max(1.0, seconds / 5)
    load.run(port, [request], clients=busy_clients, seconds=1)
    capacity = sum(a.status == OK for a in load.run(port, [request], clients=busy_clients, seconds=measured)) / measured
    answers = load.run(port, [request], clients=clients, seconds=seconds, rate=2 * capacity)
    accepted = [answer for answer in answers if answer.status == OK]
    refused = [answer for answer in answers if answer.status == OVERLOADED]
    return Overload(
        capacity=round(capacity, 1),
        offered=round(len(answers) / seconds, 1),
        statuses=dict(Counter(answer.status for answer in answers)),
        accepted_p99=load.percentile(accepted, 99),
        refused_p99=load.percentile(refused, 99),
        refused_max=max((answer.seconds for answer in refused), default=float("nan")),
        without_retry_after=sum(not answer.retry_after for answer in refused),
    )


@dataclass(frozen=True)
class Kill:
    """What came of a worker's sudden end.

    Attributes:
        connections: that the worker had; no more than these requests may be lost.
        lost: requests that were not answered.
        statuses: how many answers had each status.
        replaced_after: seconds until there were as many workers as before, and the new one answered.
    """

    connections: int
    lost: int
    statuses: dict[int, int]
    replaced_after: float


def kill_a_worker(server: RunningServer, request: bytes, *, clients: int, seconds: float) -> Kill:
    """SIGKILL a worker while clients send, and wait for the next.

    Args:
        server: running.
        request: what the clients send.
        clients: that send without a pause.
        seconds: for which they do; the worker is killed after a third of it.
    """
    answers: list[load.Answer] = []
    sending = threading.Thread(
        target=lambda: answers.extend(load.run(server.port, [request], clients=clients, seconds=seconds))
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
    """Wait for a worker that is not the victim and listens; when that was, as `time.perf_counter` counts.

    Raises:
        RuntimeError: none came within a minute.
    """
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        workers = [worker for worker in server.workers() if worker.pid != victim.pid]
        # One that has set itself up has the descriptors of an event loop; and there must be someone who answers.
        if len(workers) >= count and all(_answers(worker) for worker in workers) and ready(server.port):
            return time.perf_counter()
        time.sleep(0.1)
    raise RuntimeError("the worker that was killed was not replaced within a minute")


def _answers(worker: psutil.Process) -> bool:
    """Whether a worker has loaded its model: its graph library is mapped."""
    try:
        return any("onnxruntime" in region.path for region in worker.memory_maps())
    except psutil.Error:
        return False


def ready(port: int) -> bool:
    """Whether a server takes requests."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass(frozen=True)
class Drain:
    """What came of an orderly end.

    Attributes:
        in_flight: requests that were being answered.
        lost: those of them that were not.
        exit_code: of the server.
        seconds: that the end took.
    """

    in_flight: int
    lost: int
    exit_code: int
    seconds: float


def drain(server: RunningServer, request: bytes, *, clients: int) -> tuple[Drain, list[load.Answer]]:
    """SIGTERM a server as soon as it has answered the first of many requests.

    Args:
        server: running; ended afterwards.
        request: what each client sends once.
        clients: how many send at the same time; more than the server has threads, so that some are in flight.

    Returns:
        What came of it, and the answers.
    """
    answers: list[load.Answer] = []
    sending = threading.Thread(
        target=lambda: load.run(server.port, [request], clients=clients, seconds=0.02, answers=answers)
    )
    sending.start()
    while sending.is_alive() and not answers:  # then all connections are accepted: they are older than the answer
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
    """How many whole lines a log has.

    Raises:
        ValueError: its last line is not whole.
    """
    content = log.read_bytes() if log.exists() else b""
    if content and not content.endswith(b"\n"):
        raise ValueError(f"{log} ends with half a line")
    return content.count(b"\n")


def log_failures(port: int, token: str | None = None) -> float:
    """How many lines could not be written, as the server counts them."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
    text = connection.getresponse().read().decode()
    connection.close()
    (line,) = (line for line in text.splitlines() if line.startswith("meaa_prediction_log_failures_total"))
    return float(line.split()[-1])
