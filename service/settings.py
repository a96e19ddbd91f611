"""The settings of the service: environment variables that begin with `MEAA_`, with their defaults."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX: Final[str] = "MEAA_"
"""A setting's variable is this prefix and the setting's name in capitals."""

OTHER_VARIABLES: Final[frozenset[str]] = frozenset(
    {"MEAA_WEBHOOK", "MEAA_WEBHOOK_SECRET", "MEAA_FERPLUS_URL", "MEAA_PHOTOS_URL"}
)
"""Variables of monitoring and of the pipelines; a machine may set them for all of its programs."""

# Kubernetes (and Docker's links) tell every container the addresses of services, also of one that is called `meaa`.
_SERVICE_LINK: Final = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR))")
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://.+")

_ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@\s]+")


def _number(text: object) -> object:
    """A number from text; thus a whole number may be written as `5e6`."""
    try:
        number = float(text) if isinstance(text, str) else text
    except ValueError:
        return text  # pydantic says what is wrong with it
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _choice(text: object) -> object:
    """A choice in lower case, without the spaces around it."""
    return text.strip().lower() if isinstance(text, str) else text


def _parts(text: object) -> object:
    """The parts of a comma-separated list, without the spaces around them."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


def _path(text: object) -> object:
    """A path, without the spaces around it.

    Raises:
        ValueError: There is nothing else.
    """
    if not isinstance(text, str):
        return text
    if not text.strip():
        raise ValueError("it is blank")
    return text.strip()


_Whole = Annotated[int, BeforeValidator(_number)]
_List = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
_Path = Annotated[Path, BeforeValidator(_path)]


class Settings(BaseSettings):
    """Settings of the service, read from the environment; limits apply to each worker process.

    An empty variable counts as unset, except for the token. `.env` files are not read.

    Raises:
        ValueError: A value is not allowed, or a variable that begins with `MEAA_` is unknown; the message names all
            such variables.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, allow_inf_nan=False, frozen=True)

    token: _List = Field(
        (),
        description="Bearer tokens, separated by commas. If set, a request must carry `Authorization: Bearer TOKEN` "
        "with one of them. A variable without a token is refused. To replace a token, add the new one, move the "
        "clients, then remove the old one.",
    )
    cors_origins: _List = Field(
        (),
        description="Origins of the web pages that may call the service, separated by commas; `*` allows all.",
    )
    docs: Annotated[Literal["on", "off"], BeforeValidator(_choice)] = Field(
        "on", description="`off` removes the API page, its assets and `/docs.json`."
    )
    metrics: Annotated[Literal["on", "token", "off"], BeforeValidator(_choice)] = Field(
        "on", description="Who may read `/metrics`: everybody (`on`), clients with a token (`token`), nobody (`off`)."
    )
    request_id: Annotated[Literal["random", "client"], BeforeValidator(_choice)] = Field(
        "random",
        description="Where the id of a request comes from, which its response and its row in the prediction log carry: "
        "`random`, or `client` to take it from the header `X-Request-Id` if that has 1 to 64 of the characters "
        "`A-Z a-z 0-9 . _ -`. `client` suits a proxy that gives each request an id that leads to nobody.",
    )
    workers: _Whole = Field(0, ge=0, description="Worker processes, which share the port; 0 starts one per core.")
    threads: _Whole = Field(
        2,
        ge=1,
        # Two, so that a worker that happened to get most of the connections can use more than its core.
        description="Images that a worker processes at once, each on up to four cores if they are free.",
    )
    max_bytes: _Whole = Field(
        10_000_000,  # above a phone's JPEG, and below what a slow line needs minutes for
        ge=1,
        description="Largest request body, in bytes; a larger one gets 413 before it is read. Also the largest message "
        "of a live session, which is closed with 1009.",
    )
    max_pixels: _Whole = Field(
        25_000_000,  # any phone's photo in its usual size; decoding a transparent PNG of this size takes some 200 MB
        ge=1,
        description="Largest width x height of an image, checked before it is decoded.",
    )
    max_buffer: _Whole = Field(
        64_000_000,
        ge=1,
        description="Bytes of unanswered uploads that a worker holds at once; an upload beyond that gets 503.",
    )
    max_wait: float = Field(
        0.6,
        ge=0.01,
        description="Longest expected wait of an image for its turn, in seconds; if the queue is longer, the request "
        "gets 503 with `Retry-After` at once.",
    )
    max_queue: _Whole = Field(
        32, ge=1, description="Images that may wait or be processed in a worker at once; the next one gets 503."
    )
    read_seconds: float = Field(
        20.0,
        ge=1,
        description="Time that a client has to send the head of its request, and again the body, in seconds; then 408. "
        "A client that reads nothing of its response for as long loses its connection.",
    )
    decode_seconds: float = Field(
        2.0,  # a transparent 16-bit PNG of 25 megapixels takes 1.7 s
        ge=0.1,
        description="CPU time that an image may take to be decoded, in seconds; then 413.",
    )
    max_sessions: _Whole = Field(
        64,
        ge=0,
        description="Live sessions (WebSockets) of a worker at once; the next one is closed with 1013.",
    )
    session_rate: float = Field(
        60.0,
        gt=0,
        description="Frames a second that a live session may send, over some seconds; one that sends more is closed "
        "with 1008.",
    )
    session_idle_seconds: float = Field(
        60.0,
        ge=1,
        description="Time that a live session may be silent, in seconds; then it is closed with 1001.",
    )
    session_seconds: float = Field(
        7_200.0,
        ge=1,
        description="Longest time of a live session, in seconds; then it is closed with 1001.",
    )
    prediction_log: _Path | None = Field(
        None,
        description="Directory that gets one file of JSON lines per day, or a single file; no log if unset.",
    )
    prediction_log_days: _Whole = Field(
        90,
        ge=1,
        description="Age in days after which a day's file in the prediction log's directory is deleted, counted from "
        "the last day before today that has a file. A worker deletes at most one file an hour, the oldest.",
    )
    bundle: _Path | None = Field(
        None, description="Directory of another model bundle; by default the bento's, or `bundle/` in a checkout."
    )

    def __init__(self, **values: Any) -> None:
        wrong = [*_wrong_variables(os.environ)]
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong += [_describe(details) for details in error.errors()]
        if wrong:
            raise ValueError("; ".join(wrong))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Check the settings that depend on each other."""
        if self.max_buffer < self.max_bytes:
            raise ValueError(
                f"MEAA_MAX_BUFFER is {self.max_buffer}; it must be at least MEAA_MAX_BYTES, which is {self.max_bytes}"
            )
        if self.metrics == "token" and not self.token:
            raise ValueError("MEAA_METRICS is 'token'; it needs a MEAA_TOKEN, which is not set")
        if any(not token.isprintable() for token in self.token):  # no header can carry it
            raise ValueError("MEAA_TOKEN holds a line break or another control character")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"MEAA_CORS_ORIGINS holds {origin!r}; write an origin as `https://clinic.example`, without a path"
                )
        return self


