"""Pages and tables of Markdown, for the reports and the model card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page(template: Path, **facts: object) -> str:
    """A page from a Jinja template.

    Args:
        template: File with the page's text; it may use `cell` and `frame` of this module as filters.
        facts: Variables of the template.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "frame": frame}
    return environment.get_template(template.name).render(facts)


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
