"""`python -m monitoring.power`: what drift is noticed, how soon, and how often there is a false alarm.

Test photos, which neither model nor reference have seen, go through the released bundle as they are and changed
(`monitoring.conditions`). Windows drawn from them, with replacement, are judged as `make drift` judges the log. Writes
`reports/monitoring/power.json` and `power.md`. The rows of each condition are kept until bundle or code change.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from monitoring import causes, comparison
from monitoring.conditions import CONDITIONS
from monitoring.make_reference import LabelledPhotos, observe_photos, write
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import Reference
from pipelines import paths
from pipelines.markdown import table as markdown_table
from service.estimator import MoodEstimator
from service.observation import COLUMNS

REPORT: Final = Path("reports/monitoring")
WINDOWS: Final = 40
ROWS: Final = 500
SMALL_WINDOWS: Final = (20, 30, 40, 50, 75, 100, 150, 200)
LARGE_REPORT: Final = 100_000

CAUSES: Final[Mapping[str, str]] = {
    "gamma_2.2": "darker",
    "blur_sigma_2": "blurred",
    "half_resolution": "lower_resolution",
    "half_resolution_enlarged": "blurred",
    "faces_half_the_size": "smaller_faces",
    "colour_cast_cool": "colour_cast",
    "colour_cast_warm": "colour_cast",
}
"""What the first screen has to name, by condition."""
MOOD_SHIFTS: Final = (("positive", "negative"), ("neutral", "negative"), ("neutral", "positive"))
MOOD_POINTS: Final = 0.2

_CODE: Final = ("detector", "estimator", "faces", "images", "observation")


@dataclass(frozen=True)
class Alarms:
    """How windows of one kind were judged.

    Attributes:
        condition: what was done to their frames.
        rows: in each window.
        windows: how many there were.
        alarms: how many of them were called drifted.
        named: how many of them with the right cause in the headline.
        causes: headlines' causes, with their numbers.
    """

    condition: str
    rows: int
    windows: int
    alarms: int
    named: int
    causes: dict[str, int]


def cached_rows(directory: Path) -> dict[str, pd.DataFrame]:
    """The test photos' rows under every condition; made where the cache lacks them."""
    estimator: MoodEstimator | None = None
    photos: LabelledPhotos | None = None
    rows = {}
    for name, change in CONDITIONS.items():
        path = directory / f"{name}.parquet"
        if not path.exists():
            estimator, photos = estimator or MoodEstimator.load(paths.BUNDLE), photos or LabelledPhotos.of("test")
            write(observe_photos(estimator, photos, change), path)
        rows[name] = pd.read_parquet(path)
    return rows


