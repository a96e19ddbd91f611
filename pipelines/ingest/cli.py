"""Commands that build the two Parquet files of the dataset from the public originals or from one's own photos.

    python -m pipelines.ingest download ferplus
    python -m pipelines.ingest fer2013 originals/fer2013.tar.gz originals/fer2013new.csv
    python -m pipelines.ingest folders originals/fer2013-folders
    python -m pipelines.ingest photos originals/facial_expressions/facial_expressions-master
    python -m pipelines.ingest photos my-photos --append

Every row and every picture is checked. If one is invalid, all problems are reported with file and line, and nothing is
written; with `--skip-invalid` the valid ones are written, and the summary counts the others. Pictures are read with the
service's own decoder, so that the dataset holds only images that the service can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import pandas as pd
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from pipelines import paths
from pipelines.data import dataset
from pipelines.data.dataset import DatasetError, Row
from pipelines.ingest import download
from pipelines.ingest.fer2013 import fer2013_rows, folder_rows, read_votes
from pipelines.ingest.photos import photo_rows, photos_in_csv, photos_in_folders
from pipelines.ingest.report import Problem, Report

_T = TypeVar("_T")


class InvalidRowsError(DatasetError):
    """Some rows are invalid, and `--skip-invalid` is not set; nothing was written."""


def build(out: Path, form: dataset.ParquetFormat, rows: Iterable[Row], report: Report, *, skip_invalid: bool) -> None:
    """Write rows to a Parquet file, all or nothing.

    Args:
        out: Parquet file; it appears or is replaced only at the end.
        form: Layout of the file.
        rows: Rows to write; the iterator records invalid ones in the report.
        report: Receives the number of rows by class.
        skip_invalid: Whether the file is written in spite of problems.

    Raises:
        InvalidRowsError: There are problems, and `skip_invalid` is not set.
        DatasetError: There is no row to write, or `rows` raised it.
    """

    def counted() -> Iterator[Row]:
        for row in rows:
            report.classes[row.get("usage", ""), row["emotion"]] += 1
            yield row
        if report.problems and not skip_invalid:
            raise InvalidRowsError(
                f"{len(report.problems):,} rows or files are invalid, so {out} was not written. Correct them, or leave "
                "them out with --skip-invalid."
            )
        if not report.written:
            raise DatasetError(f"There is nothing to write to {out}.")

    dataset.write(out, form, counted())


# The command line

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Build the dataset's Parquet files.")
app.add_typer(download.app, name="download")

_SkipInvalid = Annotated[bool, typer.Option("--skip-invalid", help="Leave out what is invalid instead of giving up.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
_Shown = Annotated[int, typer.Option("--show", min=0, help="Number of problems to print.")]
_ReadFile = typer.Argument(exists=True, dir_okay=False)
_ReadFolder = typer.Argument(exists=True, file_okay=False)


@app.command()
def fer2013(
    faces: Annotated[Path, _ReadFile],
    votes: Annotated[Path, _ReadFile],
    out: Annotated[Path, typer.Option(help="File to write.")] = paths.FER2013,
    skip_invalid: _SkipInvalid = False,
    overwrite: _Overwrite = False,
    show: _Shown = 20,
) -> None:
    """Join FACES, the official fer2013.csv or the archive with it, row by row with VOTES, FER+'s fer2013new.csv."""

    def rows(report: Report) -> Iterator[Row]:
        entries = read_votes(votes, report)
        return _with_progress(fer2013_rows(faces, votes, entries, report), "fer2013", len(entries))

    _run(rows, out, dataset.FER2013, skip_invalid=skip_invalid, overwrite=overwrite, show=show)


@app.command()
def folders(
    root: Annotated[Path, _ReadFolder],
    out: Annotated[Path, typer.Option(help="File to write.")] = paths.FER2013,
    validation_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the training images, if there is no validation folder.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the random choice of validation images.")] = 20,
    skip_invalid: _SkipInvalid = False,
    overwrite: _Overwrite = False,
    show: _Shown = 20,
) -> None:
    """Read FER2013 from images in ROOT/train/angry/… and ROOT/test/angry/….

    Such folders have no FER+ votes: set `label_source: fer2013` in params.yaml.
    """

    def rows(report: Report) -> Iterator[Row]:
        return _with_progress(folder_rows(root, report, validation_share=validation_share, seed=seed), "folders", None)

    _run(rows, out, dataset.FER2013, skip_invalid=skip_invalid, overwrite=overwrite, show=show)


