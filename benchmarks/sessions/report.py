"""What was measured beside what was to be reached, as a page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.sessions.comparison import MAX_DELAY, MAX_FLIP_RATIO, TODAY
from benchmarks.sessions.measures import interval
from pipelines import markdown, paths

SPEED: Final = Path("reports/bench/bench.json")

AT_LEAST: Final = "at least"
AT_MOST: Final = "at most"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        measure: What is measured, and on what.
        bound: `AT_LEAST` or `AT_MOST`.
        target: Value to reach.
        measured: Value; None if it was not measured.
        form: How values are written: `share`, `number` or `seconds`.
        section: Heading of the section with the evidence.
    """

    measure: str
    bound: str
    target: float
    measured: float | None
    form: str
    section: str

    @property
    def kept(self) -> bool | None:
        """Whether the target was reached; None if it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.target if self.bound == AT_LEAST else self.measured <= self.target


def rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every target with its measured value, as records."""
    hint, path = content["hints"]["phone"], content["stills"]
    today = content["filters"]["test"][TODAY]["regular"]
    trusted = content["reliability"]
    found = [
        Row("answers with a hint beside answers without: same mood", AT_LEAST, 0.98, hint["same_mood"], "share",
            "Hints"),
        Row("the same: median IoU of the boxes", AT_LEAST, 0.9, hint["median_iou"], "number", "Hints"),
        Row("session beside whole cascade on jittered stills: same mood", AT_LEAST, 0.98, path["same_mood"], "share",
            "Session and cascade"),
        Row("the same: sequences whose subject is lost for more than a second", AT_MOST, 0, path["lost"], "number",
            "Session and cascade"),
        Row("flips in jittered stills, of those without the filter", AT_MOST, MAX_FLIP_RATIO, today["flip_ratio"],
            "share", "The filter"),
        Row("delay of a change of mood at four frames a second: median", AT_MOST, MAX_DELAY, today["median_delay"],
            "seconds", "The filter"),
        *(
            Row(f"error of what is called reliable on test: {name}, the worst of {len(group['groups'])} groups",
                AT_MOST, trusted["max_error"], group["worst"]["error"], "share", "Reliable answers")
            for name, group in trusted["sources"].items()
        ),
        Row("share of FER2013's clean test faces that is called reliable", AT_LEAST, 0.7,
            _coverage(trusted, "fer2013"), "share", "Reliable answers"),
        Row("the same of the photos, cropped", AT_LEAST, 0.88, _coverage(trusted, "photos"), "share",
            "Reliable answers"),
        Row("the same of the photos, through the cascade", AT_LEAST, 0.88, _coverage(trusted, "snapshots"), "share",
            "Reliable answers"),
    ]  # fmt: skip
    return [{**asdict(row), "kept": row.kept} for row in found]


def _coverage(trusted: Mapping[str, Any], source: str) -> float | None:
    return trusted["sources"].get(source, {}).get("clean_coverage")


def reliability(file: Path = paths.RELIABILITY / paths.RELIABILITY_REPORT) -> dict[str, Any]:
    """What the stage `reliability` measured on test, quoted: the test faces are not looked at again.

    Raises:
        FileNotFoundError: The stage has not run.
    """
    report = json.loads(file.read_text())
    sources: dict[str, Any] = {}
    for source, groups in report["groups"]["test"].items():
        worst = max(groups, key=lambda name: groups[name]["reliable_error"])
        on_validation = report["groups"]["validation"].get(source, {})
        sources[source] = {
            "worst": {"group": worst, "error": groups[worst]["reliable_error"]},
            "clean_coverage": groups.get("clean", {}).get("coverage"),
            "groups": {
                name: {
                    **one,
                    "error_interval": interval(one["reliable_error"], one["faces"] * one["coverage"]),
                    "coverage_interval": interval(one["coverage"], one["faces"]),
                    "validation_error": on_validation.get(name, {}).get("reliable_error"),
                }
                for name, one in groups.items()
            },
        }
    return {"max_error": report["max_error"], "measured": _committed(file), "sources": sources}


def _committed(file: Path) -> str | None:
    """Day on which a file was last committed; None if git cannot tell."""
    command = ["git", "log", "-1", "--format=%cs", "--", str(file)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def speed(file: Path = SPEED) -> list[dict[str, Any]]:
    """The targets of `make bench` that are about sessions and snapshots beside each other; empty if there are none."""
    if not file.exists():
        return []
    targets = json.loads(file.read_text()).get("targets", [])
    return [one for one in targets if "session" in one["metric"] or "snapshot" in one["metric"]]


def page(content: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    return markdown.page(Path(__file__).with_suffix(".md.j2"), **content, today=TODAY)
