"""Live sessions for minutes, as a check of `make soak`: clients that come, are cut off, come back, are sent away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from benchmarks.robustness import faults
from benchmarks.robustness.plan import Finding, Plan, duration
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import HOST, RunningServer
from service.schema import SESSION_PATH, SUBPROTOCOL

_SESSIONS: Final = 30
_SECONDS: Final = 300.0
_INTERVAL: Final = 0.5
"""Seconds between two frames of a session."""

_UNDER_WAY: Final = 2
"""Frames that a client sends without a reply; then it waits, as a camera would."""

_DROP_SECONDS: Final = 60.0
"""Mean time until a client's line is cut; half as often it ends its session and resumes it on another connection."""

_WARM_SHARE: Final = 0.2
"""Share of the time after which the memory is what it is to remain."""

_MEASURED_SECONDS: Final = 15.0
_MAX_GROWTH_MB: Final = 15
_RESTART: Final = 1012
_PATIENCE: Final = 30.0  # seconds
_END: Final = json.dumps({"type": "end"})


@dataclass
class Tally:
    """What happened to the frames of all clients.

    Attributes:
        sent: Frames sent.
        answered: Frames answered with a mood.
        problems: Frames answered with a problem, by code.
        cut: Frames whose reply was not waited for: the client cut its line, or the server was stopped.
        faults: What must not happen, by kind.
        latencies: Seconds from a frame to its reply.
        drops: Lines cut.
        resumed: Sessions that went on in another connection.
        handed_over: Sessions that the stopping server handed over.
    """

    sent: int = 0
    answered: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    drops: int = 0
    resumed: int = 0
    handed_over: list[str] = field(default_factory=list)


class _Client:
    """A client with one session at a time."""

    def __init__(self, port: int, frames: list[bytes], tally: Tally, number: int) -> None:
        self._port = port
        self._frames = frames
        self._tally = tally
        self._chance = random.Random(number)
        self._sent: deque[float] = deque()  # times of the frames that have no reply yet

    async def run(self, end: float) -> None:
        """Send frames until a time on the clock of `time.monotonic`; then stay, and go on until the server stops."""
        session: str | None = None
        while True:
            until = time.monotonic() + self._chance.expovariate(1 / _DROP_SECONDS)
            last = until >= end
            try:
                session = await self._one_session(session, None if last else until)
            except (OSError, TimeoutError, ConnectionClosed) as error:
                self._tally.faults[f"{type(error).__name__}: {error}"[:80]] += 1
                return
            if last:
                return

    async def _one_session(self, resumed: str | None, until: float | None) -> str | None:
        """A connection from its handshake to its end; the state if the session is to go on.

        Args:
            resumed: State of an earlier session.
            until: Time at which the client goes; None if it stays until the server stops.
        """
        self._sent.clear()
        connection = await connect(
            f"ws://{HOST}:{self._port}{SESSION_PATH}",
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            open_timeout=_PATIENCE,
        )
        if resumed is not None:
            await connection.send(json.dumps({"type": "resume", "session": resumed}))
            self._tally.resumed += 1
        sender = asyncio.create_task(self._send(connection, until))
        try:
            return await self._receive(connection, sender, orderly=self._chance.random() < 1 / 3)
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender
            self._tally.cut += len(self._sent)
            await connection.close()

    async def _send(self, connection: ClientConnection, until: float | None) -> None:
        due = time.monotonic() + self._chance.random() * _INTERVAL
        while until is None or due < until:
            await asyncio.sleep(due - time.monotonic())
            while len(self._sent) >= _UNDER_WAY:
                await asyncio.sleep(0.01)
            self._sent.append(time.monotonic())
            self._tally.sent += 1
            try:
                await connection.send(self._chance.choice(self._frames))
            except ConnectionClosed:  # the reader learns why
                await asyncio.Event().wait()
            due = max(due + _INTERVAL, time.monotonic())

    async def _receive(self, connection: ClientConnection, sender: asyncio.Task[None], *, orderly: bool) -> str | None:
        """Read replies, and go when the sender has ended: with the end of the session, or without a word."""
        number, latest, ended = 0, -1.0, False
        while True:
            if sender.done() and not ended:
                if not orderly:
                    self._tally.drops += 1
                    connection.transport.abort()
                    return None
                await connection.send(_END)
                ended = True
            try:
                async with asyncio.timeout(_INTERVAL if not ended else _PATIENCE):
                    reply: dict[str, Any] = json.loads(await connection.recv())
            except TimeoutError:
                if ended or (self._sent and time.monotonic() - self._sent[0] > _PATIENCE):
                    raise
                continue
            if "summary" in reply:
                return await self._finish(connection, reply, asked=ended)
            if not self._sent or reply["frame"] != number or reply["time"] < latest:
                self._tally.faults["a reply that is out of order"] += 1
                return None
            self._tally.latencies.append(time.monotonic() - self._sent.popleft())
            number, latest = number + 1, reply["time"]
            if "problem" in reply:
                self._tally.problems[reply["problem"]["code"]] += 1
            else:
                self._tally.answered += 1

    async def _finish(self, connection: ClientConnection, reply: dict[str, Any], *, asked: bool) -> str:
        """The state in the last message, after the close."""
        with contextlib.suppress(ConnectionClosed):
            await connection.recv()
            self._tally.faults["a message after the last"] += 1
        if asked and self._sent:
            self._tally.faults["a summary before the last reply"] += 1
        elif not asked and connection.close_code == _RESTART:
            self._tally.handed_over.append(reply["session"])
        elif not asked:
            self._tally.faults[f"closed with {connection.close_code}"] += 1
        return str(reply["session"])


