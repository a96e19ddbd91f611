"""What may be set from outside: environment variables that begin with `MEAA_`, with their defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.images import MAX_PIXELS

MAX_BYTES: Final[int] = 10_000_000
"""Default limit on a request's body: above a phone's JPEG, below what a slow line needs minutes for."""

BUNDLE_VARIABLE: Final[str] = "MEAA_BUNDLE"


@dataclass(frozen=True)
class Settings:
    """Settings of one worker process.

    Attributes:
        max_bytes: largest request body, in bytes (`MEAA_MAX_BYTES`).
        max_pixels: largest width x height of an image (`MEAA_MAX_PIXELS`).
        max_queue: requests that may be in a worker at once, waiting ones included; the next is turned away
            (`MEAA_MAX_QUEUE`).
        read_seconds: how long a client may take to send its request (`MEAA_READ_SECONDS`). Below BentoML's own
            timeout, which would blame the server.
        threads: images worked on at once by a worker (`MEAA_THREADS`); one per core by default.
        token: the bearer token that clients must send; None admits everybody (`MEAA_TOKEN`).
        prediction_log: file that a line is added to for every prediction; None keeps none (`MEAA_PREDICTION_LOG`).
        bundle: directory of the model bundle, where it is not the one of the checkout or the bento (`MEAA_BUNDLE`).
    """

    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    max_queue: int = 32
    read_seconds: float = 20.0
    threads: int = os.cpu_count() or 1
    token: str | None = None
    prediction_log: Path | None = None
    bundle: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings from environment variables; an empty variable counts as none.

        Raises:
            ValueError: a number is not one, or is not above zero.
        """
        log = environment.get("MEAA_PREDICTION_LOG")
        bundle = environment.get(BUNDLE_VARIABLE)
        return cls(
            max_bytes=int(_positive(environment, "MEAA_MAX_BYTES", cls.max_bytes)),
            max_pixels=int(_positive(environment, "MEAA_MAX_PIXELS", cls.max_pixels)),
            max_queue=int(_positive(environment, "MEAA_MAX_QUEUE", cls.max_queue)),
            read_seconds=_positive(environment, "MEAA_READ_SECONDS", cls.read_seconds),
            threads=int(_positive(environment, "MEAA_THREADS", cls.threads)),
            token=environment.get("MEAA_TOKEN") or None,
            prediction_log=Path(log) if log else None,
            bundle=Path(bundle) if bundle else None,
        )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    """A number of at least one (a fraction of a second serves nobody), or the default where there is none."""
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a number") from None
    if not 1 <= value < float("inf"):
        raise ValueError(f"{name} is {text}; it must be at least 1")
    return value
