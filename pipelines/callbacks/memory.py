"""Memory that a training step frees stays with the process."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import keras


class KeepMemory(keras.callbacks.Callback):
    """Lets the process keep freed memory for the next step.

    TensorFlow 2.21 makes the C library return it ("Memory patch applied: M_TRIM_THRESHOLD"), which also fixes the
    size from which a tensor is mapped anew. With batches of this size the kernel then clears pages for as long as the
    network computes: 1.5 million page faults in ten seconds, half the time. Without glibc this does nothing.
    """

    _TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Undo the patch before each epoch's first step, since it comes with the epoch's dataset."""
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        if batch == 0 and library is not None and hasattr(library, "mallopt"):
            library.mallopt(self._TRIM_THRESHOLD, 1 << 30)
            library.mallopt(self._MMAP_THRESHOLD, 32 << 20)  # the largest value that glibc takes
