"""`service.session.fhir`: a summary as FHIR R5 resources, read back by an independent implementation."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from fhir.resources.bundle import Bundle
from fhir.resources.observation import Observation

from service.moods import MOODS
from service.session.fhir import SUBJECT, Context, transaction
from service.session.recording import Recording
from tests.support.sessions import MODEL, estimate, recording

SESSION = "0123456789abcdef" * 2
CONTEXT = Context(SESSION, MODEL, "Patient/17", datetime.fromisoformat("2026-11-24T10:00:00+01:00"))


@pytest.fixture(scope="module")
def session() -> Recording:
    """Ten seconds, of which the person is positive for six and negative for four."""
    good, bad = [0.9, 0.03, 0.05, 0.02], [0.04, 0.9, 0.03, 0.03]
    return recording([(float(second), estimate(good if second < 6 else bad)) for second in range(10)])


def read(session: Recording, context: Context = CONTEXT) -> dict[str, Observation]:
    """The observations by their codes, after a way through JSON and the validation of `fhir.resources`."""
    bundle = Bundle.model_validate_json(json.dumps(transaction(session.summary, context)))
    assert bundle.type == "transaction"
    observations = [entry.resource for entry in bundle.entry]
    return {one.code.coding[0].code: one for one in observations}


def test_the_observations_say_what_the_summary_says(session: Recording) -> None:
    found = read(session)
    shares = {part.code.coding[0].code: part.valueQuantity for part in found["mood-shares"].component}
    assert {code: float(value.value) for code, value in shares.items()} == {
        "mood-positive": 60.0,
        "mood-negative": 40.0,
        "mood-neutral": 0.0,
        "mood-other": 0.0,
    }
    assert {value.code for value in shares.values()} == {"%"}
    balance, expected = found["balance"], session.summary.balance
    assert expected is not None
    assert float(balance.valueQuantity.value) == pytest.approx(expected.mean, abs=1e-4)
    (interval,) = balance.component
    assert float(interval.valueRange.low.value) == pytest.approx(expected.low, abs=1e-4)
    assert float(interval.valueRange.high.value) == pytest.approx(expected.high, abs=1e-4)
    assert float(found["changes"].valueQuantity.value) == pytest.approx(6.0)
    assert float(found["reliability"].valueQuantity.value) == 100.0
    assert [part.valueInteger for part in found["reliability"].component] == [10, 10]


def test_each_observation_names_person_period_and_classifier(session: Recording) -> None:
    for one in read(session).values():
        assert one.status == "final"
        assert one.subject.reference == "Patient/17"
        assert one.effectivePeriod.start == CONTEXT.start
        assert (one.effectivePeriod.end - one.effectivePeriod.start).total_seconds() == 10
        (device,) = one.contained
        assert (one.device.reference, device.id) == ("#classifier", "classifier")
        assert (device.name[0].value, device.version[0].value) == (MODEL.name, MODEL.version)
        assert device.identifier[0].value == MODEL.digest
        assert "no diagnosis" in one.note[0].text


def test_sent_twice_a_session_is_stored_once(session: Recording) -> None:
    first, second = (transaction(session.summary, CONTEXT)["entry"] for _ in range(2))
    assert first == second
    conditions = [entry["request"]["ifNoneExist"] for entry in first]
    assert len(set(conditions)) == len({entry["fullUrl"] for entry in first}) == len(first)
    for entry, condition in zip(first, conditions, strict=True):
        (identifier,) = entry["resource"]["identifier"]
        assert condition == f"identifier={identifier['system']}|{identifier['value']}"


def test_person_and_period_are_left_out_if_they_are_not_known(session: Recording) -> None:
    for one in read(session, Context(SESSION, MODEL)).values():
        assert one.subject is None
        assert one.effectivePeriod is None


def test_what_a_session_without_a_face_does_not_tell_is_said_to_be_unknown() -> None:
    found = read(recording([(0.0, None), (0.5, None)]))
    for one in (found["balance"], found["changes"], *found["mood-shares"].component):
        assert one.valueQuantity is None
        assert one.dataAbsentReason.coding[0].code == "unknown"
    assert len(found["mood-shares"].component) == len(MOODS)
    assert [part.valueInteger for part in found["reliability"].component] == [2, 0]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Patient/17", True),
        ("https://fhir.clinic.example/r5/Patient/a-1.b", True),
        ("urn:uuid:7841ad98-677c-5ee9-9349-5474cfa9cbdc", True),
        ("Anna", False),
        ("Patient/", False),
        ("patient/17", False),
        ("Patient/17 OR 1=1", False),
    ],
)
def test_a_person_is_named_by_a_reference(text: str, right: bool) -> None:
    assert (SUBJECT.fullmatch(text) is not None) == right
