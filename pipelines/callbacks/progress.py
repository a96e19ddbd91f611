"""Progress of a training and the time left, on a terminal and in a log."""

from __future__ import annotations

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class EpochProgress(keras.callbacks.Callback):
    """Two bars, for epochs and batches, with the time left; one line per epoch for logs and scrollback.

    The time left is that until the last epoch allowed; early stopping usually comes first.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.seconds: list[float] = []
        """Time of each epoch that has ended in this process, validation included."""
        self._title = title
        self._console = Console()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Show the bars."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            transient=True,
        )
        self._epochs = self._progress.add_task(f"{self._title}, epochs at most", total=self.params["epochs"])
        self._batches = self._progress.add_task("batches", total=self.params["steps"])
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reset the bar of the batches."""
        self._started = time.monotonic()
        self._progress.update(self._epochs, completed=epoch)
        self._progress.reset(self._batches, total=self.params["steps"])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance by one batch."""
        self._progress.update(self._batches, completed=batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the epoch's metrics."""
        self.seconds.append(time.monotonic() - self._started)
        values = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        self._console.print(f"{self._title} epoch {epoch}: {values}", highlight=False, soft_wrap=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Remove the bars."""
        self._progress.stop()
