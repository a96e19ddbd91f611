"""Detection time of our cascade and of the baselines, side by side.

The baselines run as their documentation says, with their default settings and threads. The MTCNN of `fer` is that of
`facenet-pytorch` and needs PyTorch, gigabytes that `make bench` does not fetch. It takes part if they are installed:

    .venv-dev/bin/pip install --target .venv-fer torch==2.4.1 torchvision==0.19.1

OpenCV's YuNet does not take part, because OpenCV's packages come without its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.scenes import Pixels, Scene
from benchmarks.speed.fer_baseline import PACKAGES, FerBaseline
from benchmarks.speed.timing import take_turns
from service.detector import DetectorSettings, FaceDetector

OURS: Final = "MEAA"
OURS_AS_MTCNN: Final = "MEAA, settings of mtcnn"
MTCNN: Final = "mtcnn"
FER: Final = "fer, Haar cascade, with emotions"
FER_MTCNN: Final = "fer, MTCNN, with emotions"

_MAX_TURNS: Final = 100


@dataclass(frozen=True)
class Detector:
    """A detector of the comparison.

    Attributes:
        name: Name in the report.
        count: Number of faces found in RGB pixels, uint8 (height, width, 3).
    """

    name: str
    count: Callable[[Pixels], int]


def ours(bundle: Path) -> Iterator[Detector]:
    """Our detector at the released settings, and at those of the `mtcnn` package (smallest face: 20 pixels)."""
    for name, settings in ((OURS, None), (OURS_AS_MTCNN, DetectorSettings())):
        detector = FaceDetector(bundle / "detector", settings)
        yield Detector(name, lambda pixels, detector=detector: len(detector.detect(pixels)))


def baselines(root: Path, stack: ExitStack) -> Iterator[Detector]:
    """The package `mtcnn`, and `fer` if its packages are installed.

    Args:
        root: Root of the checkout, with the directories `fer_baseline.PACKAGES`.
        stack: Ends the baselines' processes.
    """
    from mtcnn import MTCNN as Mtcnn

    cascade = Mtcnn()
    yield Detector(MTCNN, lambda pixels: len(cascade.detect_faces(pixels)))
    directories = [root / name for name in PACKAGES]
    if not all(directory.is_dir() for directory in directories):
        return
    for name, finder, requirement in ((FER, "haar", "cv2"), (FER_MTCNN, "mtcnn", "torchvision")):
        if any((directory / requirement).is_dir() for directory in directories):
            fer = FerBaseline(root, finder)
            stack.callback(fer.close)
            yield Detector(name, fer.count)


def measure(detectors: list[Detector], scenes: Iterable[Scene], *, seconds: float) -> list[dict[str, Any]]:
    """Time every detector on every scene.

    Args:
        detectors: Detectors; the first is the reference of `relative_time`.
        scenes: Frames with faces.
        seconds: Approximate time for each detector and scene.

    Returns:
        A record for each detector and scene: `frame`, `faces` shown, `detector`, `found` faces, the times, and
        `relative_time`, the median over that of the first detector.
    """
    records = []
    for scene in scenes:
        functions = {detector.name: partial(detector.count, scene.pixels) for detector in detectors}
        times = take_turns(functions, seconds=seconds, max_turns=_MAX_TURNS)
        reference = times[detectors[0].name].median
        for name, count in functions.items():
            records.append(
                {
                    "frame": scene.size,
                    "faces": scene.faces,
                    "detector": name,
                    "found": count(),
                    **times[name].as_json(),
                    "relative_time": round(times[name].median / reference, 3),
                }
            )
    return records
