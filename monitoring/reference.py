"""The reference that live predictions are compared with: its file format, its writer and its loader.

A champion is compared only with its own reference. Labelled photos (`monitoring.make_reference`) are the reference of
every column until a maintainer replaces them by a live window (`monitoring.rebase`). All labelled rows, photos and
FER2013 faces, give the accuracy by confidence, even after a rebase.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict

from pipelines import paths

DIRECTORY: Final = paths.BUNDLE / "reference"
REBASED: Final = paths.BUNDLE / "rebased"
REFERENCE_FILE: Final = "reference.parquet"
RECORD_FILE: Final = "rebase.json"

ABSENT: Final = ("time", "request", "latency_ms")
"""Columns of the log that the reference lacks."""
_TEXTS: Final = ("model_version", "model_digest", "outcome", "mood", "source", "label")


class RebaseRecord(BaseModel):
    """Which live window is the reference, and why.

    Attributes:
        model_version: Version of the champion; another champion starts from its own reference again.
        first: Time of the window's first row.
        last: Time of the window's last row.
        rows: Number of rows.
        reason: The maintainer's reason.
        accepted: Time of the rebase.
    """

    model_config = ConfigDict(frozen=True)

    model_version: str
    first: AwareDatetime
    last: AwareDatetime
    rows: int
    reason: str
    accepted: AwareDatetime


@dataclass(frozen=True)
class Reference:
    """The reference of a champion.

    Attributes:
        model_version: Version of the champion.
        rows: Rows that live rows are compared with; the columns of the log without `ABSENT`.
        labelled: Predictions on photos and FER2013 faces with the true mood (`label`).
        rebased: Record of the live window that `rows` holds; None for photos.
    """

    model_version: str
    rows: pd.DataFrame
    labelled: pd.DataFrame
    rebased: RebaseRecord | None

    @property
    def description(self) -> str:
        """A phrase for reports."""
        if self.rebased is None:
            return f"{len(self.rows):,} labelled photos"
        first, last = (f"{time:%Y-%m-%d %H:%M}" for time in (self.rebased.first, self.rebased.last))
        return f"{len(self.rows):,} live predictions from {first} to {last} UTC ({self.rebased.reason})"

    @classmethod
    def load(cls, directory: Path = DIRECTORY, rebased: Path | None = REBASED) -> Reference:
        """The released champion's reference.

        Args:
            directory: Directory of the reference that came with the champion.
            rebased: Directory of a live window; it wins if it belongs to the same champion. None ignores it.

        Raises:
            FileNotFoundError: The stage `reference` has not run.
        """
        path = directory / REFERENCE_FILE
        if not path.exists():
            raise FileNotFoundError(f"There is no reference at {path}: run the stage `reference` (`dvc repro`).")
        table = pd.read_parquet(path)
        version = str(table["model_version"].iloc[0])
        labelled = table[table["label"].notna() & table["mood"].notna()].reset_index(drop=True)
        if rebased is not None and (rebased / RECORD_FILE).exists():
            record = RebaseRecord.model_validate_json((rebased / RECORD_FILE).read_bytes())
            if record.model_version == version:
                return cls(version, pd.read_parquet(rebased / REFERENCE_FILE), labelled, record)
        return cls(version, table[table["source"] == "photos"].reset_index(drop=True), labelled, None)


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write rows as Parquet; numbers as float32, since the log rounds them to five decimal places."""
    numbers = {name: "float32" for name in rows if name not in _TEXTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.astype(numbers).to_parquet(path, index=False, compression="zstd")
