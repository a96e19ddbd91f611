"""The benchmark runs, and its report has every figure. None of them is judged here: that needs a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scenes import scene
from benchmarks.speed import report
from benchmarks.speed.detection import OURS, OURS_AS_MTCNN
from benchmarks.speed.roofline import pnet_multiply_adds
from benchmarks.speed.timing import take_turns
from service.detector import DetectorSettings
from tests.conftest import ROOT


@pytest.fixture(scope="module")
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
    seen = [(record["faces"], record["contender"]) for record in content["detection"]]
    assert seen == [(faces, name) for faces in (1, 5, 0) for name in (OURS, OURS_AS_MTCNN)]


def test_our_detector_finds_the_faces_that_a_scene_shows(content: dict[str, Any]) -> None:
    assert all(record["found"] == record["faces"] for record in content["detection"])


def test_every_target_but_those_against_peers_is_measured(content: dict[str, Any]) -> None:
    unmeasured = [target["measure"] for target in content["targets"] if target["met"] is None]
    assert len(content["targets"]) == 12
    assert len(unmeasured) == 3, unmeasured


def test_the_page_has_every_target_and_scene(output: Path, content: dict[str, Any]) -> None:
    page = (output / "bench.md").read_text()
    assert all(target["measure"] in page for target in content["targets"])
    assert all(f"## {title}" in page for title, _ in report.sections(content))


def test_the_steps_of_an_estimate_make_up_the_whole_of_it(content: dict[str, Any]) -> None:
    for profiled in content["profile"]:
        assert all(milliseconds > 0 for milliseconds in profiled["steps"].values())
        assert sum(profiled["steps"].values()) == pytest.approx(profiled["median_ms"], rel=0.5)


def test_slow_runners_get_fewer_turns_and_they_are_spread_among_the_fast_ones() -> None:
    order: list[str] = []

    def run(name: str, rounds: int) -> None:
        order.append(name)
        sum(range(rounds))

    runners = {"slow": lambda: run("slow", 3_000_000), "fast": lambda: run("fast", 10)}
    times = take_turns(runners, seconds=0.0001, most=30)
    assert [len(times[name].milliseconds) for name in ("slow", "fast")] == [3, 30]
    turns = [position for position, name in enumerate(order[4:]) if name == "slow"]
    assert turns == [10, 11, 32, 33, 54, 55]  # the first of two is to warm up


def test_the_floor_counts_what_pnet_does_at_its_smallest_input() -> None:
    # One level of 12 x 12 pixels: P-Net's layers then are 10 x 10, 3 x 3 and 1 x 1 pixels (paper, figure 2).
    first, second, third = 10 * 10 * 10 * 27, 3 * 3 * 16 * 90, 32 * 144 + 6 * 32
    assert pnet_multiply_adds(20, 20, DetectorSettings()) == first + second + third


@pytest.mark.parametrize("faces", [0, 1, 5])
def test_a_scene_is_the_same_every_time(faces: int) -> None:
    assert (scene(320, 240, faces).pixels == scene(320, 240, faces).pixels).all()
