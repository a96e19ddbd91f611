"""Files of late labels as people and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring import labels

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def table(*rows: tuple[str, ...]) -> pd.DataFrame:
    """Rows of a file: request, mood, and if given rater, time and person."""
    frame = pd.DataFrame([(*row, *[""] * (5 - len(row))) for row in rows], columns=list(labels.COLUMNS))
    return frame.assign(time=pd.to_datetime(frame["time"], utc=True))


def moods(rows: pd.DataFrame) -> dict[str, str]:
    """The mood that counts, by request."""
    return dict(labels.agree(rows).rows[["request", "label"]].to_numpy())


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        (b"request,mood,rater\nab1,positive,J\xc3\xbcrgen\ncd2,other,\n", None),
        (b"\xef\xbb\xbfrequest;mood;rater\r\nab1;positive;J\xc3\xbcrgen\r\ncd2;other;\r\n", "separated by semicolons"),
        ("request\tmood\trater\r\nab1\tpositive\tJürgen\r\ncd2\tother\t\r\n".encode("utf-16"), "separated by tabs"),
        (b"request,mood,rater\nab1,positive,J\xfcrgen\ncd2,other,\n", "read as Windows-1252"),
        (b"sep=;\r\nrequest;mood;rater\r\nab1;positive;J\xc3\xbcrgen\r\n\r\ncd2;other\r\n", "separated by semicolons"),
        (b'\n"X-Request-Id", Mood ,Rater,note\n" ab1 ",Positive,J\xc3\xbcrgen,\ncd2,OTHER,,"a, b"\n', None),
        (b"request,mood,rater\nab1,positive,J\xc3\xbcrgen\ncd2,other,,surplus\n", "1 row of labels.csv have more"),
    ],
    ids=["plain", "Excel, semicolons", "Excel, Unicode text", "Windows-1252", "sep=", "other columns", "surplus"],
)
def test_a_csv_file_is_read_whatever_wrote_it(tmp_path: Path, data: bytes, remark: str | None) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    file = labels.read(path)
    assert file.rows[["request", "mood", "rater"]].to_numpy().tolist() == [
        ["ab1", "positive", "Jürgen"],
        ["cd2", "other", ""],
    ]
    assert (remark in " ".join(file.remarks)) if remark else not file.remarks


def test_a_parquet_file_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    pd.DataFrame(
        {"mood": pd.Categorical(["positive", None]), "request": ["ab1", "cd2"], "time": [pd.Timestamp(NOON), None]}
    ).to_parquet(path)
    file = labels.read(path)
    assert file.rows[["request", "mood", "time"]].to_numpy().tolist() == [["ab1", "positive", pd.Timestamp(NOON)]]
    assert "1 of the 2 rows of labels were skipped: 1 without a mood." in file.remarks[0]


def test_rows_that_are_no_labels_are_counted_by_reason_and_the_others_are_used(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    lines = ["request,mood,time", "a,happy,", "b,happy,", "c,Sad,", "d,,", ",other,", "e,other,yesterday", "e,neutral,"]
    path.write_text("\n".join(lines))
    file = labels.read(path)
    assert file.remarks == [
        "5 of the 7 rows of labels.csv were skipped: 1 without a request id, 1 without a mood, 3 with an unknown mood "
        "('happy' 2, 'Sad' 1). The moods are positive, negative, neutral and other.",
        "The time of 1 row of labels.csv is not ISO 8601 (2026-11-24T14:30:00+01:00); the time of this import counts.",
        "1 row of labels.csv label a request again; the newest label of each rater counts.",
    ]
    assert moods(labels.add(file.rows, tmp_path / "kept.csv", NOON)) == {"e": "neutral"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b"request\na\n", "no column mood; it needs request and mood. Its header has request."),
        (b"id,label\na,positive\n", "no column request and mood"),
        (b"request,mood,mood\na,other,other\n", "has the column mood more than once"),
        (b"request,mood\n", "a header and no rows"),
        (b"request,mood\na,happy\n", "1 of the 1 row of labels.csv were skipped"),
        (b"PK\x03\x04", "Save the sheet as CSV"),
        (b"PAR1 and no more", "damaged Parquet file"),
        (b"a\0b", "neither CSV text nor Parquet"),
        (b"\xff\xfea", "is damaged"),
        (b'request,mood\na,"' + b"x" * 200_000, "is not CSV"),
    ],
)
def test_a_file_without_labels_is_rejected_with_the_reason(tmp_path: Path, data: bytes, complaint: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"labels\.csv") as error:
        labels.read(path)
    assert complaint in str(error.value)


@given(
    st.binary(max_size=80), st.sampled_from([b"", b"request,mood\n", b"request;mood\na;other\n", b"PAR1", b"\xff\xfe"])
)
def test_no_file_fails_otherwise_than_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.csv"
    path.write_bytes(start + data)
    try:
        reason, requests = "", labels.read(path).rows["request"].tolist()
    except ValueError as error:
        reason, requests = str(error), []
    assert path.name in reason or all(requests)
    assert reason or requests


def test_a_newer_label_of_a_rater_replaces_the_older_one_whichever_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "live" / "labels.csv"
    labels.write(labels.add(table(("a", "positive"), ("b", "other")), path, NOON), path)
    labels.write(labels.add(table(("a", "negative")), path, NOON), path)
    assert moods(labels.read(path).rows) == {"b": "other", "a": "negative"}
    earlier = table(("a", "neutral", "", "2026-11-20T08:00:00+01:00"))
    assert moods(labels.add(earlier, path, NOON)) == {"b": "other", "a": "negative"}


def test_labels_that_an_older_version_kept_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("request,mood\na,positive\nb,other\n")
    assert moods(labels.add(table(("a", "negative")), path, NOON)) == {"b": "other", "a": "negative"}


def test_of_several_raters_the_majority_counts_and_without_one_the_request_is_left_out() -> None:
    agreed = labels.agree(
        table(
            *(("a", "positive", rater) for rater in "xy"),
            ("a", "neutral", "z"),
            ("b", "positive", "x"),
            ("b", "neutral", "y"),
            *(("c", "other", rater) for rater in "xy"),
            ("d", "negative", "x", "", "17"),
        )
    )
    assert agreed.rows.to_numpy().tolist() == [["a", "positive", ""], ["c", "other", ""], ["d", "negative", "17"]]
    assert (agreed.raters, agreed.repeated, agreed.unanimous, agreed.undecided) == (3, 3, 1, 1)
