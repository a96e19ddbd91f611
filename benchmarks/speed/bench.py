"""Speed of the service beside its baselines and targets, as JSON and as a page.

    make bench                                    # some minutes, on a machine with nothing else to do
    python -m benchmarks.speed.bench --serving    # measure the service anew, keep the rest of the report
    python -m benchmarks.speed.bench --sessions --before DIR   # only sessions, beside another checkout's snapshots
    python -m benchmarks.speed.bench --markdown   # only render the page from the JSON

The server under test runs in the serving environment, as users have it; detectors are compared in this process.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import ROOT, serve
from benchmarks.speed import detection, report, roofline, serving, sessions, steps
from benchmarks.speed.timing import take_turns
from service.classifier import MoodClassifier
from service.detector import DetectorSettings, FaceDetector

OUTPUT: Final = Path("reports/bench")
BUNDLE: Final = ROOT / "bundle"
UPLOADS: Final = [(640, 480), (1920, 1080)]
PACKAGES: Final = ("bentoml", "onnxruntime", "opencv-python-headless", "numpy", "pillow", "mtcnn", "tensorflow-cpu")


@dataclass(frozen=True)
class Effort:
    """Number and duration of the measurements; the defaults are those of a full run."""

    frames: tuple[tuple[int, int], ...] = ((320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
    detection_seconds: float = 2.0
    classifications: int = 500
    estimates: int = 100
    starts: int = 3
    requests: int = 300
    warm_up: int = 30
    clients: int = 32
    load_seconds: float = 15.0
    memory_frames: int = 1000
    memory_settled: int = 500
    memory_sizes: int = 50


FULL: Final = Effort()
QUICK: Final = Effort(((640, 480),), 0.1, 5, 2, 0, 5, 2, 4, 0.5, 20, 10, 5)
"""Enough to see that everything runs."""


def environment() -> dict[str, Any]:
    """The machine, and the versions of the packages under test."""
    installed = {distribution.name: distribution.version for distribution in metadata.distributions()}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {package: installed[package] for package in PACKAGES if package in installed},
        "load_average_before": _load_average(),
    }


def _cpu() -> str:
    """The processor's name on Linux; elsewhere its architecture."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


def measure_service(python: Path, effort: Effort) -> dict[str, Any]:
    """The running service, the classifier alone, and the steps of an estimate."""
    classifier = MoodClassifier(BUNDLE / "classifier")
    side = classifier.metadata.input.size
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side), dtype=np.uint8)
    return {
        "serving": measure_server(python, effort),
        "classification": take_turns(
            {"face": partial(classifier.predict, crop)}, seconds=10.0, max_turns=effort.classifications
        )["face"].as_json(),
        "steps": steps.measure(BUNDLE, UPLOADS, turns=effort.estimates),
    }


def measure_server(python: Path, effort: Effort) -> dict[str, Any]:
    """The running service: start, requests, load, memory; and the size of its environment."""
    images = {f"{width}x{height}": as_jpeg(scene(width, height, 1).pixels) for width, height in UPLOADS}
    # Not resolved: the environment's python is a link to the system's.
    content: dict[str, Any] = {"environment_mb": serving.directory_megabytes(python.absolute().parents[1])}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        starts = serving.start_seconds(directory, python, effort.starts) if effort.starts else []
        with serve(directory, python=python) as server:
            content["start_seconds"] = starts or [round(server.start_seconds, 2)]
            content["requests"] = {
                size: serving.request_times(server, image, requests=effort.requests, warm_up=effort.warm_up).as_json()
                for size, image in images.items()
            }
            content["throughput"] = serving.throughput(
                server, images["640x480"], clients=effort.clients, seconds=effort.load_seconds
            )
            content["memory"] = serving.memory(
                server, frames=effort.memory_frames, settled=effort.memory_settled, sizes=effort.memory_sizes
            )
    content["start_seconds_median"] = statistics.median(content["start_seconds"])
    return content


def measure_sessions(python: Path, before: Path | None, *, quick: bool) -> dict[str, Any]:
    """Sessions beside snapshots, and both beside the code before, if there is a checkout of it."""
    with tempfile.TemporaryDirectory() as name:
        effort = sessions.QUICK if quick else sessions.FULL
        return {"sessions": sessions.measure(python, effort, Path(name), before)}


def measure_detection(effort: Effort, *, baselines: bool) -> dict[str, Any]:
    """Our detector beside the baselines, and P-Net's lower bound."""
    scenes = (scene(*frame, faces) for frame in effort.frames for faces in (1, 5, 0))
    settings = {detection.OURS: FaceDetector(BUNDLE / "detector").settings, detection.OURS_AS_MTCNN: DetectorSettings()}
    with ExitStack() as stack:
        detectors = detection.ours(BUNDLE) | (detection.baselines(ROOT, stack) if baselines else {})
        return {
            "detection": detection.measure(detectors, scenes, seconds=effort.detection_seconds),
            "roofline": roofline.measure(list(effort.frames), settings, threads=len(os.sched_getaffinity(0))),
        }


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Check that it runs, with a few turns of each.")] = False,
    no_peers: Annotated[bool, typer.Option("--no-peers", help="Leave out the baselines.")] = False,
    serving: Annotated[bool, typer.Option("--serving", help="Measure the service anew, keep the rest.")] = False,
    sessions: Annotated[bool, typer.Option("--sessions", help="Measure sessions anew, keep the rest.")] = False,
    before: Annotated[Path | None, typer.Option(help="Checkout with other code, to compare with.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Render the page from the JSON.")] = False,
    output: Annotated[Path, typer.Option(help="Directory of the reports.")] = OUTPUT,
    serving_python: Annotated[Path, typer.Option(help="Interpreter of the serving environment.")] = ROOT
    / ".venv/bin/python",
) -> None:
    """Measure the speed of the service beside its baselines and targets; write `bench.json` and `bench.md`."""
    file = output / "bench.json"
    if not (markdown or serving_python.exists()):
        sys.exit(f"There is no {serving_python}: run `make bench`, which sets the environment up.")
    keeps = markdown or serving or sessions
    content = json.loads(file.read_text()) if keeps else {"quick": quick, "environment": environment()}
    effort = QUICK if quick else FULL
    # The servers first: TensorFlow, which the baselines load, keeps threads that would share their cores.
    if not markdown and (sessions or not serving):
        content |= measure_sessions(serving_python, before, quick=quick)
    if not markdown and (serving or not sessions):
        content |= measure_service(serving_python, effort)
        if not serving:
            content |= measure_detection(effort, baselines=not no_peers)
            content["environment"]["load_average_after"] = _load_average()
    content["targets"] = report.targets(content)
    page = report.page(content)
    output.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")
    file.with_suffix(".md").write_text(page)
    Console(width=None if sys.stdout.isatty() else 120).print(Markdown(page))


if __name__ == "__main__":
    typer.run(main)
