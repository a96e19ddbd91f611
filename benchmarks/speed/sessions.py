"""Sessions beside snapshots, and both beside an earlier version of the code: what is compared takes turns in one run.

The frames are those of a camera held by hand: a face of a third of the frame, shifted by some pixels from one to the
next.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import load, websocket
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import ROOT, RunningServer, serve
from benchmarks.speed import serving
from benchmarks.speed.detector_process import Detector
from benchmarks.speed.timing import Times, milliseconds

FRAME: Final = (640, 480)
CLIENTS: Final = 8

SESSION: Final = "session frame"
SNAPSHOT: Final = "snapshot"
HINTED: Final = "snapshot with a box"
BEFORE: Final = "snapshot, code before"
NOW: Final = "now"
EARLIER: Final = "before"

_FRAMES: Final = 16
_JITTER: Final = 6  # pixels
_WARM_UP_SECONDS: Final = 2.0

_ENVIRONMENT: Final = {"MEAA_SESSION_RATE": "1000"}
"""For the code now: the limit is for cameras, and these clients send as fast as they get replies."""


@dataclass(frozen=True)
class Effort:
    """Numbers and durations.

    Attributes:
        turns: Turns of each request and of each search.
        rounds: Rounds of load; in each, all that is compared has its turn.
        seconds: Duration of a turn under load, in seconds, without the warm-up.
    """

    turns: int
    rounds: int
    seconds: float


FULL: Final = Effort(turns=300, rounds=5, seconds=6.0)
QUICK: Final = Effort(turns=3, rounds=1, seconds=0.5)


def camera_frames(count: int = _FRAMES) -> list[bytes]:
    """JPEG frames of one person before a hand-held camera, the same ones at every call."""
    still, random = scene(*FRAME, 1).pixels, np.random.default_rng(0)
    steps = random.integers(-_JITTER, _JITTER + 1, (count, 2))
    return [as_jpeg(np.roll(still, (int(down), int(right)), axis=(0, 1))) for down, right in steps]


def measure(python: Path, effort: Effort, directory: Path, before: Path | None = None) -> dict[str, Any]:
    """Times of searches and requests, and what is done in a second under load.

    Args:
        python: Interpreter of the environment that serves, both versions.
        effort: Numbers and durations.
        directory: Directory for the servers' logs.
        before: Checkout with the code before; None leaves the comparison out.

    Returns:
        `detection`, `requests` (times by name) and `throughput` (the median of the rounds, by name, each per second).
    """
    frames = camera_frames()
    with ExitStack() as stack:
        checkouts = {NOW: ROOT} if before is None else {EARLIER: before.resolve(), NOW: ROOT}
        detectors = {
            name: stack.enter_context(Detector(checkout, python, scene(*FRAME, 1).pixels))
            for name, checkout in checkouts.items()
        }
        detection = _take_turns({name: one.milliseconds for name, one in detectors.items()}, effort.turns)
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(_serve(directory / name, python, checkout, _ENVIRONMENT if name == NOW else {}))
            for name, checkout in checkouts.items()
        }
        return {
            "frame": f"{FRAME[0]}x{FRAME[1]}",
            "clients": CLIENTS,
            "compared": before is not None,
            "detection": detection,
            "requests": _requests(servers, frames, effort),
            "throughput": _throughput(servers, frames, effort),
        }


def _serve(
    directory: Path, python: Path, checkout: Path, environment: dict[str, str]
) -> AbstractContextManager[RunningServer]:
    directory.mkdir(parents=True)
    return serve(directory, python=python, working_directory=checkout, environment=environment)


def _take_turns(functions: Mapping[str, Callable[[], float]], turns: int) -> dict[str, Any]:
    """The times that functions tell, in milliseconds; one after the other, turn by turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            times[name].append(function())
    return {name: Times(tuple(values)).as_json() for name, values in times.items()}


