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

from monitoring import drift, feedback, rebase
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
    command = CliRunner()
    log = ["--log", str(checkout / "predictions.jsonl")]
    window = [*log, "--window", str(FRAMES)]
    with serve(checkout) as server:
        send(server, frames(astronaut, seed=1))
        assert command.invoke(rebase.app, [*log, "--reason", "first camera"]).exit_code == 0
        send(server, frames(astronaut, seed=2))
        assert command.invoke(drift.app, window).exit_code == 0
        send(server, frames(astronaut, seed=3, dark=True))
    assert command.invoke(drift.app, window).exit_code == 3
    assert "Drifted: darker faces" in (checkout / "live" / drift.REPORT_FILE).read_text()


@pytest.mark.slow
def test_labels_that_come_with_the_ids_of_answers_are_joined_to_what_was_logged(
    checkout: Path, astronaut: NDArray[np.uint8]
) -> None:
    with serve(checkout) as server:
        answers = [answer for answer in map(server.upload, frames(astronaut, seed=1)[:20]) if answer.status_code == 200]
    given = [answer.json() for answer in answers]
    lines = [f"{answer['request']},{answer['mood'] if index % 2 else 'other'}" for index, answer in enumerate(given)]
    (checkout / "labels.csv").write_text("\n".join(["request,mood", *lines]) + "\n")
    joined = CliRunner().invoke(feedback.app, ["labels.csv", "--log", "predictions.jsonl"])
    assert joined.exit_code == 0, joined.output
    metrics = json.loads(joined.stdout)
    assert metrics["images"] == len(given) > 10
    right = sum(index % 2 > 0 or answer["mood"] == "other" for index, answer in enumerate(given))
    assert metrics["accuracy"] == pytest.approx(right / len(given))
