"""Mutations of JPEG files, segment by segment and scan by scan (ITU-T T.81, annex B)."""

from __future__ import annotations

import random
import re
import struct
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.robustness.fuzzing import exif
from benchmarks.robustness.fuzzing.mutation import MANY, number, overwrite, rearrange, resize

SIGNATURE: Final = b"\xff\xd8"

_FRAMES: Final = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_HUFFMAN, _ARITHMETIC, _QUANTISATION, _LINES, _RESTARTS = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD
_SCAN, _END, _EXIF, _PROFILE, _RESOURCES, _ADOBE, _COMMENT = 0xDA, 0xD9, 0xE1, 0xE2, 0xED, 0xEE, 0xFE
_BARE: Final = (0x01, *range(0xD0, 0xDA))  # markers without a body
_AFTER_DATA: Final = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
_MARKERS: Final = (*_FRAMES, 0xC4, 0xC8, 0xCC, *range(0xD0, 0xE0), *range(0xE0, 0xF0), 0xF0, 0xFE, 0x01, 0x02, 0xBF)


@dataclass(frozen=True)
class Segment:
    """A marker and what follows it.

    Attributes:
        marker: Second byte of the marker.
        body: Content of the segment.
        data: Entropy-coded data after it, with restart markers.
        declared: Length that the segment declares, if it is not the true one.
        fill: Number of fill bytes before the marker.
    """

    marker: int
    body: bytes = b""
    data: bytes = b""
    declared: int | None = None
    fill: int = 0

    def to_bytes(self) -> bytes:
        """The segment as it is written."""
        start = b"\xff" * self.fill + bytes([0xFF, self.marker])
        if self.marker in _BARE:
            return start + self.data
        declared = len(self.body) + 2 if self.declared is None else self.declared
        return start + struct.pack(">H", declared & 0xFFFF) + self.body + self.data


def parse(file: bytes) -> list[Segment]:
    """The segments of a file, the start of the image included; what is not understood is data."""
    segments, at = [], 0
    while at + 2 <= len(file) and file[at] == 0xFF:
        marker, at = file[at + 1], at + 2
        body = b""
        if marker not in _BARE:
            length = int.from_bytes(file[at : at + 2], "big")
            body, at = file[at + 2 : at + length], at + max(2, length)
        following = _AFTER_DATA.search(file, at)
        end = following.start() if following else max(at, len(file))
        segments.append(Segment(marker, body, file[at:end]))
        at = end
    return segments


def mutate(file: bytes, chance: random.Random) -> bytes:
    """A file with one of its segments changed, moved, repeated or dropped."""
    segments = parse(file)
    if not segments:
        return file
    match chance.randrange(8):
        case 0 | 1:
            rearrange(segments, chance)
        case 2:
            _insert(segments, chance)
        case 3 | 4:
            _change_fields(segments, chance)
        case 5:
            _change_frame(segments, chance)
        case 6:
            _change_scans(segments, chance)
        case 7:
            at = chance.randrange(len(segments))
            segments[at] = _change_shape(segments[at], chance)
    return b"".join(segment.to_bytes() for segment in segments)


def _insert(segments: list[Segment], chance: random.Random) -> None:
    body = chance.randbytes(chance.choice((0, 2, 16, 300)))
    pieces = chance.choice((1, 1, 2, 5, 255))
    new = chance.choice(
        [
            [Segment(_EXIF, b"Exif\x00\x00" + exif.block(chance))],
            [
                Segment(_PROFILE, b"ICC_PROFILE\x00" + bytes([piece & 255, pieces]) + exif.profile(chance)[:400])
                for piece in range(1, pieces + chance.randrange(2))
            ],
            [Segment(_PROFILE, b"MPF\x00" + exif.block(chance))],
            [
                Segment(
                    _RESOURCES, b"Photoshop 3.0\x00" + b"8BIM\x04\x04\x00\x00" + number(chance, 4).to_bytes(4, "big")
                )
            ],
            [Segment(_ADOBE, b"Adobe\x00\x64" + bytes(4) + bytes([chance.randrange(4)]))],
            [Segment(0xE0, b"JFIF\x00\x01\x01" + chance.randbytes(5) + bytes([chance.randrange(256)] * 2) + body)],
            [Segment(_COMMENT, body)],
            [Segment(_RESTARTS, number(chance, 2).to_bytes(2, "big"))],
            [Segment(_LINES, number(chance, 2).to_bytes(2, "big"))],
            [Segment(_ARITHMETIC, bytes([chance.randrange(256), chance.randrange(256)]))],
            [Segment(chance.choice(_MARKERS), body)],
            [Segment(_END)],
            segments[: chance.randrange(1, 20)],  # another image, or its beginning
        ]
    )
    at = chance.randrange(len(segments) + 1)
    segments[at:at] = new * (chance.choice(MANY) if len(new) == 1 else 1)


