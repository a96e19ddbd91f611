"""Many connections at once, whose clients send, wait, read late, or leave, and whose worker may hold little.

An input is a list of actions: a byte for what is done, a byte for the connection or for the time, and for what is sent
its length in two bytes and the bytes themselves.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from benchmarks.robustness.fuzzing import http_mutation
from benchmarks.robustness.fuzzing.loop import Wire
from benchmarks.robustness.fuzzing.mutation import rearrange
from benchmarks.robustness.fuzzing.simulated_worker import SimulatedWorker
from service.connections import Account, Connection

MAX_BYTES: Final = 60_000
CPU_SECONDS: Final = 2.0

_CONNECT, _SEND, _WAIT, _READ, _STOP_READING, _FINISH, _LEAVE, _PROBE = range(8)
_CLIENTS: Final = 16
_MAX_CONNECTIONS: Final = 8
_MAX_HELD: Final = 200_000
_MAX_ACTIONS: Final = 200
_SECONDS: Final = (0.001, 0.1, 1.0, 3.0, 4.9, 5.1, 19.0, 21.0)
_PROBE_REQUEST: Final = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Action:
    """Something that a client does.

    Attributes:
        kind: What.
        which: Number of the client, or of the time that passes.
        data: What is sent.
    """

    kind: int
    which: int
    data: bytes = b""

    def to_bytes(self) -> bytes:
        """The action as it is written."""
        sent = len(self.data).to_bytes(2, "big") + self.data if self.kind == _SEND else b""
        return bytes([self.kind, self.which]) + sent


def parse(data: bytes) -> list[Action]:
    """The actions in an input."""
    actions, at = [], 0
    while at + 2 <= len(data) and len(actions) < _MAX_ACTIONS:
        kind, which, at = data[at] % 8, data[at + 1] % _CLIENTS, at + 2
        length = int.from_bytes(data[at : at + 2], "big") if kind == _SEND else 0
        start = at + 2 if kind == _SEND else at
        at = start + length
        actions.append(Action(kind, which, data[start:at]))
    return actions


def _written(actions: list[Action]) -> bytes:
    return b"".join(action.to_bytes() for action in actions)


def seeds() -> tuple[bytes, ...]:
    """Clients that behave, and some that do not."""
    upload, _, page, *_ = http_mutation.seeds()
    every = range(_CLIENTS)
    return (
        _written([Action(_SEND, who, upload) for who in every]),
        _written([Action(_CONNECT, who) for who in every] + [Action(_PROBE, 0)]),
        _written([Action(_SEND, who, upload[:-20]) for who in every] + [Action(_PROBE, 0)]),
        _written([Action(_SEND, who, page[:20]) for who in every] + [Action(_WAIT, 7), Action(_PROBE, 0)]),
        _written(
            [Action(_STOP_READING, 1), *[Action(_SEND, 1, page * 20)] * 9, Action(_SEND, 2, upload), Action(_READ, 1)]
        ),
        _written([Action(_STOP_READING, 1), Action(_SEND, 1, upload), Action(_FINISH, 1)]),
    )


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Actions that differ from others in one or some."""
    actions = parse(data) or parse(chance.choice(seeds()))
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(actions) + 1)
        match chance.randrange(5):
            case 0:
                rearrange(actions, chance, most=_MAX_ACTIONS)
            case 1:
                actions.insert(at, Action(chance.randrange(8), chance.randrange(_CLIENTS)))
            case 2 | 3:
                sent = chance.choice(http_mutation.seeds())
                if chance.random() < 0.5:
                    sent = http_mutation.mutate(sent, chance)
                cut = chance.randrange(len(sent) + 1)
                who = chance.randrange(_CLIENTS)
                actions[at:at] = [Action(_SEND, who, sent[:cut]), Action(_SEND, who, sent[cut:])]
            case 4 if actions:
                actions += actions[at:][:20]
    return _written(actions)[:MAX_BYTES]


_worker: Final = SimulatedWorker()


def run(data: bytes) -> list[str]:
    """Let clients act on connections of one worker.

    Returns:
        `done`, and `served` for each client that came last and was served.

    Raises:
        AssertionError: Something is not as it must be.
    """
    outcomes = ["done"]
    actions = parse(data)
    account = Account(max_connections=_MAX_CONNECTIONS, max_bytes=_MAX_HELD)

    async def clients() -> None:
        wires: dict[int, Wire] = {}
        for action in actions:
            await _act(action, wires)
            _check(account)
            if action.kind == _PROBE:
                outcomes.append("served")

    _worker.run(clients(), account)
    return outcomes


async def _act(action: Action, wires: dict[int, Wire]) -> None:
    if action.kind == _WAIT:
        await asyncio.sleep(_SECONDS[action.which % len(_SECONDS)])
        return
    if action.kind == _PROBE:
        wire = _worker.connect()
        wire.send(_PROBE_REQUEST)
        await asyncio.sleep(0.001)
        assert wire.received.startswith(b"HTTP/1.1 200 "), "who comes last is not served"
        return
    wire = wires.get(action.which)
    if wire is None or wire.closed:
        wire = wires[action.which] = _worker.connect()
    match action.kind:
        case 1:
            wire.send(action.data)
        case 3 | 4:
            wire.read(action.kind == _READ)
        case 5:
            wire.finish()
        case 6:
            wire.abort()
    await asyncio.sleep(0.001)


def _check(account: Account) -> None:
    assert account._total == sum(account._held.values()), "the account does not add up"
    assert account._total <= _MAX_HELD, "more is held than may be"
    assert len(account._held) <= _MAX_CONNECTIONS, "more connections than may be"
    assert account._waiting.keys() <= account._held.keys(), "a connection waits that is not held"
    assert account is Connection.account, "another account"
