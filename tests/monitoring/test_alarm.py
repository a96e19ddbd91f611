from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from monitoring import alarm, drift
from monitoring.params import LOG_VARIABLE, WEBHOOK_VARIABLE, MonitoringParams, WebhookParams, read_monitoring
from tests.support.predictions import Write, predictions
from tests.support.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def webhook(params: MonitoringParams, receiver: Receiver) -> WebhookParams:
    return params.webhook.model_copy(update={"url": receiver.url})


def test_the_receiver_can_verify_sender_and_time_of_an_alarm(webhook: WebhookParams, receiver: Receiver) -> None:
    alarm.send({"event": "drift"}, webhook, "secret")
    ((headers, body),) = receiver.received
    assert json.loads(body) == {"event": "drift"}
    assert headers[alarm.SIGNATURE_HEADER] == alarm.sign("secret", headers[alarm.TIMESTAMP_HEADER], body)
    assert headers[alarm.SIGNATURE_HEADER] != alarm.sign("other", headers[alarm.TIMESTAMP_HEADER], body)


def test_an_alarm_is_retried_until_the_receiver_is_back(webhook: WebhookParams, receiver: Receiver) -> None:
    receiver.statuses = [503, 429, 204]
    alarm.send({"event": "drift"}, webhook, None)
    assert len(receiver.received) == 3


@pytest.mark.parametrize(("status", "attempts"), [(500, 4), (404, 1), (302, 1)])
def test_an_alarm_that_is_not_accepted_is_an_error(
    webhook: WebhookParams, receiver: Receiver, status: int, attempts: int
) -> None:
    receiver.statuses = [status]
    with pytest.raises(requests.RequestException):
        alarm.send({"event": "drift"}, webhook, None)
    assert len(receiver.received) == attempts


def test_a_misspelt_variable_is_refused_before_an_alarm_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEAA_WEBHOK", "https://alarm.example")
    with pytest.raises(ValueError, match=r"MEAA_WEBHOK is no setting; did you mean MEAA_WEBHOOK\?"):
        read_monitoring()


@pytest.fixture(params=["refuses", "never answers"])
def dead_mlflow(request: pytest.FixtureRequest) -> Iterator[str]:
    """URI of an MLflow server that is down: nothing listens there, or nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if request.param == "refuses":
            server.close()
        yield f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_the_alarm_arrives_within_5_seconds_while_mlflow_is_down(
    checkout: Path, write_log: Write, receiver: Receiver, dead_mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = drift.Reference.load().model_version
    monkeypatch.setenv(LOG_VARIABLE, str(write_log(*predictions(200, seed=1, version=version))))
    monkeypatch.setenv(WEBHOOK_VARIABLE, receiver.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", dead_mlflow)
    result = CliRunner().invoke(drift.app, [])
    assert result.exit_code == drift.EXIT_CODES["drifted"]
    assert json.loads(receiver.received[0][1])["event"] == "drift"
    verdict_was_there = (checkout / "live" / drift.JSON_FILE).stat().st_mtime
    assert receiver.times[0] - verdict_was_there < 5
    assert "Nothing was recorded" in result.stderr
    assert "Traceback" not in result.stderr
    assert (checkout / "live" / drift.REPORT_FILE).exists()
