"""`python -m monitoring.rebase --since 7d --until 1d --reason "..."`: a live window becomes the champion's reference.

For live predictions that differ from the reference for a good reason: a new camera, another clinic. The window's
distributions go into the bundle, see `monitoring.distributions`, and none of its rows; the registered version in MLflow
gets tags. `--undo` returns to the reference that came with the champion.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from monitoring import distributions, tracking
from monitoring.drift_tests import SESSION, people, session_codes
from monitoring.log import Log
from monitoring.params import RebaseParams, read_monitoring
from monitoring.reference import DISTRIBUTIONS_FILE, REBASED, RECORD_FILE, RebaseRecord, Reference, write_rebased
from monitoring.window import LogPath, ModelVersion, Newest, Since, Until, read_window

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def rebase(window: Log, champion: Reference, reason: str, params: RebaseParams, directory: Path) -> RebaseRecord:
    """Make a window's distributions the reference.

    Args:
        window: Accepted rows of the champion.
        champion: Any reference of the champion.
        reason: The maintainer's reason.
        params: What the window needs, and what is kept of it.
        directory: Directory of the rebased reference.

    Raises:
        ValueError: The window is too small: its distributions would be those of a few pictures or people.
    """
    rows, totals = window.rows, window.totals
    if len(rows) < params.min_rows:
        raise ValueError(f"The window has {len(rows)} rows; a reference needs {params.min_rows}.")
    weight = people(session_codes(rows.set_index(SESSION)), len(rows))
    if weight < params.min_people:
        raise ValueError(
            f"The window's sessions weigh as {int(weight)} people; a reference needs {params.min_people}, or it would "
            "be that of a few faces."
        )
    hours = int((rows["time"].dt.floor("h").value_counts() >= params.rows_per_bin).sum())
    if hours < params.min_hours:
        raise ValueError(
            f"The window has {hours} hours with at least {params.rows_per_bin} predictions; a reference needs "
            f"{params.min_hours}, or it would be that of one sitting."
        )
    # Minutes, since the time of a row would tell when one picture was taken.
    first, last = (pd.Timestamp(time).floor("min").to_pydatetime() for time in (totals.first, totals.last))
    record = RebaseRecord(
        model_version=champion.model_version,
        model_digest=champion.model_digest,
        first=first,
        last=last,
        rows=totals.rows,
        hours=hours,
        session_rows=len(rows) / weight,
        reason=reason,
        accepted=datetime.now(UTC),
    )
    write_rebased(record, distributions.summarise(rows, params), directory)
    return record


@app.command()
def main(
    since: Since = None,
    until: Until = None,
    newest: Newest = None,
    model_version: ModelVersion = None,
    log: LogPath = None,
    reason: Annotated[str | None, typer.Option(help="Why the window is accepted; required without --undo.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Return to the reference that came with the champion.")] = False,
) -> None:
    """Make an accepted live window the reference. Exit codes: 0 done, 2 no log or too small a window."""
    if undo:
        shutil.rmtree(REBASED, ignore_errors=True)
        typer.echo("The reference is the one that came with the champion.")
        version = Reference.load().model_version
        tracking.log(version, "rebase undone", {}, {"reference": "photos", "reference_reason": "undone"})
        return
    if not reason:
        raise typer.BadParameter("say why the window is accepted", param_hint="--reason")
    params = read_monitoring()
    try:
        champion = Reference.load(rebased=None)
        window = read_window(
            champion, params, since=since, until=until, newest=newest, model_version=model_version, path=log
        )
        record = rebase(window, champion, reason, params.rebase, REBASED)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    typer.echo(
        f"The reference of version {record.model_version} is now the distributions of {record.rows:,} live predictions "
        f"in {REBASED}: no row of them is kept. Commit that directory."
    )
    tags = {
        "reference": f"live, {record.first.isoformat()} to {record.last.isoformat()}",
        "reference_rows": str(record.rows),
        "reference_reason": record.reason,
    }
    tracking.log(record.model_version, "rebase", {}, tags, (REBASED / DISTRIBUTIONS_FILE, REBASED / RECORD_FILE))


if __name__ == "__main__":
    app()
