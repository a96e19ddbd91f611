"""`service.session.exports`, `report` and `baseline`: a session as files and as text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from service.errors import InvalidImageError
from service.schema import FramesResponse
from service.session import baseline, report
from service.session.comparison import compare
from service.session.exports import COLUMNS, document, table
from service.session.recording import Recording
from tests.support.sessions import MODEL, estimate, recording

STAY = 5.0


@pytest.fixture
def session() -> Recording:
    """A session of four frames."""
    return recording(
        [
            (0.0, estimate([0.91, 0.03, 0.05, 0.01], own=[0.2, 0.5, 0.2, 0.1])),
            (0.5, None),
            (1.0, InvalidImageError("The image has no bytes.")),
            (1.5, estimate([0.1, 0.7, 0.1, 0.1], reliable=False)),
        ]
    )


def test_the_document_is_a_response_of_the_endpoint(session: Recording) -> None:
    answer = FramesResponse.model_validate(document(session))
    assert [frame.status for frame in answer.frames] == [200, 422, 400, 200]
    assert answer.summary == session.summary
    assert answer.session == session.state


def test_a_frame_has_its_own_estimate_beside_what_the_session_says(session: Recording) -> None:
    first, second, *_ = document(session)["frames"]
    assert (first["mood"], first["estimate"]["mood"]) == ("positive", "negative")
    assert first["probabilities"]["positive"] == 0.91
    assert first["estimate"]["probabilities"]["positive"] == 0.2
    assert first["estimate"]["model"] == {"name": MODEL.name, "version": MODEL.version, "digest": MODEL.digest}
    assert second["problem"]["code"] == "no_face"


def test_the_same_session_makes_the_same_files(session: Recording) -> None:
    assert document(session) == document(session)
    assert "request" not in json.dumps(document(session))


def test_the_table_has_one_row_for_each_frame(session: Recording) -> None:
    rows = list(csv.DictReader(io.StringIO(table(session))))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["frame"], row["time"], row["status"], row["code"]) for row in rows] == [
        ("1", "0.0", "200", "ok"),
        ("2", "0.5", "422", "no_face"),
        ("3", "1.0", "400", "invalid_image"),
        ("4", "1.5", "200", "ok"),
    ]
    assert (rows[0]["mood"], rows[0]["positive"], rows[0]["own_mood"]) == ("positive", "0.91", "negative")
    assert (rows[3]["reliable"], rows[3]["reasons"], rows[3]["roll"]) == ("false", "blurred small", "")
    assert {value for name, value in rows[1].items() if name not in {"frame", "time", "status", "code"}} == {""}


def test_the_text_tells_shares_balance_and_differences(session: Recording) -> None:
    lines = report.text(session, compare(session.summary, session.summary, stay_seconds=STAY)).splitlines()
    assert lines[0] == "0:02 min, 4 frames, 2 with an answer, 25 % reliable"
    assert "  positive   50 %  0:00 min" in lines
    assert sum(line.endswith("may be chance") for line in lines) == 5


def test_what_the_json_file_holds_can_be_a_baseline(tmp_path: Path, session: Recording) -> None:
    file = tmp_path / "session.json"
    file.write_text(json.dumps(document(session)))
    assert baseline.read(file) == baseline.Baseline(session.summary, MODEL.digest)


def test_a_summary_alone_can_be_a_baseline(tmp_path: Path, session: Recording) -> None:
    file = tmp_path / "summary.json"
    file.write_text(session.summary.model_dump_json())
    assert baseline.read(file) == baseline.Baseline(session.summary, None)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'"text"', b'{"summary": 1}', b"\xff\xfe", b"[" * 100_000])
def test_another_file_is_no_baseline(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(baseline.BaselineError, match="is no session"):
        baseline.read(tmp_path / "other.json")


def test_a_session_without_a_face_is_no_baseline(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text(json.dumps(document(recording([(0.0, None)]))))
    with pytest.raises(baseline.BaselineError, match="no frame with a face"):
        baseline.read(tmp_path / "empty.json")
