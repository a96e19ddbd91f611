"""`make drift`: compares live predictions with the champion's reference.

Writes `drift.html` for people and `drift.json` for machines, adds windows to the Evidently workspace, logs metrics and
tags of the champion's version to MLflow, and sends an alarm if the predictions have drifted and a webhook is set.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import requests
import typer

from monitoring import alarm, comparison, quality, report, tracking, trends, verdict
from monitoring.log import Log
from monitoring.params import SECRET_VARIABLE, MonitoringParams, read_monitoring
from monitoring.quality import LABELS_FILE
from monitoring.reference import Reference
from monitoring.verdict import EXIT_CODES, Verdict
from monitoring.window import LogPath, ModelVersion, Newest, Since, Until, read_window

REPORT_FILE: Final = "drift.html"
JSON_FILE: Final = "drift.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def check(whole: Log, window: Log, reference: Reference, params: MonitoringParams) -> Verdict:
    """Compare a window with the reference and leave reports, trends, the MLflow run and the alarm.

    Args:
        whole: The whole log.
        window: Rows of the reference's model version.
        reference: Reference of the comparison.
        params: Thresholds, output directory and webhook.

    Raises:
        ValueError: The kept file of labels is damaged.
    """
    labels_path = params.output / LABELS_FILE
    labels = quality.read_labels(labels_path) if labels_path.exists() else None
    found = verdict.reach(window, reference, params, labels=labels, versions=whole.versions)
    write_reports(found, window, reference, params)
    trends.update(whole.of_version(reference.model_version).rows, reference, params)
    record(found, params)
    if found.state == "drifted" and params.webhook.url:
        try:
            alarm.send(alarm_of(found), params.webhook, os.environ.get(SECRET_VARIABLE))
        except requests.RequestException as error:
            typer.echo(f"The alarm could not be delivered: {error}", err=True)
    return found


def write_reports(found: Verdict, window: Log, reference: Reference, params: MonitoringParams) -> None:
    """Write `REPORT_FILE` and `JSON_FILE`."""
    params.output.mkdir(parents=True, exist_ok=True)
    evidently = None
    if found.columns:
        evidently = comparison.run_report(reference.rows, window.rows, params).get_html_str(as_iframe=False)
    document = report.render(found, window.rows, reference.rows, evidently)
    (params.output / REPORT_FILE).write_text(document, encoding="utf-8")
    (params.output / JSON_FILE).write_text(json.dumps(found.as_json(), indent=2) + "\n")


def record(found: Verdict, params: MonitoringParams) -> None:
    """Log the verdict to MLflow."""
    metrics = {
        "monitoring/drifted": float(found.state == "drifted"),
        "monitoring/drifted_columns": float(sum(column.drifted for column in found.columns)),
        "monitoring/rows": float(found.rows),
        **{f"monitoring/shift/{column.column}": column.shift for column in found.columns},
        **{f"monitoring/{name}": value for name, value in found.proxies.items()},
        **tracking.flat_metrics(found.labels or {}, "monitoring/labels"),
    }
    tags = {
        "drift": found.state,
        "drift_cause": found.causes[0].name if found.causes else "none",
        "drift_since": found.since.isoformat() if found.since else "none",
        "drift_checked": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    reports = (params.output / REPORT_FILE, params.output / JSON_FILE)
    tracking.log(found.model_version, f"drift: {found.state}", metrics, tags, reports)


def alarm_of(found: Verdict) -> dict[str, object]:
    """Payload of the alarm."""
    return {
        "event": "drift",
        "headline": found.headline,
        "since": found.since.isoformat() if found.since else None,
        "model_version": found.model_version,
        "rows": found.rows,
        "causes": [{"name": cause.name, "explanation": cause.explanation} for cause in found.causes],
        "columns": [column.column for column in found.columns if column.drifted],
    }


@app.command()
def main(
    since: Since = None,
    until: Until = None,
    newest: Newest = None,
    model_version: ModelVersion = None,
    log: LogPath = None,
    output: Annotated[Path | None, typer.Option(help="Directory of the reports; default: params.yaml.")] = None,
) -> None:
    """Compare live predictions with the champion's reference. Exit codes: 0 no drift, 3 drifted, 2 cannot tell."""
    params = read_monitoring()
    if output:
        params = params.model_copy(update={"output": output})
    try:
        reference = Reference.load()
        whole, window = read_window(
            reference,
            params,
            since=since,
            until=until,
            newest=newest,
            model_version=model_version,
            path=log,
        )
        found = check(whole, window, reference, params)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(error, err=True)
        raise typer.Exit(EXIT_CODES["unknown"]) from None
    for line in (found.headline, found.onset, *(cause.explanation for cause in found.causes)):
        if line:
            typer.echo(line)
    bad = "".join(f"; {count:,} × {reason}" for reason, count in found.bad_lines.items())
    typer.echo(
        f"{found.rows:,} predictions of version {found.model_version}{bad}. Report: {params.output / REPORT_FILE}"
    )
    raise typer.Exit(EXIT_CODES[found.state])


if __name__ == "__main__":
    app()
