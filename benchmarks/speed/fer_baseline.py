"""The package `fer` in a process of its own, because it needs an older OpenCV than the service.

    python -m benchmarks.speed.fer_baseline haar      # the child process; `FerBaseline` starts it and talks to it

OpenCV 5 lacks the Haar cascades that `fer` uses by default, and keeps their class in its contributed modules.
`.venv-bench` (fer itself) and `.venv-fer` (what it needs beside the development environment) come first on the path of
this process only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks.scenes import Pixels

PACKAGES: Final = (".venv-fer", ".venv-bench")
"""Directories with packages, in the checkout."""

_REPEAT: Final = "repeat"


class FerBaseline:
    """`fer` with its models loaded; a call costs a line through a pipe each way beside its own time."""

    def __init__(self, root: Path, finder: str) -> None:
        """Start the process and wait until the models are loaded.

        Args:
            root: Root of the checkout.
            finder: Face detector of `fer`: `haar` or `mtcnn`.

        Raises:
            RuntimeError: The process ended; the message has its last output.
        """
        self._directory = tempfile.TemporaryDirectory()
        self._log = Path(self._directory.name) / "log"
        self._frame = Path(self._directory.name) / "frame.npy"
        self._saved: Pixels | None = None
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.fer_baseline", finder],
                cwd=root,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGES)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._read()

    def count(self, pixels: Pixels) -> int:
        """The number of faces found and classified in RGB pixels, uint8 (height, width, 3)."""
        if pixels is not self._saved:
            np.save(self._frame, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            self._saved = pixels
            self._request(str(self._frame))
        return self._request(_REPEAT)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        self._directory.cleanup()

    def _request(self, line: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"fer ended:\n{self._log.read_text()[-2000:]}")
        return int(line)


def main() -> None:
    """Reply on standard output: 0 when ready, 0 to the file of a frame, the frame's number of faces to `_REPEAT`."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # the packages print
    from fer.fer import FER

    detector, frame = FER(mtcnn=sys.argv[1] == "mtcnn"), np.empty((0, 0, 3), np.uint8)
    print(0, file=replies)
    for line in sys.stdin:
        if line.strip() == _REPEAT:
            print(len(detector.detect_emotions(frame)), file=replies)
        else:
            frame = np.load(line.strip())
            print(0, file=replies)


if __name__ == "__main__":
    main()