def fingerprint() -> str:
    """Of the bundle's nets and of the code that makes a row of them."""
    digest = hashlib.sha256()
    nets = sorted([*(paths.BUNDLE / "detector").glob("*.onnx"), *(paths.BUNDLE / "classifier").glob("m*.[oj]*")])
    for path in [*nets, *(Path("service") / f"{name}.py" for name in _CODE), Path("monitoring/conditions.py")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def judge(
    name: str,
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    params: MonitoringParams,
    expected: str | None,
    *,
    size: int = ROWS,
    weights: pd.Series | None = None,
) -> Alarms:
    """Draw windows and count alarms; `expected` names the right cause, None where there should be no alarm."""
    named: list[str] = []
    for seed in range(WINDOWS):
        window = rows.sample(size, replace=True, weights=weights, random_state=seed)
        found = causes.name_causes(comparison.compare(reference, window, params, complete=False))
        named += [found[0].name] if found else []
    counts = {cause: named.count(cause) for cause in sorted(set(named))}
    return Alarms(name, size, WINDOWS, len(named), counts.get(expected or "", 0), counts)


def mood_weights(rows: pd.DataFrame, fewer: str, more: str, points: float) -> pd.Series:
    """Weights that shift a share of `points` from one true mood to another."""
    before = rows["label"].value_counts(normalize=True)
    after = before.copy()
    after[fewer] -= points
    after[more] += points
    return rows["label"].map(after / before)


def write_log(rows: pd.DataFrame, path: Path, count: int, days: float) -> None:
    """A prediction log of rows drawn with replacement, evenly over the days up to now."""
    start = datetime.now(UTC) - timedelta(days=days)
    drawn = rows.sample(count, replace=True, random_state=0).drop(columns=["source", "label"])
    with path.open("w") as stream:
        for index, record in enumerate(drawn.to_dict("records")):
            values = {
                key: None if isinstance(value, float) and np.isnan(value) else value for key, value in record.items()
            }
            moment = start + timedelta(days=days * index / count)
            values |= {"time": moment.isoformat(), "request": uuid.UUID(int=index).hex, "latency_ms": 20.0}
            stream.write(json.dumps({name: values[name] for name in COLUMNS}) + "\n")


def measure_report(rows: pd.DataFrame, count: int) -> dict[str, float]:
    """Seconds and peak memory of `python -m monitoring.drift` on a log of so many rows, in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "predictions.jsonl"
        write_log(rows, path, count, days=7)
        command = [sys.executable, "-m", "monitoring.drift", "--log", str(path), "--output", f"{directory}/live"]
        store = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db", "MEAA_WEBHOOK": ""}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        code = subprocess.run(command, env=store, capture_output=True).returncode
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "rows": count,
            "exit_code": code,
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1),
            "peak_megabytes": round(used.ru_maxrss / 1024),
        }


def render(alarms: list[Alarms], small: list[Alarms], large: dict[str, float]) -> str:
    """The report for people."""
    first = markdown_table(
        ["frames", "rows", "windows", "alarms", "right cause named", "causes"],
        [
            [
                entry.condition.replace("_", " "),
                str(entry.rows),
                str(entry.windows),
                str(entry.alarms),
                "" if entry.condition.startswith("plain") else str(entry.named),
                ", ".join(f"{cause} {count}" for cause, count in entry.causes.items()),
            ]
            for entry in alarms
        ],
    )
    second = markdown_table(
        ["rows of a dark room (gamma 2.2)", "alarms of 40", "false alarms of 40 (plain)"],
        [
            [str(dark.rows), str(dark.alarms), str(plain.alarms)]
            for dark, plain in zip(small[::2], small[1::2], strict=True)
        ],
    )
    return (
        "# What drift is noticed\n\nWindows drawn with replacement from the test photos, against the reference of the "
        "released champion.\n\n"
        f"{first}\n\n{second}\n\nA report on {large['rows']:,} rows: {large['seconds']} s ({large['cpu_seconds']} s of "
        f"processor time), {large['peak_megabytes']:,} MB at most.\n"
    )


def main() -> None:
    """Measure all of it and write the reports."""
    params = read_monitoring()
    reference = Reference.load(rebased=Path("none")).rows
    rows = cached_rows(params.output / "power" / fingerprint())
    plain = rows["plain"]
    alarms = [judge("plain", plain, reference, params, None)]
    alarms += [judge(name, rows[name], reference, params, cause) for name, cause in CAUSES.items()]
    alarms += [
        judge(
            f"20 points of {fewer} become {more}",
            plain,
            reference,
            params,
            "mood_mix",
            weights=mood_weights(plain, fewer, more, MOOD_POINTS),
        )
        for fewer, more in MOOD_SHIFTS
    ]
    large = params.large_window
    alarms += [
        judge(name, rows[name], reference, params, CAUSES.get(name), size=large)
        for name in ("plain", "gamma_2.2", "blur_sigma_2")
    ]
    small = [
        judge(name, rows[name], reference, params, CAUSES.get(name), size=size)
        for size in SMALL_WINDOWS
        for name in ("gamma_2.2", "plain")
    ]
    report = measure_report(plain, LARGE_REPORT)
    REPORT.mkdir(parents=True, exist_ok=True)
    figures = {
        "windows": [asdict(entry) for entry in alarms],
        "small_windows": [asdict(entry) for entry in small],
        "smallest_window_with_9_of_10": next((s.rows for s in small[::2] if s.alarms >= 0.9 * s.windows), None),
        "report": report,
    }
    (REPORT / "power.json").write_text(json.dumps(figures, indent=2) + "\n")
    (REPORT / "power.md").write_text(render(alarms, small, report))
    print((REPORT / "power.md").read_text())


if __name__ == "__main__":
    main()
