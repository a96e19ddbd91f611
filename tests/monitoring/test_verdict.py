from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from monitoring import comparison, log, report, verdict
from monitoring.log import Log
from monitoring.params import MonitoringParams
from monitoring.reference import REFERENCE_FILE, Reference, write
from monitoring.verdict import Verdict
from tests.support.predictions import NOW, TOLERANCE, Write, as_log, in_sessions, predictions, rebase_record


def judge(path: Path, reference: Reference, params: MonitoringParams) -> Verdict:
    return verdict.reach(log.read(path, now=NOW, tolerance=TOLERANCE), reference, params)


def test_predictions_like_the_reference_are_no_drift(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(400, seed=1)), reference, params)
    assert found.state == "quiet"
    assert found.as_json()["exit_code"] == 0


def test_darker_images_are_named_with_the_time_of_the_change(write_log: Write, reference, params) -> None:
    rows = predictions(600, seed=1)
    for row, dark in zip(rows[400:], predictions(200, seed=2, brightness=0.2), strict=True):
        row["brightness"] = dark["brightness"]
    found = judge(write_log(*rows), reference, params)
    assert found.state == "drifted"
    assert found.causes[0].name == "darker"
    assert found.headline == "Drifted against the reference photos: darker faces"
    assert found.since is not None
    assert abs(found.since - (NOW - timedelta(minutes=200))) < timedelta(minutes=10)
    assert not found.before_window


def test_drift_that_fills_the_window_may_have_begun_earlier(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(300, seed=1, brightness=0.2)), reference, params)
    assert found.before_window
    assert found.onset is not None
    assert "or earlier" in found.onset


def test_too_few_rows_give_no_verdict(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(params.min_rows - 1, seed=1, brightness=0.1)), reference, params)
    assert found.state == "unknown"
    assert found.as_json()["exit_code"] == 2


def test_more_frames_without_a_face_are_drift_and_fewer_are_not(reference, params) -> None:
    rows = pd.DataFrame(predictions(500, seed=1)).assign(time=pd.Timestamp(NOW))
    faceless = rows.copy()
    faceless.loc[::4, list(comparison.NUMERICAL[:-2])] = np.nan
    faceless.loc[::4, "outcome"], faceless.loc[::4, "mood"] = "no_face", None
    found = verdict.reach(Log(faceless, {}), reference, params)
    assert [cause.name for cause in found.causes] == ["no_face"]
    swapped = Reference("7", faceless, reference.labelled, None)
    assert verdict.reach(Log(rows, {}), swapped, params).state == "quiet"