def check_names(environment: Mapping[str, str]) -> None:
    """Check that every variable that begins with `MEAA_` is known: a misspelt one would change nothing, silently.

    Raises:
        ValueError: Some are unknown; the message names them and the most similar known ones.
    """
    if unknown := [*_unknown_variables(environment)]:
        raise ValueError("; ".join(unknown))


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that looks like a setting and is none."""
    names = [name.upper() for name in Settings.model_fields]
    names += [variable.removeprefix(PREFIX) for variable in sorted(OTHER_VARIABLES)]
    for name, value in sorted(environment.items()):
        capitals = name.upper()  # pydantic reads names in any case
        if not capitals.startswith(PREFIX) or capitals.removeprefix(PREFIX) in names:
            continue
        if _SERVICE_LINK.fullmatch(capitals) or _SERVICE_ADDRESS.fullmatch(value):
            continue
        similar = difflib.get_close_matches(capitals.removeprefix(PREFIX), names, n=1)
        yield f"{name} is no setting" + (f"; did you mean {PREFIX}{similar[0]}?" if similar else "")


def _wrong_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that is wrong whatever the others are."""
    yield from _unknown_variables(environment)
    for name, value in environment.items():
        if name.upper() == f"{PREFIX}TOKEN" and not _parts(value):
            yield f"{name} is set and holds no token; unset it to admit everybody"


def _describe(error: ErrorDetails) -> str:
    """One of pydantic's errors as a sentence that names the variable, its value and what is allowed."""
    if not error["loc"]:  # from `_fit_together`, which names the variables itself
        return str(error["ctx"]["error"])
    variable, message = PREFIX + str(error["loc"][0]).upper(), error["msg"].removeprefix("Value error, ")
    return f"{variable} is {error['input']!r}: {message[0].lower()}{message[1:]}"
