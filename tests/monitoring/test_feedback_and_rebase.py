from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from monitoring import feedback, log, quality, rebase, verdict
from monitoring.params import MonitoringParams
from monitoring.reference import REFERENCE_FILE, Reference, write
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


@pytest.fixture
def bundle(tmp_path: Path, reference: Reference) -> Path:
    """The directory of a champion's own reference."""
    write(reference.labelled, tmp_path / "bundle" / "reference" / REFERENCE_FILE)
    return tmp_path / "bundle"


def test_after_a_rebase_the_accepted_window_is_no_drift(
    bundle: Path, write_log: Write, params: MonitoringParams
) -> None:
    dark = log.read(write_log(*predictions(400, seed=1, brightness=0.25)), now=NOW, tolerance=TOLERANCE)
    before = Reference.load(bundle / "reference", bundle / "rebased")
    assert verdict.reach(dark, before, params).state == "drifted"
    rebase.rebase(dark, "7", "the new ward is darker", bundle / "rebased")
    after = Reference.load(bundle / "reference", bundle / "rebased")
    assert verdict.reach(dark, after, params).state == "quiet"
    assert "the new ward is darker" in after.description
    usual = log.read(write_log(*predictions(400, seed=2)), now=NOW, tolerance=TOLERANCE)
    assert verdict.reach(usual, after, params).causes[0].name == "brighter"


def test_a_rebased_reference_keeps_neither_times_nor_requests(bundle: Path, write_log: Write) -> None:
    window = log.read(write_log(*predictions(150, seed=1)), now=NOW, tolerance=TOLERANCE)
    rebase.rebase(window, "7", "because", bundle / "rebased")
    assert {"time", "request"}.isdisjoint(pd.read_parquet(bundle / "rebased" / REFERENCE_FILE).columns)


def test_a_new_champion_starts_from_its_own_reference_again(bundle: Path, write_log: Write) -> None:
    window = log.read(write_log(*predictions(150, seed=1)), now=NOW, tolerance=TOLERANCE)
    rebase.rebase(window, "6", "because", bundle / "rebased")
    assert Reference.load(bundle / "reference", bundle / "rebased").rebased is None


def test_the_released_reference_belongs_to_the_released_champion() -> None:
    reference = Reference.load(ROOT / "bundle" / "reference", rebased=None)
    metadata = (ROOT / "bundle" / "classifier" / "metadata.json").read_text()
    assert f'"version": "{reference.model_version}"' in metadata
    assert (ROOT / "bundle" / "reference" / REFERENCE_FILE).stat().st_size < 300_000


def test_the_serving_environment_has_nothing_that_only_monitoring_needs() -> None:
    lock = (ROOT / "requirements-serving.lock").read_text()
    locked = {line.split("==")[0].lower() for line in lock.splitlines() if "==" in line and not line.startswith(" ")}
    assert "bentoml" in locked
    assert locked.isdisjoint({"evidently", "pandas", "scipy", "scikit-learn", "pyarrow", "mlflow", "dvc", "plotly"})