def another_camera(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a camera that differs from that of the reference photos in what it always does."""
    return rows.assign(
        frame_width=1280,
        frame_height=720,
        face_share=rows["face_share"] - 0.2,
        warmth=rows["warmth"] + 0.4,
        colourfulness=rows["colourfulness"] + 30,
    )


def darken(rows: pd.DataFrame, dark: slice) -> pd.DataFrame:
    """Rows of which some are dark, which lowers their contrast a little."""
    rows = rows.copy()
    rows.loc[dark, "brightness"] -= 0.3
    rows.loc[dark, "contrast"] -= 0.02
    return rows


def test_the_camera_hides_no_dark_hours(reference, params) -> None:
    rows = darken(another_camera(pd.DataFrame(predictions(600, seed=1))), slice(400, None))
    found = verdict.reach(as_log(rows), reference, params)
    assert found.headline.startswith("Drifted against the reference photos: darker faces, larger frames")
    assert found.since is not None
    assert abs(found.since - (NOW - timedelta(minutes=200))) < timedelta(minutes=10)
    onsets = {cause.name: cause.before_window for cause in found.causes}
    assert onsets["darker"] is False
    assert onsets["higher_resolution"] is True
    assert "flatter" not in onsets


def test_the_camera_hides_no_dark_place_that_is_used_all_day(reference, params) -> None:
    rows = darken(another_camera(pd.DataFrame(predictions(600, seed=1))), slice(0, None, 3))
    found = verdict.reach(as_log(rows), reference, params)
    assert {"darker", "higher_resolution"} <= {cause.name for cause in found.causes}


def test_the_camera_hides_no_other_moods_that_begin_at_noon(reference, params) -> None:
    rows = another_camera(pd.DataFrame(predictions(600, seed=1)))
    other = pd.DataFrame(predictions(1500, seed=2)).query("mood == 'positive'").head(300)
    moods = [name for name in rows if name.startswith("probability_") or name in ("mood", "confidence", "entropy")]
    rows.loc[300:, moods] = other[moods].to_numpy()
    found = verdict.reach(as_log(rows), reference, params)
    assert found.causes[0].name == "mood_mix"
    assert "higher_resolution" in {cause.name for cause in found.causes}


def test_frames_of_another_shape_hide_no_dark_faces(reference, params) -> None:
    rows = pd.DataFrame(predictions(300, seed=1, brightness=0.25)).assign(frame_width=480)
    found = verdict.reach(as_log(rows), reference, params)
    assert {cause.name for cause in found.causes} == {"darker", "other_shape"}


def test_a_side_effect_of_darkness_is_no_cause(reference, params) -> None:
    rows = darken(pd.DataFrame(predictions(400, seed=1)), slice(0, None))
    found = verdict.reach(as_log(rows), reference, params)
    assert next(column for column in found.columns if column.column == "contrast").drifted
    assert [cause.name for cause in found.causes] == ["darker"]


def test_words_say_what_the_window_was_compared_with(write_log: Write, reference, params) -> None:
    path = write_log(*predictions(300, seed=1, brightness=0.2))
    rebased = replace(reference, rebased=rebase_record())
    for used, name, other in (
        (reference, "the reference photos", "your rebased window"),
        (rebased, "your rebased window", "the reference photos"),
    ):
        found = judge(path, used, params)
        rows = log.read(path, now=NOW, tolerance=TOLERANCE).rows
        said = [
            found.headline,
            found.causes[0].explanation,
            json.dumps(found.as_json()),
            report.render(found, rows, used.rows, None),
        ]
        assert all(name in text and other not in text for text in said)


def test_a_quiet_and_a_drifted_verdict_are_valid_json(write_log: Write, reference, params) -> None:
    for brightness in (0.5, 0.2):
        found = judge(write_log(*predictions(300, seed=1, brightness=brightness)), reference, params)
        assert json.loads(json.dumps(found.as_json(), allow_nan=False))["headline"] == found.headline


def test_turned_heads_are_named_with_their_side(reference, params) -> None:
    rows = pd.DataFrame(predictions(400, seed=1)).assign(time=pd.Timestamp(NOW))
    found = verdict.reach(Log(rows.assign(yaw=rows["yaw"] + 12), {}), reference, params)
    assert found.state == "drifted"
    assert (found.causes[0].name, found.causes[0].title) == ("turned", "Heads turned to the image's right")


def test_fewer_reliable_answers_are_named_if_nothing_else_has_changed(reference, params) -> None:
    rows = pd.DataFrame(predictions(400, seed=1)).assign(time=pd.Timestamp(NOW))
    rows.loc[::3, "reliability"] = "covered"
    found = verdict.reach(Log(rows, {}), reference, params)
    assert [cause.name for cause in found.causes] == ["reliability"]
    assert found.causes[0].title == "Fewer answers can be trusted"


def test_a_reference_of_before_the_columns_of_quality_is_compared_by_the_others(
    reference, params, tmp_path: Path
) -> None:
    old = reference.rows.drop(columns=["reliability", "yaw", "roll"])
    write(old, tmp_path / REFERENCE_FILE)
    loaded = Reference.load(tmp_path, rebased=None)
    rows = pd.DataFrame(predictions(400, seed=1)).assign(time=pd.Timestamp(NOW))
    found = verdict.reach(Log(rows, {}), loaded, params)
    assert found.state == "quiet"
    assert not {"reliability", "yaw", "roll"} & {column.column for column in found.columns}


def sessions_of_one_face(people: int, frames: int, seed: int, **changes: float) -> list[dict[str, Any]]:
    """Rows of sessions, all frames of each alike."""
    faces = predictions(people, seed, **changes)
    rows = predictions(people * frames, seed)
    own = ("time", "request")
    return in_sessions(
        [{**faces[index // frames], **{name: row[name] for name in own}} for index, row in enumerate(rows)], frames
    )


def test_a_morning_of_few_people_is_too_few_to_tell_instead_of_an_alarm(write_log: Write, reference, params) -> None:
    rows = sessions_of_one_face(params.min_people - 1, 40, seed=1, brightness=0.2)
    found = judge(write_log(*rows), reference, params)
    assert (found.state, found.headline, found.as_json()["exit_code"]) == ("unknown", "Cannot tell", 2)
    assert found.reason is not None
    assert found.reason.startswith("Too few people to tell: by its 9 sessions the window weighs as 9")
    assert found.columns == found.causes == []
    rows = log.read(params.log, now=NOW, tolerance=TOLERANCE).rows
    assert found.reason in report.render(found, rows, reference.rows, None)
    many = judge(write_log(*sessions_of_one_face(40, 40, seed=1, brightness=0.2)), reference, params)
    assert (many.state, many.reason, many.causes[0].name) == ("drifted", None, "darker")


def test_one_long_session_beside_short_ones_is_too_few_people(write_log: Write, reference, params) -> None:
    rows = predictions(1120, seed=1, brightness=0.2)
    long, short = in_sessions(rows[:1000], 1000), in_sessions(rows[1000:], 10)
    found = judge(
        write_log(*long, *({**row, "session": f"short {row['session']}"} for row in short)), reference, params
    )
    assert (found.state, found.sessions) == ("unknown", 13)
    assert found.people == pytest.approx(1120**2 / (1000**2 + 12 * 10**2))


def test_the_number_of_people_is_not_known_of_a_log_without_sessions(write_log: Write, reference, params) -> None:
    found = judge(write_log(*predictions(300, seed=1, brightness=0.2)), reference, params)
    assert (found.state, found.sessions, found.people) == ("drifted", 0, None)


def test_a_verdict_says_how_many_rows_its_columns_are_counted_as(write_log: Write, reference, params) -> None:
    path = write_log(*sessions_of_one_face(50, 40, seed=1))
    found = judge(path, reference, params)
    assert (found.state, found.rows, found.sessions, found.people) == ("quiet", 2000, 50, 50)
    brightness = next(column for column in found.columns if column.column == "brightness")
    assert 35 < brightness.counted <= 50
    assert brightness.design_effect == 2000 / brightness.counted
    assert found.as_json()["columns"][0]["counted"] == found.columns[0].counted
    rows = log.read(path, now=NOW, tolerance=TOLERANCE).rows
    page = " ".join(report.render(found, rows, reference.rows, None).split())
    assert "2,000 predictions (50 sessions) from" in page
    assert "by how alike the rows of each of the 50 sessions are. Design effects: 40.0 to " in page


def test_a_change_within_sessions_is_dated(write_log: Write, reference, params) -> None:
    rows = in_sessions(predictions(1200, seed=1), 40)
    for row in rows[820:]:
        row["brightness"] -= 0.3
    found = judge(write_log(*rows), reference, params)
    assert found.causes[0].name == "darker"
    assert found.since is not None
    assert abs(found.since - (NOW - timedelta(minutes=380))) < timedelta(minutes=15)
    assert not found.before_window
