"""The bento: it holds only what serving needs, and responds outside the checkout as inside it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.server import HOST
from benchmarks.server import serve as start
from tests.conftest import ROOT
from tests.support.server import Server, reachable_at, serve, without_id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("uv") is None and importlib.util.find_spec("uv") is None,
        reason="needs uv: without it `bentoml build` would fetch one",
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with BentoML's home, `bentoml`, in which a bento was built as by `make bento`."""
    directory = tmp_path_factory.mktemp("bento")
    for command in (["pipelines.export.to_bento"], ["bentoml", "build"]):
        _run(directory, *command)
    return directory


def _run(directory: Path, *command: str) -> str:
    variables = {**os.environ, "BENTOML_HOME": str(directory / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _bento(home: Path) -> Path:
    (bento,) = (path for path in (home / "bentoml" / "bentos" / "mood_estimator").iterdir() if path.is_dir())
    return bento


def test_the_bento_holds_the_service_and_nothing_else_of_the_checkout(home: Path) -> None:
    source = _bento(home) / "src"
    packed = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "service").rglob("*.py")}
    assert packed == modules | {"bentofile.yaml", "LICENSE", "NOTICE"}


def test_the_bento_names_the_released_bundle_as_its_model(home: Path) -> None:
    (model,) = yaml.safe_load((_bento(home) / "bento.yaml").read_text())["models"]
    name, version = model["tag"].split(":")
    stored = home / "bentoml" / "models" / name / version
    for path in (path for path in (ROOT / "bundle").rglob("*") if path.is_file()):
        assert (stored / path.relative_to(ROOT / "bundle")).read_bytes() == path.read_bytes()


def test_the_bento_installs_the_locked_serving_dependencies(home: Path) -> None:
    def pins(file: Path) -> set[str]:
        return {line.split(" ")[0].rstrip(";") for line in file.read_text().splitlines() if "==" in line.split(" ")[0]}

    requirements = _bento(home) / "env" / "python" / "requirements.txt"
    assert pins(requirements) == pins(ROOT / "requirements-serving.lock")
    assert requirements.read_text().count("--hash=") == (ROOT / "requirements-serving.lock").read_text().count(
        "--hash="
    )


def test_the_bundle_gets_the_same_tag_every_time(home: Path) -> None:
    assert _run(home, "pipelines.export.to_bento") == _run(home, "pipelines.export.to_bento")


def test_the_bento_answers_outside_the_checkout_as_the_checkout_does(
    home: Path, server: Server, photo: bytes, tmp_path: Path
) -> None:
    with serve(tmp_path, "mood_estimator:latest", tmp_path, BENTOML_HOME=str(home / "bentoml")) as elsewhere:
        assert without_id(elsewhere.upload(photo)) == without_id(server.upload(photo))


def test_sessions_on_the_command_line_run_from_the_bento(home: Path, photo: bytes, tmp_path: Path) -> None:
    folder, written = tmp_path / "images", tmp_path / "session.json"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(photo)
    variables = {**os.environ, "BENTOML_HOME": str(home / "bentoml"), "PYTHONPATH": str(_bento(home) / "src")}
    command = [sys.executable, "-m", "service.session", folder, "--json", written]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (frame,) = json.loads(written.read_text())["frames"]
    assert frame["mood"] == "positive"


def test_the_bento_too_listens_at_its_own_port_and_nowhere_else(home: Path, tmp_path: Path) -> None:
    environment = {"BENTOML_HOME": str(home / "bentoml")}
    with start(tmp_path, "mood_estimator:latest", working_directory=tmp_path, environment=environment) as running:
        assert reachable_at(running) == {f"SOCK_STREAM {HOST}:{running.port}"}
