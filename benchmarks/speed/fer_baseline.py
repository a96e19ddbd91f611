"""The package `fer` in a process of its own, because it needs an older OpenCV than the service has.

    python -m benchmarks.speed.fer_baseline haar      # the process; `FerPeer` starts it and talks to it

OpenCV 5 has neither the Haar cascades that `fer` uses by default nor, outside its contributed modules, the class that
it asks for. `.venv-bench` (fer itself) and `.venv-fer` (what it needs beside the development environment) come first on
this process's path, and on no other's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from benchmarks.scenes import Pixels

Detector = Literal["haar", "mtcnn"]

PATH: Final = (".venv-fer", ".venv-bench")
"""Directories with packages, in the checkout."""

_AGAIN: Final = "again"


class FerPeer:
    """`fer`, ready; a turn costs a line through a pipe each way beside its own time."""

    def __init__(self, root: Path, detector: Detector) -> None:
        """Start the process and wait until the models are loaded.

        Args:
            root: of the checkout.
            detector: by which `fer` is to find faces.

        Raises:
            RuntimeError: it ended; the message has what it printed last.
        """
        self._directory = tempfile.TemporaryDirectory()
        self._log = Path(self._directory.name) / "log"
        self._frame = Path(self._directory.name) / "frame.npy"
        self._shown: Pixels | None = None
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.fer_baseline", detector],
                cwd=root,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(PATH)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._read()

    def count(self, pixels: Pixels) -> int:
        """How many faces it finds, and names the emotions of, in RGB pixels, uint8 (height, width, 3)."""
        if pixels is not self._shown:
            np.save(self._frame, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            self._shown = pixels
            self._ask(str(self._frame))
        return self._ask(_AGAIN)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        self._directory.cleanup()

    def _ask(self, question: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"fer ended:\n{self._log.read_text()[-2000:]}")
        return int(line)


def main() -> None:
    """Answer on standard output: 0 when ready, 0 to the file of a frame, its number of faces to `_AGAIN`."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr  # whatever the packages print
    os.environ["KERAS_BACKEND"] = "tensorflow"
    from fer.fer import FER

    peer, frame = FER(mtcnn=sys.argv[1] == "mtcnn"), np.empty((0, 0, 3), np.uint8)
    print(0, file=answers)
    for question in sys.stdin:
        if question.strip() == _AGAIN:
            print(len(peer.detect_emotions(frame)), file=answers)
        else:
            frame = np.load(question.strip())
            print(0, file=answers)


if __name__ == "__main__":
    main()
