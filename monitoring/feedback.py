"""`python -m monitoring.feedback labels.csv`: labels that came late, joined with the predictions they are about.

The file has the columns `request` (as in the prediction log) and `mood`. The labels are kept beside the reports, so
that the next drift report has them too; figures go to the champion's version in MLflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from monitoring import champion_record, log, quality
from monitoring.drift import LABELS_FILE
from monitoring.params import MonitoringParams, read_monitoring
from monitoring.reference import Reference


def keep(labels: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add labels to those that were kept before; a newer one replaces an older one of the same request.

    Returns:
        All of them.
    """
    before = [quality.read_labels(path)] if path.exists() else []
    together = pd.concat([*before, labels]).drop_duplicates("request", keep="last").reset_index(drop=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    together.to_csv(path, index=False, lineterminator="\n")
    return together


def main(argv: Sequence[str] | None = None, params: MonitoringParams | None = None) -> int:
    """Print the figures; 0, or 2 where nothing could be joined."""
    parser = argparse.ArgumentParser(description="Join late labels with the prediction log.")
    parser.add_argument("labels", type=Path, help="CSV file with the columns request and mood")
    parser.add_argument("--log", type=Path, help="file or directory; default: params.yaml, MEAA_PREDICTION_LOG")
    arguments, params = parser.parse_args(argv), params or read_monitoring()
    tolerance = timedelta(seconds=params.clock_tolerance_seconds)
    try:
        new = quality.read_labels(arguments.labels)
        version = Reference.load().model_version
        rows = (
            log.read(arguments.log or params.log, now=datetime.now(UTC), tolerance=tolerance).of_version(version).rows
        )
        labels = keep(new, params.output / LABELS_FILE)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    figures = quality.from_labels(rows, labels, params.calibration_bins)
    unknown = int((~new["request"].isin(rows["request"])).sum())
    if unknown:
        print(f"{unknown} of {len(new)} labels are of no prediction of version {version} in the log", file=sys.stderr)
    if figures is None:
        return 2
    print(json.dumps(figures, indent=2))
    flat = champion_record.flat_figures(figures, "monitoring/labels")
    if champion_record.log(version, "feedback", flat, {"labels": str(figures["images"])}) is None:
        print(f"the MLflow registry knows no version {version}: nothing was recorded there", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
