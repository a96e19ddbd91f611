"""The metrics of a benchmark beside their targets, as a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from benchmarks.speed.detection import MTCNN, OURS, OURS_AS_MTCNN
from benchmarks.speed.sessions import ratios
from pipelines import markdown

AT_LEAST: Final = "at least"
AT_MOST: Final = "at most"


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
    if "sessions" in content:  # reports of earlier releases lack them
        found += _beside_snapshots(content["sessions"])
    return [{**asdict(target), "met": target.met} for target in found]


def _beside_snapshots(content: dict[str, Any]) -> list[Target]:
    """The targets of sessions, and of snapshots beside the code before."""
    ratio = ratios(content)
    one, many = f"{content['frame']}, one client: median", f"{content['frame']}, {content['clients']} clients"
    return [
        Target(f"session frame, {one} over a snapshot's", ratio["session_frame"], AT_MOST, 0.4, "times"),
        Target(
            f"session frame, {one} over a snapshot's with the code before",
            ratio["session_frame_before"], AT_MOST, 0.4, "times",
        ),
        Target(f"session frames, {many}: over snapshots in a second", ratio["session_rate"], AT_LEAST, 2.5, "times"),
        Target(
            f"session frames, {many}: over snapshots in a second with the code before",
            ratio["session_rate_before"], AT_LEAST, 2.5, "times",
        ),
        Target("detection for a snapshot: over that of the code before", ratio["detection"], AT_MOST, 0.65, "times"),
        Target(f"snapshot, {one} over that of the code before", ratio["snapshot"], AT_MOST, 0.75, "times"),
        Target(f"snapshots a second, {many}: over the code before", ratio["snapshot_rate"], AT_LEAST, 1.25, "times"),
    ]  # fmt: skip


def page(content: dict[str, Any]) -> str:
    """The report as Markdown: targets, detection for each scene, the service, the steps of an estimate."""
    scenes = groupby(content["detection"], itemgetter("frame", "faces"))
    return markdown.page(Path(__file__).with_suffix(".md.j2"), **content, scenes=scenes)
