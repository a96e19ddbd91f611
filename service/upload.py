"""From an HTTP request to the bytes of its images, within limits on size and time, and never by way of a disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import (
    InvalidParameterError,
    MissingImageError,
    TooLargeError,
    TooManyImagesError,
    UnsupportedEncodingError,
    UnsupportedTypeError,
)
from service.parameters import MAX_IMAGES

FIELDS: Final[tuple[str, str]] = ("image", "file")
"""Names of the multipart field that holds the image; of several files the last under the first name counts."""

_MULTIPART: Final[str] = "multipart/form-data"
# Types that say nothing about the content: none, the type of unknown bytes, and the default of curl.
_UNTYPED: Final[frozenset[str]] = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
_MAX_PARTS: Final[int] = 16


class _MemoryParser(MultiPartParser):
    """Starlette's parser without its temporary files: a face must not reach a disk. The stream limits the memory."""

    spool_max_size = 0  # for SpooledTemporaryFile, 0 means that no size is too large


async def read_image(request: Request, *, max_bytes: int, seconds: float, hold: Callable[[int], None]) -> bytes:
    """The bytes of the image in a request: the content of a multipart field in `FIELDS`, or the whole body.

    The format of the image is recognised from its bytes. The declared type of a multipart field is ignored, and so is
    the declared image type of a body.

    Args:
        request: Request whose body has not been read yet.
        max_bytes: Largest body accepted, in bytes.
        seconds: Longest time that the body may take to arrive, in seconds.
        hold: Function that is called with the size of each chunk before it is kept; see `service.admission.Buffer`.

    Raises:
        MissingImageError: There is no body, or no image field in it, or its multipart structure is broken.
        UnsupportedEncodingError: The body is declared to be compressed.
        UnsupportedTypeError: The body is declared to be neither multipart nor an image.
        TooLargeError: The body is larger than `max_bytes`; raised before the rest is read.
        OverloadedError: The buffer has no room for the body.
        HTTPException: The body did not arrive in time.
    """
    _check_encoding(request)
    content_type = _content_type(request)
    if content_type != _MULTIPART and content_type not in _UNTYPED and not content_type.startswith("image/"):
        raise UnsupportedTypeError(
            f"The request's content type is {content_type[:80]!r}. Send {_MULTIPART} with a field {FIELDS[0]!r}, "
            "or the image itself with its type, for example image/jpeg."
        )
    body = _bounded(request, max_bytes, hold)
    async with _arriving_within(seconds):
        if content_type == _MULTIPART:
            return await _read_field(request, body)
        data = b"".join([chunk async for chunk in body])
    if not data:
        raise MissingImageError("The request has no body. Send an image in it.")
    return data


@dataclass
class Frames:
    """What a request with several frames carries.

    Attributes:
        images: Bytes of the images, in order.
        times: Text of the field `times`; None if there is none.
        session: Text of the field `session`; None if there is none, or if it is empty.
    """

    images: list[bytes]
    times: str | None
    session: str | None


async def read_frames(request: Request, *, max_bytes: int, seconds: float, hold: Callable[[int], None]) -> Frames:
    """The images in a multipart request, each in a file field of a name in `FIELDS`, and what is said about them.

    Args:
        request: See `read_image`.
        max_bytes: See `read_image`; all images count together.
        seconds: See `read_image`.
        hold: See `read_image`.

    Raises:
        InvalidParameterError: A text field is there twice, or is a file.
        TooManyImagesError: There are more than `MAX_IMAGES` images.
        MissingImageError, UnsupportedEncodingError, UnsupportedTypeError, TooLargeError, OverloadedError,
            HTTPException: See `read_image`.
    """
    _check_encoding(request)
    content_type = _content_type(request)
    if content_type != _MULTIPART:
        raise UnsupportedTypeError(
            f"The request's content type is {content_type[:80]!r}. Send {_MULTIPART} with fields {FIELDS[0]!r}."
        )
    async with _arriving_within(seconds):
        form = await _read_form(request, _bounded(request, max_bytes, hold), max_files=MAX_IMAGES)
        fields = [(name, field) for name, field in form.multi_items() if name in FIELDS]
        images = [await field.read() for _, field in fields if isinstance(field, UploadFile)]
    if not images:
        raise _missing(fields)
    texts = {}
    for name in ("times", "session"):
        values = form.getlist(name)
        if len(values) > 1 or any(isinstance(value, UploadFile) for value in values):
            raise InvalidParameterError(f"The field {name!r} is there twice, or is a file. Send it once, as text.")
        texts[name] = next((value for value in values if isinstance(value, str)), None)
    return Frames(images, texts["times"], texts["session"] or None)


