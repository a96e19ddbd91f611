"""Mutations of multipart bodies, part by part and header by header (RFC 7578, RFC 2046 section 5.1)."""

from __future__ import annotations

import random
from typing import Final

from benchmarks.robustness.fuzzing.mutation import damage, rearrange

BOUNDARY: Final = b"meaa"

_NAMES: Final = (
    b"image", b"image", b"image", b"file", b"other", b"", b"IMAGE", b"image\x00", b"_charset_", b"im\xc3\xa4ge",
)  # fmt: skip
_FILE_NAMES: Final = (
    b'; filename="a.jpg"', b'; filename="a.jpg"', b"; filename=a.jpg", b'; filename=""', b"", b'; filename="a\\".jpg"',
    b"; filename*=UTF-8''%e2%82%ac.jpg", b"; filename*=undefined''a", b"; filename*=utf-16''%00",
    b"; filename*0=a; filename*1=b", b'; filename="..\\..\\C:\\a.jpg"', b'; filename="' + b"a" * 5_000 + b'"',
    b'; filename="\xff\xfe"', b'; filename="unterminated',
)  # fmt: skip
_PART_FIELDS: Final = (
    b"Content-Type: image/jpeg", b"Content-Type: text/plain; charset=undefined", b"Content-Type: ", b"Content-Type",
    b"Content-Type: multipart/mixed; boundary=inner", b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding: quoted-printable", b"Content-Encoding: gzip", b"Content-Length: 5",
    b"X: " + b"a" * 5_000, b" folded", b": no name", b"\xff: 1",
    b"Content-Disposition: form-data; name=\"file\"; filename=\"b\"",
)  # fmt: skip
_PARAMETERS: Final = (
    b"; charset=utf-8", b"; charset=undefined", b"; charset=punycode", b"; charset=utf-16", b"; charset=idna",
    b"; charset=rot13", b"; charset=unicode_escape", b"; charset=\xff", b"; charset=", b"; charset*=utf-8''a",
    b"; boundary=other", b"; ;;", b";", b"; boundary*=UTF-8''meaa", b"; boundary*0=me; boundary*1=aa", b'; x="',
    b"; x=" + b"y" * 3_000,
)  # fmt: skip
_BOUNDARIES: Final = (
    b"meaa", b"meaa", b"a", b"", b"-", b"--", b"a b", b'"meaa"', b'"me\\"aa"', b"meaa ", b"a" * 70, b"a" * 300,
    b"\xff", b"\r", b"=_?/:",
)  # fmt: skip
_TYPES: Final = (
    b"multipart/form-data", b"Multipart/Form-Data", b"multipart/form-data ", b"multipart/mixed", b"multipart/x",
    b"image/jpeg", b"image/", b"application/octet-stream", b"application/x-www-form-urlencoded", b"text/plain", b"",
    b"multipart/form-data,multipart/form-data",
)  # fmt: skip


def content_type(chance: random.Random, boundary: bytes = BOUNDARY) -> bytes:
    """The value of a Content-Type header, in most cases of a multipart body with this boundary."""
    kind = b"multipart/form-data" if chance.random() < 0.8 else chance.choice(_TYPES)
    value = kind + b"; boundary=" + (boundary if chance.random() < 0.7 else chance.choice(_BOUNDARIES))
    for _ in range(chance.choice((0, 0, 1, 3))):
        value += chance.choice(_PARAMETERS)
    return value


def part(chance: random.Random, content: bytes) -> bytes:
    """A part without the line that begins it."""
    disposition = b"Content-Disposition: form-data"
    if chance.random() < 0.1:
        disposition = chance.choice(
            (b"content-disposition: FORM-DATA", b"Content-Disposition: attachment", b"Content-Disposition:")
        )
    fields = [disposition + b'; name="' + chance.choice(_NAMES) + b'"' + chance.choice(_FILE_NAMES)]
    for _ in range(chance.choice((0, 1, 1, 2, 20))):
        fields.insert(chance.randrange(len(fields) + 1), chance.choice(_PART_FIELDS))
    end = chance.choice((b"\r\n",) * 8 + (b"\n", b"\r"))
    return end.join(fields) + end + end + content


def body(parts: list[bytes], boundary: bytes = BOUNDARY) -> bytes:
    """A multipart body."""
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


def mutate(data: bytes, chance: random.Random, contents: tuple[bytes, ...]) -> bytes:
    """A multipart body with one of its parts changed, moved, repeated or dropped.

    Args:
        data: Body.
        chance: Source of randomness.
        contents: Contents that parts may get.
    """
    first, _, _ = data.partition(b"\r\n")
    delimiter = first if first.startswith(b"--") and len(first) < 400 else b"--" + BOUNDARY
    pieces = data.split(delimiter)
    at = chance.randrange(len(pieces))
    match chance.randrange(9):
        case 0 | 1:
            rearrange(pieces, chance, most=40)
        case 2 | 3:
            pieces.insert(at, b"\r\n" + part(chance, chance.choice(contents)) + b"\r\n")
        case 4:
            head, middle, rest = pieces[at].partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(_PART_FIELDS))
            rearrange(lines, chance, most=40)
            pieces[at] = b"\r\n".join(lines) + middle + rest
        case 5:
            pieces[at] = pieces[at].replace(
                b"\r\n", chance.choice((b"\n", b"\r", b"\r\n\r\n", b"", b" \r\n")), chance.choice((1, -1))
            )
        case 6:
            return (delimiter[: chance.randrange(len(delimiter) + 1)]).join(pieces)
        case 7:
            changed = bytearray(pieces[at])
            damage(changed, chance, contents)
            pieces[at] = bytes(changed)
        case 8:
            pieces[0] = chance.choice((b"preamble\r\n", b"\r\n", b"\n\n", b"-" * 500, b""))
            pieces.append(chance.choice((b"epilogue", b"\r\n" * 50, b"--", b"")))
    return delimiter.join(pieces)
