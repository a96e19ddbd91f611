"""Rows of the prediction log, collected from a stream in bounded memory: exact counts, and a sample of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitoring.log_blocks import NUMBERS, TABLE

CATEGORIES: Final = ("mood", "reliability", "outcome")
"""Columns whose values are counted."""

_ANSWERS: Final = (*NUMBERS, "mood", "reliability")
"""Columns that a row with an answer has; where they are null, they are missing."""


@dataclass(frozen=True)
class Block:
    """Some valid rows of the log.

    Attributes:
        table: The rows, in the schema `monitoring.log_blocks.TABLE`.
        times: Their times, nanoseconds since 1970, int64 (rows,).
        keys: Hashes of request and time, uint64 (rows,): uniform, and the same in each run.
    """

    table: pa.Table
    times: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def where(self, chosen: NDArray[np.bool_]) -> Block:
        """The chosen rows."""
        if chosen.all():
            return self
        return Block(self.table.filter(pa.array(chosen)), self.times[chosen], self.keys[chosen])


@dataclass
class Totals:
    """Exact counts over all rows, of which `monitoring.log.Log.rows` may be a sample.

    Attributes:
        rows: Number of rows.
        first: Time of the first row; None without rows.
        last: Time of the last row.
        categories: Number of rows by value, for each column of `CATEGORIES`; missing values are not counted.
        answered: Number of rows with a mood.
        missing: Number of rows with a mood and without a value, by column.
    """

    rows: int = 0
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    categories: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in CATEGORIES})
    answered: int = 0
    missing: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Totals:
        """The totals of complete rows."""
        answered = rows[rows["outcome"] == "answered"]
        times = rows["time"]
        return cls(
            rows=len(rows),
            first=None if rows.empty else times.min(),
            last=None if rows.empty else times.max(),
            categories={name: Counter(rows[name].value_counts().to_dict()) for name in CATEGORIES},
            answered=len(answered),
            missing=Counter(
                {str(name): int(count) for name, count in answered[list(_ANSWERS)].isna().sum().items() if count}
            ),
        )

    def add(self, block: Block) -> None:
        """Count the rows of a block."""
        if not len(block.times):
            return
        first, last = (pd.Timestamp(time, tz="UTC") for time in (block.times.min(), block.times.max()))
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        self.rows += len(block.times)
        for name, counts in self.categories.items():
            counts.update(value_counts(block.table[name]))
        faces = pc.equal(block.table["outcome"], "answered")
        answered = block.table.filter(faces)
        self.answered += len(answered)
        for name in _ANSWERS:
            if count := int(pc.sum(pc.is_null(answered[name], nan_is_null=True)).as_py() or 0):
                self.missing[name] += count


class Collector:
    """Collects rows: their totals, and the rows themselves or a sample of them.

    The sample consists of the rows with the smallest keys. It is uniform, since the keys are hashes, needs one pass,
    and is the same in each run.
    """

    def __init__(self, limit: int | None = None, requests: Collection[str] = ()) -> None:
        """A collector without rows.

        Args:
            limit: Largest number of sampled rows; None keeps all.
            requests: Requests whose rows are kept besides, whether sampled or not.
        """
        self.totals = Totals()
        self._limit = limit
        self._requests = pa.array(sorted(requests), pa.string())
        self._wanted: list[pa.Table] = []
        self._tables: list[pa.Table] = []
        self._keys: list[NDArray[np.uint64]] = []
        self._kept = 0
        self._largest = np.uint64(np.iinfo(np.uint64).max)

    def add(self, block: Block) -> None:
        """Add rows."""
        self.totals.add(block)
        if len(self._requests):
            self._wanted.append(block.table.filter(pc.is_in(block.table["request"], self._requests)))
        sampled = block.where(block.keys <= self._largest)
        self._tables.append(sampled.table)
        self._keys.append(sampled.keys)
        self._kept += len(sampled.keys)
        if self._limit is not None and self._kept > 2 * self._limit:
            self._shrink(self._limit)

    def rows(self) -> pd.DataFrame:
        """The rows or their sample, oldest first, with numbers as float32."""
        if self._limit is not None:
            self._shrink(self._limit)
        return as_frame(self._tables)

    def wanted(self) -> pd.DataFrame:
        """The rows of the requests, oldest first."""
        return as_frame(self._wanted)

    def _shrink(self, limit: int) -> None:
        """Keep the rows with the smallest keys."""
        if self._kept <= limit:
            return
        keys = np.concatenate(self._keys)
        chosen = np.zeros(len(keys), np.bool_)
        chosen[np.argpartition(keys, limit)[:limit]] = True
        # A copy: a filtered table may still refer to the memory of the whole block.
        self._tables = [pa.concat_tables(self._tables).filter(pa.array(chosen)).combine_chunks()]
        self._keys = [keys[chosen]]
        self._kept, self._largest = limit, self._keys[0].max(initial=0)


def value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Number of rows by value; missing values are left out."""
    counted = pc.value_counts(column).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counted if entry["values"] is not None}


def as_frame(tables: list[pa.Table]) -> pd.DataFrame:
    """Tables as rows, oldest first."""
    rows = pa.concat_tables([TABLE.empty_table(), *tables]).to_pandas()
    return rows.sort_values("time", kind="stable", ignore_index=True)
