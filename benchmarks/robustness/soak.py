"""What the service withstands, for minutes: `make soak`, or `python -m benchmarks.robustness.soak --share 0.1` for a look.

Each check starts a server of its own, brings its fault about and compares what came of it with its limit. A table is
printed, the figures go to `reports/soak/soak.json`, and the exit status says whether every limit was kept.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.robustness import faults, schemathesis_run, traces
from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import ROOT, RunningServer, serve
from benchmarks.speed import serving
from service.estimator import MoodEstimator
from service.settings import Settings

REPORT: Final = ROOT / "reports" / "soak" / "soak.json"
TOKEN: Final = "soak-5c11"

_MEGABYTE: Final = 1e6
_MOST_RESIDENT_MB: Final = 300.0
_MOST_GROWTH_MB: Final = 15.0
_BURST_RESIDENT_MB: Final = 600.0  # two of the largest images admitted at once, transparency included


@dataclass(frozen=True)
class Finding:
    """One figure beside its limit.

    Attributes:
        check: what was done.
        measure: what was measured.
        value: what came out, in words.
        limit: what is asked, in words.
        kept: whether the limit was kept.
    """

    check: str
    measure: str
    value: str
    limit: str
    kept: bool


@dataclass(frozen=True)
class Plan:
    """How much of each check is done.

    Attributes:
        share: of the durations and counts of a full run, in (0, 1].
        directory: for logs and homes of the servers.
    """

    share: float
    directory: Path

    def times(self, full: float, least: float = 1) -> float:
        """A duration or a count, of that of a full run."""
        return max(least, full * self.share)

    @contextmanager
    def server(self, name: str, **environment: str) -> Iterator[RunningServer]:
        """A server with a directory of its own."""
        directory = self.directory / name
        temporary = directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        with serve(directory, environment={"TMPDIR": str(temporary), **environment}) as running:
            yield running


def photo() -> bytes:
    """A frame of a camera with one face in it, as JPEG."""
    return as_jpeg(scene(640, 480, 1).pixels)


def overload(plan: Plan) -> Iterator[Finding]:
    """64 clients, twice the capacity."""
    name = "64 clients, twice the capacity"
    with plan.server("overload") as server:
        seconds = plan.times(60, 5)
        came = faults.overload(server.port, load.upload_request(photo()), clients=64, seconds=seconds)
    others = {status: count for status, count in came.statuses.items() if status not in (200, 503)}
    yield Finding(name, "capacity, requests/s", f"{came.capacity:.0f}", "", True)
    yield Finding(name, "offered, requests/s", f"{came.offered:.0f}", "", True)
    yield Finding(name, "answered 200, 503", f"{came.statuses.get(200, 0)}, {came.statuses.get(503, 0)}", "", True)
    yield Finding(name, "other statuses", str(others or "none"), "none", not others)
    yield Finding(name, "accepted, p99", _seconds(came.accepted_p99), "< 1 s", came.accepted_p99 < 1)
    # Where nothing was refused, the clients themselves were too slow to offer twice the capacity.
    refused = came.statuses.get(503, 0) > 0
    yield Finding(name, "refused, p99", _seconds(came.refused_p99), "<= 100 ms", refused and came.refused_p99 <= 0.1)
    yield Finding(name, "refused, slowest", _seconds(came.refused_max), "", True)
    missing = came.without_retry_after
    yield Finding(name, "refused without Retry-After", str(missing), "0", missing == 0)


def killed_worker(plan: Plan) -> Iterator[Finding]:
    """SIGKILL of a worker under load, several times, with one worker and with two."""
    request = load.upload_request(photo())
    for workers in (2, 1):
        name = f"SIGKILL of one of {workers} worker{'s' * (workers > 1)} under load"
        log = plan.directory / f"killed-{workers}.jsonl"
        environment = {"MEAA_WORKERS": str(workers), "MEAA_PREDICTION_LOG": str(log), "MEAA_MAX_WAIT": "60"}
        kills = []
        with plan.server(f"killed-{workers}", **environment) as server:
            for _ in range(round(plan.times(3))):
                kills.append(faults.kill_a_worker(server, request, clients=8, seconds=plan.times(9, 3)))
        lost, held = sum(kill.lost for kill in kills), sum(kill.connections for kill in kills)
        answered = sum(kill.statuses.get(200, 0) for kill in kills)
        others = {status for kill in kills for status in kill.statuses} - {200}
        yield Finding(name, "requests lost", str(lost), f"<= {held}, its own in flight", lost <= held)
        yield Finding(name, "other statuses than 200", str(others or "none"), "none", not others)
        slowest = max(kill.replaced_after for kill in kills)
        yield Finding(name, "replaced after", _seconds(slowest), "<= 60 s", True)
        found = faults.lines(log)
        text = f"{answered}, {found}"
        yield Finding(name, "answers, lines logged", text, "no answer without a line", answered <= found)


def orderly_end(plan: Plan) -> Iterator[Finding]:
    """SIGTERM under load, and restarts on the same prediction log."""
    name = "SIGTERM and restart under load"
    log = plan.directory / "restarts.jsonl"
    large = load.upload_request(as_jpeg(scene(3840, 2160, 1).pixels))
    answered, drains = 0, []
    for number in range(round(plan.times(3))):
        environment = {"MEAA_PREDICTION_LOG": str(log), "MEAA_MAX_WAIT": "60"}
        with plan.server(f"restart-{number}", **environment) as server:
            answers = load.run(server.port, [load.upload_request(photo())], clients=4, seconds=plan.times(5, 2))
            drain, last = faults.drain(server, large, clients=12)
        answered += sum(answer.status == faults.OK for answer in [*answers, *last])
        drains.append(drain)
    in_flight, lost = sum(drain.in_flight for drain in drains), sum(drain.lost for drain in drains)
    yield Finding(name, "in flight at SIGTERM", str(in_flight), "> 0", in_flight > 0)
    yield Finding(name, "of these lost", str(lost), "0", lost == 0)
    codes = {drain.exit_code for drain in drains}
    yield Finding(name, "exit status", ", ".join(map(str, sorted(codes))), "0", codes == {0})
    yield Finding(name, "slowest end", _seconds(max(drain.seconds for drain in drains)), "", True)
    found = faults.lines(log)
    yield Finding(name, "answers, lines logged", f"{answered}, {found}", "as many", answered == found)


def logged_rows(plan: Plan) -> Iterator[Finding]:
    """A row for every answer of four workers, across a restart, and a rotation as logrotate does it, both under load.

    Pictures without a face have a row too, and cost so little that many thousands can be sent.
    """
    count = round(plan.times(50_000))
    name = f"{count:,} requests, four workers, a rotation, a restart"
    logs = [plan.directory / "rows.jsonl", plan.directory / "rows.jsonl.1"]
    picture = load.upload_request(_grey_jpeg(96))
    environment = {"MEAA_PREDICTION_LOG": str(logs[0]), "MEAA_WORKERS": "4", "MEAA_MAX_WAIT": "60"}
    answers: list[load.Answer] = []
    for part in ("before", "after"):
        with plan.server(f"rows-{part}", **environment) as server:
            if part == "before":
                rotation = threading.Timer(1.0, logs[0].rename, [logs[1]])
                rotation.start()
                answers += load.run(server.port, [picture], clients=16, seconds=2)
                rotation.join()
            while len(answers) < count / (2 if part == "before" else 1):
                answers += load.run(server.port, [picture], clients=16, seconds=plan.times(5, 0.5))
            answers += faults.drain(server, load.upload_request(photo()), clients=12)[1]
            failures = sum("cannot be written" in line for line in server.log.read_text().splitlines())
            yield Finding(name, f"log failures {part} the restart", str(failures), "0", failures == 0)
    statuses = Counter(answer.status for answer in answers)
    answered = statuses[faults.OK] + statuses[faults.NO_FACE]
    yield Finding(name, "statuses", str(dict(statuses)), "200, 422", answered == len(answers))
    rows = [json.loads(line)["request"] for log in logs for line in log.read_text().splitlines()]
    yield Finding(name, "answers, rows logged", f"{answered:,}, {len(rows):,}", "as many", answered == len(rows))
    yield Finding(name, "different request ids", f"{len(set(rows)):,}", "as many", len(set(rows)) == len(rows))


def full_disk(plan: Plan) -> Iterator[Finding]:
    """The prediction log on a disk that is full, that fills up, and that is read-only."""
    request, count = load.upload_request(photo()), round(plan.times(200, 20))
    with ExitStack() as stack:
        places = {"/dev/full": Path("/dev/full"), "a directory that is not there": plan.directory / "nowhere" / "a.log"}
        for name, options in {"a disk that fills up": "size=4k", "a read-only disk": "ro"}.items():
            mounted = _mount(stack, plan.directory / name.replace(" ", "-"), options)
            if mounted is not None:
                places[name] = mounted / "predictions.jsonl"
        for name, log in places.items():
            title = f"prediction log on {name}" if log.parent.is_dir() else f"prediction log in {name}"
            directory = f"log-{len(name)}"
            with plan.server(directory, MEAA_PREDICTION_LOG=str(log), MEAA_WORKERS="1") as server:
                statuses = {answer.status for answer in _one_by_one(server, request, count)}
                failures = faults.log_failures(server.port)
                warnings = server.log.read_text().count("cannot be written")
            written = faults.lines(log) if log.is_file() else 0
            yield Finding(title, "statuses", str(statuses), "200", statuses == {200})
            text = f"{written} + {failures:.0f}"
            yield Finding(title, "lines written + counted", text, f"{count}", written + failures == count)
            yield Finding(title, "warnings", str(warnings), "1", warnings == 1)


def _mount(stack: ExitStack, directory: Path, options: str) -> Path | None:
    """A file system in memory, for a while; None where this user may not have one."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    stack.callback(subprocess.run, ["umount", str(directory)], check=False)
    return directory


