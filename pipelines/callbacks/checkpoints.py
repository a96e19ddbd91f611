"""Checkpoints from which an interrupted training resumes.

Keras's own `BackupAndRestore` restores weights and optimizer, but not the state of the callbacks (the best loss so
far, and for how long it has not improved); a resumed run would continue with another schedule. Here each epoch leaves
one complete directory: the model with its optimizer, the weights of the best epoch, the callbacks' state and the
metrics so far. DVC does not track it, so `dvc repro` does not delete it before it starts the stage again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import pandas as pd

_MODEL, _BEST, _STATE = "model.keras", "best.keras", "state.json"
# State of Keras's callbacks from epoch to epoch.
_REMEMBERED = ("best", "wait", "cooldown_counter", "best_epoch")


def fingerprint(parameters: Mapping[str, Any], *files: Path) -> str:
    """Digest of a training's parameters and input files; a checkpoint with another digest is not resumed."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one training, in a directory of their own."""

    def __init__(self, directory: Path, digest: str) -> None:
        """Open the checkpoints; those with another digest are deleted.

        Args:
            directory: Directory of this training.
            digest: See `fingerprint`.
        """
        self.directory = directory
        owner = directory / "run.json"
        found = json.loads(owner.read_text()) if owner.exists() else {}
        if found.get("digest") != digest:
            shutil.rmtree(directory, ignore_errors=True)
            found = {}
        directory.mkdir(parents=True, exist_ok=True)
        self._digest = digest
        self._run_id: str | None = found.get("run_id")

    @property
    def run_id(self) -> str | None:
        """The MLflow run that the checkpoints belong to; None before one is set."""
        return self._run_id

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self._run_id = run_id
        (self.directory / "run.json").write_text(json.dumps({"digest": self._digest, "run_id": run_id}))

    def latest(self) -> Path | None:
        """The directory of the last finished epoch."""
        return max(self.directory.glob("epoch_[0-9]*"), default=None)


class CheckpointSaver(keras.callbacks.Callback):
    """Saves a complete checkpoint after each epoch and restores the last one.

    Attributes:
        history: Metrics of every epoch, including those before an interruption.
        finished: Whether the training had already ended.
    """

    def __init__(
        self, checkpoints: Checkpoints, monitor: str, stateful: Mapping[str, keras.callbacks.Callback]
    ) -> None:
        """Read the last checkpoint.

        Args:
            checkpoints: Where to resume from and to save each epoch.
            monitor: The metric whose smallest value marks the best epoch.
            stateful: Callbacks whose state is saved and restored, by name; they must precede this one in the list.
        """
        super().__init__()
        self._directory, self._latest = checkpoints.directory, checkpoints.latest()
        self._monitor, self._stateful = monitor, stateful
        self._state: dict[str, Any] = json.loads((self._latest / _STATE).read_text()) if self._latest else {}
        self.history = pd.DataFrame(self._state.get("history", []))
        self.finished = bool(self._state.get("finished", False))

    def restore(self, model: keras.Model) -> int:
        """Restore weights, optimizer and learning rate of a compiled model.

        Returns:
            The epoch to resume with; 0 if there is no checkpoint.
        """
        if self._latest is None:
            return 0
        saved = keras.models.load_model(self._latest / _MODEL)
        model.set_weights(saved.get_weights())
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, saved.optimizer.variables, strict=True):
            variable.assign(value)
        return len(self.history)

    def best_weights(self, model: keras.Model) -> list[Any]:
        """Weights of the best epoch so far; those of `model` if none was saved."""
        if self._latest is None:
            return model.get_weights()
        return keras.models.load_model(self._latest / _BEST, compile=False).get_weights()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the callbacks' state, which Keras has just reset."""
        for name, state in self._state.get("callbacks", {}).items():
            for attribute, value in state.items():
                setattr(self._stateful[name], attribute, value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the epoch."""
        row = {"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}}
        self.history = pd.concat([self.history, pd.DataFrame([row])], ignore_index=True)
        self._save(finished=bool(self.model.stop_training))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Mark the last checkpoint as final, so that repeating the stage does not train further."""
        if self._latest is not None:
            state = json.loads((self._latest / _STATE).read_text()) | {"finished": True}
            (self._latest / _STATE).write_text(json.dumps(state))

    def _save(self, *, finished: bool) -> None:
        """Write the epoch's directory under another name and rename it, so that it is complete or absent."""
        epoch = len(self.history) - 1
        target, partial = self._directory / f"epoch_{epoch:04d}", self._directory / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.model.save(partial / _MODEL)
        if self.history[self._monitor].idxmin() == epoch or self._latest is None:
            shutil.copy(partial / _MODEL, partial / _BEST)
        else:
            shutil.copy(self._latest / _BEST, partial / _BEST)
        state = {
            "finished": finished,
            "history": self.history.to_dict("records"),
            "callbacks": {
                name: {key: getattr(callback, key) for key in _REMEMBERED if hasattr(callback, key)}
                for name, callback in self._stateful.items()
            },
        }
        (partial / _STATE).write_text(json.dumps(state, default=float))
        partial.rename(target)
        if self._latest is not None:
            shutil.rmtree(self._latest)
        self._latest = target
