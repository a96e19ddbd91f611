"""The table of results in the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.params import Params
from pipelines.registry import results
from tests.conftest import ROOT


def test_the_readme_has_the_table_that_the_pipeline_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rendered = results.table(Params.read())
    assert f"\n{rendered}<!-- /results -->" in Path("README.md").read_text()
    assert Path("reports/register/results.md").read_text() == rendered


def test_the_table_names_the_champion_and_every_candidate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params, lines = Params.read(), results.table(Params.read()).splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]
    assert sorted(name.strip("*") for name in names) == sorted(params.candidates)
    assert len([name for name in names if name.startswith("**")]) == 1


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
