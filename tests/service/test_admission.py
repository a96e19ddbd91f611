"""`service.admission`: work that can be stopped, and what a thread keeps of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref

import pytest

from service.admission import Admission, Buffer
from service.errors import NoFaceError, OverloadedError, StoppedError


async def present() -> bool:
    return False


def test_work_is_stopped_when_nobody_waits_for_it_any_more() -> None:
    gone, stopped = time.monotonic() + 0.5, threading.Event()

    async def has_gone() -> bool:
        return time.monotonic() > gone

    def work() -> None:
        if stopped.wait(10):
            raise StoppedError

    started = time.monotonic()
    admission = Admission(threads=1, max_queue=9, max_wait=1)
    assert asyncio.run(admission.run(work, given_up=has_gone, stop=stopped.set)) is None
    assert 0.5 < time.monotonic() - started < 2


def test_work_that_somebody_waits_for_is_not_stopped() -> None:
    stopped = threading.Event()

    def work() -> bool:
        return stopped.wait(0.5)

    admission = Admission(threads=1, max_queue=9, max_wait=1)
    assert asyncio.run(admission.run(work, given_up=present, stop=stopped.set)) is False


@pytest.mark.parametrize("error", [None, NoFaceError, StoppedError])
def test_neither_the_work_nor_its_error_keeps_the_image_in_memory(error: type[Exception] | None) -> None:
    class Image:
        pass

    async def run() -> bool:
        image = Image()
        kept = weakref.ref(image)

        def work(image: Image = image) -> None:
            copy = image  # in the frames of a traceback
            if error is not None:
                raise error("no") from ValueError(copy)

        del image
        with contextlib.suppress(NoFaceError):
            await Admission(threads=1, max_queue=9, max_wait=1).run(work, given_up=present)
        del work
        return kept() is not None  # the thread is still there, without work

    assert asyncio.run(run()) is False


def test_work_of_an_expected_time_is_refused_before_any_was_done() -> None:
    admission = Admission(threads=1, max_queue=9, max_wait=1, expected=2)

    async def run() -> list[object]:
        work = [admission.run(lambda: time.sleep(0.1), given_up=present) for _ in range(3)]
        return await asyncio.gather(*work, return_exceptions=True)

    first, *others = asyncio.run(run())
    assert first is None
    assert {type(other) for other in others} == {OverloadedError}


def test_the_end_of_a_large_body_is_told() -> None:
    told: list[int] = []
    buffer = Buffer(5_000_000, after_large=lambda: told.append(1))
    for count in (1_000_000, 1_000_001):
        with buffer.lease() as hold:
            hold(count)
    assert len(told) == 1
