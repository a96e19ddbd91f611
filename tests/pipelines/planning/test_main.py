"""`python -m pipelines.planning`: what is printed before a training starts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.params import ParamsError
from pipelines.planning import __main__ as plan
from pipelines.planning.stages import Step
from pipelines.planning.training_cost import TrainingCost
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("seconds", "text"), [(20, "less than a minute"), (2400, "40 min"), (7500, "2 h 05 min"), (3590, "1 h 00 min")]
)
def test_a_time_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert plan.duration(seconds) == text


def test_stages_epochs_faces_and_time_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    trainings = ("train@mini_xception_fine", "fine_tune@mini_xception_fine_2")
    steps = [Step("prepare", ("data/photos.parquet",)), *(Step(f"models/dvc.yaml:{name}", ()) for name in trainings)]
    monkeypatch.setattr(plan, "plan", lambda target: steps)
    costs = {
        "mini_xception_fine": TrainingCost("mini_xception_fine", 32, 32, 35_838, 80.0, "last training"),
        "mini_xception_fine_2": TrainingCost("mini_xception_fine_2", 40, 40, 35_838, 75.0, "steps timed now"),
    }
    monkeypatch.setattr(plan, "training_cost", lambda params, name, changed: costs[name])
    plan.main()
    printed = capsys.readouterr().out
    assert re.search(r"^  prepare +data/photos\.parquet$", printed, re.MULTILINE)
    assert "Training, at most: 72 epochs, some 1 h 33 min.\n" in printed
    assert "32 epochs of 35,838 faces, some 43 min (80 s an epoch, last training)\n" in printed
    assert "mobilenet" not in printed


def test_unknown_times_and_early_stopping_are_said() -> None:
    unknown = TrainingCost("new", 300, 300, None, None, "steps timed now")
    early = TrainingCost("mobilenet_v1", 56, 300, 35_838, 30.0, "last training")
    lines = plan.describe_costs([unknown, early])
    assert lines[0] == "Training, at most: 356 epochs, more than 28 min."
    assert lines[1].endswith("300 epochs of faces that are not cut yet, time unknown")
    assert "56 epochs (300 at most) of 35,838 faces" in lines[2]


def test_nothing_to_do_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(plan, "plan", lambda target: [])
    plan.main()
    assert "nothing runs" in capsys.readouterr().out


def test_a_wrong_number_ends_it_before_dvc_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["gate"]["max_bytes"] = "a megabyte"
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(plan, "plan", lambda target: pytest.fail("DVC was asked"))
    with pytest.raises(ParamsError, match=r"^params\.yaml: gate\.max_bytes is 'a megabyte'; it should be a valid int"):
        plan.main()


@pytest.mark.parametrize(
    ("target", "commands"),
    [
        ("train", ["-m pipelines.planning", "dvc repro"]),
        (
            "compare",
            ["-m pipelines.planning models/dvc.yaml", "dvc repro models/dvc.yaml", "-m pipelines.releases.compare"],
        ),
    ],
)
def test_make_prints_the_cost_before_dvc_starts(target: str, commands: list[str]) -> None:
    make = ["make", "--dry-run", "--old-file=.venv-dev/.installed", target]
    lines = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    # Without the environment, its set-up comes first.
    assert all(line.endswith(command) for line, command in zip(lines[-len(commands) :], commands, strict=True))
