"""`make drift`: are live predictions still like the champion's reference?

Reads the prediction log, writes `drift.html` for people and `drift.json` for machines, adds windows to the Evidently
workspace and figures to the champion's version in MLflow, and sends an alarm where one is due.

Exit codes: 0 quiet, 3 drifted, 2 could not tell.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Evidently is imported, which counts its users

import requests

from monitoring import alarm, champion_record, comparison, log, page, quality, trends, verdict
from monitoring.log import Log
from monitoring.params import SECRET_VARIABLE, MonitoringParams, read_monitoring
from monitoring.reference import REBASED, Reference
from monitoring.verdict import EXIT_CODES, Verdict

REPORT_FILE: Final = "drift.html"
JSON_FILE: Final = "drift.json"
LABELS_FILE: Final = "labels.csv"


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which predictions are meant."""
    parser.add_argument("--since", help="an age (90m, 12h, 7d, 2w) or a date; default: all of the log")
    parser.add_argument("--window", type=int, help="only the newest so many predictions")
    parser.add_argument("--model-version", help="default: that of the reference")
    parser.add_argument("--log", type=Path, help="file or directory; default: params.yaml, MEAA_PREDICTION_LOG")


def read_window(arguments: argparse.Namespace, reference: Reference, params: MonitoringParams) -> tuple[Log, Log]:
    """All rows of the log, and those that the arguments ask for, of the reference's model version.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: another version is asked for than the reference is of, or `--since` is no time.
    """
    wanted = arguments.model_version or reference.model_version
    if wanted != reference.model_version:
        raise ValueError(
            f"the reference is that of version {reference.model_version}; check out the bundle of {wanted} for its own"
        )
    now = datetime.now(UTC)
    whole = log.read(arguments.log or params.log, now=now, tolerance=timedelta(seconds=params.clock_tolerance_seconds))
    window = whole.of_version(wanted)
    if arguments.since:
        window = window.since(log.parse_since(arguments.since, now))
    return whole, window.last(arguments.window) if arguments.window else window


def write_reports(found: Verdict, window: Log, reference: Reference, params: MonitoringParams) -> None:
    """Write `REPORT_FILE` and `JSON_FILE`."""
    params.output.mkdir(parents=True, exist_ok=True)
    evidently = None
    if found.columns:
        evidently = comparison.run_report(reference.rows, window.rows, params).get_html_str(as_iframe=False)
    document = page.render(found, window.rows, reference.rows, evidently)
    (params.output / REPORT_FILE).write_text(document, encoding="utf-8")
    (params.output / JSON_FILE).write_text(json.dumps(found.as_json(), indent=2) + "\n")


def record(found: Verdict, params: MonitoringParams) -> bool:
    """Tell MLflow; False where the registry does not know the version."""
    drifted = [column for column in found.columns if column.drifted]
    figures = {
        "monitoring/drifted": float(found.state == "drifted"),
        "monitoring/drifted_columns": float(len(drifted)),
        "monitoring/rows": float(found.rows),
        **{f"monitoring/shift/{column.column}": column.shift for column in found.columns},
        **{f"monitoring/{name}": value for name, value in found.proxies.items()},
        **champion_record.flat_figures(found.labels or {}, "monitoring/labels"),
    }
    tags = {
        "drift": found.state,
        "drift_cause": found.causes[0].name if found.causes else "none",
        "drift_since": found.since.isoformat() if found.since else "none",
        "drift_checked": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    reports = (params.output / REPORT_FILE, params.output / JSON_FILE)
    return champion_record.log(found.model_version, f"drift: {found.state}", figures, tags, reports) is not None


def raise_alarm(found: Verdict, params: MonitoringParams) -> None:
    """Call the webhook, where one is configured.

    Raises:
        requests.RequestException: it could not be reached.
    """
    if not params.webhook.url:
        return
    payload = {
        "event": "drift",
        "headline": page.headline(found),
        "since": found.since.isoformat() if found.since else None,
        "model_version": found.model_version,
        "rows": found.rows,
        "causes": [{"name": cause.name, "explanation": cause.explanation} for cause in found.causes],
        "columns": [column.column for column in found.columns if column.drifted],
    }
    alarm.send(payload, params.webhook, os.environ.get(SECRET_VARIABLE))


def run(arguments: argparse.Namespace, params: MonitoringParams, rebased: Path = REBASED) -> Verdict:
    """Look at a window, and leave everything that this module promises.

    Args:
        arguments: see `add_window_arguments`.
        params: of the section `monitoring`.
        rebased: where a rebased reference lies, if there is one.

    Raises:
        FileNotFoundError, ValueError: see `read_window` and `Reference.load`.
    """
    reference = Reference.load(rebased=rebased)
    whole, window = read_window(arguments, reference, params)
    labels_path = params.output / LABELS_FILE
    labels = quality.read_labels(labels_path) if labels_path.exists() else None
    found = verdict.reach(window, reference, params, labels=labels, versions=whole.versions)
    write_reports(found, window, reference, params)
    trends.update(whole.of_version(reference.model_version).rows, reference, params)
    if not record(found, params):
        _warn(f"the MLflow registry knows no version {found.model_version}: no figures were recorded there")
    if found.state == "drifted":
        try:
            raise_alarm(found, params)
        except requests.RequestException as error:
            _warn(f"the alarm could not be delivered: {error}")
    return found


def main(argv: Sequence[str] | None = None, rebased: Path = REBASED) -> int:
    """Print the verdict and return the exit code."""
    parser = argparse.ArgumentParser(description="Compare live predictions with the champion's reference.")
    add_window_arguments(parser)
    parser.add_argument("--output", type=Path, help="directory of the reports; default: params.yaml")
    arguments, params = parser.parse_args(argv), read_monitoring()
    if arguments.output:
        params = params.model_copy(update={"output": arguments.output})
    try:
        found = run(arguments, params, rebased)
    except (FileNotFoundError, ValueError) as error:
        _warn(str(error))
        return EXIT_CODES["unknown"]
    print(page.headline(found))
    for line in (page.since(found), *(cause.explanation for cause in found.causes)):
        if line:
            print(line)
    bad = "".join(f"; {count:,} x {reason}" for reason, count in found.bad_lines.items())
    print(f"{found.rows:,} predictions of version {found.model_version}{bad}. {params.output / REPORT_FILE}")
    return EXIT_CODES[found.state]


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
