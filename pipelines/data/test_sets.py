"""Versions of the sets that models are measured on: validation and test, by source.

New people and new photos make other sets, and metrics on different sets must not be compared. A version is a digest of
the images and labels of a set, whatever their order. The stage `prepare` writes the present versions, `evaluate` writes
them beside the metrics, and whatever shows models side by side marks those with other versions (`differences`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pipelines import paths
from pipelines.data.dataset import DatasetError

Versions = Mapping[str, Mapping[str, str]]
"""Versions by split (`validation`, `test`) and source (`fer2013`, `photos`)."""

FIRST: Final[Versions] = {
    "validation": {"fer2013": "84c412927c3a", "photos": "6ed201aba9b3"},
    "test": {"fer2013": "d4e544081162", "photos": "549b1e3df683"},
}
"""Versions of the sets of release 0.2.0 and earlier, whose reports name none."""

_DIGITS: Final = 12


def version_of(labelled: Iterable[tuple[bytes, str]]) -> str:
    """Version of a set: 12 hexadecimal digits of a SHA-256.

    Args:
        labelled: Encoded images with all labels that count for a metric.
    """
    lines = sorted(f"{hashlib.sha256(image).hexdigest()} {label}" for image, label in labelled)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_DIGITS]


def write(sets: Mapping[str, Mapping[str, Mapping[str, str | int]]], path: Path = paths.TEST_SETS) -> None:
    """Write the present sets: by split and source `version`, `images` and, for photos, `people`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sets, indent=2) + "\n")


def read(path: Path = paths.TEST_SETS) -> dict[str, dict[str, dict[str, str | int]]]:
    """The present sets as `write` got them.

    Raises:
        DatasetError: The file is absent.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist. Take it from git, or run the stage `prepare` (`dvc repro prepare`)."
        )
    sets: dict[str, dict[str, dict[str, str | int]]] = json.loads(path.read_text())
    return sets


def present(path: Path = paths.TEST_SETS) -> dict[str, dict[str, str]]:
    """The present versions.

    Raises:
        DatasetError: The file is absent.
    """
    return {
        split: {source: str(one["version"]) for source, one in sources.items()} for split, sources in read(path).items()
    }


def differences(versions: Versions, others: Versions, *splits: str) -> list[str]:
    """The sets that differ, in words such as `test photos 0123456789ab instead of ba9876543210`.

    Args:
        versions: Versions in question.
        others: Versions to compare with.
        splits: Splits to look at; none for all.
    """
    return [
        f"{split} {source} {versions[split][source]} instead of {others[split][source]}"
        for split in splits or others
        for source in others[split]
        if versions[split][source] != others[split][source]
    ]
