"""`POST /upload-meaa-frames`: several frames of a session, which the client keeps between two requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from service import memory, schema
from service.classifier import MoodClassifier
from service.detector import FaceDetector
from service.errors import (
    InvalidParameterError,
    MissingImageError,
    OverloadedError,
    TooLargeError,
    TooManyImagesError,
    UnsupportedTypeError,
)
from service.estimator import MoodEstimator
from service.moods import MOODS
from service.parameters import Options
from service.processing import Processing
from service.session import frames
from service.session.mood_filter import FilterSettings
from service.settings import Settings
from service.upload import Frames, read_frames
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode

NO_FACE = encode(np.zeros((100, 120, 3), np.uint8))


@pytest.fixture(scope="module")
def estimator() -> MoodEstimator:
    """The released nets, with a rule that calls every estimate reliable."""
    bundle = ROOT / "bundle"
    return MoodEstimator(FaceDetector(bundle / "detector"), MoodClassifier(bundle / "classifier"))


@pytest.fixture
def processing(estimator: MoodEstimator) -> Processing:
    """A worker's estimator and queues."""
    return Processing(estimator, FilterSettings.read(ROOT / "bundle"), Settings(), trimmer=memory.Trimmer())


async def waiting() -> bool:
    """The client waits for its response."""
    return False


def take(
    processing: Processing, images: Sequence[bytes], times: str | None = None, session: str | None = None
) -> dict[str, Any]:
    """The body of the response to frames."""
    response = asyncio.run(frames.take(Frames(list(images), times, session), processing, waiting))
    assert response is not None
    body: dict[str, Any] = json.loads(response.model_dump_json())
    return body


def test_frames_are_answered_in_order_with_a_summary(processing: Processing, photo: bytes) -> None:
    body = take(processing, [photo] * 3)
    assert list(body) == ["frames", "session", "summary"]
    for index, frame in enumerate(body["frames"]):
        assert list(frame) == ["status", "time", "estimate", "mood", "probabilities"]
        assert (frame["status"], frame["time"]) == (200, index / 2)
        assert frame["mood"] == frame["estimate"]["mood"] == "positive"
        assert list(frame["probabilities"]) == list(MOODS)
        assert frame["estimate"]["face_id"] == 1
    summary = body["summary"]
    assert (summary["seconds"], summary["frames"], summary["answered"]) == (1.5, 3, 3)
    assert summary["moods"]["positive"] == {"share": 1.0, "seconds": 1.5}
    assert summary["balance"]["low"] <= summary["balance"]["mean"] <= summary["balance"]["high"]


def test_a_bad_frame_does_not_spoil_the_others(processing: Processing, photo: bytes) -> None:
    body = take(processing, [b"", photo, NO_FACE, photo[:1000], photo])
    assert [frame["status"] for frame in body["frames"]] == [400, 200, 422, 400, 200]
    assert [frame["problem"]["code"] for frame in body["frames"] if "problem" in frame] == [
        "invalid_image",
        "no_face",
        "invalid_image",
    ]
    assert [frame["time"] for frame in body["frames"]] == [0, 0.5, 1, 1.5, 2]
    assert (body["summary"]["frames"], body["summary"]["answered"]) == (5, 2)


def test_a_session_in_two_requests_is_the_same_as_in_one(processing: Processing, astronaut: Pixels) -> None:
    shots = [encode(np.roll(astronaut, 4 * step, axis=1)) for step in range(6)]
    together = take(processing, shots)
    first = take(processing, shots[:2])
    second = take(processing, shots[2:], session=first["session"])
    assert first["session"] != second["session"]
    assert len(second["session"]) <= 4_000
    apart = [*first["frames"], *second["frames"]]
    assert [frame["time"] for frame in apart] == [frame["time"] for frame in together["frames"]]
    for one, other in zip(apart, together["frames"], strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-3)
        assert one["estimate"]["face_id"] == other["estimate"]["face_id"]
    for name in ("frames", "answered", "seconds", "changes_per_minute"):
        assert second["summary"][name] == together["summary"][name]


def test_large_frames_go_through_the_decoder_process(processing: Processing, astronaut: Pixels) -> None:
    large = encode(np.asarray(astronaut).repeat(4, axis=0).repeat(4, axis=1), "PNG")
    body = take(processing, [large, large], times="3,3.25")
    assert [(frame["status"], frame["time"]) for frame in body["frames"]] == [(200, 3), (200, 3.25)]


