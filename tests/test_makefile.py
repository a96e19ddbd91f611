"""The Makefile chooses a Python that can make environments, and says how to get one if there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCK, STAMP = "requirements-serving.lock", ".venv/.installed"
PYENV_SHIM = "exit 127"  # a shim of a version that is not installed


def version(number: str, has_venv: bool = True) -> str:
    """A stand-in for that version: a script that answers the two questions of the Makefile."""
    return f'case "$2" in *ensurepip*) exit {int(not has_venv)};; *) echo {number};; esac'


WITHOUT_VENV = version("3.13", has_venv=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the Makefile, a lock and, in `bin`, nothing yet."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / LOCK).touch()
    (tmp_path / "bin").mkdir()
    return tmp_path


def install(python: Path, script: str) -> None:
    """Put a shell script where an interpreter is expected."""
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)


def set_up(checkout: Path, *variables: str) -> str:
    """What `make` would do for the serving environment if the only programs were those in `bin`, or its complaint."""
    make = shutil.which("make")
    assert make is not None
    command = [make, "--dry-run", STAMP, *variables]
    done = subprocess.run(
        command, cwd=checkout, env={"PATH": str(checkout / "bin")}, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3.13": version("3.13"), "python3.11": version("3.11")}, "python3.13"),
        ({"python3.13": PYENV_SHIM, "python3.11": version("3.11"), "python3": version("3.11")}, "python3.11"),
        ({"python3.13": WITHOUT_VENV, "python3.12": version("3.12")}, "python3.12"),
        ({"python3": version("3.13")}, "python3"),
    ],
    ids=["the newest", "not a shim without Python", "not one without venv", "python3"],
)
def test_the_newest_python_that_can_make_environments_is_chosen(
    checkout: Path, pythons: dict[str, str], chosen: str
) -> None:
    for name, script in pythons.items():
        install(checkout / "bin" / name, script)
    assert f"\n{chosen} -m venv --clear .venv\n" in set_up(checkout)


def test_a_given_PYTHON_overrides_the_choice_and_is_checked_too(checkout: Path) -> None:
    install(checkout / "bin" / "python3.13", version("3.13"))
    install(checkout / "elsewhere" / "python", version("3.12"))
    assert "\nelsewhere/python -m venv" in set_up(checkout, "PYTHON=elsewhere/python")
    install(checkout / "elsewhere" / "python", version("3.9"))
    assert "PYTHON=elsewhere/python is another version" in set_up(checkout, "PYTHON=elsewhere/python")


@pytest.mark.parametrize("pythons", [{}, {"python3": version("3.9")}, {"python3": version("3.14")}])
def test_without_a_python_in_range_it_says_how_to_get_one(checkout: Path, pythons: dict[str, str]) -> None:
    for name, script in pythons.items():
        install(checkout / "bin" / name, script)
    message = set_up(checkout)
    for advice in ("apt install python3 python3-venv", "dnf install", "brew install", "uv venv", "export PYTHON="):
        assert advice in message


def test_without_venv_it_names_the_package_of_that_python(checkout: Path) -> None:
    install(checkout / "bin" / "python3", WITHOUT_VENV)
    assert "apt install python3.13-venv" in set_up(checkout)


@pytest.mark.parametrize(
    ("present", "variables", "anew"),
    [
        (version("3.12"), (), False),
        (version("3.12"), ("PYTHON=python3.13",), True),
        (version("3.10"), (), True),
        (PYENV_SHIM, (), True),
    ],
    ids=["in range", "PYTHON is of another version", "out of range", "its Python does not start"],
)
def test_an_environment_of_another_python_is_made_anew(
    checkout: Path, present: str, variables: tuple[str, ...], anew: bool
) -> None:
    install(checkout / "bin" / "python3.13", version("3.13"))
    install(checkout / ".venv" / "bin" / "python", present)
    (checkout / STAMP).touch()
    assert ("python3.13 -m venv --clear .venv" in set_up(checkout, *variables)) == anew


@pytest.mark.parametrize(
    ("uri", "pages"),
    [("http://127.0.0.1:9", False), ("https://mlflow.example.org", False), ("sqlite:///other.db", True), ("", True)],
)
def test_make_mlflow_starts_pages_unless_the_store_is_a_server_with_its_own(
    checkout: Path, uri: str, pages: bool
) -> None:
    for name in ("python", "mlflow"):
        install(checkout / ".venv-dev" / "bin" / name, f'case "$1" in -c) echo 3.13;; *) echo {name} "$@";; esac')
    (checkout / "requirements.lock").touch()
    (checkout / ".venv-dev" / ".installed").touch()
    done = subprocess.run(
        ["make", "mlflow", "MLFLOW_PORT=5055"],
        cwd=checkout,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHON": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    restored, *started = done.stdout.splitlines()
    assert restored == "python -m pipelines.releases.restore_runs --ui http://127.0.0.1:5055"
    store = uri or "sqlite:///mlflow.db"
    served = [f"mlflow ui --backend-store-uri {store} --host 127.0.0.1 --port 5055"]
    assert started == (served if pages else [])
