"""`make drift`: compares live predictions with the champion's reference.

Writes `drift.json` for machines, sends an alarm if the predictions have drifted and a webhook is set, writes
`drift.html` for people, adds windows to the Evidently workspace, and logs metrics and tags of the champion's version to
MLflow: in this order, and if one of them fails, the others are done nevertheless.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import pandas as pd
import typer

from monitoring import alarm, comparison, labels, report, tracking, trends, verdict
from monitoring.labels import LABELS_FILE
from monitoring.log import Log
from monitoring.params import SECRET_VARIABLE, MonitoringParams, read_monitoring
from monitoring.reference import Reference
from monitoring.verdict import EXIT_CODES, Verdict
from monitoring.window import LogPath, ModelVersion, Newest, Since, Until, read_trends, read_window

REPORT_FILE: Final = "drift.html"
JSON_FILE: Final = "drift.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def publish(found: Verdict, window: Log, reference: Reference, params: MonitoringParams, log: Path | None) -> None:
    """Write the reports, send the alarm, update the trends and log to MLflow; what fails becomes a warning.

    Args:
        found: Verdict on the window.
        window: Rows of the reference's model version.
        reference: Reference of the comparison.
        params: Thresholds, output directory and webhook.
        log: Value of `--log`.
    """
    secret = os.environ.get(SECRET_VARIABLE)
    read = partial(read_trends, reference, params, log)
    _attempt(f"{JSON_FILE} could not be written", write_json, found.as_json(), params.output)
    # Before all that takes long or may hang: whoever is on call must learn of the drift.
    if found.state == "drifted" and params.webhook.url:
        _attempt("The alarm could not be delivered", alarm.send, alarm_of(found), params.webhook, secret)
    _attempt(f"{REPORT_FILE} could not be written", write_report, found, window, reference, params)
    _attempt("The trends could not be updated", trends.update, window.by_window, read, reference, params)
    _attempt("Nothing was recorded in MLflow", record, found, params)


def _attempt(failure: str, effect: Callable[..., object], *arguments: object) -> None:
    """Do something; if it fails, say so in one line on standard error."""
    try:
        effect(*arguments)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        typer.echo(f"{failure}: {type(error).__name__}: {reason}", err=True)


def write_json(values: dict[str, Any], output: Path) -> None:
    """Write `JSON_FILE`, so that a reader sees either the old one or the whole new one."""
    output.mkdir(parents=True, exist_ok=True)
    unfinished = output / f".{JSON_FILE}"
    unfinished.write_text(json.dumps(values, indent=2) + "\n")
    unfinished.replace(output / JSON_FILE)


def write_report(found: Verdict, window: Log, reference: Reference, params: MonitoringParams) -> None:
    """Write `REPORT_FILE`."""
    params.output.mkdir(parents=True, exist_ok=True)
    evidently = None
    if found.columns:
        evidently = comparison.run_report(reference.rows, window.rows, params).get_html_str(as_iframe=False)
    document = report.render(found, window.rows, reference.rows, evidently)
    (params.output / REPORT_FILE).write_text(document, encoding="utf-8")


def record(found: Verdict, params: MonitoringParams) -> None:
    """Log the verdict to MLflow."""
    metrics = {
        "monitoring/drifted": float(found.state == "drifted"),
        "monitoring/drifted_columns": float(sum(column.drifted for column in found.columns)),
        "monitoring/rows": float(found.rows),
        **({} if found.people is None else {"monitoring/people": found.people}),
        **{f"monitoring/shift/{column.column}": column.shift for column in found.columns},
        **{f"monitoring/{name}": value for name, value in found.proxies.items()},
        **tracking.flat_metrics(found.labels or {}, "monitoring/labels"),
    }
    tags = {
        "drift": found.state,
        "drift_cause": found.causes[0].name if found.causes else "none",
        "drift_since": found.since.isoformat() if found.since else "none",
        "drift_reference": found.reference,
        "drift_checked": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    reports = [path for name in (REPORT_FILE, JSON_FILE) if (path := params.output / name).exists()]
    tracking.log(found.model_version, f"drift: {found.state}", metrics, tags, tuple(reports))


def alarm_of(found: Verdict) -> dict[str, object]:
    """Payload of the alarm."""
    return {
        "event": "drift",
        "headline": found.headline,
        "since": found.since.isoformat() if found.since else None,
        "baseline": found.baseline,
        "model_version": found.model_version,
        "rows": found.rows,
        "sessions": found.sessions,
        "causes": [{"name": cause.name, "explanation": cause.explanation} for cause in found.causes],
        "columns": [column.column for column in found.columns if column.drifted],
    }


def kept_labels(params: MonitoringParams) -> pd.DataFrame | None:
    """The kept labels; None if there are none, or if their file is damaged, which a warning says."""
    path = params.output / LABELS_FILE
    if not path.exists():
        return None
    try:
        return labels.read(path).rows
    except (OSError, ValueError) as error:
        typer.echo(f"The report has no labels: {error}", err=True)
        return None


@app.command()
def main(
    since: Since = None,
    until: Until = None,
    newest: Newest = None,
    model_version: ModelVersion = None,
    log: LogPath = None,
    output: Annotated[Path | None, typer.Option(help="Directory of the reports; default: params.yaml.")] = None,
) -> None:
    """Compare live predictions with the champion's reference.

    Exit codes, the same through make drift: 0 no drift; 2 somebody must look, as there is drift or no verdict. The
    first line of the output and `state` in drift.json say which: quiet, drifted or unknown.
    """
    try:
        params = read_monitoring()
        output = output or params.output
        params = params.model_copy(update={"output": output})
        known, reference = kept_labels(params), Reference.load()
        window = read_window(
            reference,
            params,
            since=since,
            until=until,
            newest=newest,
            model_version=model_version,
            path=log,
            requests=() if known is None else set(known["request"]),
        )
        found = verdict.reach(window, reference, params, labels=known)
    except Exception as error:
        if not isinstance(error, OSError | ValueError):
            traceback.print_exc()
        _without_verdict(error, output)
        raise typer.Exit(EXIT_CODES["unknown"]) from None
    for line in (found.headline, found.reason, found.onset, *(cause.explanation for cause in found.causes)):
        if line:
            typer.echo(line)
    publish(found, window, reference, params, log)
    bad = "".join(f"; {count:,} × {reason}" for reason, count in found.bad_lines.items())
    sampled = f", {len(window.rows):,} of them compared" if len(window.rows) < found.rows else ""
    typer.echo(
        f"{found.rows:,} predictions of version {found.model_version}{sampled}{bad}. Report: {output / REPORT_FILE}"
    )
    raise typer.Exit(EXIT_CODES[found.state])


def _without_verdict(error: Exception, output: Path | None) -> None:
    """Say why there is no verdict, also in `JSON_FILE`: that of an earlier run must not be taken for the answer."""
    typer.echo(f"Cannot tell: {error}", err=True)
    if output is not None:
        values = {"state": "unknown", "reason": str(error), "exit_code": EXIT_CODES["unknown"]}
        _attempt(f"{JSON_FILE} could not be written", write_json, values, output)


if __name__ == "__main__":
    app()
