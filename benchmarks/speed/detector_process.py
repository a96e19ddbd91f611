"""The detector of a checkout in a process of its own, to time two versions of the code side by side.

python detector_process.py FRAME.npy    # in a checkout, which must be on the path; `Detector` starts it
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Detector:
    """A detector that times itself."""

    def __init__(self, checkout: Path, python: Path, pixels: NDArray[np.uint8]) -> None:
        """Start the process and wait until the nets are loaded.

        Args:
            checkout: Root of the checkout with the code and the bundle.
            python: Interpreter of an environment that serves.
            pixels: RGB frame to search, uint8 (height, width, 3).
        """
        self._directory = tempfile.TemporaryDirectory()
        frame = Path(self._directory.name) / "frame.npy"
        np.save(frame, pixels)
        self._process = subprocess.Popen(
            [str(python), "-P", str(Path(__file__).resolve()), str(frame)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.milliseconds()

    def milliseconds(self) -> float:
        """Time of a search as for a snapshot.

        Raises:
            RuntimeError: The process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the detector ended with status {self._process.wait()}")
        return float(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._directory.cleanup()


def main() -> None:
    """Reply to each line with the time of a search, in milliseconds, after one that warms the caches."""
    from service.detector import FaceDetector

    frame = np.load(sys.argv[1])
    detector = FaceDetector(Path("bundle/detector"))
    # Versions before the search for the largest face alone have no such argument.
    alone = {"all_faces": False} if "all_faces" in inspect.signature(detector.detect).parameters else {}
    search = partial(detector.detect, frame, **alone)
    for _ in sys.stdin:
        search()
        started = time.perf_counter()
        search()
        print((time.perf_counter() - started) * 1e3, flush=True)


if __name__ == "__main__":
    main()
