"""A quick run yields a complete report. The values are not judged: that needs a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.scenes import scene
from benchmarks.server import ROOT
from benchmarks.speed import report
from benchmarks.speed.detection import OURS, OURS_AS_MTCNN, OURS_LARGEST
from benchmarks.speed.roofline import pnet_macs
from benchmarks.speed.steps import OTHER, Stopwatch
from benchmarks.speed.timing import take_turns
from service.detector import DetectorSettings


@pytest.fixture(scope="module", params=[pytest.param("quick run", marks=pytest.mark.slow)])
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a quick run's reports."""
    directory = tmp_path_factory.mktemp("bench")
    command = ["benchmarks.speed.bench", "--quick", "--no-peers", "--serving-python", sys.executable]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--output", str(directory)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def content(output: Path) -> dict[str, Any]:
    return json.loads((output / "bench.json").read_text())


def test_every_scene_is_timed_with_our_settings_and_with_those_of_mtcnn(content: dict[str, Any]) -> None:
    seen = [(record["faces"], record["detector"]) for record in content["detection"]]
    assert seen == [(faces, name) for faces in (1, 5, 0) for name in (OURS, OURS_LARGEST, OURS_AS_MTCNN)]


def test_our_detector_finds_the_faces_that_a_scene_shows(content: dict[str, Any]) -> None:
    for record in content["detection"]:
        if record["detector"] == OURS_LARGEST:
            assert min(1, record["faces"]) <= record["found"] <= record["faces"]
        else:
            assert record["found"] == record["faces"]


def test_every_target_but_those_against_baselines_is_measured(content: dict[str, Any]) -> None:
    unmeasured = [target["metric"] for target in content["targets"] if target["met"] is None]
    assert len(content["targets"]) == 19
    against_other_code = [metric for metric in unmeasured if "the code before" in metric]
    assert len(against_other_code) == 5, unmeasured
    assert len(unmeasured) - len(against_other_code) == 3, unmeasured


def test_the_page_has_every_target_and_scene(output: Path, content: dict[str, Any]) -> None:
    page = (output / "bench.md").read_text()
    assert all(target["metric"] in page for target in content["targets"])
    assert all(f"## Detection, {record['frame']}, " in page for record in content["detection"])
    assert page.count("## Detection, ") == len({record["faces"] for record in content["detection"]}) == 3


def test_the_committed_page_is_the_committed_json_rendered() -> None:
    content = json.loads((ROOT / "reports/bench/bench.json").read_text())
    assert report.targets(content) == content["targets"]
    assert report.page(content) == (ROOT / "reports/bench/bench.md").read_text()


def test_the_named_steps_take_most_of_an_estimate(content: dict[str, Any]) -> None:
    for profile in content["steps"]:
        assert all(milliseconds > 0 for milliseconds in profile["steps"].values())
        assert profile["steps"][OTHER] < profile["median_ms"] / 2


def test_the_time_of_an_inner_step_counts_for_that_step_alone() -> None:
    watch = Stopwatch()
    inner = watch.timed("inner", lambda: time.sleep(0.05))
    watch.timed("outer", inner)()
    assert watch.seconds["inner"] >= 0.05
    assert watch.seconds["outer"] < 0.025


def test_slow_functions_get_fewer_turns_and_they_are_spread_among_the_fast_ones() -> None:
    order: list[str] = []

    def run(name: str, rounds: int) -> None:
        order.append(name)
        sum(range(rounds))

    functions = {"slow": lambda: run("slow", 3_000_000), "fast": lambda: run("fast", 10)}
    times = take_turns(functions, seconds=0.0001, max_turns=30)
    assert [len(times[name].milliseconds) for name in ("slow", "fast")] == [3, 30]
    turns = [position for position, name in enumerate(order[4:]) if name == "slow"]
    assert turns == [10, 11, 32, 33, 54, 55]  # the first of two is to warm up


def test_the_roofline_counts_what_pnet_does_at_its_smallest_input() -> None:
    # One level of 12 x 12 pixels: P-Net's layers then are 10 x 10, 3 x 3 and 1 x 1 pixels (paper, figure 2).
    first, second, third = 10 * 10 * 10 * 27, 3 * 3 * 16 * 90, 32 * 144 + 6 * 32
    assert pnet_macs(20, 20, DetectorSettings()) == first + second + third


@pytest.mark.parametrize("width", [640, 1280])
def test_a_scene_shows_the_head_at_its_centre_and_the_background_elsewhere(width: int) -> None:
    height = width * 3 // 4
    changed = (scene(width, height, 1).pixels != scene(width, height, 0).pixels).any(axis=2)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    centre_y, centre_x = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    assert abs(centre_y - height / 2) <= 2
    assert abs(centre_x - width / 2) <= 2
    head = round(0.4 * height / 0.47)  # a face of 0.4 of the frame's height takes 0.47 of the head's
    assert rows[-1] - rows[0] == pytest.approx(head, abs=4)
