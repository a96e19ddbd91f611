"""`python -m monitoring.feedback labels.csv`: what labels that arrive late say about the predictions they belong to.

The labels are kept beside the drift report, which shows their metrics from then on; the metrics also go to the
champion's version in MLflow. Without a file the labels that are kept already are used. `monitoring.labels` says what a
file looks like.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from monitoring import label_metrics, label_summary, labels, tracking
from monitoring.labels import LABELS_FILE, LabelFile
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import Reference
from monitoring.window import LogPath, Since, Until, read_requests, read_window

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def evaluate(
    file: LabelFile | None,
    reference: Reference,
    params: MonitoringParams,
    *,
    since: str | None,
    until: str | None,
    path: Path | None,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Keep the labels of a file, and measure all that are kept.

    Labels that belong to no prediction in the log are not kept.

    Args:
        file: New labels; None for none.
        reference: The champion's reference.
        params: Log, directory of the kept labels, and the section `feedback`.
        since: Value of `--since`; it chooses predictions by their time, whenever they were labelled.
        until: Value of `--until`.
        path: Value of `--log`.

    Returns:
        Result of `monitoring.label_metrics.measure`, and remarks on the file and on labels that cannot be joined.

    Raises:
        FileNotFoundError: There is no log, or neither a file nor a kept label.
        ValueError: The kept file is damaged, or an option is wrong.
    """
    kept_path = params.output / LABELS_FILE
    if file is None and not kept_path.exists():
        raise FileNotFoundError(f"No labels are kept in {params.output} yet: name a file.")
    new = pd.DataFrame(columns=list(labels.COLUMNS)) if file is None else file.rows
    together = labels.add(new, kept_path, datetime.now(UTC)) if file else labels.read(kept_path).rows
    remarks = list(file.remarks) if file else []
    window = read_window(
        reference,
        params,
        since=since,
        until=until,
        newest=None,
        model_version=None,
        path=path,
        requests=set(together["request"]),
    )
    if file:
        here = window.rows if window.labelled is None else window.labelled
        unknown = set(new["request"]) - set(label_metrics.labelled_rows(window)["request"])
        elsewhere = here.iloc[:0]
        if unknown:
            elsewhere = read_requests(unknown, params, path).rows
            remarks += unmatched(new, unknown, elsewhere, reference.model_version)
        answered = elsewhere.loc[elsewhere["outcome"] == "answered", "request"]
        together = together[~together["request"].isin(unknown - set(answered))]
        if len(together):
            labels.write(together, kept_path)
    return label_metrics.measure(window, together, reference, params), remarks


def unmatched(new: pd.DataFrame, unknown: set[str], rows: pd.DataFrame, version: str) -> list[str]:
    """Why labels of a file cannot be joined with the window, a sentence for each reason, with counts.

    Args:
        new: Rows of the file.
        unknown: Requests whose labels cannot be joined.
        rows: Rows of these requests in the whole log, of all model versions.
        version: Version of the metrics.
    """
    rows = rows[rows["request"].isin(unknown)]
    shared = set(rows.loc[rows["request"].duplicated(), "request"])
    single = rows[~rows["request"].isin(shared)].set_index("request")
    total = new["request"].nunique()
    missing = len(unknown - set(rows["request"]))
    without_face = int((single["outcome"] == "no_face").sum())
    answered = single[single["outcome"] == "answered"]
    others = answered.loc[answered["model_version"] != version, "model_version"].value_counts()
    outside = int((answered["model_version"] == version).sum())
    found = {
        "not in the log": missing,
        "of frames in which no face was found": without_face,
        "with an id that several requests in the log share": len(shared),
        **{f"answered by version {name}; the figures are of version {version}": others[name] for name in others.index},
        "outside --since and --until": outside,
    }
    return [f"{count:,} of {total:,} labelled requests: {reason}." for reason, count in found.items() if count]


@app.command()
def main(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="LABELS",
            help="CSV or Parquet file with the columns request and mood, and if known rater, time and person; "
            "default: the labels that are kept already.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    log: LogPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON.")] = False,
) -> None:
    """Say what late labels mean for the predictions they belong to. Exit codes: 0 done, 2 nothing could be joined."""
    params = read_monitoring()
    try:
        reference = Reference.load()
        values, remarks = evaluate(
            labels.read(file) if file else None, reference, params, since=since, until=until, path=log
        )
    except (OSError, ValueError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    for remark in remarks:
        typer.echo(remark, err=True)
    if values is None:
        typer.echo(f"No label belongs to a prediction of version {reference.model_version} in the window.", err=True)
        raise typer.Exit(2)
    if as_json:
        typer.echo(json.dumps(values, indent=2, allow_nan=False))
    else:
        show(values, Console())
    flat = tracking.flat_metrics(values, "monitoring/labels")
    tracking.log(reference.model_version, "feedback", flat, {"labels": str(values["images"])})


def show(values: dict[str, Any], console: Console) -> None:
    """Print the result of `monitoring.label_metrics.measure`."""
    for sentence in values["sentences"]:
        console.print(sentence, highlight=False, markup=False)
    console.print()
    console.print(label_summary.tables(values))


if __name__ == "__main__":
    app()
