"""What Prometheus is told at `/metrics`, beside BentoML's own figures. Names follow Prometheus' conventions."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

REQUESTS: Final = Counter(
    "meaa_requests",
    "Requests for a mood, by HTTP status and problem code (`ok` where there was none).",
    ["status", "code"],
)
DURATION: Final = Histogram(
    "meaa_request_duration_seconds",
    "Time from a request's headers to its response.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
PREDICTIONS: Final = Counter("meaa_predictions", "Moods estimated.", ["mood", "model_version"])
LOG_FAILURES: Final = Counter("meaa_prediction_log_failures", "Predictions that could not be written to the log.")
