"""The typed exceptions for everything that can be wrong with a request.

Each is raised where its cause is known; its message says what was wrong and what to do. Only `service.problems`
turns them into HTTP responses; nothing here knows about HTTP statuses.
"""

from __future__ import annotations

from typing import ClassVar


class MeaaError(Exception):
    """Base of the errors that a client can cause or must handle.

    Attributes:
        code: Stable machine-readable name, part of the API's contract.
        title: Short human-readable summary of the kind of error, the same for every occurrence.
    """

    code: ClassVar[str]
    title: ClassVar[str]


class InvalidImageError(MeaaError):
    """The bytes are not a readable image: empty, corrupt or truncated."""

    code = "invalid_image"
    title = "The image cannot be read"


class MissingImageError(MeaaError):
    """The request carries no image where one is expected."""

    code = "missing_image"
    title = "The request has no image"


class UnauthorizedError(MeaaError):
    """A token is required and was absent or wrong."""

    code = "unauthorized"
    title = "A valid token is required"


class TooLargeError(MeaaError):
    """The image has more bytes or more pixels than the service accepts."""

    code = "too_large"
    title = "The image is too large"


class UnsupportedTypeError(MeaaError):
    """The data is of a kind that the service does not read (an image format, or a request's content type)."""

    code = "unsupported_type"
    title = "The type of the data is not supported"


class UnsupportedEncodingError(MeaaError):
    """The request's body is compressed (its header Content-Encoding says so)."""

    code = "unsupported_encoding"
    title = "The body's encoding is not supported"


class InvalidParameterError(MeaaError):
    """A parameter of the request cannot be read, or is out of its range."""

    code = "invalid_parameter"
    title = "A parameter is not valid"


class TooManyImagesError(MeaaError):
    """The request carries more images than the service accepts at once."""

    code = "too_many_images"
    title = "The request has too many images"


class NoFaceError(MeaaError):
    """The image was read, and no face was found in it."""

    code = "no_face"
    title = "No face was found"


class OverloadedError(MeaaError):
    """More requests are waiting than the service can answer in time."""

    code = "overloaded"
    title = "The service is overloaded"


class StoppedError(Exception):
    """Work was stopped because nobody waits for its result any more."""
