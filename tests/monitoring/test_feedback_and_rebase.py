from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from monitoring import feedback, log, quality
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support.predictions import NOW, TOLERANCE, Write, predictions


def test_labels_are_joined_by_request_and_give_the_metrics_of_the_predictions(tmp_path: Path, write_log: Write) -> None:
    rows = predictions(100, seed=1)
    labels = tmp_path / "labels.csv"
    lines = [f"{row['request']},{row['mood'] if index % 5 else 'other'}" for index, row in enumerate(rows[:50])]
    labels.write_text("\n".join(["request,mood", *lines, "unknown-request,positive"]) + "\n")
    found = log.read(write_log(*rows), now=NOW, tolerance=TOLERANCE).rows
    metrics = quality.from_labels(found, quality.read_labels(labels), bins=10)
    assert metrics is not None
    right = sum(index % 5 > 0 or row["mood"] == "other" for index, row in enumerate(rows[:50]))
    assert metrics["images"] == 50
    assert metrics["accuracy"] == pytest.approx(right / 50)
    assert set(metrics["recall"]) <= set(MOODS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("request\na\n", "no column mood"),
        ("request,mood\na,happy\n", "line 2: 'happy' is no mood"),
        ("request,mood\na,positive\na,negative\n", "two different moods"),
    ],
)
def test_a_wrong_file_of_labels_is_rejected_with_the_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        quality.read_labels(path)


def test_a_newer_label_replaces_the_older_one_of_its_request(tmp_path: Path) -> None:
    path = tmp_path / "live" / "labels.csv"
    feedback.keep(pd.DataFrame({"request": ["a", "b"], "mood": ["positive", "other"]}), path)
    feedback.keep(pd.DataFrame({"request": ["a"], "mood": ["negative"]}), path)
    assert dict(quality.read_labels(path).to_numpy()) == {"b": "other", "a": "negative"}


def test_the_serving_environment_has_nothing_that_only_monitoring_needs() -> None:
    lock = (ROOT / "requirements-serving.lock").read_text()
    locked = {line.split("==")[0].lower() for line in lock.splitlines() if "==" in line and not line.startswith(" ")}
    assert "bentoml" in locked
    assert locked.isdisjoint({"evidently", "pandas", "scipy", "scikit-learn", "pyarrow", "mlflow", "dvc", "plotly"})