@pytest.mark.parametrize("times", ["0", "0,1,2", "1,0", "a,b", ""])
def test_times_that_do_not_fit_are_refused(processing: Processing, times: str) -> None:
    with pytest.raises(InvalidParameterError):
        take(processing, [b"", b""], times=times)


def test_a_damaged_session_is_refused(processing: Processing) -> None:
    session = take(processing, [b""])["session"]
    for damaged in (session[:-1], session[1:], "x", "A" * 5000, session.swapcase(), "é", session + "\0"):
        with pytest.raises(InvalidParameterError):
            take(processing, [b""], session=damaged)


def test_frames_of_a_busy_worker_are_overloads(
    processing: Processing, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = iter([False, True, False])

    def check() -> None:
        if next(busy):
            raise OverloadedError("Too many requests are waiting. Try again in a moment.")

    monkeypatch.setattr(processing._admission, "check", check)
    assert [frame["status"] for frame in take(processing, [photo] * 3)["frames"]] == [200, 503, 200]


def test_frames_that_come_too_late_in_a_long_request_are_overloads(
    processing: Processing, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_PATIENCE", -1.0)
    body = take(processing, [photo] * 2)
    assert [frame["problem"]["code"] for frame in body["frames"]] == ["overloaded"] * 2
    assert body["summary"]["frames"] == 2


def test_snapshots_come_between_the_frames_of_a_request(processing: Processing, photo: bytes) -> None:
    finished = []

    async def run() -> None:
        async def session() -> None:
            await frames.take(Frames([photo] * 12, None, None), processing, waiting)
            finished.append("frames")

        async def snapshot() -> None:
            await asyncio.sleep(0.02)
            await processing.snapshot(processing.read_header(photo), Options(), waiting)
            finished.append("snapshot")

        await asyncio.gather(session(), snapshot())

    asyncio.run(run())
    assert finished == ["snapshot", "frames"]


def test_nobody_goes_on_for_a_client_that_is_gone(processing: Processing, photo: bytes) -> None:
    async def gone() -> bool:
        return True

    assert asyncio.run(frames.take(Frames([photo] * 3, None, None), processing, gone)) is None


def read(parts: Sequence[tuple[str, str | bytes]], *, max_bytes: int = 1_000_000, kind: str | None = None) -> Frames:
    """What is read of a multipart request.

    Args:
        parts: Names and contents of its fields; bytes are a file.
        max_bytes: Largest body.
        kind: Content type; by default the right one.
    """
    lines = []
    for name, content in parts:
        file = isinstance(content, bytes)
        head = f'Content-Disposition: form-data; name="{name}"' + ('; filename="f.jpg"' if file else "")
        data = content if isinstance(content, bytes) else content.encode()
        lines += [b"--edge", head.encode(), b"", data]
    body = b"\r\n".join([*lines, b"--edge--", b""])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", (kind or "multipart/form-data; boundary=edge").encode())]
    scope = {"type": "http", "method": "POST", "path": schema.FRAMES_PATH, "headers": headers, "query_string": b""}
    request = Request(scope, receive)
    return asyncio.run(read_frames(request, max_bytes=max_bytes, seconds=5, hold=lambda count: None))


def test_the_parts_of_a_request_are_read_in_order() -> None:
    sent = read(
        [("image", b"1"), ("times", "0,1,2"), ("file", b"2"), ("other", b"x"), ("image", b"3"), ("session", "s")]
    )
    assert sent == Frames([b"1", b"2", b"3"], "0,1,2", "s")
    assert read([("image", b"1"), ("session", "")]) == Frames([b"1"], None, None)
    assert len(read([("image", b"1")] * 32).images) == 32


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([("image", b"1")] * 33, TooManyImagesError),
        ([("image", b"1")] * 500, TooManyImagesError),
        ([], MissingImageError),
        ([("image", "text")], MissingImageError),
        ([("other", b"1")], MissingImageError),
        ([("image", b"1"), ("times", "0"), ("times", "0")], InvalidParameterError),
        ([("image", b"1"), ("times", b"0")], InvalidParameterError),
        ([("image", b"1"), ("session", b"s")], InvalidParameterError),
        ([("image", bytes(1_000_000))], TooLargeError),
    ],
)
def test_requests_that_cannot_be_read_are_refused(parts: list[tuple[str, str | bytes]], error: type[Exception]) -> None:
    with pytest.raises(error):
        read(parts)


def test_a_body_of_another_type_is_refused() -> None:
    with pytest.raises(UnsupportedTypeError):
        read([("image", b"1")], kind="image/jpeg")
    with pytest.raises(MissingImageError):
        read([("image", b"1")], kind="multipart/form-data")
