"""Where the frames of a session come from on the command line: a video, or a folder of images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service import images, markers
from service.errors import InvalidImageError, MeaaError
from service.images import Frame

Times = Literal["auto", "exif", "name"]

SUFFIXES: Final[frozenset[str]] = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""Endings, in lower case, of the files of a folder that are taken for images."""

_USUAL_RATE: Final[float] = 25.0
"""Frames a second of a video that does not tell its own."""

_WHOLE: Final[float] = 0.9
"""Share of its announced frames that a whole video has at least; some containers announce an estimate."""

# EXIF 2.32: directory of the camera's tags, time at which the picture was taken, and the fraction of its second.
_EXIF_DIRECTORY: Final[int] = 0x8769
_TAKEN: Final[int] = 0x9003
_FRACTION: Final[int] = 0x9291


class SourceError(Exception):
    """A source cannot be read; the message says why, and what to do."""


@dataclass(frozen=True)
class Still:
    """An image of a source, not decoded yet.

    Attributes:
        time: Time in seconds from the start of the source.
        load: Function from the shortest side to which the image may be reduced to the image. It raises `MeaaError` as
            the service would for the same image.
    """

    time: float
    load: Callable[[int | None], Frame]


def read(
    path: Path, *, every: float, times: Times = "auto", max_pixels: int = images.MAX_PIXELS, warn: Callable[[str], None]
) -> Iterator[Still]:
    """The images of a video or a folder, in order of time.

    Args:
        path: Video file, or folder with images.
        every: Time from one image to the next, in seconds. Images between are left out. In a folder whose images have
            no times none is left out, and this is the time between two of them.
        times: Where the times of a folder's images come from: `exif` (time at which they were taken), `name` (their
            names' order), or `auto`: `exif` if all of them tell it, otherwise `name`.
        max_pixels: Largest width x height accepted.
        warn: Function that gets a sentence about what may be wrong with the source.

    Raises:
        SourceError: The source cannot be read.
    """
    if path.is_dir():
        return _of_folder(path, every, times, max_pixels, warn)
    if not path.exists():
        raise SourceError(f"There is no file or folder {path}.")
    if times != "auto":
        raise SourceError("A video has its own times; --times is for a folder of images.")
    return _of_video(path, every, warn)


class Thinning:
    """Which images are taken: the first in each period, which begins with the first image."""

    def __init__(self, every: float) -> None:
        """Nothing taken yet.

        Args:
            every: Length of a period, in seconds.
        """
        self._every = every
        self._first: float | None = None
        self._latest = -1

    def takes(self, time: float) -> bool:
        """Whether the next image is taken, given its time in seconds."""
        if self._first is None:
            self._first = time
        period = int((time - self._first) / self._every + 1e-6)
        if period <= self._latest:
            return False
        self._latest = period
        return True


