"""Fixtures for the tests of the stages: a directory to run them in, with an empty MLflow store."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest

from tests.support.store import enter


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run, made once because MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with an empty store, as the working directory."""
    shutil.copy(empty_store, tmp_path)
    enter(tmp_path, monkeypatch)
    return tmp_path
