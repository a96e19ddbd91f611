"""What may be set from outside: environment variables that begin with `MEAA_`, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Final, Literal

BUNDLE_VARIABLE: Final[str] = "MEAA_BUNDLE"

Exposure = Literal["on", "token", "off"]
"""Who may read an address: everybody, those with a token, nobody."""


@dataclass(frozen=True)
class Settings:
    """Settings of the service; limits are those of each worker process.

    Attributes:
        max_bytes: largest request body, in bytes (`MEAA_MAX_BYTES`). The default is above a phone's JPEG, and below
            what a slow line needs minutes for.
        max_pixels: largest width x height of an image (`MEAA_MAX_PIXELS`). The default admits any phone's photo in
            its usual size; a transparent PNG of so many needs some 200 MB while it is decoded.
        max_buffer: bytes of all request bodies that are held at once (`MEAA_MAX_BUFFER`); whose upload would exceed
            it is turned away.
        max_queue: images that may wait or be worked on at once (`MEAA_MAX_QUEUE`); the next is turned away.
        max_wait: seconds that an image may be expected to wait for its turn (`MEAA_MAX_WAIT`); where the queue is
            longer, it is turned away.
        read_seconds: how long a client may take to send the head of its request, and again the body
            (`MEAA_READ_SECONDS`).
        workers: worker processes (`MEAA_WORKERS`); None has one per core.
        threads: images worked on at once by a worker (`MEAA_THREADS`). Two, so that a worker that happened to get
            most of the connections can use more than its core.
        tokens: bearer tokens, one of which clients must send; none admits everybody (`MEAA_TOKEN`, several separated
            by commas, so that one can be replaced while the other still holds).
        cors_origins: the web pages that may call, by their origin; `*` stands for all (`MEAA_CORS_ORIGINS`, separated
            by commas).
        docs: whether the API page and document are there (`MEAA_DOCS`: on, off).
        metrics: who may read `/metrics` (`MEAA_METRICS`: on, token, off).
        prediction_log: directory that gets a file of lines a day, or a file; None keeps none (`MEAA_PREDICTION_LOG`).
        prediction_log_days: a directory's older files are deleted (`MEAA_PREDICTION_LOG_DAYS`).
        bundle: directory of the model bundle, where it is not the one of the checkout or the bento (`MEAA_BUNDLE`).
    """

    max_bytes: int = 10_000_000
    max_pixels: int = 25_000_000
    max_buffer: int = 64_000_000
    max_queue: int = 32
    max_wait: float = 0.6
    read_seconds: float = 20.0
    workers: int | None = None
    threads: int = 2
    tokens: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    docs: bool = True
    metrics: Exposure = "on"
    prediction_log: Path | None = None
    prediction_log_days: int = 90
    bundle: Path | None = None

    def __post_init__(self) -> None:
        if self.max_buffer < self.max_bytes:
            raise ValueError(
                f"MEAA_MAX_BUFFER is {self.max_buffer}; no request of MEAA_MAX_BYTES = {self.max_bytes} fits in"
            )
        if self.metrics == "token" and not self.tokens:
            raise ValueError("MEAA_METRICS is 'token', and no MEAA_TOKEN is set")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = environ) -> Settings:
        """Settings from environment variables; an empty variable counts as none.

        Raises:
            ValueError: a value is not one that its variable may have.
        """
        log = environment.get("MEAA_PREDICTION_LOG")
        bundle = environment.get(BUNDLE_VARIABLE)
        metrics = _choice(environment, "MEAA_METRICS", "on", "token", "off")
        return cls(
            max_bytes=int(_number(environment, "MEAA_MAX_BYTES", cls.max_bytes)),
            max_pixels=int(_number(environment, "MEAA_MAX_PIXELS", cls.max_pixels)),
            max_buffer=int(_number(environment, "MEAA_MAX_BUFFER", cls.max_buffer)),
            max_queue=int(_number(environment, "MEAA_MAX_QUEUE", cls.max_queue)),
            max_wait=_number(environment, "MEAA_MAX_WAIT", cls.max_wait, least=0.01),
            read_seconds=_number(environment, "MEAA_READ_SECONDS", cls.read_seconds),
            workers=int(_number(environment, "MEAA_WORKERS", 0, least=0)) or None,
            threads=int(_number(environment, "MEAA_THREADS", cls.threads)),
            tokens=_list(environment, "MEAA_TOKEN"),
            cors_origins=_list(environment, "MEAA_CORS_ORIGINS"),
            docs=_choice(environment, "MEAA_DOCS", "on", "off") == "on",
            metrics=metrics,  # type: ignore[arg-type]  # one of those
            prediction_log=Path(log) if log else None,
            prediction_log_days=int(_number(environment, "MEAA_PREDICTION_LOG_DAYS", cls.prediction_log_days)),
            bundle=Path(bundle) if bundle else None,
        )


def _number(environment: Mapping[str, str], name: str, default: float, least: float = 1) -> float:
    """A number that is large enough, or the default where there is none."""
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a number") from None
    if not least <= value < float("inf"):
        raise ValueError(f"{name} is {text}; it must be at least {least}")
    return value


def _choice(environment: Mapping[str, str], name: str, *choices: str) -> str:
    """One of the choices, in any case of letters; the first where there is none."""
    text = environment.get(name, "").strip().lower() or choices[0]
    if text not in choices:
        raise ValueError(f"{name} is {text!r}; it must be one of {', '.join(choices)}")
    return text


def _list(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    """What stands between the commas, without the spaces around it."""
    return tuple(part.strip() for part in environment.get(name, "").split(",") if part.strip())
