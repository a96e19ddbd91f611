"""The summary of a session as HL7 FHIR R5 resources, which clinicians' systems take in.

The result is a transaction, which can be sent to a FHIR server as it is: four Observations, each created only if it is
not there. Their codes are this system's own, with their meaning as text.

Source: https://hl7.org/fhir/R5/observation.html
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from service.classifier import ClassifierMetadata
from service.moods import MOODS
from service.session.summary import Summary

CODES: Final[str] = "urn:meaa:observation"
"""Code system of the observations and their components."""

SESSIONS: Final[str] = "urn:meaa:session"
"""Namespace of the observations' identifiers."""

SUBJECT: Final = re.compile(r"(urn:uuid:[0-9a-f-]{36}|(https?://\S+/)?[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64})")
"""A reference to the person whose session it is, such as `Patient/17`."""

_UCUM: Final[str] = "http://unitsofmeasure.org"
_CATEGORIES: Final[str] = "http://terminology.hl7.org/CodeSystem/observation-category"
_ABSENT: Final[str] = "http://terminology.hl7.org/CodeSystem/data-absent-reason"

_TEXTS: Final[dict[str, str]] = {
    "mood-shares": "Shares of the time with each mood, estimated from the face",
    "balance": "Mean positive minus negative probability of the mood, estimated from the face",
    "changes": "Changes of the mood estimated from the face",
    "reliability": "Share of the frames with a reliable estimate of the mood",
    "interval": "95 % interval",
    "frames": "Number of frames",
    "answered": "Number of frames in which the mood was estimated",
    **{f"mood-{mood}": f"Share of the time in which the mood is {mood}" for mood in MOODS},
}
"""The codes, with what they mean."""

_NOTE: Final[str] = (
    "Estimated by software from the expression of a face in a video or in images. It is an impression and no finding: "
    "an expression is not a feeling, and no diagnosis follows from it."
)


@dataclass(frozen=True)
class Context:
    """What a session does not know of itself.

    Attributes:
        session: Random id of the session.
        model: Classifier.
        subject: Reference to the person, such as `Patient/17`; None leaves it out.
        start: Time of the first frame, with its offset from UTC; None leaves the period out.
    """

    session: str
    model: ClassifierMetadata
    subject: str | None = None
    start: datetime | None = None


def transaction(summary: Summary, context: Context) -> dict[str, Any]:
    """The summary as a Bundle of type `transaction`.

    Args:
        summary: Summary of a session.
        context: What it does not know of itself.
    """
    observations = [_shares(summary), _balance(summary), _changes(summary), _reliability(summary)]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry({**_common(summary, context), **one}, context) for one in observations],
    }


def _entry(observation: dict[str, Any], context: Context) -> dict[str, Any]:
    code = observation["code"]["coding"][0]["code"]
    name = uuid.uuid5(uuid.UUID(context.session), code)
    return {
        "fullUrl": f"urn:uuid:{name}",
        "resource": {**observation, "identifier": [{"system": SESSIONS, "value": f"{context.session}.{code}"}]},
        "request": {
            "method": "POST",
            "url": "Observation",
            "ifNoneExist": f"identifier={SESSIONS}|{context.session}.{code}",
        },
    }


def _common(summary: Summary, context: Context) -> dict[str, Any]:
    """What all observations of a session have in common."""
    model = context.model
    common: dict[str, Any] = {
        "resourceType": "Observation",
        "contained": [
            {
                "resourceType": "Device",
                "id": "classifier",
                "identifier": [{"system": "urn:meaa:classifier", "value": model.digest}],
                "name": [{"value": model.name, "type": "registered-name"}],
                "version": [{"value": model.version}],
            }
        ],
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORIES, "code": "exam", "display": "Exam"}]}],
        "device": {"reference": "#classifier"},
        "note": [{"text": _NOTE}],
    }
    if context.subject is not None:
        common["subject"] = {"reference": context.subject}
    if context.start is not None:
        end = context.start + timedelta(seconds=summary.seconds)
        common["effectivePeriod"] = {
            "start": context.start.isoformat(timespec="milliseconds"),
            "end": end.isoformat(timespec="milliseconds"),
        }
    return common


def _shares(summary: Summary) -> dict[str, Any]:
    known = any(one.seconds for one in summary.moods.values())
    values = [_quantity(100 * one.share, "%") if known else _unknown() for one in summary.moods.values()]
    components = [{"code": _code(f"mood-{mood}"), **value} for mood, value in zip(summary.moods, values, strict=True)]
    return {"code": _code("mood-shares"), "component": components}


def _balance(summary: Summary) -> dict[str, Any]:
    one = summary.balance
    if one is None:
        return {"code": _code("balance"), **_unknown()}
    interval = {"low": _number(one.low, "1"), "high": _number(one.high, "1")}
    component = {"code": _code("interval"), "valueRange": interval}
    return {"code": _code("balance"), **_quantity(one.mean, "1"), "component": [component]}


def _changes(summary: Summary) -> dict[str, Any]:
    known = any(one.seconds for one in summary.moods.values())
    value = _quantity(summary.changes_per_minute, "/min") if known else _unknown()
    return {"code": _code("changes"), **value}


def _reliability(summary: Summary) -> dict[str, Any]:
    counts: Sequence[tuple[str, int]] = (("frames", summary.frames), ("answered", summary.answered))
    return {
        "code": _code("reliability"),
        **_quantity(100 * summary.reliable_share, "%"),
        "component": [{"code": _code(name), "valueInteger": count} for name, count in counts],
    }


def _code(code: str) -> dict[str, Any]:
    return {"coding": [{"system": CODES, "code": code, "display": _TEXTS[code]}], "text": _TEXTS[code]}


def _number(value: float, unit: str) -> dict[str, Any]:
    return {"value": round(value, 4), "unit": unit, "system": _UCUM, "code": unit}


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"valueQuantity": _number(value, unit)}


def _unknown() -> dict[str, Any]:
    absent = {"system": _ABSENT, "code": "unknown", "display": "Unknown"}
    return {"dataAbsentReason": {"coding": [absent]}}