@app.command()
def photos(
    folder: Annotated[Path, _ReadFolder],
    labels: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="CSV file with the columns image (a path in FOLDER), emotion and, if known, identity.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = paths.PHOTOS,
    append: Annotated[bool, typer.Option("--append", help="Add to the file, without duplicates.")] = False,
    skip_invalid: _SkipInvalid = False,
    overwrite: _Overwrite = False,
    show: _Shown = 20,
) -> None:
    """Read photos in FOLDER, labelled by subfolder (FOLDER/happiness/x.jpg) or by a CSV file.

    FOLDER may also be a checkout of muxspace/facial_expressions, with data/legend.csv and images/.
    """
    legend = folder / "data" / "legend.csv"
    if labels is None and legend.is_file():
        labels, folder = legend, folder / "images"

    def rows(report: Report) -> Iterator[Row]:
        found = photos_in_folders(folder, report) if labels is None else photos_in_csv(labels, folder)
        existing = dataset.rows(out, dataset.PHOTOS_SCHEMA) if append else ()
        return photo_rows(_with_progress(found, "photos", len(found)), report, existing)

    _run(rows, out, dataset.PHOTOS, skip_invalid=skip_invalid, overwrite=overwrite or append, show=show)


def _run(
    rows: Callable[[Report], Iterator[Row]],
    out: Path,
    form: dataset.ParquetFormat,
    *,
    skip_invalid: bool,
    overwrite: bool,
    show: int,
) -> None:
    """Build a file and print a summary; exit with status 1 if it was not written."""
    if out.exists() and not overwrite:
        _fail(f"{out} exists. Give --overwrite to replace it, or another file with --out.")
    report = Report()
    try:
        build(out, form, rows(report), report, skip_invalid=skip_invalid)
    except DatasetError as error:
        _print_problems(report.problems, show)
        _fail(str(error))
    _print_problems(report.problems, show)
    _print_summary(report, out)


def _with_progress(items: Iterable[_T], name: str, total: int | None) -> Iterator[_T]:
    """The same items, with a progress bar and the time left if the output is a terminal."""
    console = Console(stderr=True)
    yield from track(items, description=name, total=total, console=console, disable=not console.is_terminal)


def _fail(message: str) -> NoReturn:
    """Print an error and exit with status 1."""
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1)


def _print_problems(problems: Sequence[Problem], show: int) -> None:
    """Print the first problems, one per line, and the number of all."""
    for problem in problems[:show]:
        typer.echo(str(problem), err=True)
    if len(problems) > show:
        typer.echo(
            f"… and {len(problems) - show:,} more of {len(problems):,} (--show {len(problems)} prints all)", err=True
        )


def _print_summary(report: Report, out: Path) -> None:
    """Print how many rows came, were written, by emotion and split, and were left out."""
    counts = pd.Series(report.classes).unstack(level=0, fill_value=0)
    columns = [usage for usage in dataset.USAGES if usage in counts] if len(counts.columns) > 1 else []
    counts = counts.assign(rows=counts.sum(axis=1))
    if report.existing:
        before = pd.Series(report.existing).groupby(level=1).sum().reindex(counts.index, fill_value=0)
        counts, columns = counts.assign(before=before, new=counts["rows"] - before), [*columns, "before", "new"]
    counts = counts[[*columns, "rows"]]
    totals = [Column(name, footer=f"{total:,}", justify="right") for name, total in counts.sum().items()]
    table = Table(Column("emotion", footer="all"), *totals, title=str(out), show_footer=True)
    for emotion, row in counts.sort_values("rows", ascending=False, kind="stable").iterrows():
        table.add_row(str(emotion), *(f"{count:,}" for count in row))
    console = Console()
    console.print(table)
    console.print(f"{report.came:,} came, {report.new:,} of them new, {report.written:,} in all")
    for reason, count in report.left_out.items():
        console.print(f"{count:,} left out: {reason}")
    if report.problems:
        console.print(f"{len(report.problems):,} left out: invalid")
