"""Faults of a server as checks of `make soak`: each causes one and compares the outcome with its limit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks import load
from benchmarks.robustness import faults, schemathesis_run, traces
from benchmarks.robustness.fuzzing.image_target import encode
from benchmarks.robustness.fuzzing.recorder import memory_megabytes
from benchmarks.robustness.plan import Finding, Plan, duration
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import ROOT, ready
from benchmarks.speed import serving
from service.estimator import MoodEstimator
from service.settings import Settings

TOKEN: Final = "soak-5c11"

_MAX_RESIDENT_MB: Final = 300
_MAX_GROWTH_MB: Final = 15
_MAX_BOMB_MB: Final = 600  # two of the largest images at once, with their alpha channels


def photo() -> bytes:
    """A camera frame with one face, as JPEG."""
    return as_jpeg(scene(640, 480, 1).pixels)


def overload(plan: Plan) -> Iterator[Finding]:
    """64 clients offer twice the capacity."""
    finding = partial(Finding, "64 clients, twice the capacity")
    with plan.server("overload") as server:
        seconds = plan.scaled(60, 5)
        outcome = faults.overload(server.port, load.upload_request(photo()), clients=64, seconds=seconds)
    statuses = Counter(outcome.statuses)
    others = {status: count for status, count in statuses.items() if status not in (load.OK, load.OVERLOADED)}
    missing = outcome.without_retry_after
    yield finding("capacity, requests/s", f"{outcome.capacity:.0f}")
    yield finding("offered, requests/s", f"{outcome.offered:.0f}")
    yield finding("answered 200, 503", f"{statuses[load.OK]}, {statuses[load.OVERLOADED]}")
    yield finding("other statuses", str(others or "none"), "none", not others)
    yield finding("accepted, p99", duration(outcome.accepted_p99), "< 1 s", outcome.accepted_p99 < 1)
    # False for NaN: without a refusal the clients were too slow to offer twice the capacity.
    yield finding("refused, p99", duration(outcome.refused_p99), "<= 100 ms", outcome.refused_p99 <= 0.1)
    yield finding("refused, slowest", duration(outcome.refused_max))
    yield finding("refused without Retry-After", str(missing), "0", missing == 0)


def killed_worker(plan: Plan) -> Iterator[Finding]:
    """SIGKILL of a worker under load, several times, with one worker and with two."""
    request = load.upload_request(photo())
    for workers in (2, 1):
        finding = partial(Finding, f"SIGKILL of one of {workers} worker{'s' * (workers > 1)} under load")
        log = plan.directory / f"killed-{workers}.jsonl"
        environment = {"MEAA_WORKERS": str(workers), "MEAA_PREDICTION_LOG": str(log), "MEAA_MAX_WAIT": "60"}
        with plan.server(f"killed-{workers}", **environment) as server:
            kills = [
                faults.kill_a_worker(server, request, clients=8, seconds=plan.scaled(9, 3))
                for _ in range(round(plan.scaled(3)))
            ]
        lost, in_flight = sum(kill.lost for kill in kills), sum(kill.connections for kill in kills)
        answered, lines = sum(kill.statuses.get(load.OK, 0) for kill in kills), faults.lines(log)
        others = {status for kill in kills for status in kill.statuses} - {load.OK}
        yield finding("requests lost", str(lost), f"<= {in_flight}, in flight in the worker", lost <= in_flight)
        yield finding("other statuses than 200", str(others or "none"), "none", not others)
        yield finding("replaced after", duration(max(kill.replaced_after for kill in kills)), "<= 60 s")
        yield finding("answers, lines logged", f"{answered}, {lines}", "answers <= lines", answered <= lines)


def shutdown(plan: Plan) -> Iterator[Finding]:
    """SIGTERM under load, and restarts on the same prediction log."""
    finding = partial(Finding, "SIGTERM and restart under load")
    log = plan.directory / "restarts.jsonl"
    large = load.upload_request(as_jpeg(scene(3840, 2160, 1).pixels))
    answered, drains = 0, []
    for number in range(round(plan.scaled(3))):
        environment = {"MEAA_PREDICTION_LOG": str(log), "MEAA_MAX_WAIT": "60"}
        with plan.server(f"restart-{number}", **environment) as server:
            answers = load.run(server.port, [load.upload_request(photo())], clients=4, seconds=plan.scaled(5, 2))
            drain, last = faults.drain(server, large, clients=12)
        answered += sum(answer.status == load.OK for answer in [*answers, *last])
        drains.append(drain)
    in_flight, lost = sum(drain.in_flight for drain in drains), sum(drain.lost for drain in drains)
    codes, lines = {drain.exit_code for drain in drains}, faults.lines(log)
    yield finding("in flight at SIGTERM", str(in_flight), "> 0", in_flight > 0)
    yield finding("lost of those in flight", str(lost), "0", lost == 0)
    yield finding("exit status", ", ".join(map(str, sorted(codes))), "0", codes == {0})
    yield finding("slowest shutdown", duration(max(drain.seconds for drain in drains)))
    yield finding("answers, lines logged", f"{answered}, {lines}", "equal", answered == lines)


def logged_rows(plan: Plan) -> Iterator[Finding]:
    """A row for every answer of four workers across a log rotation and a restart, both under load.

    Images without a face have a row, too, and are cheap: many thousands can be sent.
    """
    count = round(plan.scaled(50_000))
    finding = partial(Finding, f"{count:,} requests, four workers, a rotation, a restart")
    logs = [plan.directory / "rows.jsonl", plan.directory / "rows.jsonl.1"]
    image = load.upload_request(_grey_jpeg(96))
    environment = {"MEAA_PREDICTION_LOG": str(logs[0]), "MEAA_WORKERS": "4", "MEAA_MAX_WAIT": "60"}
    answers: list[load.Answer] = []
    for part in ("before", "after"):
        with plan.server(f"rows-{part}", **environment) as server:
            if part == "before":
                rotation = threading.Timer(1.0, logs[0].rename, [logs[1]])  # as logrotate does it
                rotation.start()
                answers += load.run(server.port, [image], clients=16, seconds=2)
                rotation.join()
            while len(answers) < count / (2 if part == "before" else 1):
                answers += load.run(server.port, [image], clients=16, seconds=plan.scaled(5, 0.5))
            answers += faults.drain(server, load.upload_request(photo()), clients=12)[1]
            failures = server.log.read_text().count("cannot be written")
            yield finding(f"log failures {part} the restart", str(failures), "0", failures == 0)
    statuses = Counter(answer.status for answer in answers)
    answered = statuses[load.OK] + statuses[load.NO_FACE]
    rows = [json.loads(line)["request"] for log in logs for line in log.read_text().splitlines()]
    yield finding("statuses", str(dict(statuses)), "200, 422", answered == len(answers))
    yield finding("answers, rows logged", f"{answered:,}, {len(rows):,}", "equal", answered == len(rows))
    yield finding("distinct request ids", f"{len(set(rows)):,}", "one per row", len(set(rows)) == len(rows))


def full_disk(plan: Plan) -> Iterator[Finding]:
    """The prediction log on a disk that is full, that fills up, and that is read-only."""
    request, count = load.upload_request(photo()), round(plan.scaled(200, 20))
    with ExitStack() as stack:
        logs = {"on /dev/full": Path("/dev/full"), "in a missing directory": plan.directory / "missing" / "a.log"}
        for name, options in {"on a disk that fills up": "size=4k", "on a read-only disk": "ro"}.items():
            mounted = _mount(stack, plan.directory / name.replace(" ", "-"), options)
            if mounted is not None:
                logs[name] = mounted / "predictions.jsonl"
        for name, log in logs.items():
            finding = partial(Finding, f"prediction log {name}")
            answers: list[load.Answer] = []
            with plan.server(f"log-{len(name)}", MEAA_PREDICTION_LOG=str(log), MEAA_WORKERS="1") as server:
                while len(answers) < count:
                    answers += load.run(server.port, [request], clients=1, seconds=0.01)  # one at a time
                failures = faults.log_failures(server.port)
                warnings = server.log.read_text().count("cannot be written")
            statuses = {answer.status for answer in answers}
            lines = faults.lines(log) if log.is_file() else 0
            yield finding("statuses", str(statuses), "200", statuses == {load.OK})
            yield finding("lines + failures", f"{lines} + {failures:.0f}", f"{count}", lines + failures == count)
            yield finding("warnings", str(warnings), "1", warnings == 1)


def _mount(stack: ExitStack, directory: Path, options: str) -> Path | None:
    """A file system in memory until the stack closes; None if this user may not mount one."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    stack.callback(subprocess.run, ["umount", str(directory)], check=False)
    return directory


