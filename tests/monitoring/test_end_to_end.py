"""From requests to an alarm: a served champion, its log, and `make drift` on nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring import conditions, drift, rebase
from monitoring.params import MonitoringParams
from tests.service.conftest import Server, serve

FRAMES = 120


def frames(astronaut: NDArray[np.uint8], seed: int, *, dark: bool = False) -> list[bytes]:
    """JPEGs of the astronaut, each time moved and lit a little otherwise."""
    random, files = np.random.default_rng(seed), []
    for _ in range(FRAMES):
        move = cv2.getRotationMatrix2D((224, 128), random.normal(0, 4), random.normal(0.8, 0.04))
        move[:, 2] += random.normal(0, 12, 2)
        frame = cv2.warpAffine(astronaut, move, (448, 448), borderMode=cv2.BORDER_REPLICATE)
        frame = (frame * random.normal(0.95, 0.06)).clip(0, 255).astype(np.uint8)
        frame = conditions.darken(frame) if dark else frame
        files.append(cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes())
    return files


def send(server: Server, files: list[bytes]) -> None:
    with ThreadPoolExecutor(4) as pool:
        statuses = {response.status_code for response in pool.map(server.upload, files)}
    assert statuses <= {200, 422}


@pytest.fixture
def watched(params: MonitoringParams, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MonitoringParams:
    """The project's monitoring, with everything that it writes in a temporary directory."""
    monkeypatch.setattr(drift, "read_monitoring", lambda: params)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return params


def test_the_first_dark_day_is_noticed_from_the_log_alone(
    tmp_path: Path, astronaut: NDArray[np.uint8], watched: MonitoringParams
) -> None:
    log, rebased = tmp_path / "predictions.jsonl", tmp_path / "rebased"
    with serve(tmp_path) as server:
        send(server, frames(astronaut, seed=1))
        rebase.main(["--log", str(log), "--reason", "first camera"], watched, rebased)
        send(server, frames(astronaut, seed=2))
        assert drift.main(["--log", str(log), "--window", str(FRAMES)], rebased=rebased) == 0
        send(server, frames(astronaut, seed=3, dark=True))
    assert drift.main(["--log", str(log), "--window", str(FRAMES)], rebased=rebased) == 3
    assert "Drifted: darker faces" in (watched.output / drift.REPORT_FILE).read_text()
