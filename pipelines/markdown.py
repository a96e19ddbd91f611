"""Tables of Markdown, for the reports and the model card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; floats get three decimals, whole numbers commas, what is missing a dash."""
    lines = [list(header), ["---"] * len(header), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def frame(table_of: pd.DataFrame) -> str:
    """A data frame as a table, without its index."""
    return table(list(table_of.columns), table_of.itertuples(index=False))


def cell(value: object) -> str:
    """A value as people read it."""
    if value is None or value != value:  # NaN is not itself
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
