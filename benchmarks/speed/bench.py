"""How fast the service is, beside its peers and its targets: one table, and the same as JSON and Markdown.

    make bench                              # some minutes; the machine should have nothing else to do
    python -m benchmarks.speed.bench --serving    # only measures the service anew; the rest stays as it was
    python -m benchmarks.speed.bench --markdown   # only writes the page anew, from the JSON

The server under test runs in the serving environment, as users have it; detectors are compared in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.scenes import as_jpeg, scene
from benchmarks.server import ROOT, serve
from benchmarks.speed import detection, report, roofline, serving, steps
from benchmarks.speed.timing import take_turns
from service.classifier import MoodClassifier
from service.detector import DetectorSettings, FaceDetector

OUTPUT: Final = Path("reports/bench")
BUNDLE: Final = ROOT / "bundle"
FRAMES: Final = [(320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160)]
UPLOADS: Final = [(640, 480), (1920, 1080)]
PACKAGES: Final = (
    "bentoml",
    "onnxruntime",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "mtcnn",
    "tensorflow-cpu",
    "fer",
)


def environment() -> dict[str, Any]:
    """The machine and the versions that the figures are of."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu() -> str:
    """The processor's name as Linux has it; elsewhere its architecture."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def classification(turns: int) -> dict[str, float]:
    """One face through the classifier alone."""
    classifier = MoodClassifier(BUNDLE / "classifier")
    side = classifier.metadata.input.size
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side), dtype=np.uint8)
    times = take_turns({"face": partial(classifier.predict, crop)}, seconds=10.0, most=turns)
    return times["face"].as_json()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as the report has it; a few turns of each where it is to be quick."""
    quick: bool = arguments.quick
    content: dict[str, Any] = {"quick": quick, "environment": environment()}
    # The server first: the peers' TensorFlow keeps threads that would share its cores.
    content["serving"] = measure_serving(arguments.serving_python, quick=quick)
    content["classification"] = classification(5 if quick else 500)
    content["profile"] = steps.measure(BUNDLE, UPLOADS, turns=2 if quick else 100)
    frames = FRAMES[1:2] if quick else FRAMES
    scenes = (scene(*frame, faces) for frame in frames for faces in (1, 5, 0))
    with ExitStack() as stack:
        contenders = list(detection.ours(BUNDLE))
        if not arguments.no_peers:
            contenders += detection.peers(ROOT, stack)
        content["detection"] = detection.measure(contenders, scenes, seconds=0.1 if quick else 2.0)
    settings = {detection.OURS: FaceDetector(BUNDLE / "detector").settings, detection.OURS_AS_MTCNN: DetectorSettings()}
    content["floor"] = roofline.floors(frames, settings, threads=content["environment"]["cores"])
    content["environment"]["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
    content["targets"] = report.targets(content)
    return content


def measure_serving(python: Path, *, quick: bool) -> dict[str, Any]:
    """The running service: start, requests, load, memory; and the size of its environment."""
    images = {f"{width}x{height}": as_jpeg(scene(width, height, 1).pixels) for width, height in UPLOADS}
    # Not resolved: the environment's python is a link to the system's.
    content: dict[str, Any] = {"environment_mb": serving.directory_megabytes(python.absolute().parents[1])}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        starts = [] if quick else serving.start_seconds(directory, python, 3)
        with serve(directory, python=python) as server:
            content["start_seconds"] = starts or [round(server.start_seconds, 2)]
            content["requests"] = {
                size: serving.request_times(
                    server, image, requests=5 if quick else 300, warm_up=2 if quick else 30
                ).as_json()
                for size, image in images.items()
            }
            content["throughput"] = serving.throughput(
                server, images["640x480"], clients=4 if quick else 32, seconds=0.5 if quick else 15.0
            )
            content["memory"] = serving.memory(
                server, frames=20 if quick else 1000, settled=10 if quick else 500, sizes=5 if quick else 50
            )
    content["start_seconds_median"] = statistics.median(content["start_seconds"])
    return content


def main() -> None:
    """Measure, print the table, write `bench.json` and `bench.md`."""
    parser = argparse.ArgumentParser(description="The service's speed beside its peers' and its targets.")
    parser.add_argument("--quick", action="store_true", help="a few turns of each: does it run, not how fast")
    parser.add_argument("--no-peers", action="store_true", help="only our own code")
    parser.add_argument("--serving", action="store_true", help="measure the service anew, keep the rest of the report")
    parser.add_argument("--markdown", action="store_true", help="write the page from the JSON, measure nothing")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"directory of the reports; default: {OUTPUT}")
    parser.add_argument("--serving-python", type=Path, default=ROOT / ".venv/bin/python", help="default: that of .venv")
    arguments = parser.parse_args()
    file = arguments.output / "bench.json"
    if arguments.markdown:
        content = json.loads(file.read_text())
    elif not arguments.serving_python.exists():
        sys.exit(f"There is no {arguments.serving_python}: run `make bench`, which sets the environment up.")
    else:
        content = json.loads(file.read_text()) if arguments.serving else measure(arguments)
        if arguments.serving:
            content["serving"] = measure_serving(arguments.serving_python, quick=arguments.quick)
            content["classification"] = classification(5 if arguments.quick else 500)
            content["profile"] = steps.measure(BUNDLE, UPLOADS, turns=2 if arguments.quick else 100)
            content["targets"] = report.targets(content)
        arguments.output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n")
    Console(width=None if sys.stdout.isatty() else 120).print(report.table(content))
    file.with_suffix(".md").write_text(report.page(content))


if __name__ == "__main__":
    main()
