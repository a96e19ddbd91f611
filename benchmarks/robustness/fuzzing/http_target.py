"""Requests as bytes on a connection: the protocol and the whole application.

Each input is served all at once and in pieces, which must make no difference; some again, to a client that does not
read, or that leaves. h11, another parser, must not see other requests in it than the service.
"""

from __future__ import annotations

import random
import zlib
from itertools import pairwise
from typing import Final

import h11

from benchmarks.robustness.fuzzing import http_mutation
from benchmarks.robustness.fuzzing.simulated_worker import STATUSES, Seen, SimulatedWorker

MAX_BYTES: Final = http_mutation.MAX_BYTES
CPU_SECONDS: Final = 1.0

_SINGLE: Final = 200
"""How many bytes arrive one by one, if they do."""

_REFUSALS: Final = frozenset({400, 408, 431})
_WITHOUT_BODY: Final = (100, 204, 304)

seeds = http_mutation.seeds
mutate = http_mutation.mutate

_worker: Final = SimulatedWorker()


def run(data: bytes) -> list[str]:
    """Serve the bytes of a connection.

    Returns:
        The statuses of all responses; `closed` if there is none.

    Raises:
        AssertionError: Something is not as it must be.
    """
    chance = random.Random(zlib.crc32(data))
    whole, statuses = _serve([data])
    if chance.random() < 0.1:
        pieces = [*(data[at : at + 1] for at in range(min(len(data), _SINGLE))), data[_SINGLE:]]
    else:
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((1, 2, 8))))
        pieces = [data[start:end] for start, end in pairwise((0, *cuts, len(data)))]
    parts, others = _serve(pieces)
    _compare(whole, statuses, parts, others)
    if chance.random() < 0.3:
        _serve(pieces, reads=chance.random() < 0.5, ends=chance.random() < 0.5)
    _compare_with_h11(data, whole)
    return [str(status) for status in (*statuses, *others)] or ["closed"]


def _serve(pieces: list[bytes], *, reads: bool = True, ends: bool = False) -> tuple[list[Seen], list[int]]:
    """Serve a connection to its end.

    Args:
        pieces: What the client sends, read by read.
        reads: Whether the client reads what it gets.
        ends: Whether the client closes after its last byte.

    Returns:
        The requests that reached the application, and the statuses of the responses if the client has read them all.

    Raises:
        AssertionError: Something did not end as it must.
    """
    received = _worker.converse(pieces, reads=reads, ends=ends)
    seen = _worker.seen
    if not reads or ends:
        return seen, []
    statuses = _responses(received, [request.method for request in seen])
    assert STATUSES.issuperset(statuses), f"a status that must not be: {statuses}"
    statuses = [status for status in statuses if status != 100]
    assert len(seen) <= len(statuses) <= len(seen) + 1, "not one response for each request"
    return seen, statuses


def _responses(data: bytes, methods: list[bytes]) -> list[int]:
    """The statuses of responses, checked for their form."""
    statuses: list[int] = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, "half a response"
        start, *lines = head.split(b"\r\n")
        assert start.startswith(b"HTTP/1.1 "), f"no response: {start[:40]!r}"
        status = int(start.split(b" ")[1])
        fields = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
        assert len(fields) == len(lines), "a field twice"
        answered = sum(earlier != 100 for earlier in statuses)
        statuses.append(status)
        if status in _WITHOUT_BODY or (answered < len(methods) and methods[answered] == b"HEAD"):
            continue
        assert b"content-length" in fields, "a response without a length"
        length = int(fields[b"content-length"])
        assert len(data) >= length, "half a response"
        data = data[length:]
    return statuses


def _compare(first: list[Seen], statuses: list[int], second: list[Seen], others: list[int]) -> None:
    """Check that it makes no difference how bytes arrive.

    Only the end may differ: if a request turns out to be broken, the application may have answered it already, and
    responses to the requests before it may come first.
    """
    for number, (one, other) in enumerate(zip(statuses, others, strict=False)):
        if one != other:
            ends = [given[number] for given in (statuses, others) if len(given) == number + 1]
            assert _REFUSALS.intersection(ends), f"another answer in pieces: {statuses} {others}"
            break
    for request, same in zip(first, second, strict=False):
        assert (request.method, request.target) == (same.method, same.target), "another request in pieces"
        if request.complete and same.complete:
            assert request.body == same.body, "another body in pieces"


def _compare_with_h11(data: bytes, seen: list[Seen]) -> None:
    """Check that h11 sees the same requests, as far as it sees any: it refuses some that the service takes."""
    expected, refused = _parse_with_h11(data)
    for one, other in zip(seen, expected, strict=False):
        assert (one.method, _path(one.target)) == (other.method, _path(other.target)), "h11 sees another request"
        if one.complete and other.complete:
            assert one.body == other.body, "h11 sees another body"
    assert refused or len(seen) <= len(expected), "h11 sees fewer requests"


def _path(target: bytes) -> bytes:
    """Path and query of a target in any form, as the server passes them on; an empty query is as good as none."""
    if not target.startswith(b"/") and b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    target = target.partition(b"#")[0]
    return target.removesuffix(b"?") if target.count(b"?") == 1 else target


def _parse_with_h11(data: bytes) -> tuple[list[Seen], bool]:
    """The requests that h11 sees, the last perhaps incomplete, and whether it refuses what follows."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BYTES)
    connection.receive_data(data)
    found: list[Seen] = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found.append(Seen(event.method, event.target))
            elif isinstance(event, h11.Data):
                found[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                found[-1].complete = True
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return found, False
                connection.start_next_cycle()
            else:
                return found, False
    except h11.RemoteProtocolError:
        return found, True
