"""`python -m monitoring.power`: which drift is detected, from how many rows on, and how often there is a false alarm.

The test photos, which neither the model nor the reference has seen, go through the released bundle unchanged and with
every simulated drift. Windows drawn from their rows with replacement are compared with the reference as `make drift`
does. Writes `reports/monitoring/power.json` and `power.md`. The rows are cached until bundle or code change.
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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pandas as pd
import typer

from monitoring import causes, comparison
from monitoring.labelled_predictions import observe_photos
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import Reference, write
from monitoring.simulated_drift import DRIFTS
from pipelines import markdown, paths
from service.estimator import MoodEstimator
from service.observation import COLUMNS

REPORT: Final = Path("reports/monitoring")
WINDOWS: Final = 40
ROWS: Final = 500
SMALL_WINDOWS: Final = (20, 30, 40, 50, 75, 100, 150, 200)
LARGE_REPORT: Final = 100_000
MOOD_SHIFTS: Final = (("positive", "negative"), ("neutral", "negative"), ("neutral", "positive"))
MOOD_POINTS: Final = 0.2

_CODE: Final = (
    *(Path("service") / f"{name}.py" for name in ("detector", "estimator", "faces", "images", "observation")),
    Path("monitoring/simulated_drift.py"),
    Path("pipelines/training/corruptions.py"),
)


@dataclass(frozen=True)
class Detection:
    """Verdicts on windows with the same drift.

    Attributes:
        drift: Name of the drift.
        rows: Number of rows in a window.
        windows: Number of windows.
        alarms: Number of windows called drifted.
        named: Number of windows with the right cause in the headline.
        causes: Number of windows by the cause in their headline.
    """

    drift: str
    rows: int
    windows: int
    alarms: int
    named: int
    causes: dict[str, int]


def cached_rows(directory: Path) -> dict[str, pd.DataFrame]:
    """Rows of the test photos by simulated drift; computed if the directory lacks them."""
    estimator: MoodEstimator | None = None
    rows = {}
    for name, (change, _) in DRIFTS.items():
        path = directory / f"{name}.parquet"
        if not path.exists():
            estimator = estimator or MoodEstimator.load(paths.BUNDLE)
            write(observe_photos(estimator, "test", change), path)
        rows[name] = pd.read_parquet(path)
    return rows


def fingerprint() -> str:
    """Digest of the bundle's networks and of the code that turns frames into rows."""
    digest = hashlib.sha256()
    nets = sorted([*(paths.BUNDLE / "detector").glob("*.onnx"), *(paths.BUNDLE / "classifier").glob("m*.[oj]*")])
    for path in [*nets, *_CODE]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def detect(
    name: str,
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    params: MonitoringParams,
    cause: str | None,
    *,
    size: int = ROWS,
    weights: pd.Series | None = None,
) -> Detection:
    """Compare windows drawn from rows with the reference.

    Args:
        name: Name of the drift.
        rows: Rows to draw from, with replacement.
        reference: Reference rows.
        params: Thresholds and rates.
        cause: Name of the right cause; None if there is no drift.
        size: Number of rows in a window.
        weights: Weights of the rows; None draws uniformly.
    """
    named: list[str] = []
    for seed in range(WINDOWS):
        window = rows.sample(size, replace=True, weights=weights, random_state=seed)
        found = causes.name_causes(comparison.compare(reference, window, params, complete=False))
        named += [found[0].name] if found else []
    counts = {found: named.count(found) for found in sorted(set(named))}
    return Detection(name, size, WINDOWS, len(named), counts.get(cause or "", 0), counts)


def mood_weights(rows: pd.DataFrame, less: str, more: str, points: float) -> pd.Series:
    """Weights that move a share of `points` from one true mood to another."""
    before = rows["label"].value_counts(normalize=True)
    after = before.copy()
    after[less] -= points
    after[more] += points
    return rows["label"].map(after / before)


def write_log(rows: pd.DataFrame, path: Path, count: int, days: float) -> None:
    """Write a prediction log of rows drawn with replacement, spread evenly over the last days."""
    start = datetime.now(UTC) - timedelta(days=days)
    drawn = rows.sample(count, replace=True, random_state=0).drop(columns=["source", "label"])
    with path.open("w") as stream:
        for index, values in enumerate(drawn.astype(object).where(drawn.notna(), None).to_dict("records")):
            moment = start + timedelta(days=days * index / count)
            values |= {"time": moment.isoformat(), "request": uuid.UUID(int=index).hex, "latency_ms": 20.0}
            stream.write(json.dumps({name: values[name] for name in COLUMNS}) + "\n")


def measure_report(rows: pd.DataFrame, count: int) -> dict[str, float]:
    """Time and peak memory of `python -m monitoring.drift` in its own process on a log of `count` rows."""
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


def main() -> None:
    """Measure which drift is detected, and write the reports."""
    params = read_monitoring()
    reference = Reference.load(rebased=None).rows
    rows = cached_rows(params.output / "power" / fingerprint())

    def simulated(name: str, size: int = ROWS) -> Detection:
        return detect(name, rows[name], reference, params, DRIFTS[name][1], size=size)

    detections = [simulated(name) for name in DRIFTS]
    for less, more in MOOD_SHIFTS:
        name, weights = f"{less} to {more} by 20 points", mood_weights(rows["none"], less, more, MOOD_POINTS)
        detections.append(detect(name, rows["none"], reference, params, "mood_mix", weights=weights))
    detections += [simulated(name, params.large_window) for name in ("none", "gamma_2.2", "blur_sigma_2")]
    small = [simulated(name, size) for size in SMALL_WINDOWS for name in ("gamma_2.2", "none")]
    results: dict[str, Any] = {
        "windows": [asdict(entry) for entry in detections],
        "small_windows": [asdict(entry) for entry in small],
        "smallest_window_with_9_of_10": next((s.rows for s in small[::2] if s.alarms >= 0.9 * s.windows), None),
        "report": measure_report(rows["none"], LARGE_REPORT),
    }
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "power.json").write_text(json.dumps(results, indent=2) + "\n")
    page = markdown.page(Path(__file__).with_suffix(".md.j2"), **results)
    (REPORT / "power.md").write_text(page)
    print(page)


if __name__ == "__main__":
    typer.run(main)
