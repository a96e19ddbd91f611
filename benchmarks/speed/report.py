"""The metrics of a benchmark beside their targets, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.speed.detection import MTCNN, OURS, OURS_AS_MTCNN
from pipelines import markdown

AT_LEAST: Final = "at least"
AT_MOST: Final = "at most"

HEADER: Final = ("", "median", "99th percentile", "relative time")
TARGET_HEADER: Final = ("metric", "value", "target", "met")

_FACES: Final = {0: "no face", 1: "one face", 5: "five faces"}

Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Target:
    """A metric with its target.

    Attributes:
        metric: Metric and its conditions.
        value: Measured value; None if it was not measured.
        bound: `AT_LEAST` or `AT_MOST`.
        limit: Value to reach.
        unit: Unit of value and limit.
    """

    metric: str
    value: float | None
    bound: str
    limit: float
    unit: str

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None if the metric was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.bound == AT_LEAST else self.value <= self.limit


def targets(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target with its measured value, as records for the report; ratios are ratios of medians."""
    medians = {
        (record["frame"], record["faces"], record["detector"]): record["median_ms"] for record in content["detection"]
    }

    def speed_up(frame: str, detector: str) -> float | None:
        baseline, own = (medians.get((frame, 1, name)) for name in (MTCNN, detector))
        return round(baseline / own, 2) if baseline is not None and own is not None else None

    served = content["serving"]
    small, large = served["requests"]["640x480"], served["requests"]["1920x1080"]
    load, memory = served["throughput"], served["memory"]
    vga, full_hd, as_mtcnn = (
        speed_up(*which) for which in (("640x480", OURS), ("1920x1080", OURS), ("640x480", OURS_AS_MTCNN))
    )
    tail = round(small["p99_ms"] / small["median_ms"], 2)
    many, worker = f"throughput, 640x480, {load['clients']} clients", "memory of a worker"
    found = [
        Target("detection, 640x480, one face: speed-up over mtcnn", vga, AT_LEAST, 20, "times"),
        Target("detection, 1920x1080, one face: speed-up over mtcnn", full_hd, AT_LEAST, 40, "times"),
        Target("detection, 640x480, one face: speed-up over mtcnn at its settings", as_mtcnn, AT_LEAST, 6, "times"),
        Target("request, 640x480, one client: median", small["median_ms"], AT_MOST, 20, "ms"),
        Target("request, 640x480, one client: 99th percentile over median", tail, AT_MOST, 2.5, "times"),
        Target("request, 1920x1080, one client: median", large["median_ms"], AT_MOST, 45, "ms"),
        Target(many, load["per_second"], AT_LEAST, 80, "per second"),
        Target(f"{many}: requests not answered with 200", load["errors"], AT_MOST, 0, ""),
        Target("start, from the command to ready: median", served["start_seconds_median"], AT_MOST, 4, "s"),
        Target(
            f"{worker}, {memory['frames']:,} frames of {memory['sizes']} sizes",
            memory["resident_mb"], AT_MOST, 300, "MB",
        ),
        Target(
            f"{worker}: growth since the first {memory['settled_after']:,} frames",
            memory["growth_mb"], AT_MOST, 15, "MB",
        ),
        Target("serving environment on disk", served["environment_mb"], AT_MOST, 400, "MB"),
    ]  # fmt: skip
    return [{**asdict(target), "met": target.met} for target in found]


def sections(content: dict[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """The measurements by title: detection for each scene, then the service, then the steps of an estimate."""
    records = content["detection"]
    for frame, faces in dict.fromkeys((record["frame"], record["faces"]) for record in records):
        rows = [
            _row(
                record["detector"] + ("" if record["found"] == faces else f" (finds {record['found']})"),
                record["median_ms"], record["p99_ms"], f"{record['relative_time']:.2f}",
            )
            for record in records
            if (record["frame"], record["faces"]) == (frame, faces)
        ]  # fmt: skip
        if faces == 1:
            rows += [
                _row(f"P-Net roofline, {bound['settings']}, {_threads(threads)}", milliseconds)
                for bound in content["roofline"]["frames"]
                if bound["frame"] == frame
                for threads, milliseconds in bound["roofline_ms"].items()
            ]
        yield f"Detection, {frame}, {_FACES[faces]}", rows
    served = content["serving"]
    times = {
        "classifier alone": content["classification"],
        **{f"request, {size}, one client": times for size, times in served["requests"].items()},
        f"request, 640x480, {served['throughput']['clients']} clients": served["throughput"],
    }
    yield "Service, one face", [_row(name, time["median_ms"], time["p99_ms"]) for name, time in times.items()]
    for profile in content["steps"]:
        rows = [_row(name, milliseconds) for name, milliseconds in profile["steps"].items()]
        title = f"Steps of an estimate on one thread, {profile['frame']}, one face"
        yield title, [*rows, _row("total", profile["median_ms"])]


def page(content: dict[str, Any]) -> str:
    """The report as Markdown."""
    verdicts = {True: "yes", False: "no", None: "not measured"}
    rows = [
        (
            target["metric"],
            "–" if target["value"] is None else f"{target['value']:g} {target['unit']}".strip(),
            f"{target['bound']} {target['limit']:g} {target['unit']}".strip(),
            verdicts[target["met"]],
        )
        for target in content["targets"]
    ]
    lines = [
        "# Speed", "", "Written by `make bench`.", "", _machine(content), "", _notes(content),
        "", "## Targets", "", markdown.table(TARGET_HEADER, rows),
    ]  # fmt: skip
    for title, measured in sections(content):
        lines += ["", f"## {title}", "", markdown.table(HEADER, measured)]
    return "\n".join(lines) + "\n"


def _machine(content: dict[str, Any]) -> str:
    """The machine and how busy it was."""
    machine = content["environment"]
    before, after = (machine[f"load_average_{when}"][0] for when in ("before", "after"))
    return (
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['date']}; load average {before:.1f} before, "
        f"{after:.1f} after."
    )


def _notes(content: dict[str, Any]) -> str:
    """How to read the metrics."""
    rates = content["roofline"]["gmacs_per_second"]
    load = content["serving"]["throughput"]
    starts = ", ".join(f"{seconds:g}" for seconds in content["serving"]["start_seconds"])
    return (
        "Times are medians unless stated otherwise. Detectors take turns in one process, with their default settings "
        "and threads; the relative time is the median over MEAA's. The P-Net roofline is a lower bound: P-Net's "
        "multiply-accumulates (MAC) at the measured peak rate of "
        + " and ".join(f"{rate:g} GMAC/s on {_threads(threads)}" for threads, rate in rates.items())
        + f". The {load['clients']} clients of the throughput test used {load['client_share_of_a_core']:.0%} of a "
        f"core; {load['errors_in_warm_up']} of their requests were refused during the warm-up of two seconds, which "
        f"does not count. Start times: {starts} s."
    )


def _threads(count: str) -> str:
    return f"{count} thread{'s' * (count != '1')}"


def _row(name: str, median: float, p99: float | None = None, relative: str = "") -> Row:
    return name, _milliseconds(median), "" if p99 is None else _milliseconds(p99), relative


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"
