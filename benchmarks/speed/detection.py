"""Detection time of our cascade and of its peers, side by side.

The peers run as their documentation says, with their own defaults and as many threads as they like. The MTCNN of `fer`
is that of `facenet-pytorch` and needs PyTorch, gigabytes that `make bench` does not fetch; it runs where they are:

    .venv-dev/bin/pip install --target .venv-fer torch==2.4.1 torchvision==0.19.1

OpenCV's YuNet is missing: OpenCV's packages come without its model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.scenes import Pixels, Scene
from benchmarks.speed import fer_baseline
from benchmarks.speed.timing import take_turns
from service.detector import DetectorSettings, FaceDetector

OURS: Final = "MEAA"
OURS_AS_MTCNN: Final = "MEAA, settings of mtcnn"
MTCNN: Final = "mtcnn"
FER: Final = "fer, Haar cascade, with emotions"
FER_MTCNN: Final = "fer, MTCNN, with emotions"

_MOST_TURNS: Final = 100


@dataclass(frozen=True)
class Contender:
    """A detector.

    Attributes:
        name: as the report calls it.
        count: the number of faces that it finds in RGB pixels, uint8 (height, width, 3).
    """

    name: str
    count: Callable[[Pixels], int]


def ours(bundle: Path) -> Iterator[Contender]:
    """Our detector at the released settings, and at those of the `mtcnn` package (a smallest face of 20 pixels)."""
    for name, settings in ((OURS, None), (OURS_AS_MTCNN, DetectorSettings())):
        detector = FaceDetector(bundle / "detector", settings)
        yield Contender(name, lambda pixels, detector=detector: len(detector.detect(pixels)))


def peers(root: Path, stack: ExitStack) -> Iterator[Contender]:
    """What others use.

    Args:
        root: of the checkout; `fer` takes part where it is installed there.
        stack: ends the processes of peers that have one.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the package uses TensorFlow's Keras
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from mtcnn import MTCNN as Mtcnn

    cascade = Mtcnn()
    yield Contender(MTCNN, lambda pixels: len(cascade.detect_faces(pixels)))
    directories = [root / name for name in fer_baseline.PATH]
    if not all(directory.is_dir() for directory in directories):
        return
    for name, finder, needed in ((FER, "haar", "cv2"), (FER_MTCNN, "mtcnn", "torchvision")):
        if any((directory / needed).is_dir() for directory in directories):
            fer = fer_baseline.FerPeer(root, finder)
            stack.callback(fer.close)
            yield Contender(name, fer.count)


def measure(
    contenders: Iterable[Contender], scenes: Iterable[Scene], *, seconds: float, most: int = _MOST_TURNS
) -> list[dict[str, Any]]:
    """Time every contender on every scene.

    Args:
        contenders: the first is the one that the others are compared with.
        scenes: what they look at.
        seconds: for each contender and scene, about.
        most: turns of a fast contender on a scene.

    Returns:
        A record for each contender and scene; `times_ours` is its median over that of the first contender.
    """
    contenders = list(contenders)
    records = []
    for scene in scenes:
        runners = {contender.name: partial(contender.count, scene.pixels) for contender in contenders}
        times = take_turns(runners, seconds=seconds, most=most)
        reference = times[contenders[0].name].median
        for contender in contenders:
            records.append(
                {
                    "frame": scene.size,
                    "faces": scene.faces,
                    "contender": contender.name,
                    "found": contender.count(scene.pixels),
                    **times[contender.name].as_json(),
                    "times_ours": round(times[contender.name].median / reference, 3),
                }
            )
    return records
