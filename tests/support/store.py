"""Directories to run stages in, each with an MLflow store of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.registry import mlflow_store


def use_store(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a database the MLflow store.

    The URI holds the absolute path, because MLflow would take `sqlite:///mlflow.db` of the next test for this one.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    mlflow_store.connect()


def enter(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run stages in a directory, with the database in it as the store."""
    monkeypatch.chdir(directory)
    use_store(directory / "mlflow.db", monkeypatch)
