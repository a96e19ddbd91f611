"""What live predictions are compared with: the rows that travel with the bundle, or a live window that replaced them.

A champion is compared with its own reference only. Which rows stand for which columns:

- The photos of `monitoring.make_reference` stand for every column, until a maintainer rebases the reference on a live
  window (`monitoring.rebase`): they are of one size and colour, and no camera's frames.
- FER2013's faces, whichever the reference, say how often the champion is right at which confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict

from monitoring.make_reference import DIRECTORY, REFERENCE_FILE
from pipelines import paths

REBASED: Final = paths.BUNDLE / "rebased"
RECORD_FILE: Final = "rebase.json"


class RebaseRecord(BaseModel):
    """Why the reference is a live window, and which.

    Attributes:
        model_version: of the champion that it belongs to; another champion starts from its own reference again.
        first: time of the window's first row.
        last: time of its last.
        rows: how many it has.
        reason: what the maintainer said.
        accepted: when that was.
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
        model_version: of the champion.
        rows: what live rows are compared with, the columns of the log but some.
        labelled: rows with true moods (`label`), those of photos and of FER2013's faces.
        rebased: where the rows come from, if not from photos.
    """

    model_version: str
    rows: pd.DataFrame
    labelled: pd.DataFrame
    rebased: RebaseRecord | None

    @property
    def description(self) -> str:
        """What it is made of, for people."""
        if self.rebased is None:
            return f"{len(self.rows):,} labelled photos"
        first, last = (f"{time:%Y-%m-%d %H:%M}" for time in (self.rebased.first, self.rebased.last))
        return f"{len(self.rows):,} live predictions from {first} to {last} UTC ({self.rebased.reason})"

    @classmethod
    def load(cls, directory: Path = DIRECTORY, rebased: Path = REBASED) -> Reference:
        """The released champion's reference.

        Raises:
            FileNotFoundError: the stage `reference` has not run.
        """
        path = directory / REFERENCE_FILE
        if not path.exists():
            raise FileNotFoundError(f"There is no reference at {path}: run the stage `reference` (`dvc repro`).")
        table = pd.read_parquet(path)
        version = str(table["model_version"].iloc[0])
        labelled = table[table["label"].notna() & table["mood"].notna()].reset_index(drop=True)
        record = cls._record(rebased, version)
        if record is not None:
            return cls(version, pd.read_parquet(rebased / REFERENCE_FILE), labelled, record)
        photos = table[table["source"] == "photos"].reset_index(drop=True)
        return cls(version, photos, labelled, None)

    @staticmethod
    def _record(directory: Path, version: str) -> RebaseRecord | None:
        """The record of a rebase, if there was one for this version."""
        path = directory / RECORD_FILE
        record = RebaseRecord.model_validate_json(path.read_bytes()) if path.exists() else None
        return record if record is not None and record.model_version == version else None