def _change_shape(segment: Segment, chance: random.Random) -> Segment:
    """A segment with another marker, length, or fill bytes; or with its data cut, repeated or interrupted."""
    data = segment.data
    at = chance.randrange(len(data) + 1)
    match chance.randrange(9):
        case 0:
            return replace(segment, marker=chance.choice(_MARKERS))
        case 1:
            return replace(segment, declared=number(chance, 2))
        case 2:
            return replace(segment, body=resize(segment.body, chance))
        case 3:
            return replace(segment, fill=chance.choice((1, 2, 100, 5_000)))
        case 4:
            return replace(segment, data=data[:at])
        case 5:
            return replace(segment, data=data[:at] + bytes([0xFF, chance.choice(_MARKERS)]) + data[at:])
        case 6:
            restart = bytes([0xFF, 0xD0 + chance.randrange(8)])
            return replace(segment, data=data[:at] + restart * chance.choice(MANY) + data[at:])
        case 7:
            return replace(segment, data=(data * 20)[:20_000])
        case _:
            return replace(segment, data=overwrite(data, chance))


def _change_fields(segments: list[Segment], chance: random.Random) -> None:
    """Change a field of a segment whose content matters to a decoder."""
    kinds = (*_FRAMES, _HUFFMAN, _ARITHMETIC, _QUANTISATION, _LINES, _RESTARTS, _SCAN, _EXIF, _PROFILE, _ADOBE)
    places = [at for at, segment in enumerate(segments) if segment.marker in kinds and segment.body]
    if not places:
        return
    at = chance.choice(places)
    body = segments[at].body
    if segments[at].marker == _HUFFMAN:  # the counts of codes matter more than the symbols
        body = overwrite(body, chance, at=chance.randrange(min(17, len(body))), size=1)
    elif segments[at].marker == _EXIF and chance.random() < 0.5:
        body = b"Exif\x00\x00" + exif.block(chance)
    else:
        body = overwrite(body, chance)
    segments[at] = replace(segments[at], body=body)


def _change_frame(segments: list[Segment], chance: random.Random) -> None:
    """Change the size, the coding, or the components of the frame."""
    places = [at for at, segment in enumerate(segments) if segment.marker in _FRAMES and len(segment.body) >= 6]
    if not places:
        return
    at = chance.choice(places)
    precision, height, width, count = struct.unpack_from(">BHHB", segments[at].body)
    components = [segments[at].body[start : start + 3] for start in range(6, len(segments[at].body), 3)]
    marker = segments[at].marker
    match chance.randrange(6):
        case 0:
            precision = chance.choice((0, 2, 8, 12, 16, 255))
        case 1:
            height = number(chance, 2)
        case 2:
            width = number(chance, 2)
        case 3:
            marker = chance.choice(_FRAMES)
        case 4:
            rearrange(components, chance, most=255)
            count = len(components) if chance.random() < 0.7 else number(chance, 1)
        case 5 if components:
            which = chance.randrange(len(components))
            components[which] = overwrite(components[which], chance, size=1)
    body = struct.pack(">BHHB", precision, height, width, count & 255) + b"".join(components)
    segments[at] = replace(segments[at], marker=marker, body=body)


def _change_scans(segments: list[Segment], chance: random.Random) -> None:
    """Change what scans code, or repeat them, as no encoder would."""
    places = [at for at, segment in enumerate(segments) if segment.marker == _SCAN and segment.body]
    if not places:
        return
    at = chance.choice(places)
    scan = segments[at]
    count = scan.body[0]
    match chance.randrange(5):
        case 0:
            scan = replace(scan, body=overwrite(scan.body, chance, at=chance.randrange(len(scan.body)), size=1))
        case 1:  # other coefficients
            first = chance.randrange(64)
            limits = bytes(
                [first, chance.choice((first, 63, number(chance, 1))), chance.choice((0, 1, 0x10, 0x21, 0xED))]
            )
            scan = replace(scan, body=scan.body[:-3] + limits)
        case 2:  # other components
            chosen = [
                bytes([chance.randrange(5), chance.choice((0, 0x11, 0x01, 0x33))]) for _ in range(chance.choice((1, 3)))
            ]
            scan = replace(scan, body=bytes([len(chosen)]) + b"".join(chosen) + scan.body[-3:])
        case 3:
            scan = replace(scan, body=bytes([chance.choice((0, count + 1 & 255, 4, 255))]) + scan.body[1:])
        case 4:
            scan = replace(scan, data=scan.data[: chance.choice((0, 1, 100))])
    segments[at : at + 1] = [scan] * chance.choice(MANY)
