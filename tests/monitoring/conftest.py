"""Made-up predictions and a reference of the same kind: quick, and no picture of anybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from monitoring.make_reference import ABSENT
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import Reference
from service.moods import MOODS
from service.observation import COLUMNS, PROBABILITIES

NOW = datetime.now(UTC)
Write = Callable[..., Path]


def predictions(count: int, seed: int, *, brightness: float = 0.5, version: str = "7") -> list[dict[str, Any]]:
    """Rows of a camera that never changes but for its brightness, a minute apart, the last one now."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        probabilities = random.dirichlet([3, 1, 3, 1])
        rows.append(
            {
                "time": (NOW - timedelta(minutes=count - index)).isoformat(),
                "request": f"{seed}-{index}",
                "model_version": version,
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
                "frame_width": 640,
                "frame_height": 480,
                "latency_ms": 20.0,
            }
        )
    return rows


@pytest.fixture
def params(tmp_path: Path) -> MonitoringParams:
    """Those of the project, with reports in a temporary directory and no webhook."""
    values = read_monitoring()
    webhook = values.webhook.model_copy(update={"url": "", "backoff_seconds": 0.01})
    return values.model_copy(
        update={"log": tmp_path / "predictions.jsonl", "output": tmp_path / "live", "webhook": webhook}
    )


@pytest.fixture
def reference() -> Reference:
    """A thousand rows with labels that agree with nine of ten answers."""
    table = pd.DataFrame(predictions(1000, seed=0)).drop(columns=list(ABSENT)).assign(source="photos")
    table["label"] = table["mood"].where(np.arange(len(table)) % 10 > 0, "other")
    return Reference("7", table, table, None)


@pytest.fixture
def write_log(params: MonitoringParams) -> Write:
    """Write rows, or lines as they are, to the log."""

    def write(*lines: dict[str, Any] | str) -> Path:
        texts = [
            line if isinstance(line, str) else json.dumps({name: line[name] for name in COLUMNS}) for line in lines
        ]
        params.log.write_text("\n".join(texts) + "\n")
        return params.log

    return write
