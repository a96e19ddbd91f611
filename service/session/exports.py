"""A session as JSON and as CSV: numbers only, and neither names nor paths of files, which may name a person."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

from service import problems
from service.errors import MeaaError
from service.moods import MOODS
from service.schema import AnsweredFrame, FailedFrame, FramesResponse
from service.session.comparison import Comparison
from service.session.engine import SessionEstimate
from service.session.recording import Recording, Take

COLUMNS: Final[tuple[str, ...]] = (
    "frame",
    "time",
    "status",
    "code",
    "mood",
    *MOODS,
    "own_mood",
    *(f"own_{mood}" for mood in MOODS),
    "reliable",
    "reasons",
    "face_id",
    "faces",
    "x",
    "y",
    "width",
    "height",
    "confidence",
    "face_share",
    "brightness",
    "contrast",
    "sharpness",
    "yaw",
    "roll",
)
"""Columns of the CSV file, one row per frame. `mood` and the four probabilities are the filtered ones; those that begin
with `own_` are the frame's own. What is not known is empty."""


def document(recording: Recording, comparison: Comparison | None = None) -> dict[str, Any]:
    """The session as the response of `POST /upload-meaa-frames`, without the ids of requests.

    Args:
        recording: Session.
        comparison: How it differs from the baseline; it is added as `comparison`.
    """
    response = FramesResponse(
        frames=[_frame(take, recording) for take in recording.takes],
        session=recording.state,
        summary=recording.summary,
    )
    answer = response.model_dump(exclude={"frames": {"__all__": {"estimate": {"request"}, "problem": {"request"}}}})
    return answer if comparison is None else {**answer, "comparison": comparison.model_dump()}


def table(recording: Recording) -> str:
    """The session as CSV (RFC 4180), with `COLUMNS`."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="")
    writer.writeheader()
    for place, take in enumerate(recording.takes, 1):
        writer.writerow({"frame": place, "time": round(take.time, 3), **_cells(take.outcome)})
    return file.getvalue()


def _frame(take: Take, recording: Recording) -> AnsweredFrame | FailedFrame:
    outcome = take.outcome
    if isinstance(outcome, MeaaError):
        problem = problems.describe(type(outcome), str(outcome))
        return FailedFrame(status=problem.status, time=take.time, problem=problem)
    return AnsweredFrame.of(take.time, outcome, recording.model)


def _cells(outcome: SessionEstimate | MeaaError) -> dict[str, Any]:
    if isinstance(outcome, MeaaError):
        return {"status": int(problems.STATUSES[type(outcome)]), "code": outcome.code}
    one = outcome.estimate
    quality = one.quality.model_dump(exclude={"reliable", "reasons"})
    return {
        "status": 200,
        "code": "ok",
        "mood": outcome.mood,
        **{mood: round(value, 4) for mood, value in outcome.probabilities.items()},
        "own_mood": one.mood,
        **{f"own_{mood}": round(value, 4) for mood, value in one.probabilities.items()},
        "reliable": str(one.quality.reliable).lower(),
        "reasons": " ".join(one.quality.reasons),
        "face_id": outcome.face_id,
        "faces": one.face_count,
        "x": one.face.x,
        "y": one.face.y,
        "width": one.face.width,
        "height": one.face.height,
        "confidence": round(one.face.confidence, 4),
        **{name: "" if value is None else value for name, value in quality.items()},
    }
