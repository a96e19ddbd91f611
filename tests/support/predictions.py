"""Simulated rows of the prediction log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monitoring.log import Log
from monitoring.reference import RebaseRecord
from service.moods import MOODS
from service.observation import PROBABILITIES

NOW = datetime.now(UTC)
TOLERANCE = timedelta(seconds=60)

Write = Callable[..., Path]
"""Type of the fixture `write_log`: takes rows, or lines as they are, and returns the path of the log."""


def predictions(count: int, seed: int, *, brightness: float = 0.5, version: str = "7") -> list[dict[str, Any]]:
    """Rows of one camera, a minute apart, the last one now.

    Args:
        count: Number of rows.
        seed: Seed of the values, and prefix of the request ids.
        brightness: Mean brightness of the faces.
        version: Model version.
    """
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        probabilities = random.dirichlet([3, 1, 3, 1])
        rows.append(
            {
                "time": (NOW - timedelta(minutes=count - index)).isoformat(),
                "request": f"{seed}-{index}",
                "session": None,
                "model_version": version,
                "model_digest": version[0] * 64,
                "outcome": "answered",
                "mood": MOODS[int(probabilities.argmax())],
                **dict(zip(PROBABILITIES, probabilities.tolist(), strict=True)),
                "confidence": float(probabilities.max()),
                "entropy": float(-(probabilities * np.log(probabilities)).sum()),
                "face_share": float(random.normal(0.5, 0.05)),
                "detector_confidence": float(random.uniform(0.99, 1)),
                "faces": 1,
                "brightness": float(random.normal(brightness, 0.08)),
                "contrast": float(random.normal(0.16, 0.03)),
                "sharpness": float(random.lognormal(-3, 0.4)),
                "colourfulness": float(random.normal(25, 4)),
                "warmth": float(random.normal(0.3, 0.05)),
                "tint": float(random.normal(0.0, 0.02)),
                "reliability": "reliable" if probabilities.max() > 0.5 else "uncertain",
                "yaw": float(random.normal(0, 8)),
                "roll": float(random.normal(0, 4)),
                "frame_width": 640,
                "frame_height": 480,
                "latency_ms": 20.0,
            }
        )
    return rows


def as_log(rows: pd.DataFrame) -> Log:
    """Rows of `predictions` as the log reader gives them."""
    return Log(rows.assign(time=pd.to_datetime(rows["time"], utc=True)), {})


def rebase_record(**changes: Any) -> RebaseRecord:
    """The record of a live window of version 7, with some attributes changed."""
    record = RebaseRecord(
        model_version="7",
        model_digest=None,
        first=NOW - timedelta(days=3),
        last=NOW,
        rows=400,
        hours=9,
        reason="a dark ward",
        accepted=NOW,
    )
    return record.model_copy(update=changes)


def in_sessions(rows: list[dict[str, Any]], frames: int) -> list[dict[str, Any]]:
    """Rows as frames of one session after another, of so many frames each."""
    return [{**row, "session": f"{index // frames:032x}"} for index, row in enumerate(rows)]