def _check_encoding(request: Request) -> None:
    """Check that the body is not compressed.

    Raises:
        UnsupportedEncodingError: It is.
    """
    codings = {coding.strip().lower() for coding in ",".join(request.headers.getlist("content-encoding")).split(",")}
    if codings - {"", "identity"}:
        raise UnsupportedEncodingError("The body is compressed. Send it as it is, without Content-Encoding.")


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@contextlib.asynccontextmanager
async def _arriving_within(seconds: float) -> AsyncIterator[None]:
    """A limit on the time that a body takes to arrive.

    Raises:
        HTTPException: It did not arrive in time.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise HTTPException(
            HTTPStatus.REQUEST_TIMEOUT, f"The request did not arrive within {seconds:g} seconds."
        ) from None


async def _bounded(request: Request, max_bytes: int, hold: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    """The body, chunk by chunk as it arrives.

    Raises:
        TooLargeError: The body is, or is declared to be, larger than `max_bytes`.
    """
    too_large = TooLargeError(f"The request has more than the {max_bytes:,} bytes accepted. Send a smaller image.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > max_bytes):  # Python counts 4,300 digits at most
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
        MissingImageError: See `read_image`.
    """
    form = await _read_form(request, body)
    fields = [(name, field) for name in FIELDS for field in reversed(form.getlist(name))]
    for _, field in fields:
        if isinstance(field, UploadFile):
            return await field.read()
    raise _missing(fields)


async def _read_form(request: Request, body: AsyncGenerator[bytes, None], max_files: int | None = None) -> FormData:
    """A multipart body.

    Args:
        request: Request whose type names the boundary.
        body: The body.
        max_files: Most files, if more are too many images; by default they are a broken body.

    Raises:
        MissingImageError: The body cannot be read.
        TooManyImagesError: There are more than `max_files` files.
    """
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MissingImageError("The multipart body cannot be read: its type names no boundary.")
    # Nothing else of the type: Starlette would look its `charset` up among Python's codecs, of which some fail on any
    # text, and Python remembers each name that it does not know.
    quoted = boundary.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    headers = Headers(raw=[(b"content-type", b'multipart/form-data; boundary="%b"' % quoted)])
    try:
        return await _MemoryParser(headers, body, max_files=max_files or _MAX_PARTS, max_fields=_MAX_PARTS).parse()
    except MultiPartException as error:
        if max_files and error.message.startswith("Too many files"):
            raise TooManyImagesError(
                f"The request has more than {max_files} images. Send the others in another one, with `session`."
            ) from error
        raise MissingImageError(f"The multipart body cannot be read: {error.message}") from error


def _missing(fields: Sequence[tuple[str, UploadFile | str]]) -> MissingImageError:
    """The error for a form without an image.

    Args:
        fields: Its fields with the names of `FIELDS`, which are text.
    """
    for name, _ in fields:
        return MissingImageError(
            f"The field {name!r} is text, not a file. Send it with a file name, as `curl -F {name}=@photo.jpg`."
        )
    return MissingImageError(f"The multipart body has no complete file field {FIELDS[0]!r} (or {FIELDS[1]!r}).")
