"""Detection time of our cascade and of the baselines, side by side.

The baselines run as their documentation says, with their default settings and threads. The MTCNN of `fer` is that of
`facenet-pytorch` and needs PyTorch, gigabytes that `make bench` does not fetch. It takes part if they are installed:

    .venv-dev/bin/pip install --target .venv-fer torch==2.4.1 torchvision==0.19.1

OpenCV's YuNet does not take part, because OpenCV's packages come without its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.scenes import Pixels, Scene
from benchmarks.speed.fer_baseline import PACKAGES, FerBaseline
from benchmarks.speed.timing import take_turns
from service.detector import DetectorSettings, FaceDetector

OURS: Final = "MEAA"
OURS_LARGEST: Final = "MEAA, largest face alone"
OURS_AS_MTCNN: Final = "MEAA, settings of mtcnn"
MTCNN: Final = "mtcnn"
FER: Final = "fer, Haar cascade, with emotions"
FER_MTCNN: Final = "fer, MTCNN, with emotions"

_MAX_TURNS: Final = 100


Count = Callable[[Pixels], int]
"""A detector: the number of faces that it finds in RGB pixels, uint8 (height, width, 3)."""


def ours(bundle: Path) -> dict[str, Count]:
    """Our detector at the released settings, for all faces and as for a snapshot, and at the settings of the package
    `mtcnn` (smallest face: 20 pixels)."""
    released = FaceDetector(bundle / "detector")
    as_mtcnn = FaceDetector(bundle / "detector", DetectorSettings())
    return {
        OURS: lambda pixels: len(released.detect(pixels)),
        OURS_LARGEST: lambda pixels: len(released.detect(pixels, all_faces=False)),
        OURS_AS_MTCNN: lambda pixels: len(as_mtcnn.detect(pixels)),
    }


def baselines(root: Path, stack: ExitStack) -> dict[str, Count]:
    """The package `mtcnn`, and `fer` if its packages are installed.

    Args:
        root: Root of the checkout, with the directories `fer_baseline.PACKAGES`.
        stack: Ends the baselines' processes.
    """
    from mtcnn import MTCNN as Mtcnn

    cascade = Mtcnn()
    detectors: dict[str, Count] = {MTCNN: lambda pixels: len(cascade.detect_faces(pixels))}
    for name, finder, requirement in ((FER, "haar", "cv2"), (FER_MTCNN, "mtcnn", "torchvision")):
        if (root / PACKAGES[1]).is_dir() and (root / PACKAGES[0] / requirement).is_dir():
            fer = FerBaseline(root, finder)
            stack.callback(fer.close)
            detectors[name] = fer.count
    return detectors


def measure(detectors: dict[str, Count], scenes: Iterable[Scene], *, seconds: float) -> list[dict[str, Any]]:
    """Time every detector on every scene.

    Args:
        detectors: Detectors by name; the first is the reference of `relative_time`.
        scenes: Frames with faces.
        seconds: Approximate time for each detector and scene.

    Returns:
        A record for each detector and scene: `frame`, `faces` shown, `detector`, `found` faces, the times, and
        `relative_time`, the median over that of the first detector.
    """
    records = []
    for scene in scenes:
        functions = {name: partial(count, scene.pixels) for name, count in detectors.items()}
        times = take_turns(functions, seconds=seconds, max_turns=_MAX_TURNS)
        reference = next(iter(times.values())).median
        records += [
            {
                "frame": scene.size,
                "faces": scene.faces,
                "detector": name,
                "found": count(),
                **times[name].as_json(),
                "relative_time": round(times[name].median / reference, 3),
            }
            for name, count in functions.items()
        ]
    return records
