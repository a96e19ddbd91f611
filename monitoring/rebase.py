"""`python -m monitoring.rebase --since 7d --reason "..."`: a live window becomes the champion's reference.

For live predictions that differ from the reference for a good reason: a new camera, another clinic. The window's rows,
without times and request ids, go into the bundle; the registered version in MLflow gets tags. `--undo` returns to the
reference that came with the champion.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitoring import tracking
from monitoring.log import Log
from monitoring.params import read_monitoring
from monitoring.reference import ABSENT, REBASED, RECORD_FILE, REFERENCE_FILE, RebaseRecord, Reference, write
from monitoring.window import LogPath, ModelVersion, Newest, Since, read_window

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def rebase(window: Log, model_version: str, reason: str, directory: Path) -> RebaseRecord:
    """Write a window's rows and a record of the reason.

    Args:
        window: Accepted rows of one model version, at least one.
        model_version: Their model version.
        reason: The maintainer's reason.
        directory: Directory of the rebased reference.
    """
    rows = window.rows
    record = RebaseRecord(
        model_version=model_version,
        first=rows["time"].iloc[0].to_pydatetime(),
        last=rows["time"].iloc[-1].to_pydatetime(),
        rows=len(rows),
        reason=reason,
        accepted=datetime.now(UTC),
    )
    write(rows.drop(columns=list(ABSENT)).assign(source="live", label=None), directory / REFERENCE_FILE)
    (directory / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n")
    return record


@app.command()
def main(
    since: Since = None,
    newest: Newest = None,
    model_version: ModelVersion = None,
    log: LogPath = None,
    reason: Annotated[str | None, typer.Option(help="Why the window is accepted; required without --undo.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Return to the reference that came with the champion.")] = False,
) -> None:
    """Make an accepted live window the reference. Exit codes: 0 done, 2 no log or too few rows."""
    if undo:
        shutil.rmtree(REBASED, ignore_errors=True)
        version = Reference.load().model_version
        tracking.log(version, "rebase undone", {}, {"reference": "photos", "reference_reason": "undone"})
        typer.echo("The reference is the one that came with the champion.")
        return
    if not reason:
        raise typer.BadParameter("say why the window is accepted", param_hint="--reason")
    params = read_monitoring()
    try:
        reference = Reference.load()
        _, window = read_window(reference, params, since=since, newest=newest, model_version=model_version, path=log)
        if len(window.rows) < params.min_rows:
            raise ValueError(f"The window has {len(window.rows)} rows; {params.min_rows} are needed.")
    except (FileNotFoundError, ValueError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    record = rebase(window, reference.model_version, reason, REBASED)
    tags = {
        "reference": f"live, {record.first.isoformat()} to {record.last.isoformat()}",
        "reference_rows": str(record.rows),
        "reference_reason": record.reason,
    }
    tracking.log(record.model_version, "rebase", {}, tags, (REBASED / REFERENCE_FILE, REBASED / RECORD_FILE))
    typer.echo(f"The reference of version {record.model_version} is now {record.rows:,} live predictions in {REBASED}.")


if __name__ == "__main__":
    app()
