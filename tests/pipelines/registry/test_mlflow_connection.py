"""An MLflow store that does not answer costs seconds and one sentence; one that does opens as machine learning."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from pipelines import register, train
from pipelines.registry import mlflow_connection, mlflow_store, training_run
from pipelines.registry.mlflow_connection import StoreUnreachable
from pipelines.releases import restore_runs
from tests.conftest import ROOT
from tests.support import toys
from tests.support.mlflow_stores import closed_port, silent_server
from tests.support.store import use_store

LIMIT = 10
"""Seconds that a command may wait for a store that does not answer."""


@pytest.fixture
def down(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A working directory whose store is a server that is not running."""
    with closed_port() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address


def seconds(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def test_a_server_that_is_down_is_said_in_one_sentence_within_seconds(down: str) -> None:
    def connect() -> None:
        with pytest.raises(StoreUnreachable) as caught:
            mlflow_store.connect()
        assert str(caught.value).startswith(f"MLflow does not answer at {down} (connection refused): start it")
        assert "\n" not in str(caught.value)

    assert seconds(connect) < LIMIT


@pytest.mark.slow
def test_a_server_that_takes_connections_and_is_silent_costs_no_more(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

        def connect() -> None:
            with pytest.raises(StoreUnreachable, match="no answer in time"):
                mlflow_store.connect()

        assert seconds(connect) < LIMIT


def test_retries_and_time_limits_of_the_environment_win(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

        def connect() -> None:
            with pytest.raises(StoreUnreachable, match="no answer in time"):
                mlflow_store.connect()

        assert seconds(connect) < 3


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://no-such-host.invalid", "MLflow does not answer at http://no-such-host.invalid"),
        ("sqlite:///{directory}", "unable to open database file"),
        ("sqlite:///{directory}/params.yaml/mlflow.db", "mlflow.db"),
        ("sqlite:///{directory}/params.yaml", "file is not a database"),
        ("nonsense://somewhere", "MLflow cannot be used at nonsense://somewhere"),
    ],
    ids=["no such host", "a directory", "below a file", "no database", "no store"],
)
def test_any_other_store_that_cannot_be_opened_is_said_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, uri: str, reason: str
) -> None:
    toys.write_params(workspace, ["toy"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(directory=workspace))

    def connect() -> None:
        with pytest.raises(StoreUnreachable) as caught:
            mlflow_store.connect()
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)

    assert seconds(connect) < LIMIT


def test_a_password_in_the_address_is_not_printed(down: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", down.replace("http://", "http://somebody:secret@"))
    with pytest.raises(StoreUnreachable) as caught:
        mlflow_store.connect()
    assert "secret" not in str(caught.value)
    assert down in str(caught.value)


def test_stages_end_with_that_sentence_before_they_start_to_work(down: str, workspace: Path) -> None:
    toys.write_params(workspace, ["toy"])
    toys.write_candidate("toy", toys.brightness_model(), weights="first", score=0.8)
    for stage in (register.main, restore_runs.main, lambda: train.main("toy")):
        with pytest.raises(StoreUnreachable, match="does not answer"):
            stage()


def test_a_store_that_stops_answering_later_is_said_in_a_sentence_too(
    down: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(down)
    with (
        pytest.raises(StoreUnreachable, match=r"refused\).*\. Try again"),
        mlflow_connection.plain_errors("Try again."),
    ):
        mlflow.get_run("a" * 32)


def test_other_errors_of_a_command_stay_what_they_are() -> None:
    with pytest.raises(LookupError, match="mine"), mlflow_connection.plain_errors():
        raise LookupError("mine")


def test_a_training_goes_on_if_the_store_stops_answering(
    down: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(down)
    reporter = training_run.LogToMlflow()
    for epoch in range(2):
        reporter.on_epoch_end(epoch, {"loss": 1.0})
    assert capsys.readouterr().out.count("MLflow has stopped answering") == 1


@pytest.mark.slow
def test_a_command_prints_the_sentence_and_no_traceback(down: str, workspace: Path) -> None:
    command = (
        "from pipelines.registry import mlflow_store; mlflow_store.connect()"  # as all stages do, and quick to start
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"MLflow does not answer at {down}")


def test_experiments_open_as_machine_learning(workspace: Path, empty_store: Path) -> None:
    experiment = mlflow.get_experiment_by_name(mlflow_store.EXPERIMENT)
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_kind_that_somebody_chose_in_the_pages_stays(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow.set_experiment_tag(mlflow_connection.EXPERIMENT_KIND, "classification")
    use_store(workspace / "mlflow.db", monkeypatch)
    experiment = mlflow.get_experiment_by_name(mlflow_store.EXPERIMENT)
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "classification"


def test_an_empty_address_means_the_store_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert mlflow_connection.tracking_uri() == "sqlite:///mlflow.db"
    assert not mlflow_connection.is_server()