def live_sessions(plan: Plan) -> Iterator[Finding]:
    """Sessions for five minutes, of which some are cut off and others resumed, and a stop of the server amid them."""
    seconds = plan.scaled(_SECONDS, 20)
    finding = partial(Finding, f"{_SESSIONS} live sessions, {seconds:.0f} s")
    log = plan.directory / "sessions.jsonl"
    tally, memory = Tally(), list[float]()
    with plan.server("sessions", MEAA_PREDICTION_LOG=str(log)) as server:
        workers = server.workers()
        end = time.monotonic() + seconds
        thread = threading.Thread(target=_run_clients, args=(server.port, tally, end))
        thread.start()
        # While sessions end, since then memory is freed.
        for begin in (end - (1 - _WARM_SHARE) * seconds, end - _MEASURED_SECONDS - 1):
            time.sleep(max(0.0, begin - time.monotonic()))
            memory.append(_memory_each(workers))
        time.sleep(max(0.0, end + 2 * _INTERVAL - time.monotonic()))  # now all of them stay
        replaced = {worker.pid for worker in workers} != {worker.pid for worker in server.workers()}
        os.kill(server.process.pid, signal.SIGTERM)
        exit_code = server.process.wait(timeout=60)
        thread.join()
        faults_logged = _faults(server)
    accounted = tally.answered + tally.problems.total() + tally.cut
    yield finding("frames sent, answered", f"{tally.sent:,}, {tally.answered:,}")
    others = {code: count for code, count in tally.problems.items() if code != "overloaded"}
    yield finding("refused for overload", f"{tally.problems['overloaded']:,}")
    yield finding("other problems", str(others or "none"), "none", not others)
    yield finding("time to the reply, median, p99", ", ".join(duration(_quantile(tally, share)) for share in (50, 99)))
    yield finding("lines cut, sessions resumed", f"{tally.drops}, {tally.resumed}", "> 0", tally.drops > 0)
    yield finding("replies lost", str(tally.sent - accounted), "0", tally.sent == accounted)
    yield finding("out of order, or other faults", str(dict(tally.faults) or "none"), "none", not tally.faults)
    rows, least = faults.lines(log), tally.answered + tally.problems["no_face"]
    yield finding("rows logged", f"{rows:,}", f"{least:,} to {least + tally.cut:,}", least <= rows <= least + tally.cut)
    yield finding(
        "faults logged, workers replaced", f"{faults_logged}, {replaced}", "0, False", not faults_logged + replaced
    )
    growth = memory[1] - memory[0]
    metric = f"growth of a worker since {_WARM_SHARE * seconds:.0f} s"
    yield finding(metric, f"{growth:.1f} MB", f"< {_MAX_GROWTH_MB} MB", growth < _MAX_GROWTH_MB)
    handed = len(tally.handed_over)
    yield finding(
        "SIGTERM: handed over, exit status",
        f"{handed}, {exit_code}",
        f"{_SESSIONS}, 0",
        (handed, exit_code) == (_SESSIONS, 0),
    )
    with plan.server("sessions-again", MEAA_WORKERS="1") as server:
        going_on = asyncio.run(_resume_all(server.port, tally.handed_over))
    yield finding("and resumed at the next server", str(going_on), str(_SESSIONS), going_on == _SESSIONS)


def _frames() -> list[bytes]:
    """Pictures of one person who moves a little."""
    pixels = scene(640, 480, 1).pixels
    return [as_jpeg(np.roll(pixels, (2 * step, -3 * step), axis=(0, 1))) for step in range(6)]


def _run_clients(port: int, tally: Tally, end: float) -> None:
    frames = _frames()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(_SESSIONS):
                group.create_task(_Client(port, frames, tally, number).run(end))

    asyncio.run(run())


async def _resume_all(port: int, sessions: list[str]) -> int:
    """How many sessions go on at another server."""
    (frame, *_), count = _frames(), 0
    for session in sessions:
        async with connect(
            f"ws://{HOST}:{port}{SESSION_PATH}", subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None
        ) as connection:
            await connection.send(json.dumps({"type": "resume", "session": session}))
            await connection.send(frame)
            reply = json.loads(await connection.recv())
            count += reply["frame"] == 0 and reply["time"] > 0  # the first frame of a new session has the time 0
    return count


def _memory_each(workers: list[psutil.Process]) -> float:
    """Least memory of a worker with its decoder process over some seconds, in millions of bytes; the mean of all.

    The least, because what is free is given back only now and then.
    """
    values: dict[int, list[float]] = {worker.pid: [] for worker in workers}
    end = time.monotonic() + _MEASURED_SECONDS
    while time.monotonic() < end:
        for worker in workers:
            processes = [worker, *worker.children(recursive=True)]
            memory = [getattr(one.memory_full_info(), "pss", 0) or one.memory_info().rss for one in processes]
            values[worker.pid].append(sum(memory) / 1e6)
        time.sleep(0.2)
    return statistics.mean(map(min, values.values()))


def _quantile(tally: Tally, share: float) -> float:
    return float(np.percentile(tally.latencies, share)) if tally.latencies else float("nan")


def _faults(server: RunningServer) -> int:
    """Lines of the log that tell of a fault."""
    text = Path(server.log).read_text()
    return sum(text.count(words) for words in ("failed: ", "Traceback", "A fault"))


CHECKS: Final = (live_sessions,)