def memory(plan: Plan) -> Iterator[Finding]:
    """Frames of many sizes through one worker."""
    frames = round(plan.scaled(10_000, 600))
    finding = partial(Finding, f"{frames:,} frames of 50 sizes")
    with plan.server("memory", MEAA_WORKERS="1") as server:
        usage = serving.memory(server, frames=frames)
    resident, growth = usage["resident_mb"], usage["growth_mb"]
    limit = f"<= {_MAX_RESIDENT_MB} MB"
    yield finding("resident memory of a worker", f"{resident:.0f} MB", limit, resident <= _MAX_RESIDENT_MB)
    yield finding("growth since the first 500", f"{growth:.1f} MB", f"< {_MAX_GROWTH_MB} MB", growth < _MAX_GROWTH_MB)


def bombs(plan: Plan) -> Iterator[Finding]:
    """Files that are small as sent and large in memory."""
    finding = partial(Finding, "decompression bombs")
    side = int(Settings.model_fields["max_pixels"].default ** 0.5)
    transparent = encode(Image.new("RGBA", (side, side)), "PNG")
    files = {
        "20,000 x 20,000 PNG": (encode(Image.new("L", (20_000, 20_000)), "PNG"), {413}),
        "50 MB of zeros as JPEG": (b"\xff\xd8\xff\xe0" + bytes(50_000_000), {413, load.LOST}),
        f"{side} x {side} RGBA PNG, just accepted": (transparent, {load.NO_FACE}),
        f"{side} x {side} progressive JPEG": (_grey_jpeg(side, progressive=True), {load.NO_FACE}),
    }
    with plan.server("bombs", MEAA_WORKERS="1") as server:
        (worker,) = server.workers()
        for name, (data, expected) in files.items():
            Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # resets the peak memory
            request = load.upload_request(data)
            answers = load.run(server.port, [request], clients=4, seconds=plan.scaled(5, 0.5))
            peak = memory_megabytes("VmHWM", worker.pid)
            statuses = {answer.status for answer in answers} - {load.OVERLOADED}
            value = f"{sorted(statuses)}, {max(answer.seconds for answer in answers):.2f} s"
            yield finding(name, value, str(sorted(expected)), statuses <= expected)
            metric, limit = f"peak memory, {len(data):,} bytes each", f"<= {_MAX_BOMB_MB} MB"
            yield finding(metric, f"{peak:.0f} MB", limit, peak <= _MAX_BOMB_MB)
        still_ready = ready(server.port)
        yield finding("ready afterwards", str(still_ready), "True", still_ready)