def _one_by_one(server: RunningServer, request: bytes, count: int) -> list[load.Answer]:
    answers: list[load.Answer] = []
    while len(answers) < count:
        answers += load.run(server.port, [request], clients=1, seconds=0.01)
    return answers


def memory(plan: Plan) -> Iterator[Finding]:
    """Frames of many sizes, and bombs, through one worker."""
    frames = round(plan.times(10_000, 600))
    name = f"{frames:,} frames of 50 sizes"
    with plan.server("memory", MEAA_WORKERS="1") as server:
        came = serving.memory(server, frames=frames)
    resident, growth = came["resident_mb"], came["growth_mb"]
    yield Finding(name, "resident memory of a worker", f"{resident:.0f} MB", "<= 300 MB", resident <= _MOST_RESIDENT_MB)
    yield Finding(name, "above that after 500", f"{growth:.1f} MB", "< 15 MB", growth < _MOST_GROWTH_MB)


def bombs(plan: Plan) -> Iterator[Finding]:
    """What is small on the line and large in memory."""
    name = "decompression bombs"
    limit = Settings().max_pixels
    side = int(limit**0.5)
    sent = {
        "20,000 x 20,000 PNG": (_png(20_000, 20_000), {413}),
        "50 MB of zeros as JPEG": (b"\xff\xd8\xff\xe0" + bytes(50_000_000), {413, load.LOST}),
        f"{side} x {side} RGBA PNG, just accepted": (_png(side, side, colour=6), {faults.NO_FACE}),
        f"{side} x {side} progressive JPEG": (_grey_jpeg(side, progressive=True), {faults.NO_FACE}),
    }
    with plan.server("bombs", MEAA_WORKERS="1") as server:
        (worker,) = server.workers()
        for text, (data, expected) in sent.items():
            request = load.upload_request(data)
            with _peak_of(worker) as peak:
                answers = load.run(server.port, [request], clients=4, seconds=plan.times(5, 0.5))
            statuses = {answer.status for answer in answers} - {faults.OVERLOADED}
            slowest = max(answer.seconds for answer in answers)
            yield Finding(
                name, text, f"{sorted(statuses)}, {slowest:.2f} s", str(sorted(expected)), statuses <= expected
            )
            high = peak()
            text = f"memory meanwhile, {len(data):,} bytes each"
            yield Finding(name, text, f"{high:.0f} MB", f"<= {_BURST_RESIDENT_MB:.0f} MB", high <= _BURST_RESIDENT_MB)
        yield Finding(name, "ready afterwards", str(faults.ready(server.port)), "True", faults.ready(server.port))


