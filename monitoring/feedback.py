"""`python -m monitoring.feedback labels.csv`: joins labels that arrive late with the predictions that they belong to.

The CSV file has the columns `request` (as in the prediction log) and `mood`. The labels are kept beside the drift
report, which shows their metrics from then on; the metrics also go to the champion's version in MLflow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from monitoring import quality, tracking
from monitoring.params import read_monitoring
from monitoring.quality import LABELS_FILE
from monitoring.reference import Reference
from monitoring.window import LogPath, read_log

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def keep(labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add labels to the kept ones and return all; a newer label of a request replaces the older one."""
    before = [quality.read_labels(path)] if path.exists() else []
    together = pd.concat([*before, labels]).drop_duplicates("request", keep="last").reset_index(drop=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    together.to_csv(path, index=False, lineterminator="\n")
    return together


@app.command()
def main(
    labels: Annotated[Path, typer.Argument(help="CSV file with the columns request and mood.")],
    log: LogPath = None,
) -> None:
    """Join late labels with the prediction log and print the metrics. Exit codes: 0 done, 2 nothing could be joined."""
    params = read_monitoring()
    try:
        new = quality.read_labels(labels)
        version = Reference.load().model_version
        rows = read_log(log, params).of_version(version).rows
        kept = keep(new, params.output / LABELS_FILE)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    if unknown := int((~new["request"].isin(rows["request"])).sum()):
        typer.echo(f"{unknown} of {len(new)} labels match no prediction of version {version} in the log.", err=True)
    metrics = quality.from_labels(rows, kept, params.calibration_bins)
    if metrics is None:
        raise typer.Exit(2)
    typer.echo(json.dumps(metrics, indent=2))
    flat = tracking.flat_metrics(metrics, "monitoring/labels")
    tracking.log(version, "feedback", flat, {"labels": str(metrics["images"])})


if __name__ == "__main__":
    app()
