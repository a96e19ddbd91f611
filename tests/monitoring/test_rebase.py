"""A live window as the reference: what is kept of it, what is refused, and what it is judged by."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from typer.testing import CliRunner

from monitoring import comparison, distributions, drift, rebase, tracking, verdict
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import DISTRIBUTIONS_FILE, RECORD_FILE, REFERENCE_FILE, Reference, write
from tests.conftest import ROOT
from tests.support.predictions import NOW, Write, as_log, in_sessions, predictions

Rebase = Callable[..., Reference]
"""Type of the fixture `rebased`: makes a log's rows the reference and loads it."""


def window(count: int, seed: int, *, brightness: float = 0.5, version: str = "7") -> Log:
    """Predictions of the last minutes, as the log has them: with five decimal places."""
    return as_log(pd.DataFrame(predictions(count, seed, brightness=brightness, version=version)).round(5))


def without_face(log: Log, every: int) -> Log:
    """The log with every so many rows without a face."""
    rows = log.rows.copy()
    faceless = rows.index[::every]
    rows.loc[faceless, [*distributions.NUMBERS]] = np.nan
    rows.loc[faceless, ["faces", "frame_width", "frame_height"]] = [0, 640, 480]
    rows.loc[faceless, "outcome"], rows.loc[faceless, "mood"] = "no_face", None
    return Log(rows, {})


@pytest.fixture
def bundle(tmp_path: Path, reference: Reference) -> Path:
    """A bundle with a champion's own reference."""
    write(reference.labelled, tmp_path / "bundle" / "reference" / REFERENCE_FILE)
    return tmp_path / "bundle"


@pytest.fixture
def rebased(bundle: Path, params: MonitoringParams) -> Rebase:
    def run(log: Log, reason: str = "a new camera") -> Reference:
        champion = Reference.load(bundle / "reference", None)
        rebase.rebase(log, champion, reason, params.rebase, bundle / "rebased")
        return Reference.load(bundle / "reference", bundle / "rebased")

    return run


def test_after_a_rebase_the_accepted_window_is_no_drift(
    bundle: Path, rebased: Rebase, params: MonitoringParams
) -> None:
    dark = window(400, seed=1, brightness=0.25)
    before = Reference.load(bundle / "reference", bundle / "rebased")
    assert verdict.reach(dark, before, params).state == "drifted"
    after = rebased(dark, "the new ward is darker")
    assert verdict.reach(dark, after, params).state == "quiet"
    assert "the new ward is darker" in after.description
    assert verdict.reach(window(400, seed=2), after, params).causes[0].name == "brighter"


def test_nothing_that_is_kept_belongs_to_a_single_picture(
    bundle: Path, rebased: Rebase, params: MonitoringParams
) -> None:
    log = without_face(window(400, seed=1), every=8)
    log.rows.loc[7, "brightness"] = 0.98765
    log.rows.loc[9, "frame_width"] = 1234
    rebased(log)
    files = {path.name: path.read_text() for path in (bundle / "rebased").iterdir()}
    assert set(files) == {DISTRIBUTIONS_FILE, RECORD_FILE}
    kept = pd.read_csv(bundle / "rebased" / DISTRIBUTIONS_FILE)
    numbers = kept[kept["kind"] != "category"].astype({"value": float})
    assert (numbers["rows"] >= params.rebase.rows_per_bin).all()
    for name, own in numbers.groupby("column"):
        values = log.rows[name].value_counts()
        shared = own.loc[own["kind"] == "shared", "value"]
        assert (values.reindex(shared) >= params.rebase.rows_per_bin).all()
        if shared.empty:
            assert log.rows[name].min() < own["value"].min()
            assert own["value"].max() < log.rows[name].max()
    assert set(kept["value"]).isdisjoint({*log.rows["request"], "0.98765", "1234", "1234.0"})
    record = json.loads(files[RECORD_FILE])
    assert all(record[name].endswith(":00Z") for name in ("first", "last")), "seconds tell when a picture was taken"


def test_a_rebased_reference_has_the_distributions_of_its_window(rebased: Rebase) -> None:
    log = without_face(window(500, seed=1), every=7)
    log.rows["probability_other"] = log.rows["probability_other"].where(log.rows.index % 2 == 0, 0.0)
    after = rebased(log).rows
    assert len(after) == len(log.rows)
    for name in comparison.CATEGORICAL:
        assert after[name].value_counts().to_dict() == log.rows[name].value_counts().to_dict()
    for name in distributions.NUMBERS:
        kept, live = (rows.loc[rows["outcome"] == "answered", name].dropna() for rows in (after, log.rows))
        assert len(kept) == len(live)
        assert ks_2samp(kept, live.astype("float32")).statistic < 0.03, name
        assert kept.mean() == pytest.approx(live.mean(), abs=0.01 * live.std())
    faceless = after[after["outcome"] == "no_face"]
    assert faceless["brightness"].isna().all()
    assert faceless["faces"].eq(0).all()


