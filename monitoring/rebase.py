"""`python -m monitoring.rebase --since 7d --reason "..."`: an accepted live window becomes the champion's reference.

For when the live predictions differ from the reference and that is fine: a new camera, another clinic. The window's
rows, without times and request ids, go into the bundle beside the reference that they replace; the registry's version
is told. `--undo` goes back to the reference that the champion came with.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from monitoring import champion_record
from monitoring.drift import add_window_arguments, read_window
from monitoring.log import Log
from monitoring.make_reference import ABSENT, REFERENCE_FILE, write
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import REBASED, RECORD_FILE, RebaseRecord, Reference


def rebase(window: Log, model_version: str, reason: str, directory: Path) -> RebaseRecord:
    """Write a window's rows and the record of why.

    Args:
        window: accepted rows of one model version, at least one.
        model_version: theirs.
        reason: in the maintainer's words.
        directory: that the reference is read from instead of the bundle's own.
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


def main(argv: Sequence[str] | None = None, params: MonitoringParams | None = None, directory: Path = REBASED) -> int:
    """Rebase, or undo it; 0, or 2 where the window has too few rows."""
    parser = argparse.ArgumentParser(description="Make an accepted live window the reference.")
    add_window_arguments(parser)
    parser.add_argument("--reason", help="why the window is accepted; required")
    parser.add_argument("--undo", action="store_true", help="go back to the reference that came with the champion")
    arguments, params = parser.parse_args(argv), params or read_monitoring()
    if arguments.undo:
        shutil.rmtree(directory, ignore_errors=True)
        version = Reference.load(rebased=directory).model_version
        champion_record.log(version, "rebase undone", {}, {"reference": "photos", "reference_reason": "undone"})
        print("The reference is the one that came with the champion.")
        return 0
    if not arguments.reason:
        parser.error("say why the window is accepted: --reason")
    try:
        reference = Reference.load(rebased=directory)
        _, window = read_window(arguments, reference, params)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if len(window.rows) < params.min_rows:
        print(f"The window has {len(window.rows)} rows; {params.min_rows} are needed.", file=sys.stderr)
        return 2
    record = rebase(window, reference.model_version, arguments.reason, directory)
    tags = {
        "reference": f"live, {record.first.isoformat()} to {record.last.isoformat()}",
        "reference_rows": str(record.rows),
        "reference_reason": record.reason,
    }
    artifacts = (directory / REFERENCE_FILE, directory / RECORD_FILE)
    if champion_record.log(record.model_version, "rebase", {}, tags, artifacts) is None:
        print(f"the MLflow registry knows no version {record.model_version}: nothing was recorded", file=sys.stderr)
    print(f"The reference of version {record.model_version} is now {record.rows:,} live predictions, in {directory}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
