"""Which stages a `dvc repro` runs: those that the candidates need, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from pipelines.planning.stages import DvcError, Step, ask_dvc, plan, steps
from tests.conftest import ROOT

LINE = {"mini_xception_fine", "mini_xception_fine_2"}
TEACHERS = {"mini_xception_wide", "mini_xception_fine_2"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's stages without any file that they read or write, as the working directory."""
    (tmp_path / "models").mkdir()
    for name in ("dvc.yaml", "models/dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    Repo.init(str(tmp_path), no_scm=True)
    return tmp_path


def change_params(**values: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | values, sort_keys=False))


def trained(planned: list[Step]) -> set[str]:
    return {step.model for step in planned if step.model is not None}


def test_dvc_repro_trains_what_the_champion_needs_and_the_comparison_is_a_target_of_its_own(project: Path) -> None:
    said = ask_dvc()
    line, everything = steps(*said, "dvc.yaml"), steps(*said, "models/dvc.yaml")
    assert trained(line) == LINE
    assert "models/dvc.yaml:teach" not in [step.stage for step in line]  # today's champion does not learn from it
    assert {"register", "package", "reference"} < {step.stage for step in line}
    models = yaml.safe_load(Path("params.yaml").read_text())["models"]
    assert trained(everything) == {name for section in models.values() for name in section}
    assert "register" not in [step.stage for step in everything]


def test_a_candidate_that_learns_from_the_teacher_brings_the_teacher_and_its_members_along(project: Path) -> None:
    change_params(candidates=["mini_xception_distilled"], compared=[])
    planned = plan("dvc.yaml")
    assert trained(planned) == LINE | TEACHERS | {"mini_xception_distilled"}
    order = [step.stage.removeprefix("models/dvc.yaml:") for step in planned]
    places = [order.index(stage) for stage in ("train@mini_xception_wide", "teach", "distil@mini_xception_distilled")]
    assert places == sorted(places)


def test_every_output_stays_until_its_stage_replaces_it() -> None:
    for path in ("dvc.yaml", "models/dvc.yaml"):
        for name, stage in yaml.safe_load((ROOT / path).read_text())["stages"].items():
            definition = stage.get("do", stage)
            outputs = [*definition.get("outs", []), *definition.get("metrics", []), *definition.get("plots", [])]
            assert outputs, f"{path}: {name}"
            assert all(flags["persist"] for output in outputs for flags in output.values()), f"{path}: {name}"


def test_the_teachers_members_are_dependencies_of_the_stage() -> None:
    members = yaml.safe_load((ROOT / "params.yaml").read_text())["teacher"]["members"]
    dependencies = yaml.safe_load((ROOT / "models" / "dvc.yaml").read_text())["stages"]["teach"]["deps"]
    listed = [path for path in dependencies if path.startswith("models/")]
    assert listed == [f"models/${{teacher.members[{index}]}}/model.keras" for index in range(len(members))]


def test_dvcs_message_is_shown_if_it_cannot_read_the_project(project: Path) -> None:
    Path("dvc.yaml").write_text("stages: 3\n")
    with pytest.raises(DvcError, match=r"dvc\.yaml"):
        plan("dvc.yaml")


EDGES = {
    "data.dvc": set(),
    "prepare": {"data.dvc"},
    "models/dvc.yaml:train@net": {"prepare"},
    "models/dvc.yaml:evaluate@net": {"models/dvc.yaml:train@net"},
    "register": {"models/dvc.yaml:evaluate@net"},
}
"""A short pipeline, by what each stage depends on."""


def test_stages_after_a_changed_one_may_run_and_are_told_apart() -> None:
    status = {"prepare": [{"changed deps": {"data": "modified", "params.yaml": {"prepare.seed": "new"}}}]}
    assert steps(status, EDGES, "dvc.yaml") == [
        Step("prepare", ("data", "params.yaml prepare.seed")),
        Step("models/dvc.yaml:train@net", ()),
        Step("models/dvc.yaml:evaluate@net", ()),
        Step("register", ()),
    ]


def test_on_a_fresh_clone_the_faces_are_made_again_and_nothing_is_trained() -> None:
    status = {
        "prepare": [{"changed outs": {"faces": "deleted"}}],
        "models/dvc.yaml:train@net": [{"changed deps": {"faces/train.npz": "deleted"}}],
        "models/dvc.yaml:evaluate@net": [{"changed deps": {"faces/test.npz": "deleted"}}],
    }
    assert steps(status, EDGES, "dvc.yaml") == [Step("prepare", ("faces",))]


def test_a_model_that_is_missing_is_trained_and_measured_again() -> None:
    status = {"models/dvc.yaml:train@net": [{"changed outs": {"models/net/model.keras": "deleted"}}]}
    planned = steps(status, EDGES, "dvc.yaml")
    assert [step.stage for step in planned] == [*EDGES][2:]
    assert planned[0].model == "net"


def test_a_changed_command_and_a_single_target_are_understood() -> None:
    training = "models/dvc.yaml:train@net"
    status = {training: ["changed command"], "register": [{"changed deps": {"x": "modified"}}]}
    assert steps(status, EDGES, training) == [Step(training, ("changed command",))]


def test_nothing_runs_if_nothing_has_changed() -> None:
    assert steps({}, EDGES, "dvc.yaml") == []
