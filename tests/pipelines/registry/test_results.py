"""The table of results in the README."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.data import test_sets
from pipelines.params import Params
from pipelines.registry import results
from pipelines.registry.candidates import Candidate
from pipelines.releases import promotion
from tests.conftest import ROOT
from tests.support import toys


def test_the_readme_has_the_table_that_the_pipeline_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rendered = results.table(Params.read())
    assert f"\n{rendered}<!-- /results -->" in Path("README.md").read_text()
    assert Path("reports/compare/results.md").read_text() == rendered


def test_the_table_names_the_champion_and_every_evaluated_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params, lines = Params.read(), results.table(Params.read()).splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
    assert sorted(name.strip("*") for name in names) == sorted(params.evaluated)
    assert len([name for name in names if name.startswith("**")]) == 1


def test_a_model_that_was_trained_again_is_not_taken_for_the_champion_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toys.write_params(tmp_path, ["steady"])
    toys.write_candidate("steady", toys.brightness_model(), weights="first", score=0.8)
    toys.write_test_sets(paths.TEST_SETS, test_sets.FIRST)
    promotion.release(
        Candidate.of("steady"),
        action="promote",
        gate="promoted",
        reason="the first",
        decision=None,
        training_parameters={"architecture": "steady"},
    )
    assert "| **steady** |" in results.table(Params.read())
    toys.write_candidate("steady", toys.brightness_model(4.0), weights="second", score=0.7)
    assert "| steady |" in results.table(Params.read())


def test_figures_of_other_test_sets_are_marked_and_say_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toys.write_params(tmp_path, ["old", "new"])
    for name in ("old", "new"):
        toys.write_candidate(name, toys.brightness_model(), weights="first", score=0.8)
    present = {**test_sets.FIRST, "test": {"fer2013": test_sets.FIRST["test"]["fer2013"], "photos": "0123456789ab"}}
    toys.write_test_sets(paths.TEST_SETS, present)
    provenance = Path("reports/evaluate/new/provenance.json")
    provenance.write_text(json.dumps({**json.loads(provenance.read_text()), "test_sets": present}))
    table = results.table(Params.read())
    assert "| new | `plateau`" in table
    assert "| old (other sets) | `plateau`" in table
    assert f"- old: test photos {test_sets.FIRST['test']['photos']} instead of 0123456789ab\n" in table
    Path("reports/evaluate/old/provenance.json").write_text(provenance.read_text())
    assert "other sets" not in results.table(Params.read())


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results: written by the stage register -->\nold\n<!-- /results -->\nafter\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "table", lambda params: "new\n")
    results.write(Params.read(ROOT / "params.yaml"))
    marker = "<!-- results: written by the stage register -->"
    assert readme.read_text() == f"before\n{marker}\nnew\n<!-- /results -->\nafter\n"


def test_reading_the_champion_does_not_load_tensorflow() -> None:
    code = (
        "import sys, pipelines.registry.champion as c; assert c.Champion.read() is not None; "
        "assert not {'tensorflow', 'keras', 'mlflow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