def _requests(servers: Mapping[str, RunningServer], frames: list[bytes], effort: Effort) -> dict[str, Any]:
    """Times of whole requests of one client: each server gets a frame, as a snapshot and within a session."""
    with ExitStack() as stack:

        def snapshot(server: RunningServer, query: str = "") -> Callable[[], float]:
            connection = stack.enter_context(serving.connect(server))
            requests = cycle([load.upload_request(frame, query=query) for frame in frames])
            return lambda: milliseconds(partial(serving.exchange, connection, next(requests), server))

        client = stack.enter_context(websocket.BlockingClient(servers[NOW].port))
        messages = cycle([websocket.message(frame) for frame in frames])
        functions = {
            **({BEFORE: snapshot(servers[EARLIER])} if EARLIER in servers else {}),
            SNAPSHOT: snapshot(servers[NOW]),
            HINTED: snapshot(servers[NOW], f"?box={_face_box()}"),
            SESSION: lambda: milliseconds(partial(client.exchange, next(messages))),
        }
        _take_turns(functions, max(1, effort.turns // 10))  # the warm-up
        return _take_turns(functions, effort.turns)


def _face_box() -> str:
    """About where the face is, as a parameter of a request."""
    width, height = FRAME
    return f"{round(0.37 * width)},{round(0.3 * height)},{round(0.25 * width)},{round(0.4 * height)}"


def _throughput(servers: Mapping[str, RunningServer], frames: list[bytes], effort: Effort) -> dict[str, float]:
    """Snapshots and frames of sessions in a second, with eight clients each; the median of the rounds."""

    def snapshots(server: RunningServer) -> float:
        found = serving.throughput(server, frames[0], clients=CLIENTS, seconds=effort.seconds)
        return float(found["per_second"])

    functions = {
        **({BEFORE: partial(snapshots, servers[EARLIER])} if EARLIER in servers else {}),
        SNAPSHOT: partial(snapshots, servers[NOW]),
        SESSION: partial(frames_per_second, servers[NOW], frames, effort.seconds),
    }
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(effort.rounds):
        for name, function in functions.items():
            found[name].append(function())
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


def frames_per_second(server: RunningServer, frames: list[bytes], seconds: float) -> float:
    """Replies in a second to all of eight sessions, each of which sends a frame on receiving a reply.

    Args:
        server: Server under test.
        frames: JPEG frames, which each session sends in turn.
        seconds: Time that counts, after a warm-up.
    """
    messages = [websocket.message(frame) for frame in frames]
    warm_up = min(_WARM_UP_SECONDS, seconds)

    async def follow(client: websocket.Client, number: int, begin: float, end: float) -> int:
        count = 0
        for turn in range(number, number + 1_000_000):
            await client.exchange(messages[turn % len(messages)])
            now = time.perf_counter()
            if now >= end:
                break
            count += now >= begin
        client.close()
        return count

    async def run() -> int:
        clients = [await websocket.Client.open(server.port) for _ in range(CLIENTS)]
        begin = time.perf_counter() + warm_up
        return sum(
            await asyncio.gather(*(follow(client, i, begin, begin + seconds) for i, client in enumerate(clients)))
        )

    return asyncio.run(run()) / seconds


def ratios(content: Mapping[str, Any]) -> dict[str, float | None]:
    """The ratios of what is compared.

    Args:
        content: What `measure` returns.

    Returns:
        By name; None if the code before was not measured.
    """
    detection, requests = (
        {name: times["median_ms"] for name, times in content[kind].items()} for kind in ("detection", "requests")
    )
    rates = content["throughput"]

    def ratio(one: Mapping[str, float], name: str, other: str) -> float | None:
        return round(one[name] / one[other], 3) if other in one else None

    return {
        "session_frame": ratio(requests, SESSION, SNAPSHOT),
        "session_frame_before": ratio(requests, SESSION, BEFORE),
        "session_rate": ratio(rates, SESSION, SNAPSHOT),
        "session_rate_before": ratio(rates, SESSION, BEFORE),
        "detection": ratio(detection, NOW, EARLIER),
        "snapshot": ratio(requests, SNAPSHOT, BEFORE),
        "snapshot_rate": ratio(rates, SNAPSHOT, BEFORE),
    }