def test_a_few_frames_without_a_face_count_and_tell_nothing_else(bundle: Path, rebased: Rebase) -> None:
    log = without_face(window(300, seed=1), every=60)
    after = rebased(log).rows
    assert (after["outcome"] == "no_face").sum() == (after["faces"] == 0).sum() == 5
    kept = pd.read_csv(bundle / "rebased" / DISTRIBUTIONS_FILE)
    assert set(kept.loc[kept["outcome"] == "no_face", "column"]) == {"outcome", "faces"}


def test_a_rebased_reference_invents_no_relation_between_columns(rebased: Rebase) -> None:
    log = window(2000, seed=1)
    log.rows["contrast"] = log.rows["brightness"]
    after = rebased(log).rows
    assert abs(np.corrcoef(after["brightness"], after["contrast"])[0, 1]) < 0.1
    assert abs(np.corrcoef(after["sharpness"], after["face_share"])[0, 1]) < 0.1


def test_a_rebased_reference_is_the_same_each_time_it_is_loaded(bundle: Path, rebased: Rebase) -> None:
    first = rebased(window(300, seed=1))
    again = Reference.load(bundle / "reference", bundle / "rebased")
    pd.testing.assert_frame_equal(first.rows, again.rows)
    assert first.identity == again.identity
    assert rebased(window(300, seed=2)).identity != first.identity


