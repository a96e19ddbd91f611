"""The section `monitoring` of `params.yaml` as typed, validated values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from pipelines.params import Params
from pipelines.paths import PARAMS

LOG_VARIABLE: Final = "MEAA_PREDICTION_LOG"
WEBHOOK_VARIABLE: Final = "MEAA_WEBHOOK"
SECRET_VARIABLE: Final = "MEAA_WEBHOOK_SECRET"


class _Section(BaseModel):
    """A part of the section: unknown keys are errors, since they are mostly misspelled known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WebhookParams(_Section):
    """How an alarm is sent; see `monitoring.alarm`.

    Attributes:
        url: where to; empty sends nothing. The environment's `MEAA_WEBHOOK` wins.
        attempts: at most, the first one included.
        backoff_seconds: before the second attempt; doubled before each one after.
        timeout_seconds: of one attempt.
    """

    url: str
    attempts: int = Field(ge=1)
    backoff_seconds: float = Field(ge=0)
    timeout_seconds: float = Field(gt=0)


class MonitoringParams(_Section):
    """How live predictions are compared with the reference.

    Attributes:
        log: the prediction log, a file or a directory of files. The environment's `MEAA_PREDICTION_LOG` wins.
        output: directory of reports, labels and the Evidently workspace.
        min_rows: fewer than these cannot tell.
        false_alarm_rate: of a quiet window, over all columns together; each column's test has its share of it.
        large_window: from this many rows on, distances decide instead of tests, which would find any trifle.
        numerical_distance: smallest Wasserstein distance, in standard deviations of the reference, that is drift.
        categorical_distance: smallest Jensen-Shannon distance that is drift.
        numerical_shift: smallest Cliff's delta of a number that matters, in [0, 1].
        categorical_shift: smallest total variation distance of categories that matters.
        no_face_margin: the share of frames without a face must exceed the reference's by this, and not by chance.
        trend_hours: width of the windows of the trend dashboards.
        clock_tolerance_seconds: how far a line's time may lie before that of the line above it, or after now.
        calibration_bins: of confidence, in the calibration proxy and in calibration from labels.
        webhook: see `WebhookParams`.
    """

    log: Path
    output: Path
    min_rows: int = Field(ge=20)
    false_alarm_rate: float = Field(gt=0, lt=1)
    large_window: int = Field(ge=100)
    numerical_distance: float = Field(gt=0)
    categorical_distance: float = Field(gt=0, le=1)
    numerical_shift: float = Field(ge=0, lt=1)
    categorical_shift: float = Field(ge=0, lt=1)
    no_face_margin: float = Field(ge=0, lt=1)
    trend_hours: float = Field(gt=0)
    clock_tolerance_seconds: float = Field(ge=0)
    calibration_bins: int = Field(ge=2)
    webhook: WebhookParams


def read_monitoring(path: Path = PARAMS) -> MonitoringParams:
    """The section, with what the environment overrides."""
    params = MonitoringParams.model_validate(Params.read(path).monitoring)
    webhook = params.webhook.model_copy(update={"url": os.environ.get(WEBHOOK_VARIABLE) or params.webhook.url})
    log = Path(os.environ.get(LOG_VARIABLE) or params.log)
    return params.model_copy(update={"log": log, "webhook": webhook})
