"""Frames of a phone's camera, made from photos: the face at a third of the frame, held in a hand, under changing light.

The face's place and size and the light wander: each is an Ornstein-Uhlenbeck process, which may be looked at at any
times, so that a frame is like the one before and unlike those of seconds ago. On top of that come a hand's tremor and
the sensor's noise, which are new in each frame, and the camera's JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import as_jpeg
from service import images
from service.detector import Face

Pixels = NDArray[np.uint8]

WIDTH: Final = 640
HEIGHT: Final = 480

_MARGIN: Final = 1.0  # of the photo's longer side: how far its surroundings are painted
_BLUR: Final = 0.06  # standard deviation, in sides of the photo
_SEAM: Final = 6  # pixels of the photo over which it fades into its surroundings


@dataclass(frozen=True)
class Jitter:
    """How restless camera and light are. Sizes are standard deviations.

    Attributes:
        face_share: Height of the face on average, as a share of the frame's height.
        shift: Wandering of the face, in sides of the face, along each axis.
        tremor: The same, new in each frame.
        scale: Wandering of the face's size, as the logarithm of a factor.
        seconds: Time after which place and size have forgotten 1 - 1 / e of where they were.
        light: Wandering of the exposure, as the logarithm of a factor.
        light_seconds: The same time, of the exposure.
        noise: Sensor noise, in grey levels.
    """

    face_share: float = 1 / 3
    shift: float = 0.1
    tremor: float = 0.01
    scale: float = 0.08
    seconds: float = 0.7
    light: float = 0.15
    light_seconds: float = 2.0
    noise: float = 3.0


@dataclass(frozen=True)
class Motion:
    """What camera and light do at the times of some frames.

    Attributes:
        x: Place of the face's centre to the right of the frame's, in sides of the face, float64 (n,).
        y: The same downwards.
        scale: Factor of the face's size, float64 (n,).
        light: Factor of the exposure, float64 (n,).
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    scale: NDArray[np.float64]
    light: NDArray[np.float64]

    @classmethod
    def draw(cls, times: Sequence[float], jitter: Jitter, random: np.random.Generator) -> Motion:
        """The motion at rising times, in seconds."""
        x, y, scale = (wander(times, jitter.seconds, random) for _ in range(3))
        tremor = jitter.tremor * random.standard_normal((2, len(times)))
        return cls(
            x=jitter.shift * x + tremor[0],
            y=jitter.shift * y + tremor[1],
            scale=np.exp(jitter.scale * scale),
            light=np.exp(jitter.light * wander(times, jitter.light_seconds, random)),
        )


def wander(times: Sequence[float], seconds: float, random: np.random.Generator) -> NDArray[np.float64]:
    """An Ornstein-Uhlenbeck process of variance 1 at rising times, float64 (n,).

    Args:
        times: Times, in seconds.
        seconds: Time after which the correlation has fallen to 1 / e.
        random: Source of the draws.
    """
    draws = random.standard_normal(len(times))
    values = draws.copy()
    for index in range(1, len(times)):
        kept = np.exp(-(times[index] - times[index - 1]) / seconds)
        values[index] = kept * values[index - 1] + np.sqrt(1 - kept**2) * draws[index]
    return values


class Scene:
    """A photo with surroundings, before the camera."""

    def __init__(self, data: bytes, face: Face) -> None:
        """Decode a photo and paint its surroundings: its edge pixels, continued and blurred, so that no edge of the
        photo shows in a frame.

        Args:
            data: Content of the file.
            face: Face, in pixels of the photo.
        """
        photo = images.decode(data)
        side = max(photo.shape)
        margin = round(_MARGIN * side)
        replicated = cv2.copyMakeBorder(photo, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        ground = cv2.GaussianBlur(replicated, (0, 0), _BLUR * side, borderType=cv2.BORDER_REPLICATE)
        inside = np.zeros(replicated.shape[:2], np.float32)
        inside[margin:-margin, margin:-margin] = 1.0
        distance = cv2.distanceTransform((inside == 0).astype(np.uint8), cv2.DIST_L2, 3)
        opacity = np.clip(1 - distance / _SEAM, 0, 1)[:, :, None]
        self._pixels = np.rint(opacity * replicated + (1 - opacity) * ground).astype(np.uint8)
        self._side = max(face.width, face.height)
        self._centre = (margin + face.x + face.width / 2, margin + face.y + face.height / 2)

    def frames(self, motion: Motion, jitter: Jitter, random: np.random.Generator) -> list[bytes]:
        """JPEG files of `WIDTH` x `HEIGHT` pixels, one for each time of a motion.

        Args:
            motion: What camera and light do.
            jitter: Size of the face, and noise.
            random: Source of the noise.
        """
        return [
            as_jpeg(self._frame(*values, jitter, random))
            for values in zip(motion.x, motion.y, motion.scale, motion.light, strict=True)
        ]

    def _frame(
        self, x: float, y: float, scale: float, light: float, jitter: Jitter, random: np.random.Generator
    ) -> Pixels:
        side = scale * jitter.face_share * HEIGHT
        zoom = side / self._side
        # The face's centre comes to where it is in the frame.
        across = WIDTH / 2 + x * side - zoom * self._centre[0]
        down = HEIGHT / 2 + y * side - zoom * self._centre[1]
        frame = cv2.warpAffine(
            self._pixels,
            np.array([[zoom, 0, across], [0, zoom, down]]),
            (WIDTH, HEIGHT),
            flags=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        exposed = cv2.LUT(frame, np.clip(np.arange(256) * light, 0, 255).astype(np.uint8))
        top, left = random.integers(0, _SPARE, 2)
        noise = jitter.noise * _noise()[top : top + HEIGHT, left : left + WIDTH]
        return np.asarray(np.clip(np.rint(exposed + noise), 0, 255), np.uint8)


_SPARE: Final = 64  # rows and columns


@cache
def _noise() -> NDArray[Any]:
    """Normal noise, float32 (rows, columns, 3), of which each frame shows another part: new noise would take longer
    than everything else."""
    random = np.random.default_rng(0)
    return random.standard_normal((HEIGHT + _SPARE, WIDTH + _SPARE, 3), dtype=np.float32)
