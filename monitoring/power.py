"""`python -m monitoring.power`: which drift is detected, from how many rows on, and how often there is a false alarm.

The test photos, which neither the model nor the reference has seen, go through the released bundle unchanged and with
every simulated drift. A window consists of sessions: people drawn with replacement, and of each of them several frames
in a row, drawn with replacement from the person's photos. As in a clinic, rows of one person are alike. Each window is
compared with the reference as `make drift` does. Writes `reports/monitoring/power.json` and `power.md`. The rows are
cached until bundle, photos or code change.
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
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import typer

from monitoring import verdict
from monitoring.labelled_predictions import observe_photos
from monitoring.log import Log
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import Reference
from monitoring.simulated_drift import DRIFTS
from pipelines import markdown, paths
from pipelines.data import dataset
from pipelines.data.splits import photos_of_split
from pipelines.params import Params
from service.estimator import MoodEstimator
from service.observation import COLUMNS, RELIABLE

REPORT: Final = Path("reports/monitoring")
WINDOWS: Final = 40
PEOPLE: Final = 50
FRAMES: Final = 40
"""Frames of a session. Half of the people have one photo, so these frames are often equal."""
FEW_PEOPLE: Final = (25, 10)
MANY_PEOPLE: Final = 200
SMALL_WINDOWS: Final = (3, 5, 8, 10, 15, 20)
MIX_WINDOWS: Final = (50, 200, 500)
LARGE_REPORT: Final = 100_000
MOOD_SHIFTS: Final = (("positive", "negative"), ("neutral", "negative"), ("neutral", "positive"))
POINTS: Final = 0.2
YAW: Final = 10.0
"""Degrees from which a head counts as turned, where heads turn to one side."""

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
        people: Number of people in a window.
        rows: Number of rows in a window.
        sessions: Whether the rows have their session, as the log has had since it has that column.
        windows: Number of windows.
        alarms: Number of windows called drifted.
        named: Number of windows with the right cause in the headline.
        causes: Number of windows by the cause in their headline.
    """

    drift: str
    people: int
    rows: int
    sessions: bool
    windows: int
    alarms: int
    named: int
    causes: dict[str, int]


def cached_rows(directory: Path) -> dict[str, pd.DataFrame]:
    """Rows of the test photos with their `person`, by simulated drift; computed if the directory lacks them."""
    estimator: MoodEstimator | None = None
    rows = {}
    for name, (change, _) in DRIFTS.items():
        path = directory / f"{name}.parquet"
        if not path.exists():
            estimator = estimator or MoodEstimator.load(paths.BUNDLE)
            directory.mkdir(parents=True, exist_ok=True)
            observe_photos(estimator, "test", change).to_parquet(path, index=False)
        rows[name] = pd.read_parquet(path)
    people = dataset.read(paths.PHOTOS, dataset.PHOTOS_SCHEMA, ["identity"]).to_pandas()["identity"]
    person = people.iloc[photos_of_split(paths.PHOTOS, Params.read().prepare, "test").rows].to_numpy()
    return {name: table.assign(person=person) for name, table in rows.items()}


def fingerprint() -> str:
    """Digest of the bundle's networks, of the test photos, and of the code that turns frames into rows."""
    digest = hashlib.sha256()
    nets = sorted([*(paths.BUNDLE / "detector").glob("*.onnx"), *(paths.BUNDLE / "classifier").glob("m*.[oj]*")])
    for path in [*nets, *_CODE, paths.PHOTOS]:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    digest.update(photos_of_split(paths.PHOTOS, Params.read().prepare, "test").rows.tobytes())
    return digest.hexdigest()[:16]


def draw_window(
    rows: pd.DataFrame, people: int, frames: int, weights: pd.Series, random: np.random.Generator
) -> pd.DataFrame:
    """A window of sessions, one after another, their frames a second apart.

    Args:
        rows: Rows to draw from, with `person`.
        people: Number of sessions.
        frames: Rows of each session.
        weights: Weights of the rows. A person's is the sum of theirs.
        random: Source of randomness.

    Returns:
        The columns of the log, but for the request.
    """
    own = weights.to_numpy()
    groups = [(index, own[index]) for index in rows.groupby("person", sort=True).indices.values()]
    totals = np.array([part.sum() for _, part in groups])
    drawn = random.choice(len(groups), people, p=totals / totals.sum())
    index = np.concatenate([random.choice(groups[i][0], frames, p=groups[i][1] / totals[i]) for i in drawn])
    times = pd.date_range("2026-01-01", periods=len(index), freq="s", tz="UTC")
    sessions = [uuid.UUID(int=number).hex for number in range(people)]
    return rows.iloc[index].assign(time=times, session=np.repeat(sessions, frames), latency_ms=20.0)


def equal_people(rows: pd.DataFrame) -> pd.Series:
    """Weights of rows that give every person the same weight."""
    return 1 / rows["person"].map(rows["person"].value_counts())


