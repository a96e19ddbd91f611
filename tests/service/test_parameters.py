"""`service.parameters`: what is read, and what is refused rather than guessed."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from service.errors import InvalidParameterError
from service.parameters import Box, Options, read_times


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", Options()),
        ("t=1&x=", Options()),
        ("faces=all", Options(people=5)),
        ("faces=all&max_faces=16", Options(people=16)),
        ("max_faces=3", Options()),
        ("box=120,80,160,168", Options(box=Box(120, 80, 160, 168))),
        ("box=-4.5,%2080.6,%20160,%20168.", Options(box=Box(-4, 81, 160, 168))),
        ("box=1,2,3,4&faces=all&max_faces=1", Options(people=1, box=Box(1, 2, 3, 4))),
    ],
)
def test_a_query_that_can_be_read_is(query: str, options: Options) -> None:
    assert Options.of(QueryParams(query)) == options


@pytest.mark.parametrize(
    "query",
    [
        "faces=", "faces=1", "faces=ALL", "faces=all&faces=all",
        "max_faces=0", "max_faces=17", "max_faces=", "max_faces=2.5", "max_faces=-1", "max_faces=%D9%A3",
        "max_faces=" + "9" * 5000,
        "box=", "box=1,2,3", "box=1,2,3,4,5", "box=a,2,3,4", "box=1,2,0,4", "box=1,2,3,-4", "box=1,2,3,0.4",
        "box=nan,2,3,4", "box=inf,2,3,4", "box=1e3,2,3,4", "box=1_0,2,3,4", "box=1;2;3;4", "box=1,,3,4",
        "box=100001,2,3,4", "box=1,2,100001,4", "box=1,2,3,4&box=1,2,3,4", "box=%00,2,3,4",
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(InvalidParameterError):
        Options.of(QueryParams(query))


def test_frames_without_times_are_half_a_second_apart_and_go_on_where_the_session_was() -> None:
    assert read_times(None, 3, None) == [0.0, 0.5, 1.0]
    assert read_times(None, 2, 7.25) == [7.75, 8.25]


def test_times_are_read_in_seconds() -> None:
    assert read_times("0, 0.25,1764000000.5", 3, None) == [0.0, 0.25, 1764000000.5]
    assert read_times("8", 1, 7.75) == [8.0]


@pytest.mark.parametrize(
    "text",
    ["", "0", "0,1,2", "0,0", "1,0", "a,b", "nan,inf", "-1,0", "0,1e3", "0,99999999999", "0,1,", "6,8", "7.75,8"],
)
def test_times_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError):
        read_times(text, 2, 7.75)