def _of_folder(
    folder: Path, every: float, times: Times, max_pixels: int, warn: Callable[[str], None]
) -> Iterator[Still]:
    try:
        files = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural)
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be read: {error.strerror}.") from None
    found = [path for path in files if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise SourceError(f"The folder {folder} holds no image whose name ends in {', '.join(sorted(SUFFIXES))}.")
    if len(found) < len(files):
        warn(f"Left out, as their names are not those of images: {len(files) - len(found)} of {len(files)} entries.")
    taken = None if times == "name" else [_taken(path) for path in found]
    dated = [(time, path) for time, path in zip(taken or [], found, strict=False) if time is not None]
    if len(dated) == len(found):
        return _dated(dated, every, max_pixels)
    if times == "exif":
        raise SourceError(
            f"{len(found) - len(dated)} of {len(found)} images do not tell when they were taken. "
            "Use --times name to order them by their names."
        )
    return (Still(every * place, _loader(path, max_pixels)) for place, path in enumerate(found))


def _dated(dated: list[tuple[datetime, Path]], every: float, max_pixels: int) -> Iterator[Still]:
    """The images whose times are known; those of one second without a fraction are spread over it."""
    dated = sorted(dated, key=lambda pair: pair[0])
    together = Counter(time for time, _ in dated if not time.microsecond)
    seen: Counter[datetime] = Counter()
    thinning = Thinning(every)
    for taken, path in dated:
        time = (taken - dated[0][0]).total_seconds() + seen[taken] / max(1, together[taken])
        seen[taken] += 1
        if thinning.takes(time):
            yield Still(time, _loader(path, max_pixels))


def _loader(path: Path, max_pixels: int) -> Callable[[int | None], Frame]:
    def load(working_side: int | None) -> Frame:
        try:
            data = path.read_bytes()
        except OSError:
            raise InvalidImageError("The file cannot be read.") from None
        return images.load(images.read_header(data, max_pixels=max_pixels), working_side)

    return load


def _natural(path: Path) -> tuple[tuple[bool, int, str], ...]:
    """A key that sorts `frame_2` before `frame_10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower()) for part in parts)


def _taken(path: Path) -> datetime | None:
    """When a picture was taken, by its EXIF block; None if it does not tell."""
    try:
        with Image.open(path, formats=["JPEG", "PNG", "WEBP"]) as image:
            entries = image.getexif().get_ifd(_EXIF_DIRECTORY)
        time = datetime.strptime(str(entries[_TAKEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        fraction = str(entries.get(_FRACTION, "")).strip("\0 ")
    except Exception:  # Pillow's readers raise anything for damaged blocks; the image itself may be whole
        return None
    return time.replace(microsecond=int(float(f"0.{fraction}") * 1e6)) if fraction.isdecimal() else time


def _of_video(path: Path, every: float, warn: Callable[[str], None]) -> Iterator[Still]:
    """The frames of a video, each at its own time: phones record at a rate that varies."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg would log a line for each damaged frame
    try:
        with path.open("rb") as file:
            beginning = file.read(64)
    except OSError as error:
        raise SourceError(f"The file {path} cannot be read: {error.strerror}.") from None
    if _is_image(beginning):
        raise SourceError(f"{path} is a single image. Give a video or a folder of images.")
    video = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    if not video.isOpened() or not video.grab():
        video.release()
        raise SourceError(f"{path} cannot be read as a video. Convert it to MP4 (H.264), or give a folder of images.")
    video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return _frames(video, every, warn)


def _frames(video: cv2.VideoCapture, every: float, warn: Callable[[str], None]) -> Iterator[Still]:
    """The frames of an open video whose first frame was grabbed."""
    rate = video.get(cv2.CAP_PROP_FPS)
    step = 1 / (rate if 0 < rate < 1_000 else _USUAL_RATE)
    announced, count = video.get(cv2.CAP_PROP_FRAME_COUNT), 0
    latest: float | None = None
    thinning, more = Thinning(every), True
    try:
        while more:
            count += 1
            time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some containers carry no times, or times that go back.
            latest = time if latest is None or time > latest else latest + step
            if thinning.takes(latest):
                done, pixels = video.retrieve()
                yield Still(latest, _decoded(np.asarray(pixels, np.uint8) if done else None))
            more = video.grab()
    finally:
        video.release()
    if announced > 0 and count < _WHOLE * announced:
        warn(f"The video ends after {count} of {announced:.0f} frames: it may be damaged or cut off.")


def _decoded(pixels: NDArray[np.uint8] | None) -> Callable[[int | None], Frame]:
    def load(working_side: int | None) -> Frame:
        if pixels is None:
            raise InvalidImageError("The frame of the video cannot be decoded.")
        upright = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
        return Frame(images.reduced(upright, working_side), upright.shape[1], upright.shape[0])

    return load


def _is_image(beginning: bytes) -> bool:
    try:
        return markers.read(beginning) is not None
    except MeaaError:  # an image whose markers are cut off
        return True
