"""From requests to an alarm: a served champion, its log, and `make drift` on nothing else."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from monitoring import drift, feedback, rebase, tracking
from monitoring.simulated_drift import DRIFTS
from tests.support.server import Server, serve

FRAMES = 120


def frames(astronaut: NDArray[np.uint8], seed: int, *, dark: bool = False) -> list[bytes]:
    """JPEGs of the astronaut with random position, size and light."""
    random, files = np.random.default_rng(seed), []
    for _ in range(FRAMES):
        move = cv2.getRotationMatrix2D((224, 128), random.normal(0, 4), random.normal(0.8, 0.04))
        move[:, 2] += random.normal(0, 12, 2)
        frame = cv2.warpAffine(astronaut, move, (448, 448), borderMode=cv2.BORDER_REPLICATE)
        frame = (frame * random.normal(0.95, 0.06)).clip(0, 255).astype(np.uint8)
        frame = DRIFTS["gamma_2.2"][0](frame) if dark else frame
        files.append(cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes())
    return files


def send(server: Server, files: list[bytes]) -> None:
    with ThreadPoolExecutor(4) as pool:
        statuses = {response.status_code for response in pool.map(server.upload, files)}
    assert statuses <= {200, 422}


@pytest.mark.slow
def test_the_first_dark_day_is_noticed_from_the_log_alone(checkout: Path, astronaut: NDArray[np.uint8]) -> None:
    command, settings = CliRunner(), checkout / "params.yaml"
    minute = (
        settings.read_text()
        .replace("min_rows: 200", f"min_rows: {FRAMES - 10}")
        .replace("min_hours: 3", "min_hours: 1")
    )
    settings.write_text(minute)  # the first camera's day lasts a minute here
    log = ["--log", str(checkout / "predictions.jsonl")]
    window = [*log, "--window", str(FRAMES)]
    with serve(checkout) as server:
        send(server, frames(astronaut, seed=1))
        assert command.invoke(rebase.app, [*log, "--reason", "first camera"]).exit_code == 0
        send(server, frames(astronaut, seed=2))
        assert command.invoke(drift.app, window).exit_code == 0
        send(server, frames(astronaut, seed=3, dark=True))
    assert command.invoke(drift.app, window).exit_code == drift.EXIT_CODES["drifted"]
    assert "Drifted against your rebased window: darker faces" in (checkout / "live" / drift.REPORT_FILE).read_text()


@pytest.mark.slow
def test_a_clinicians_sheet_with_the_ids_of_answers_becomes_an_accuracy(
    checkout: Path, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "log", lambda *_: None)  # a new MLflow store takes ten seconds
    with serve(checkout) as server:
        answers = [server.upload(file) for file in frames(astronaut, seed=1)[:20]]
        wall = server.upload(cv2.imencode(".jpg", np.full((300, 300, 3), 127, np.uint8))[1].tobytes())
    given = [(answer.headers["X-Request-Id"], answer.json()["mood"]) for answer in answers if answer.is_success]
    lines = [f"{request};{mood if index % 2 else 'other'};Dr. Bär" for index, (request, mood) in enumerate(given)]
    lines += [f"{wall.headers['X-Request-Id']};neutral;Dr. Bär", "d41d8cd98f00b204e9800998ecf8427e;neutral;Dr. Bär"]
    sheet = "\r\n".join(["X-Request-Id;Mood;Rater", *lines])
    (checkout / "labels.csv").write_text(sheet, encoding="utf-8-sig")  # as a German Excel saves it
    joined = CliRunner().invoke(feedback.app, ["labels.csv", "--log", "predictions.jsonl", "--json"])
    assert joined.exit_code == 0, joined.output
    found = json.loads(joined.stdout)
    assert found["images"] == len(given) > 10
    right = sum(index % 2 > 0 or mood == "other" for index, (_, mood) in enumerate(given))
    assert found["accuracy"] == pytest.approx(right / len(given))
    assert found["accuracy_interval"]["low"] < right / len(given) < found["accuracy_interval"]["high"]
    total = len(given) + 2
    assert f"1 of {total} labelled requests: of frames in which no face was found." in joined.stderr
    assert f"1 of {total} labelled requests: not in the log." in joined.stderr