def test_false_alarms_and_misses_are_those_of_the_rows_themselves(
    reference: Reference, params: MonitoringParams
) -> None:
    """Against distributions and against rows, tests come to the same verdict and nearly the same p-value."""
    for seed in range(5):
        rows, live = window(300, seed=seed).rows, window(300, seed=50 + seed, brightness=0.5 - 0.03 * seed).rows
        kept = distributions.expand(distributions.summarise(rows, params.rebase))
        exact, near = (comparison.compare(before, live, params) for before in (rows, kept))
        assert [column.drifted for column in near] == [column.drifted for column in exact]
        assert [column.shift for column in near] == pytest.approx([column.shift for column in exact], abs=0.02)
        p_values = [np.log10(np.maximum([column.score for column in columns], 1e-9)) for columns in (near, exact)]
        assert p_values[0] == pytest.approx(p_values[1], abs=1.0)


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        (window(150, seed=1), "The window has 150 rows; a reference needs 200."),
        (window(300, seed=1).rows.assign(time=pd.Timestamp(NOW)), "it would be that of one sitting"),
    ],
    ids=["few rows", "one hour"],
)
def test_a_window_of_few_pictures_or_of_one_sitting_is_refused(
    bundle: Path, rebased: Rebase, log: Log | pd.DataFrame, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        rebased(log if isinstance(log, Log) else Log(log, {}))
    assert not (bundle / "rebased").exists()


@pytest.mark.parametrize("change", [{"model_version": "8"}, {"model_digest": "b" * 64}], ids=["version", "digest"])
def test_a_new_champion_starts_from_its_own_reference_again(
    bundle: Path, rebased: Rebase, change: dict[str, str]
) -> None:
    path = bundle / "reference" / REFERENCE_FILE
    table = pd.read_parquet(path).assign(model_digest="a" * 64)
    write(table, path)
    assert rebased(window(300, seed=1)).rebased is not None
    write(table.assign(**change), path)
    assert Reference.load(bundle / "reference", bundle / "rebased").rebased is None


def test_a_reference_of_another_model_than_the_bundles_is_refused(bundle: Path) -> None:
    table = pd.read_parquet(bundle / "reference" / REFERENCE_FILE)
    write(table.assign(model_digest="a" * 64), bundle / "reference" / REFERENCE_FILE)
    (bundle / "classifier").mkdir()
    metadata = bundle / "classifier" / "metadata.json"
    metadata.write_text(json.dumps({"digest": "a" * 64}))
    assert Reference.load(bundle / "reference", None).model_digest == "a" * 64
    metadata.write_text(json.dumps({"digest": "b" * 64}))
    with pytest.raises(ValueError, match="was made for the model aaaaaaaaaaaa, but the bundle holds bbbbbbbbbbbb"):
        Reference.load(bundle / "reference", None)


def test_the_released_reference_belongs_to_the_released_champion() -> None:
    reference = Reference.load(ROOT / "bundle" / "reference", rebased=None)
    metadata = (ROOT / "bundle" / "classifier" / "metadata.json").read_text()
    assert f'"version": "{reference.model_version}"' in metadata
    assert (ROOT / "bundle" / "reference" / REFERENCE_FILE).stat().st_size < 300_000


def test_a_rebased_reference_with_a_row_for_each_picture_must_be_made_anew(bundle: Path, rebased: Rebase) -> None:
    rebased(window(300, seed=1))
    write(window(300, seed=1).rows, bundle / "rebased" / REFERENCE_FILE)
    with pytest.raises(ValueError, match=r"keeps a row of every live picture.*Rebase again, or .* --undo"):
        Reference.load(bundle / "reference", bundle / "rebased")
    assert rebased(window(300, seed=1)).rebased is not None
    assert not (bundle / "rebased" / REFERENCE_FILE).exists()


def test_a_reference_says_what_it_is(bundle: Path, rebased: Rebase) -> None:
    assert Reference.load(bundle / "reference", None).name == "the reference photos"
    after = rebased(window(300, seed=1))
    assert after.name == "your rebased window"
    assert after.rebased is not None
    assert (after.rebased.rows, after.rebased.model_version) == (300, "7")


def test_what_is_recorded_of_a_verdict_names_its_reference(
    bundle: Path, rebased: Rebase, params: MonitoringParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags: list[str] = []
    monkeypatch.setattr(tracking, "log", lambda *arguments: tags.append(arguments[3]["drift_reference"]))
    log = window(300, seed=1)
    for reference in (Reference.load(bundle / "reference", None), rebased(log)):
        drift.record(verdict.reach(log, reference, params), params)
    assert tags[0] == "1,000 labelled photos"
    assert tags[1].startswith("300 live predictions from ")


def test_a_rebase_ends_where_until_says(checkout: Path, write_log: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "log", lambda *_: None)  # a new MLflow store takes ten seconds
    version = Reference.load().model_version
    rows = predictions(600, seed=1, version=version)
    for row in rows[300:]:
        row["brightness"] = 0.1
    end = (NOW - timedelta(minutes=300.5)).isoformat()
    arguments = ["--log", str(write_log(*rows)), "--until", end, "--reason", "before the light failed"]
    result = CliRunner().invoke(rebase.app, arguments)
    assert result.exit_code == 0, result.output
    assert "no row of them is kept" in result.stdout
    after = Reference.load()
    assert after.rebased is not None
    assert after.rebased.rows == 300
    assert after.rows["brightness"].median() > 0.4


def test_the_guide_says_what_is_kept_of_a_rebase() -> None:
    text = " ".join((ROOT / "docs" / "operate" / "privacy.md").read_text().split())
    assert "bundle/rebased" in text
    assert "no row" in text


def test_a_window_of_few_people_is_refused_however_many_frames_it_has(
    bundle: Path, rebased: Rebase, params: MonitoringParams
) -> None:
    log = window(400, seed=1)
    log.rows["session"] = [f"{index // 50}" for index in range(400)]
    with pytest.raises(ValueError, match="weigh as 8 people; a reference needs 10"):
        rebased(log)
    assert not (bundle / "rebased").exists()


def test_a_rebased_reference_keeps_how_large_its_sessions_were_and_no_session(bundle: Path, rebased: Rebase) -> None:
    log = window(400, seed=1)
    log.rows["session"] = [f"session {index // 20}" for index in range(400)]
    after = rebased(log)
    assert after.rebased is not None
    assert after.rebased.session_rows == 20
    assert after.rows.index.nunique() == 20
    assert all("session 1" not in path.read_text() for path in (bundle / "rebased").iterdir())


def test_people_whose_frames_became_the_reference_make_no_alarm_of_other_people(
    bundle: Path, rebased: Rebase, params: MonitoringParams
) -> None:
    def clinic(people: int, frames: int, seed: int) -> Log:
        rows = [row for row in predictions(people, seed) for _ in range(frames)]
        times = [row["time"] for row in predictions(people * frames, seed)]
        return as_log(pd.DataFrame(in_sessions(rows, frames)).assign(time=times).round(5))

    reference = rebased(clinic(15, 60, seed=1))
    for seed in range(2, 8):
        assert verdict.reach(clinic(100, 2, seed), reference, params).state == "quiet"


def test_a_record_of_before_sessions_is_read(bundle: Path, rebased: Rebase) -> None:
    rebased(window(300, seed=1))
    path = bundle / "rebased" / RECORD_FILE
    record = json.loads(path.read_text())
    del record["session_rows"]
    path.write_text(json.dumps(record))
    loaded = Reference.load(bundle / "reference", bundle / "rebased")
    assert loaded.rebased is not None
    assert loaded.rebased.session_rows is None
    assert loaded.rows.index.isna().all()
