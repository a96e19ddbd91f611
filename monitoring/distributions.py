"""Distributions of a window's columns: what a rebased reference keeps of live predictions.

No row of the table stands for a picture. A number that at least `rows_per_bin` rows share is kept as it is; all others
are replaced by the mean of a bin of at least so many neighbouring values (univariate microaggregation: Domingo-Ferrer
and Mateo-Sanz, "Practical data-oriented microaggregation for statistical disclosure control", IEEE TKDE 2002). The
usual quantile sketches (KLL, t-digest) keep single values at both ends, which are those of single pictures.

Columns are kept by outcome and otherwise apart from one another, so nothing tells which values occurred together.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.params import RebaseParams
from service.observation import Observation

DECIMALS: Final = 5
"""Decimal places of the numbers in the prediction log."""

_CATEGORY, _SHARED, _BIN = "category", "shared", "bin"
_CATEGORIES: Final = ("mood", "reliability")
_TYPES: Final = {field.name: str(field.type) for field in fields(Observation) if field.name != "latency_ms"}
NUMBERS: Final = tuple(name for name, kind in _TYPES.items() if kind.startswith(("int", "float")))
"""Numerical columns of the log save latency."""
_WHOLE: Final = tuple(name for name, kind in _TYPES.items() if kind == "int")


def summarise(rows: pd.DataFrame, params: RebaseParams) -> pd.DataFrame:
    """The distributions of a window's columns.

    Args:
        rows: Rows of the prediction log.
        params: Fewest rows of a bin, and largest number of bins.

    Returns:
        Columns `outcome`, `column`, `kind`, `value` and `rows`. The kind says what the value is: a `category`, a number
        that so many rows have (`shared`), or the mean of so many rows (`bin`). The missing values of a column are
        those that its rows lack of the outcome's. An outcome with fewer rows than a bin has only its number of rows,
        and `no_face` the number of faces.
    """
    table: list[tuple[Any, ...]] = []
    for outcome, group in rows.groupby("outcome"):
        table.append((outcome, "outcome", _CATEGORY, outcome, len(group)))
        if len(group) < params.rows_per_bin:
            if outcome == "no_face":  # by definition, so it tells nothing about these few
                table.append((outcome, "faces", _SHARED, 0, len(group)))
            continue
        for name in _CATEGORIES:
            counts = group[name].value_counts(sort=False).sort_index()
            table += [(outcome, name, _CATEGORY, value, count) for value, count in counts.items()]
        for name in NUMBERS:
            table += [(outcome, name, *entry) for entry in _summarise_numbers(group[name].dropna().to_numpy(), params)]
    return pd.DataFrame(table, columns=["outcome", "column", "kind", "value", "rows"])


def expand(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with the distributions of `summarise`, for tests that take samples.

    There are as many rows as in the window, so that a test gives the reference the weight that it has. Values are in
    random order, independently by column: only the columns' own distributions, and those by outcome, mean something.

    Args:
        table: Result of `summarise`.

    Returns:
        Rows with the outcome, the mood, the reliability and the numbers of the log save latency; numbers as float32.
    """
    random = np.random.default_rng(0)
    counts = table.loc[table["column"] == "outcome"].set_index("outcome")["rows"]
    groups = []
    for outcome, size in counts.items():
        group = pd.DataFrame({"outcome": np.full(size, outcome, object)})
        for name in (*_CATEGORIES, *NUMBERS):
            kept = table[(table["outcome"] == outcome) & (table["column"] == name)]
            number = name in NUMBERS
            values = _expand_numbers(kept, whole=name in _WHOLE) if number else kept["value"].repeat(kept["rows"])
            column = np.full(size, np.nan if number else None, np.float32 if number else object)
            column[: len(values)] = values
            group[name] = random.permutation(column)
        groups.append(group)
    return pd.concat(groups, ignore_index=True)


def _summarise_numbers(values: NDArray[Any], params: RebaseParams) -> list[tuple[str, float, int]]:
    """Kind, value and number of rows; values too few for a bin are left out."""
    least = max(params.rows_per_bin, -(-len(values) // params.bins))
    values = values.astype(np.float64).round(DECIMALS)
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    common = counts >= least
    shared = [
        (_SHARED, float(value), int(count)) for value, count in zip(distinct[common], counts[common], strict=True)
    ]
    others = np.sort(values[~common[inverse]])
    bins = np.array_split(others, len(others) // least) if len(others) >= least else []
    return shared + [(_BIN, round(float(part.mean()), DECIMALS), len(part)) for part in bins]


def _expand_numbers(kept: pd.DataFrame, *, whole: bool) -> NDArray[np.float64]:
    """Values in ascending order: the shared ones, and values of the bins, spread evenly from the middle of each bin to
    that of the next."""
    exact = kept["kind"] == _SHARED
    shared, bins = kept[exact], kept[~exact]
    values = np.repeat(shared["value"].to_numpy(np.float64), shared["rows"])
    if len(bins):
        sizes = bins["rows"].to_numpy()
        middles = np.cumsum(sizes) - sizes / 2
        spread = np.interp(np.arange(sizes.sum()) + 0.5, middles, bins["value"].to_numpy(np.float64))
        values = np.concatenate([values, spread.round(0 if whole else DECIMALS)])
    return np.sort(values)