def moved_weights(rows: pd.DataFrame, kinds: pd.Series, less: str, more: str, points: float) -> pd.Series:
    """The weights of `equal_people`, with a share of `points` moved from one kind of rows to another.

    Args:
        rows: Rows to weigh, with `person`.
        kinds: The kind of each row, such as its true mood.
        less: Kind that becomes rarer.
        more: Kind that becomes more frequent.
        points: Share of the rows, in [0, 1].
    """
    weights = equal_people(rows)
    before = weights.groupby(kinds).sum() / weights.sum()
    after = before.copy()
    after[less] -= points
    after[more] += points
    return weights * kinds.map(after / before)


def detect(
    name: str,
    rows: pd.DataFrame,
    reference: Reference,
    params: MonitoringParams,
    cause: str | None,
    *,
    people: int = PEOPLE,
    sessions: bool = True,
    weights: pd.Series | None = None,
) -> Detection:
    """Compare windows of people with the reference.

    Args:
        name: Name of the drift.
        rows: Rows to draw from, with `person`.
        reference: Reference of the comparison.
        params: Thresholds and rates.
        cause: Name of the right cause; None if there is no drift.
        people: Number of people in a window.
        sessions: Whether the rows have their session.
        weights: Weights of the rows; None gives every person the same weight.
    """
    named: list[str] = []
    for seed in range(WINDOWS):
        random = np.random.default_rng(seed)
        window = draw_window(rows, people, FRAMES, equal_people(rows) if weights is None else weights, random)
        if not sessions:
            window["session"] = None
        found = verdict.reach(Log(window, {}), reference, params)
        named += [found.causes[0].name] if found.causes else []
    counts = {found: named.count(found) for found in sorted(set(named))}
    right = counts.get(cause or "", 0)
    return Detection(name, people, people * FRAMES, sessions, WINDOWS, len(named), right, counts)


def write_log(rows: pd.DataFrame, path: Path, count: int, days: float) -> None:
    """Write a prediction log of sessions with so many rows together, spread evenly over the last days."""
    start = datetime.now(UTC) - timedelta(days=days)
    drawn = draw_window(rows, count // FRAMES, FRAMES, equal_people(rows), np.random.default_rng(0))
    drawn = drawn.drop(columns=["source", "label", "person"])
    with path.open("w") as stream:
        for index, values in enumerate(drawn.astype(object).where(drawn.notna(), None).to_dict("records")):
            moment = start + timedelta(days=days * index / count)
            values |= {"time": moment.isoformat(), "request": uuid.UUID(int=index).hex}
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
    reference = Reference.load(rebased=None)
    rows = cached_rows(params.output / "power" / fingerprint())
    quiet = rows["none"]

    everybody = params.model_copy(update={"min_people": 2})
    turned = pd.Series(np.where(quiet["yaw"] > YAW, "right", np.where(quiet["yaw"] < -YAW, "left", "ahead")))
    reliable = quiet["reliability"].eq(RELIABLE).map({True: "reliable", False: "unreliable"})
    mixes = [(quiet["label"], less, more, "mood_mix") for less, more in MOOD_SHIFTS]
    mixes += [(turned, "left", "right", "turned"), (reliable, "reliable", "unreliable", "reliability")]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:

        def start(
            name: str, cause: str | None, people: int, limits: MonitoringParams = params, **options: Any
        ) -> Future[Detection]:
            return pool.submit(detect, name, rows.get(name, quiet), reference, limits, cause, people=people, **options)

        found = [start(name, cause, PEOPLE) for name, (_, cause) in DRIFTS.items()]
        found += [start("none", None, people) for people in FEW_PEOPLE]
        found += [start(name, DRIFTS[name][1], MANY_PEOPLE) for name in ("none", "gamma_2.2", "blur_sigma_2")]
        for kinds, less, more, cause in mixes:
            name, weights = f"{less} to {more} by 20 points", moved_weights(quiet, kinds, less, more, POINTS)
            found += [start(name, cause, people, weights=weights) for people in MIX_WINDOWS]
        few = [
            start(name, DRIFTS[name][1], people, everybody)
            for people in SMALL_WINDOWS
            for name in ("gamma_2.2", "none")
        ]
        unknown = [start("none", None, people, sessions=False) for people in (*FEW_PEOPLE[::-1], PEOPLE)]
        for less, more in MOOD_SHIFTS:
            name, weights = f"{less} to {more} by 20 points", moved_weights(quiet, quiet["label"], less, more, POINTS)
            unknown += [start(name, "mood_mix", people, sessions=False, weights=weights) for people in MIX_WINDOWS[:2]]
        detections, small, without = ([future.result() for future in part] for part in (found, few, unknown))
    results: dict[str, Any] = {
        "frames": FRAMES,
        "min_people": params.min_people,
        "windows": [asdict(entry) for entry in detections],
        "small_windows": [asdict(entry) for entry in small],
        "without_sessions": [asdict(entry) for entry in without],
        "smallest_window_with_9_of_10": next((s.people for s in small[::2] if s.alarms >= 0.9 * s.windows), None),
        "report": measure_report(quiet, LARGE_REPORT),
    }
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "power.json").write_text(json.dumps(results, indent=2) + "\n")
    page = markdown.page(Path(__file__).with_suffix(".md.j2"), **results)
    (REPORT / "power.md").write_text(page)
    print(page)


if __name__ == "__main__":
    typer.run(main)
