"""Reads the session that another one is compared with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.session.summary import Summary


class BaselineError(Exception):
    """A baseline cannot be read; the message says why."""


@dataclass(frozen=True)
class Baseline:
    """An earlier session of a person.

    Attributes:
        summary: Its summary.
        digest: Digest of its classifier; None if the file does not tell.
    """

    summary: Summary
    digest: str | None


def read(path: Path) -> Baseline:
    """A baseline from a response of `POST /upload-meaa-frames`, from what `--json` wrote, or from a summary alone.

    Raises:
        BaselineError: The file is none of these, or its session has no answered frame.
        OSError: The file cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        summary = Summary.model_validate(document.get("summary", document))
    except (ValueError, AttributeError, RecursionError):  # no JSON, no object, another object
        raise BaselineError(
            f"{path} is no session: give a file that --json wrote, or a response of the service."
        ) from None
    if not summary.answered:
        raise BaselineError(f"The session in {path} has no frame with a face; there is nothing to compare with.")
    return Baseline(summary, _digest(document))


def _digest(document: Any) -> str | None:
    """The digest of the first estimate's classifier."""
    frames = document.get("frames")
    for frame in frames if isinstance(frames, list) else []:
        try:
            return str(frame["estimate"]["model"]["digest"])
        except (KeyError, TypeError):  # a frame without an answer
            continue
    return None
