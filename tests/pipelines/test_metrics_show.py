"""`dvc metrics show`: a table that fits a terminal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from dvc.repo import Repo

from pipelines.params import Params
from tests.conftest import ROOT

WIDTH = 160


def test_the_metrics_of_all_models_fit_a_terminal(tmp_path: Path) -> None:
    params = Params.read(ROOT / "params.yaml")
    for name in ("dvc.yaml", "models/dvc.yaml", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in params.evaluated:
        headline = json.loads((ROOT / params.evaluation(name) / "headline.json").read_text())
        path = tmp_path / params.evaluation(name) / "headline.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(headline | {"latency": 2.8022}))  # as after the next evaluation
    Repo.init(str(tmp_path), no_scm=True)
    command = [sys.executable, "-m", "dvc", "metrics", "show"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    lines = shown.splitlines()
    assert len(lines) == 1 + len(params.evaluated)
    assert {"validation", "ferplus", "photos", "multiply_adds", "latency"} < set(lines[0].split())
    assert max(map(len, lines)) <= WIDTH
