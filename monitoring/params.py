"""The section `monitoring` of `params.yaml` as typed, validated values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator

from pipelines.params import Params, Section
from pipelines.paths import PARAMS
from service.settings import check_names

LOG_VARIABLE: Final = "MEAA_PREDICTION_LOG"
WEBHOOK_VARIABLE: Final = "MEAA_WEBHOOK"
SECRET_VARIABLE: Final = "MEAA_WEBHOOK_SECRET"


class WebhookParams(Section):
    """How an alarm is sent (`monitoring.alarm`).

    Attributes:
        url: Address of the receiver; empty sends nothing. The environment's `MEAA_WEBHOOK` wins.
        attempts: Maximum number of attempts, including the first.
        backoff_seconds: Delay before the second attempt; it doubles before each further one.
        timeout_seconds: Timeout of one attempt.
    """

    url: str
    attempts: int = Field(ge=1)
    backoff_seconds: float = Field(ge=0)
    timeout_seconds: float = Field(gt=0)


class RebaseParams(Section):
    """What a live window needs to become the reference, and what is kept of it (`monitoring.rebase`).

    Attributes:
        min_rows: Fewest rows.
        min_people: Fewest people, as far as sessions tell; see `monitoring.drift_tests.people`.
        min_hours: Fewest hours of the clock with at least `rows_per_bin` rows; one sitting is no reference.
        rows_per_bin: Fewest rows that a kept number stands for.
        bins: Largest number of bins of a column.
    """

    min_rows: int = Field(ge=100)
    min_people: int = Field(ge=2)
    min_hours: int = Field(ge=1)
    rows_per_bin: int = Field(ge=5)
    bins: int = Field(ge=10)


class FeedbackParams(Section):
    """How late labels become metrics (`monitoring.label_metrics`).

    Attributes:
        margin: Wanted half-width of the 95 % interval of the accuracy, in [0, 1].
        confidence_bands: Limits of the bands of confidence in which the accuracy is compared with the confidence,
            rising, in (0, 1).
        min_band: Fewest labels of a band of brightness, face size or sharpness.
        resamples: Number of bootstrap draws for the intervals of weighted F1 and macro recall.
        seed: Seed of the draws.
    """

    margin: float = Field(gt=0, lt=1)
    confidence_bands: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    min_band: int = Field(ge=1)
    resamples: int = Field(ge=100)
    seed: int

    @field_validator("confidence_bands")
    @classmethod
    def _rise(cls, bands: tuple[float, ...]) -> tuple[float, ...]:
        """The bands, if they rise."""
        if list(bands) != sorted(set(bands)):
            raise ValueError("the limits must rise")
        return bands


class MonitoringParams(Section):
    """How live predictions are compared with the reference.

    Attributes:
        log: Prediction log, a file or a directory of files. The environment's `MEAA_PREDICTION_LOG` wins.
        output: Directory of the reports, the labels and the Evidently workspace.
        min_rows: Fewest rows that allow a verdict.
        min_people: Fewest people that allow a verdict, as far as sessions tell whose the rows are; see
            `monitoring.drift_tests.people`.
        sample_rows: Largest number of rows that are compared; a larger window is sampled, its counts stay exact.
        false_alarm_rate: Probability of a false alarm in a window without drift. The tests of all columns share it.
        large_window: Number of people from which a smallest distance decides too; tests would report trifles as drift.
            A row without a session counts as a person.
        numerical_distance: Smallest Wasserstein distance that is drift, in standard deviations of the reference.
        categorical_distance: Smallest Jensen-Shannon distance that is drift.
        numerical_shift: Smallest Cliff's delta that matters, in [0, 1].
        categorical_shift: Smallest total variation distance that matters, in [0, 1].
        no_face_margin: Smallest increase of the share of frames without a face that matters.
        trend_hours: Width of a window on the trend dashboards.
        clock_tolerance_seconds: Allowed distance of a line's time before that of the line above it or after now.
        calibration_bins: Number of confidence bins for expected accuracy and calibration error.
        rebase: What a live window needs to become the reference.
        feedback: How late labels become metrics.
        webhook: How an alarm is sent.
    """

    log: Path
    output: Path
    min_rows: int = Field(ge=20)
    min_people: int = Field(ge=2)
    sample_rows: int = Field(ge=1000)
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
    rebase: RebaseParams
    feedback: FeedbackParams
    webhook: WebhookParams


def read_monitoring(path: Path = PARAMS) -> MonitoringParams:
    """The section with the overrides of the environment.

    Raises:
        ValueError: A variable looks like an override and is none; a misspelt `MEAA_WEBHOOK` would send no alarm.
    """
    check_names(os.environ)
    params = MonitoringParams.parse(Params.read(path).monitoring, path, "monitoring")
    webhook = params.webhook.model_copy(update={"url": os.environ.get(WEBHOOK_VARIABLE) or params.webhook.url})
    log = Path(os.environ.get(LOG_VARIABLE) or params.log)
    return params.model_copy(update={"log": log, "webhook": webhook})
