"""Records in MLflow cost a warning at most."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import pytest

from monitoring import tracking
from tests.support.mlflow_stores import closed_port


def test_a_server_that_is_down_costs_seconds_and_a_warning(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closed_port() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        started = time.monotonic()
        assert tracking.log("4", "drift: drifted", {"rows": 1.0}, {"drift": "drifted"}) is None
        assert time.monotonic() - started < 5
    warning = capsys.readouterr().err.strip()
    assert warning.startswith(f"Nothing was recorded. MLflow does not answer at {address} (connection refused)")
    assert "\n" not in warning


def test_an_error_of_whatever_store_is_a_warning_too(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_space_left(*arguments: object, **options: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(mlflow, "set_experiment", lambda name: no_space_left())
    assert tracking.log("4", "drift: quiet", {}, {}) is None
    assert "no space left on device" in capsys.readouterr().err
    monkeypatch.setattr(tracking, "find_version", no_space_left)
    assert tracking.log("4", "drift: quiet", {}, {}) is None
