"""What the tests of the stages share: a directory to run them in, with an MLflow store of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest

from pipelines.registry import tracking


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run, made once since MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.search_experiments()
    return path


def use_store(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a database the MLflow store.

    It is named by its whole path: MLflow would take `sqlite:///mlflow.db` of the next test for this one.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    tracking.connect()


def enter(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run stages in a directory, with the database in it as the store."""
    monkeypatch.chdir(directory)
    use_store(directory / "mlflow.db", monkeypatch)


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with an empty store, as the working directory."""
    shutil.copy(empty_store, tmp_path)
    enter(tmp_path, monkeypatch)
    return tmp_path