def _grey_jpeg(side: int, *, progressive: bool = False) -> bytes:
    return encode(Image.new("RGB", (side, side), "grey"), "JPEG", progressive=progressive)


def openapi(plan: Plan) -> Iterator[Finding]:
    """Schemathesis, with a token and without."""
    examples = round(plan.scaled(150, 10))
    for name, token in (("Schemathesis", None), ("Schemathesis, token set", TOKEN)):
        finding = partial(Finding, name)
        environment = {"MEAA_READ_SECONDS": "5", **({"MEAA_TOKEN": token, "MEAA_METRICS": "token"} if token else {})}
        with plan.server(f"openapi-{bool(token)}", **environment) as server:
            result = schemathesis_run.run(server.url, plan.directory, examples=examples, token=token)
            log = server.log.read_text()
        passed = result.returncode == 0
        if not passed:
            print(result.stdout)
        faulty = log.count("A request failed") + log.count("Traceback")
        yield finding("answers as documented", str(passed), "True", passed)
        yield finding("faults logged", str(faulty), "0", faulty == 0)


def privacy(plan: Plan) -> Iterator[Finding]:
    """Good, broken and faceless images, then a search of the disk for traces of them."""
    finding = partial(Finding, "traces of images")
    jpeg = photo()
    wanted = traces.markers(jpeg, MoodEstimator.load(ROOT / "bundle").estimate(jpeg).face)
    requests = [load.upload_request(data) for data in (jpeg, jpeg[: len(jpeg) // 2], jpeg[:400] + bytes(9_000))]
    requests += [load.upload_request(jpeg).replace(b'name="image"', b'name="other"'), load.upload_request(jpeg)[:-40]]
    begun = time.time() - 1
    log = plan.directory / "privacy.jsonl"
    with plan.server("privacy", MEAA_PREDICTION_LOG=str(log), MEAA_READ_SECONDS="3") as server:
        answers = load.run(server.port, requests, clients=8, seconds=plan.scaled(20, 3), patience=10)
        searched = [plan.directory, ROOT, Path(tempfile.gettempdir())]
        searched += [Path(os.environ["BENTOML_HOME"])] if "BENTOML_HOME" in os.environ else []
        found = traces.search(searched, wanted, since=begun)
    yield finding("requests", f"{len(answers):,}")
    yield finding("markers searched for", f"{len(wanted):,}")
    yield finding("files with any", ", ".join(map(str, found)) or "none", "none", not found)


CHECKS: Final = (overload, killed_worker, shutdown, logged_rows, full_disk, memory, bombs, openapi, privacy)
"""The checks, in the order of a full run."""
