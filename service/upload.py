"""From an HTTP request to the bytes of the image in it, within limits of size and time, and never by way of a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import MissingImageError, TooLargeError, UnsupportedTypeError

FIELDS: Final[tuple[str, str]] = ("image", "file")
"""Names of the multipart field that holds the image; where both are sent, the first name counts."""

_MULTIPART: Final[str] = "multipart/form-data"
# What says nothing of the content: no type, the type of unknown bytes, and what curl claims where it is told nothing.
_UNTYPED: Final[frozenset[str]] = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
_MAX_PARTS: Final[int] = 16


class _MemoryParser(MultiPartParser):
    """Starlette's parser without its temporary files: a face must not reach a disk. The stream bounds the memory."""

    spool_max_size = 0  # to SpooledTemporaryFile: no size is too large


async def read_image(request: Request, *, max_bytes: int, seconds: float, hold: Callable[[int], None]) -> bytes:
    """The bytes of the image in a request: of a multipart field in `FIELDS`, or the whole body.

    The bytes alone tell what they are: the declared type of a multipart field, and that of a body among images, is
    not looked at.

    Args:
        request: with a body not read so far.
        max_bytes: largest body accepted.
        seconds: longest time that the body may take to arrive.
        hold: told the size of each chunk before it is kept; see `service.admission.Buffer`.

    Raises:
        MissingImageError: there is no body, or no image field in it, or its multipart structure is broken.
        UnsupportedTypeError: the body is declared to be neither multipart nor an image.
        TooLargeError: the body is larger than `max_bytes`; raised before the rest is read.
        OverloadedError: there is no room for it.
        HTTPException: the body did not arrive in time.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _MULTIPART and content_type not in _UNTYPED and not content_type.startswith("image/"):
        raise UnsupportedTypeError(
            f"The request's content type is {content_type[:80]!r}. Send {_MULTIPART} with a field {FIELDS[0]!r}, "
            "or the image itself with its type, for example image/jpeg."
        )
    body = _bounded(request, max_bytes, hold)
    try:
        async with asyncio.timeout(seconds):
            if content_type == _MULTIPART:
                return await _read_field(request, body)
            data = b"".join([chunk async for chunk in body])
    except TimeoutError:
        raise HTTPException(
            HTTPStatus.REQUEST_TIMEOUT, f"The request did not arrive within {seconds:g} seconds."
        ) from None
    if not data:
        raise MissingImageError("The request has no body. Send an image in it.")
    return data


async def _bounded(request: Request, max_bytes: int, hold: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The body as it arrives.

    Raises:
        TooLargeError: the body is, or declares itself to be, larger than `max_bytes`.
    """
    too_large = TooLargeError(f"The request has more than the {max_bytes:,} bytes accepted. Send a smaller image.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise too_large
        hold(len(chunk))
        yield chunk


async def _read_field(request: Request, body: AsyncGenerator[bytes, None]) -> bytes:
    """The content of the image field of a multipart body.

    Raises:
        MissingImageError: see `read_image`.
    """
    try:
        form = await _MemoryParser(request.headers, body, max_files=_MAX_PARTS, max_fields=_MAX_PARTS).parse()
    except MultiPartException as error:
        raise MissingImageError(f"The multipart body cannot be read: {error.message}") from error
    for name in FIELDS:
        field = form.get(name)
        if isinstance(field, UploadFile):
            return await field.read()
        if field is not None:
            raise MissingImageError(
                f"The field {name!r} is text, not a file. Send it with a file name, as `curl -F {name}=@photo.jpg`."
            )
    raise MissingImageError(f"The multipart body has no complete file field {FIELDS[0]!r} (or {FIELDS[1]!r}).")
