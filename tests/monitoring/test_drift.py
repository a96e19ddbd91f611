"""What `make drift` leaves behind, in which order, and what it tells a scheduler."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monitoring import alarm, drift, trends, verdict
from monitoring.params import LOG_VARIABLE, WEBHOOK_VARIABLE
from monitoring.verdict import EXIT_CODES
from tests.conftest import ROOT
from tests.support.predictions import Write, predictions

EFFECTS = {
    "json": (drift, "write_json", "drift.json could not be written"),
    "alarm": (alarm, "send", "The alarm could not be delivered"),
    "report": (drift, "write_report", "drift.html could not be written"),
    "trends": (trends, "update", "The trends could not be updated"),
    "mlflow": (drift, "record", "Nothing was recorded in MLflow"),
}
"""What follows a verdict, in order: module, function, and the warning if it fails."""
WRITE_JSON = drift.write_json


@pytest.fixture(autouse=True)
def version(checkout: Path, write_log: Write, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log of 200 predictions of the released champion, a minute apart, that differ from its photos; a webhook."""
    version = drift.Reference.load().model_version
    monkeypatch.setenv(LOG_VARIABLE, str(write_log(*predictions(200, seed=1, version=version))))
    monkeypatch.setenv(WEBHOOK_VARIABLE, "http://127.0.0.1:9/alarms")
    return version


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The effects of the commands run, in order, none of which does anything."""
    calls: list[str] = []
    for name, (module, function, _) in EFFECTS.items():
        monkeypatch.setattr(module, function, lambda *_, name=name: calls.append(name))
    return calls


def run(*arguments: str) -> Result:
    return CliRunner().invoke(drift.app, arguments)


def test_the_alarm_comes_before_everything_that_may_take_long(done: list[str]) -> None:
    assert run().exit_code == EXIT_CODES["drifted"]
    assert done == ["json", "alarm", "report", "trends", "mlflow"]


@pytest.mark.parametrize("failing", EFFECTS)
def test_what_fails_costs_one_line_and_nothing_else(
    done: list[str], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no space left\nand more lines")

    module, function, warning = EFFECTS[failing]
    monkeypatch.setattr(module, function, fail)
    result = run()
    assert result.exit_code == EXIT_CODES["drifted"]
    assert done == [name for name in EFFECTS if name != failing]
    assert result.stderr.splitlines() == [f"{warning}: RuntimeError: no space left"]


def test_a_directory_that_cannot_be_written_does_not_keep_the_alarm_back(
    checkout: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "write_json", WRITE_JSON)
    (checkout / "blocked").write_text("a file")
    result = run("--output", "blocked/reports")
    assert result.exit_code == EXIT_CODES["drifted"]
    assert done == ["alarm", "report", "trends", "mlflow"]
    assert result.stderr.startswith("drift.json could not be written: NotADirectoryError")


def test_a_window_has_a_start_and_an_end(done: list[str]) -> None:
    result = run("--since", "150m", "--until", "30m")
    assert result.stdout.splitlines()[-1].startswith("120 predictions of version")
    backwards = run("--since", "1d", "--until", "2d")
    assert backwards.exit_code == EXIT_CODES["unknown"]
    assert "is not after --since 1d" in backwards.stderr


@pytest.mark.parametrize("arguments", [("--log", "nowhere"), ("--since", "yesterday"), ("--model-version", "none")])
def test_without_a_verdict_the_file_for_machines_does_not_keep_the_older_one(
    checkout: Path, arguments: tuple[str, ...]
) -> None:
    output = checkout / "live" / drift.JSON_FILE
    output.parent.mkdir()
    output.write_text(json.dumps({"state": "quiet", "exit_code": 0}))
    result = run(*arguments)
    assert result.exit_code == EXIT_CODES["unknown"]
    assert result.stderr.startswith("Cannot tell: ")
    found = json.loads(output.read_text())
    assert (found["state"], found["exit_code"]) == ("unknown", EXIT_CODES["unknown"])
    assert found["reason"] in result.stderr


def test_a_fault_of_the_program_is_no_verdict_either(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(verdict, "reach", fail)
    result = run()
    assert result.exit_code == EXIT_CODES["unknown"]
    assert json.loads((checkout / "live" / drift.JSON_FILE).read_text())["reason"] == "a fault"


def test_damaged_labels_cost_the_labels_and_not_the_verdict(checkout: Path, done: list[str]) -> None:
    (checkout / "live").mkdir()
    (checkout / "live" / drift.LABELS_FILE).write_text("no columns\n")
    result = run()
    assert result.exit_code == EXIT_CODES["drifted"]
    assert result.stderr.startswith("The report has no labels: ")
    assert done == list(EFFECTS)


@pytest.mark.parametrize("code", sorted(set(EXIT_CODES.values())))
def test_make_ends_with_the_codes_of_the_command(tmp_path: Path, code: int) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv-dev" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$1 $2" = "-m monitoring.drift" ] && exit {code}\necho 3.11\n')
    python.chmod(0o755)
    (tmp_path / ".venv-dev" / ".installed").touch()
    command = ["make", "--old-file=.venv-dev/.installed", "drift", "DRIFT=--since 7d"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == code


def test_no_drift_alone_ends_with_0() -> None:
    assert {state for state, code in EXIT_CODES.items() if code == 0} == {"quiet"}


@pytest.mark.parametrize(
    "page", ["docs/operate/monitoring.md", "deploy/monitoring.cron", "deploy/kubernetes/drift.yaml"]
)
def test_schedulers_are_told_the_codes_that_there_are(page: str) -> None:
    text = (ROOT / page).read_text()
    codes = text[text.lower().index("exit code") :].split("\n\n\n")[0][:600]
    assert {int(code) for code in re.findall(r"(?<![\w.-])[0-9](?![\w.])", codes)} >= set(EXIT_CODES.values())
    assert "3 drifted" not in text
