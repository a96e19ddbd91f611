"""Late labels: a file of moods by request, as a clinician or an app writes it, and the labels that are kept.

A file is CSV or Parquet with the columns `request` and `mood`, and, if known, `rater` (who labelled), `time` (when, ISO
8601) and `person` (who is in the picture; a code, no name). A rater's newest label of a request replaces the rater's
older ones. If several raters labelled a request, the mood that most of them gave counts; without such a mood the
request is left out.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from service.moods import MOODS
from service.request_id import HEADER

LABELS_FILE: Final = "labels.csv"
REQUIRED: Final = ("request", "mood")
OPTIONAL: Final = ("rater", "time", "person")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SEPARATOR_LINE: Final = "sep="  # Excel's hint, in the line above the header
_BYTE_ORDER_MARKS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_EXAMPLES: Final = 5


@dataclass(frozen=True)
class LabelFile:
    """The content of a file of labels.

    Attributes:
        rows: Usable rows in the order of the file, with `COLUMNS` as strings; `time` as timestamps in UTC, NaT if the
            file does not say it. What is not known is an empty string.
        remarks: One sentence for each peculiarity of the file, with counts.
    """

    rows: pd.DataFrame
    remarks: list[str] = field(default_factory=list)


def read(path: Path) -> LabelFile:
    """Labels from a CSV file (separated by commas, semicolons, tabs or vertical bars; UTF-8, UTF-16 with a byte order
    mark, or Windows-1252) or a Parquet file. Rows that are no labels are left out and counted.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is neither CSV nor Parquet, a column is missing, or no row is a label.
    """
    data = path.read_bytes()
    remarks: list[str] = []
    if data.startswith(b"PAR1"):
        table = _read_parquet(data, path)
    elif data.startswith(b"PK"):
        raise ValueError(f"{path} is a workbook or an archive. Save the sheet as CSV, or write Parquet.")
    else:
        table = _read_csv(_decode(data, path, remarks), path, remarks)
    return LabelFile(_usable(table, path, remarks), remarks)


def add(new: pd.DataFrame, path: Path, now: datetime) -> pd.DataFrame:
    """The kept labels with new ones; nothing is written.

    Args:
        new: Rows of a `LabelFile`.
        path: File of the kept labels, which need not exist.
        now: Time of the labels that do not say theirs.

    Returns:
        One row per request and rater with `COLUMNS`, oldest first.

    Raises:
        ValueError: The kept file is damaged.
    """
    tables = [new.fillna({"time": now})]
    if path.exists():
        tables.insert(0, read(path).rows.fillna({"time": datetime.fromtimestamp(0, UTC)}))
    # The sort is stable: of two labels with the same time the one that came later wins.
    together = pd.concat(tables).sort_values("time", kind="stable")
    return together.drop_duplicates(["request", "rater"], keep="last").reset_index(drop=True)


def write(labels: pd.DataFrame, path: Path) -> None:
    """Replace the file of the kept labels as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    labels.to_csv(partial, index=False, lineterminator="\n")
    partial.replace(path)


@dataclass(frozen=True)
class Agreed:
    """One mood per request.

    Attributes:
        rows: `request`, `label` and `person`, one row per request on whose mood the raters agree; strings.
        raters: Number of raters that have names.
        repeated: Number of requests that several raters labelled.
        unanimous: Number of these with one mood from all raters.
        undecided: Number of these without a mood that most raters gave; `rows` lacks them.
    """

    rows: pd.DataFrame
    raters: int
    repeated: int
    unanimous: int
    undecided: int


def agree(labels: pd.DataFrame) -> Agreed:
    """The mood of each request that most of its raters gave.

    Args:
        labels: Labels with `COLUMNS`, several per request if several raters labelled it; see `add`.
    """
    votes = labels.groupby(["request", "mood"], sort=False).size()
    most = votes.groupby("request", sort=False).transform("max")
    leading = votes[votes == most].reset_index()[["request", "mood"]]
    decided = leading[~leading["request"].duplicated(keep=False)]
    persons = labels[labels["person"] != ""].groupby("request")["person"].last()
    raters = labels.groupby("request").size()
    repeated = raters.index[raters > 1]
    moods = labels.groupby("request")["mood"].nunique()
    return Agreed(
        rows=pd.DataFrame(
            {
                "request": decided["request"],
                "label": decided["mood"],
                "person": decided["request"].map(persons).fillna("").astype(str),
            }
        ).reset_index(drop=True),
        raters=int(labels.loc[labels["rater"] != "", "rater"].nunique()),
        repeated=len(repeated),
        unanimous=int((moods[repeated] == 1).sum()),
        undecided=int(leading["request"].nunique() - len(decided)),
    )


