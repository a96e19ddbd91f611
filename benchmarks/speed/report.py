"""The figures of a benchmark beside their targets: as one table for a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.table import Table

from benchmarks.speed.detection import MTCNN, OURS, OURS_AS_MTCNN
from pipelines import markdown

AT_LEAST: Final = "at least"
AT_MOST: Final = "at most"

HEADER: Final = ("", "median", "99th percentile", "times ours")
TARGET_HEADER: Final = ("target", "measured", "to reach", "met")

_FACES: Final = {0: "no face", 1: "one face", 5: "five faces"}

Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Target:
    """What is to be reached.

    Attributes:
        measure: what is measured.
        measured: the figure; None where it was not taken.
        bound: `AT_LEAST` or `AT_MOST`.
        limit: the figure to reach.
        unit: of both.
    """

    measure: str
    measured: float | None
    bound: str
    limit: float
    unit: str

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.bound == AT_LEAST else self.measured <= self.limit


def targets(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target beside what was measured, as records for the report; ratios are of medians."""
    medians = {
        (record["frame"], record["faces"], record["contender"]): record["median_ms"] for record in content["detection"]
    }

    def times_faster(frame: str, contender: str) -> float | None:
        theirs, own = (medians.get((frame, 1, name)) for name in (MTCNN, contender))
        return round(theirs / own, 2) if theirs is not None and own is not None else None

    served = content["serving"]
    small, large = served["requests"]["640x480"], served["requests"]["1920x1080"]
    load, memory = served["throughput"], served["memory"]
    found = [
        Target("detection, 640x480, one face: faster than mtcnn", times_faster("640x480", OURS), AT_LEAST, 20, "times"),
        Target("the same, 1920x1080", times_faster("1920x1080", OURS), AT_LEAST, 40, "times"),
        Target(
            "the same, 640x480, at the settings of mtcnn", times_faster("640x480", OURS_AS_MTCNN), AT_LEAST, 6, "times"
        ),
        Target("request, 640x480, one client: median", small["median_ms"], AT_MOST, 20, "ms"),
        Target(
            "the same: 99th percentile over median",
            round(small["p99_ms"] / small["median_ms"], 2), AT_MOST, 2.5, "times",
        ),
        Target("request, 1920x1080, one client: median", large["median_ms"], AT_MOST, 45, "ms"),
        Target(f"throughput, 640x480, {load['clients']} clients", load["per_second"], AT_LEAST, 80, "a second"),
        Target("the same: requests not answered with 200", load["errors"], AT_MOST, 0, ""),
        Target("from command to ready, median", served["start_seconds_median"], AT_MOST, 4, "s"),
        Target(
            f"memory of a worker after {memory['frames']:,} frames of {memory['sizes']} sizes",
            memory["resident_mb"], AT_MOST, 300, "MB",
        ),
        Target(
            f"the same: growth since the first {memory['settled_after']:,}", memory["growth_mb"], AT_MOST, 15, "MB"
        ),
        Target("serving environment on disk", served["environment_mb"], AT_MOST, 400, "MB"),
    ]  # fmt: skip
    return [{**asdict(target), "met": target.met} for target in found]


def sections(content: dict[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """The measurements, by title: detection for each scene, then the service, then the steps of an estimate."""
    records = content["detection"]
    for frame, faces in dict.fromkeys((record["frame"], record["faces"]) for record in records):
        rows = [
            (
                record["contender"] + ("" if record["found"] == faces else f" (finds {record['found']})"),
                _milliseconds(record["median_ms"]), _milliseconds(record["p99_ms"]), f"{record['times_ours']:.2f}",
            )
            for record in records
            if (record["frame"], record["faces"]) == (frame, faces)
        ]  # fmt: skip
        if faces == 1:
            rows += [
                (f"floor of P-Net, {floor['settings']}, threads: {threads}", _milliseconds(milliseconds), "", "")
                for floor in content["floor"]["frames"]
                if floor["frame"] == frame
                for threads, milliseconds in floor["floor_ms"].items()
            ]
        yield f"Detection, {frame}, {_FACES[faces]}", rows
    served = content["serving"]
    timed = {
        "the classifier alone, one face": content["classification"],
        **{f"request, {size}, one client": times for size, times in served["requests"].items()},
        f"request, 640x480, {served['throughput']['clients']} clients": served["throughput"],
    }
    yield (
        "Service, one face",
        [
            (name, _milliseconds(times["median_ms"]), _milliseconds(times["p99_ms"]), "")
            for name, times in timed.items()
        ],
    )
    for profiled in content["profile"]:
        yield (
            f"Steps of an estimate on one thread, {profiled['frame']}, one face",
            [(name, _milliseconds(milliseconds), "", "") for name, milliseconds in profiled["steps"].items()]
            + [("all", _milliseconds(profiled["median_ms"]), "", "")],
        )


def target_rows(content: dict[str, Any]) -> list[Row]:
    """The targets as `TARGET_HEADER` has them."""
    verdicts = {True: "yes", False: "no", None: "not measured"}
    return [
        (
            target["measure"],
            "–" if target["measured"] is None else f"{target['measured']:g} {target['unit']}".strip(),
            f"{target['bound']} {target['limit']:g} {target['unit']}".strip(),
            verdicts[target["met"]],
        )
        for target in content["targets"]
    ]


def table(content: dict[str, Any]) -> Table:
    """All of it as one table for a terminal."""
    output = Table(*HEADER, title=_machine(content), caption=_notes(content))
    for column in output.columns[1:]:
        column.justify = "right"
    for title, rows in sections(content):
        output.add_section()
        output.add_row(f"[bold]{title}[/bold]")
        for row in rows:
            output.add_row(*row)
    output.add_section()
    output.add_row(*(f"[bold]{cell}[/bold]" for cell in TARGET_HEADER))
    for row in target_rows(content):
        output.add_row(*row[:3], {"yes": "[green]yes[/green]", "no": "[red]no[/red]"}.get(row[3], row[3]))
    return output


def page(content: dict[str, Any]) -> str:
    """All of it as Markdown."""
    lines = [
        "# How fast", "", "Written by `make bench`.", "", f"{_machine(content)}.", "", f"{_notes(content)}",
        "", "## Targets", "", markdown.table(TARGET_HEADER, target_rows(content)),
    ]  # fmt: skip
    for title, rows in sections(content):
        lines += ["", f"## {title}", "", markdown.table(HEADER, rows)]
    return "\n".join(lines) + "\n"


def _machine(content: dict[str, Any]) -> str:
    """What the figures were taken on."""
    machine = content["environment"]
    before, after = (machine[f"load_average_{when}"][0] for when in ("before", "after"))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}; "
        f"load average {before:.1f} before, {after:.1f} after"
    )


def _notes(content: dict[str, Any]) -> str:
    """How to read the figures."""
    rates = content["floor"]["gigamultiply_adds_per_second"]
    load = content["serving"]["throughput"]
    starts = ", ".join(f"{seconds:g}" for seconds in content["serving"]["start_seconds"])
    return (
        "Medians; detectors take turns in one process, each as fast as its defaults make it. "
        + "The floor is P-Net's multiply-adds at "
        + " and ".join(f"{rate:g} thousand million a second on {threads} thread(s)" for threads, rate in rates.items())
        + f", measured. The {load['clients']} clients took {load['client_share_of_a_core']:.0%} of a core; "
        + f"{load['errors_in_warm_up']} of their requests were turned away in the two seconds before the count. "
        + f"Starts: {starts} s."
    )


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"
