"""Parses the files of the prediction log into Arrow tables, block by block. Bad lines are counted by reason.

A block that parses costs three microseconds a row. A block with a damaged line is halved until only that line is left.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from service.moods import MOODS
from service.observation import COLUMNS, PROBABILITIES, Observation, Outcome

INVALID_JSON: Final = "invalid JSON"
WRONG_SCHEMA: Final = "wrong schema"
DAMAGED_FILE: Final = "damaged file"

_BLOCK: Final = 1 << 22  # bytes that are read at once; also the length from which a line is cut off
_PARSED: Final = 1 << 20  # bytes that Arrow gives to one thread
_HINTS: Final = get_type_hints(Observation)


def _type(name: str) -> pa.DataType:
    """Arrow type in which a column is parsed."""
    kinds = set(get_args(_HINTS[name]) or (_HINTS[name],))
    return pa.float64() if float in kinds else pa.int64() if int in kinds else pa.string()


_SCHEMA: Final = pa.schema([(name, _type(name)) for name in COLUMNS])
TEXTS: Final = tuple(name for name in COLUMNS if _SCHEMA.field(name).type == pa.string())
NUMBERS: Final = tuple(name for name in COLUMNS if name not in TEXTS)
_REQUIRED: Final = tuple(name for name in COLUMNS if NoneType not in get_args(_HINTS[name]))

_TIME: Final = pa.timestamp("ns", "UTC")
TABLE: Final = pa.schema(
    [(name, _TIME if name == "time" else pa.float32() if name in NUMBERS else pa.string()) for name in COLUMNS]
)
"""Schema of the tables of `read_blocks`."""


def read_blocks(file: Path, bad: Counter[str]) -> Iterator[pa.Table]:
    """The valid rows of a file, in its order, as tables of the schema `TABLE`.

    A row is valid if it has the columns of `service.observation.Observation` with values of their types, a time with a
    time zone and, if a mood was answered, a mood of `MOODS` with all probabilities. A column that may be null may also
    be absent.

    Args:
        file: File of JSON lines; `.gz` is unpacked.
        bad: Counter of skipped lines by reason; grows.
    """
    for text in _texts(file, bad):
        for table in _parse(text, bad):
            valid = _valid(table)
            if skipped := len(table) - int(valid.sum()):
                bad[WRONG_SCHEMA] += skipped
                table = table.filter(pa.array(valid))
            yield table


def _texts(file: Path, bad: Counter[str]) -> Iterator[bytes]:
    """The content of a file as blocks of whole lines."""
    rest, more = b"", True
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        while more:
            data = bytearray()
            try:
                while len(data) < _BLOCK and (part := stream.read1(_BLOCK)):
                    data += part
                more = bool(data)
            except (EOFError, gzip.BadGzipFile, zlib.error):  # compressed, and cut off or damaged
                bad[DAMAGED_FILE] += 1
                more = False
            head, newline, tail = bytes(data).rpartition(b"\n")
            if newline:
                yield rest + head
            rest = tail if newline else (rest + tail)[:_BLOCK]  # what is longer is no row, whatever follows
    if rest:
        yield rest


def _parse(text: bytes, bad: Counter[str]) -> Iterator[pa.Table]:
    """Tables of the lines that have the columns' types."""
    table = _as_table(text)
    if table is not None:
        yield table
        return
    lines = _lines(text)
    if len(lines) == 1:
        bad[_reason(lines[0])] += 1
    elif lines:
        middle = len(lines) // 2
        yield from _parse(b"\n".join(lines[:middle]), bad)
        yield from _parse(b"\n".join(lines[middle:]), bad)


def _as_table(text: bytes) -> pa.Table | None:
    """Lines as a table of the schema `TABLE`; None if any is not one object with values of the columns' types."""
    try:
        if not text.isascii():
            text.decode()  # Arrow does not check it
        parsed = pyarrow.json.read_json(
            io.BytesIO(text),
            read_options=pyarrow.json.ReadOptions(block_size=_PARSED),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore"),
        )
        if len(parsed) != text.count(b"\n") + 1 and len(parsed) != len(_lines(text)):
            return None
        times = parsed["time"].cast(pa.timestamp("us", "UTC")).cast(_TIME)
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    numbers = {name: parsed[name].cast(pa.float32(), safe=False) for name in NUMBERS}
    columns: dict[str, Any] = {**{name: parsed[name] for name in TEXTS}, **numbers, "time": times}
    return pa.table([columns[name] for name in COLUMNS], TABLE)


def _lines(text: bytes) -> list[bytes]:
    """The non-empty lines."""
    return [line for line in text.split(b"\n") if line.strip()]


def _valid(table: pa.Table) -> np.ndarray:
    """Which rows are valid, bool (rows,)."""

    def known(column: str, values: tuple[str, ...]) -> np.ndarray:
        return pc.is_in(table[column], pa.array(values)).to_numpy()

    valid = known("outcome", get_args(Outcome))
    answered = pc.fill_null(pc.equal(table["outcome"], "answered"), False).to_numpy()
    valid &= known("mood", MOODS) | ~answered
    for name in (*_REQUIRED, *PROBABILITIES):
        if table[name].null_count:
            present = table[name].is_valid().to_numpy()
            valid &= present if name in _REQUIRED else present | ~answered
    return valid


def _reason(line: bytes) -> str:
    """Why a line cannot be parsed."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return INVALID_JSON
    return WRONG_SCHEMA