def _decode(data: bytes, path: Path, remarks: list[str]) -> str:
    """The text of a CSV file."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                raise ValueError(f"{path} begins as {encoding.upper()} text and is damaged.") from None
    if b"\0" in data:
        raise ValueError(f"{path} is neither CSV text nor Parquet.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        remarks.append(f"{path.name} is not UTF-8 and was read as Windows-1252.")
        return data.decode("cp1252", errors="replace")


def _read_csv(text: str, path: Path, remarks: list[str]) -> pd.DataFrame:
    """The rows of a CSV file as strings."""
    lines = text.lstrip("\r\n")
    if lines.lower().startswith(_SEPARATOR_LINE):
        lines = lines.partition("\n")[2]
    if not lines.strip():
        raise ValueError(f"{path} is empty; a file of labels has the columns {_listed(REQUIRED)}.")
    header = lines.partition("\n")[0].rstrip("\r")
    separator = max(_SEPARATORS, key=header.count)
    if separator != ",":
        remarks.append(f"{path.name} is separated by {_SEPARATORS[separator]}.")
    try:
        names, *records = csv.reader(io.StringIO(lines, newline=""), delimiter=separator)
    except csv.Error as error:
        raise ValueError(f"{path} is not CSV: {error}.") from None
    records = [record for record in records if any(record)]
    wrong = sum(len(record) > len(names) for record in records)
    if wrong:
        remarks.append(f"{_rows(wrong)} of {path.name} have more fields than the header; the surplus was ignored.")
    padded = [(record + [""] * len(names))[: len(names)] for record in records]
    return pd.DataFrame(padded, columns=names, dtype=str)


def _read_parquet(data: bytes, path: Path) -> pd.DataFrame:
    """The rows of a Parquet file."""
    try:
        return pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is a damaged Parquet file: {error}") from None


def _usable(table: pd.DataFrame, path: Path, remarks: list[str]) -> pd.DataFrame:
    """The rows that are labels, cleaned, with `COLUMNS`; the others go into the remarks."""
    found = [str(name).strip() for name in table.columns]
    lower = [name.lower() for name in found]
    lower = ["request" if name == HEADER.lower() else name for name in lower]
    if missing := [name for name in REQUIRED if name not in lower]:
        raise ValueError(
            f"{path} has no column {_listed(missing)}; it needs {_listed(REQUIRED)}. Its header has {_listed(found)}."
        )
    if twice := [name for name in COLUMNS if lower.count(name) > 1]:
        raise ValueError(f"{path} has the column {_listed(twice)} more than once.")
    table = table.set_axis(lower, axis=1)
    rows = pd.DataFrame({name: _strings(table[name]) if name in lower else "" for name in COLUMNS}, dtype=str)
    rows["mood"] = rows["mood"].str.lower()

    without_id, without_mood = rows["request"] == "", rows["mood"] == ""
    unknown = ~rows["mood"].isin(MOODS) & ~without_mood
    reasons = {
        "without a request id": without_id,
        "without a mood": without_mood & ~without_id,
        f"with an unknown mood ({_examples(table['mood'][unknown & ~without_id])})": unknown & ~without_id,
    }
    bad = without_id | without_mood | unknown
    if bad.any():
        counted = ", ".join(f"{int(which.sum()):,} {reason}" for reason, which in reasons.items() if which.any())
        remarks.append(
            f"{int(bad.sum()):,} of the {_rows(len(rows))} of {path.name} were skipped: {counted}. "
            f"The moods are {_listed(MOODS)}."
        )
    rows = rows[~bad]
    if rows.empty:
        raise ValueError(" ".join(remarks) if bad.any() else f"{path} has a header and no rows.")
    times = pd.to_datetime(rows["time"], format="ISO8601", errors="coerce", utc=True)
    if unreadable := int((times.isna() & (rows["time"] != "")).sum()):
        remarks.append(
            f"The time of {_rows(unreadable)} of {path.name} is not ISO 8601 (2026-11-24T14:30:00+01:00); "
            "the time of this import counts."
        )
    rows = rows.assign(time=times)
    again = rows.duplicated(["request", "rater"])
    if again.any():
        remarks.append(
            f"{_rows(int(again.sum()))} of {path.name} label a request again; the newest label of each rater counts."
        )
    return rows.reset_index(drop=True)


def _strings(values: pd.Series) -> pd.Series:
    """Values as strings without space around them; empty if missing."""
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()


def _examples(values: pd.Series) -> str:
    """The most frequent values with their counts."""
    counts = Counter(_strings(values).tolist()).most_common()
    named = [f"{value!r} {count:,}" for value, count in counts[:_EXAMPLES]]
    rest = len(counts) - _EXAMPLES
    return ", ".join([*named, *([f"{rest} others"] if rest > 0 else [])])


def _rows(count: int) -> str:
    """A number of rows in words."""
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _listed(names: Iterable[str]) -> str:
    """Names in a phrase."""
    *first, last = [*names] or ["nothing"]
    return f"{', '.join(first)} and {last}" if first else last
