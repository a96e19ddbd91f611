from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monitoring import drift, feedback, rebase
from monitoring.params import LOG_VARIABLE
from tests.support.predictions import Write, predictions

COMMANDS = {"drift": drift.app, "feedback": feedback.app, "rebase": rebase.app}


@pytest.fixture(autouse=True)
def log(checkout: Path, write_log: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of 200 predictions of the released champion, found through the environment."""
    version = drift.Reference.load().model_version
    path = write_log(*predictions(200, seed=1, version=version))
    monkeypatch.setenv(LOG_VARIABLE, str(path))
    return path


def run(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(COMMANDS[command], arguments)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["drift", "--log", "nowhere"], "no prediction log at nowhere"),
        (["drift", "--model-version", "none"], "check out the bundle of none"),
        (["drift", "--since", "yesterday"], "'yesterday' is neither an age"),
        (["drift", "--window", "0"], "--window"),
        (["rebase", "--window", "50", "--reason", "new camera"], "The window has 50 rows; a reference needs 200."),
        (["rebase"], "say why the window is accepted"),
        (["feedback", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_command_that_cannot_do_its_work_exits_with_2_and_the_reason(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.mark.slow
def test_a_rebase_can_be_undone() -> None:
    before = drift.Reference.load().description
    assert run("rebase", "--reason", "new camera").exit_code == 0
    assert "new camera" in drift.Reference.load().description
    assert run("rebase", "--undo").exit_code == 0
    assert drift.Reference.load().description == before