def _png(width: int, height: int, colour: int = 0) -> bytes:
    """A PNG of nothing but zeros, 8 bits a channel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row, packer = bytes(1 + width * (4 if colour == 6 else 1)), zlib.compressobj()
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _grey_jpeg(side: int, *, progressive: bool = False) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(file, "JPEG", progressive=progressive)
    return file.getvalue()


@contextmanager
def _peak_of(process: psutil.Process) -> Iterator[Callable[[], float]]:
    """The largest resident memory of a process meanwhile, in millions of bytes, as the kernel kept it."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # forget the peak so far
    status = Path(f"/proc/{process.pid}/status")
    yield lambda: next(
        int(line.split()[1]) * 1024 / _MEGABYTE for line in status.read_text().splitlines() if line.startswith("VmHWM")
    )


def damaged_images(plan: Plan) -> Iterator[Finding]:
    """Mutated files through the decoder."""
    count = round(plan.times(20_000))
    name = f"{count:,} mutated images"
    command = [sys.executable, "-m", "benchmarks.robustness.fuzz", "--count", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    yield Finding(name, "exit status of the process", str(done.returncode), "0", done.returncode == 0)
    if done.returncode:
        return
    came = json.loads(done.stdout)
    yield Finding(name, "outcomes", ", ".join(f"{key} {n:,}" for key, n in came["outcomes"].items()), "", True)
    yield Finding(name, "exceptions outside the typed errors", str(came["untyped"] or 0), "0", not came["untyped"])
    yield Finding(name, "slowest", _seconds(came["slowest_seconds"]), "<= 2 s", came["over_two_seconds"] == 0)
    yield Finding(name, "resident memory", f"{came['resident_mb']:.0f} MB", "<= 700 MB", came["resident_mb"] <= 700)


def openapi(plan: Plan) -> Iterator[Finding]:
    """Schemathesis, with a token and without."""
    examples = round(plan.times(150, 10))
    for name, token in (("Schemathesis", None), ("Schemathesis, token set", TOKEN)):
        environment = {"MEAA_READ_SECONDS": "5", **({"MEAA_TOKEN": token, "MEAA_METRICS": "token"} if token else {})}
        with plan.server(f"openapi-{bool(token)}", **environment) as server:
            came = schemathesis_run.run(server.url, plan.directory, examples=examples, token=token)
            faulty = server.log.read_text().count("A request failed") + server.log.read_text().count("Traceback")
        if not came.passed:
            (plan.directory / f"schemathesis-{bool(token)}.txt").write_text(came.output)
        yield Finding(name, "answers as documented", str(came.passed), "True", came.passed)
        yield Finding(name, "faults logged", str(faulty), "0", faulty == 0)


def privacy(plan: Plan) -> Iterator[Finding]:
    """Good, broken and faceless images, then a search of the disk."""
    name = "traces of images"
    jpeg = photo()
    wanted = traces.markers(jpeg, MoodEstimator.load(ROOT / "bundle").estimate(jpeg).face)
    requests = [load.upload_request(data) for data in (jpeg, jpeg[: len(jpeg) // 2], jpeg[:400] + bytes(9_000))]
    requests += [load.upload_request(jpeg).replace(b'name="image"', b'name="other"'), load.upload_request(jpeg)[:-40]]
    begun = time.time() - 1
    log = plan.directory / "privacy.jsonl"
    with plan.server("privacy", MEAA_PREDICTION_LOG=str(log), MEAA_READ_SECONDS="3") as server:
        answers = load.run(server.port, requests, clients=8, seconds=plan.times(20, 3), patience=10)
        searched = [plan.directory, ROOT, Path(tempfile.gettempdir())]
        searched += [Path(os.environ["BENTOML_HOME"])] if "BENTOML_HOME" in os.environ else []
        found = traces.search(searched, wanted, since=begun)
    yield Finding(name, "requests", f"{len(answers):,}", "", True)
    yield Finding(name, "markers searched for", f"{len(wanted):,}", "", True)
    yield Finding(name, "files with any", ", ".join(map(str, found)) or "none", "none", not found)


CHECKS: Final[dict[str, Callable[[Plan], Iterator[Finding]]]] = {
    check.__name__: check
    for check in (
        overload, killed_worker, orderly_end, logged_rows, full_disk, memory, bombs, damaged_images, openapi, privacy,
    )
}  # fmt: skip


def _seconds(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value * 1000:.0f} ms" if value < 2 else f"{value:.1f} s"


def table(findings: list[Finding]) -> Table:
    """The findings for people."""
    shown = Table("", "", "came out", "limit", "", title="What the service withstands")
    last = ""
    for finding in findings:
        mark = "" if not finding.limit else "[green]kept[/]" if finding.kept else "[red]broken[/]"
        check = finding.check if finding.check != last else ""
        if check and last:
            shown.add_section()
        shown.add_row(check, finding.measure, finding.value, finding.limit, mark)
        last = finding.check
    return shown


def soak(plan: Plan, names: list[str], console: Console) -> list[Finding]:
    """Run checks one after the other; one that cannot be brought to its end counts as broken."""
    findings: list[Finding] = []
    for name in names:
        begun = time.perf_counter()
        console.print(f"{name} ...")
        try:
            findings += CHECKS[name](plan)
        except Exception as error:  # the others are still worth running
            findings.append(Finding(name, "came to its end", f"{type(error).__name__}: {error}"[:300], "yes", False))
        console.print(f"  {time.perf_counter() - begun:.0f} s")
    return findings


def main() -> int:
    """Run, print, write; 1 where a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--share", type=float, default=1.0, help="of a full run's durations and counts")
    parser.add_argument(
        "--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK", help=str(list(CHECKS))
    )
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    console, begun = Console(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="meaa-soak-") as directory:
        findings = soak(Plan(arguments.share, Path(directory)), arguments.only, console)
    console.print(table(findings))
    minutes = (time.perf_counter() - begun) / 60
    kept = all(finding.kept for finding in findings)
    console.print(f"{minutes:.1f} minutes; {'every limit kept' if kept else 'limits broken'}")
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "share": arguments.share,
        "minutes": round(minutes, 1),
        "cores": os.cpu_count(),
        "kept": kept,
        "findings": [asdict(finding) for finding in findings],
    }
    arguments.report.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
