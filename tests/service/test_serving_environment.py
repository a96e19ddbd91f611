"""The serving environment, as the Makefile sets it up: enough for the service, and little else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.server import serve
from benchmarks.speed import serving
from tests.conftest import ROOT
from tests.support.server import Server, without_id

PYTHON = ROOT / ".venv" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs the serving environment: `make .venv/.installed` sets it up"
)


def test_the_environment_has_the_locked_packages_and_no_others() -> None:
    script = "from importlib import metadata as m; [print(d.name, d.version, sep='==') for d in m.distributions()]"
    listed = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=True).stdout
    locked = (ROOT / "requirements-serving.lock").read_text().splitlines()
    requirements = [Requirement(line.rstrip("\\ ")) for line in locked if "==" in line.split(" ")[0]]
    pins = {f"{r.name}{r.specifier}" for r in requirements if r.marker is None or r.marker.evaluate()}
    assert {line.lower().replace("_", "-") for line in listed.split()} == pins


def test_the_environment_has_nothing_that_only_monitoring_needs() -> None:
    lock = (ROOT / "requirements-serving.lock").read_text()
    locked = {line.split("==")[0].lower() for line in lock.splitlines() if "==" in line and not line.startswith(" ")}
    assert "bentoml" in locked
    assert locked.isdisjoint({"evidently", "pandas", "scipy", "scikit-learn", "pyarrow", "mlflow", "dvc", "plotly"})


def test_the_environment_takes_400_megabytes_at_most() -> None:
    assert serving.directory_megabytes(PYTHON.parents[1]) <= 400


@pytest.mark.slow
def test_the_service_answers_from_it_as_from_the_development_environment(
    server: Server, photo: bytes, tmp_path: Path
) -> None:
    request = {"files": {"image": photo}}
    with serve(tmp_path, python=PYTHON) as lean:
        answer = server.client.post(f"{lean.url}/upload-meaa-image", **request)
    assert without_id(answer) == without_id(server.upload(photo))
