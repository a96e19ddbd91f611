"""The reference that live predictions are compared with: its files, its writers and its loader.

A champion is compared only with its own reference. The reference photos (`monitoring.make_reference`) are the reference
of every column until a maintainer replaces them by a live window (`monitoring.rebase`). All labelled rows, photos and
FER2013 faces, give the accuracy by confidence, even after a rebase.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from monitoring import distributions
from monitoring.distributions import NUMBERS
from monitoring.drift_tests import SHUFFLED
from pipelines import paths
from service.classifier import METADATA_FILE

DIRECTORY: Final = paths.BUNDLE / "reference"
REBASED: Final = paths.BUNDLE / "rebased"
REFERENCE_FILE: Final = "reference.parquet"
RECORD_FILE: Final = "rebase.json"
DISTRIBUTIONS_FILE: Final = "distributions.csv"

ABSENT: Final = ("time", "request", "session", "latency_ms")
"""Columns of the log that the reference lacks."""

_LATER: Final = ("reliability", "yaw", "roll")
"""Columns that the references of earlier releases lack."""


class RebaseRecord(BaseModel):
    """Which live window is the reference, and why.

    Attributes:
        model_version: Version of the champion; another champion starts from its own reference again.
        model_digest: Digest of the champion; None if its bundle states none.
        first: Minute of the window's first row.
        last: Minute of the window's last row.
        rows: Number of rows.
        hours: Number of hours of the clock with enough rows, see `monitoring.params.RebaseParams`.
        session_rows: Number of rows of the session in which a row is on average; 1 if no row has a session. None in
            records of earlier releases.
        reason: The maintainer's reason.
        accepted: Time of the rebase.
    """

    model_config = ConfigDict(frozen=True)

    model_version: str
    model_digest: str | None
    first: AwareDatetime
    last: AwareDatetime
    rows: int
    hours: int
    session_rows: float | None = Field(default=None, ge=1)
    reason: str
    accepted: AwareDatetime


@dataclass(frozen=True)
class Reference:
    """The reference of a champion.

    Attributes:
        model_version: Version of the champion.
        rows: Rows that live rows are compared with; the columns of the log without `ABSENT`. After a rebase they are
            drawn from distributions: within an outcome, columns are independent of one another, and joint statistics
            such as correlations mean nothing. Their index says how large the sessions were, see
            `monitoring.drift_tests.SHUFFLED`.
        labelled: Predictions on photos and FER2013 faces with the true mood (`label`).
        rebased: Record of the live window that `rows` stands for; None for photos.
        model_digest: Digest of the champion; None if its bundle states none.
    """

    model_version: str
    rows: pd.DataFrame
    labelled: pd.DataFrame
    rebased: RebaseRecord | None
    model_digest: str | None = None

    @property
    def name(self) -> str:
        """What the reference is, for sentences such as "compared with the reference photos"."""
        return "the reference photos" if self.rebased is None else "your rebased window"

    @property
    def description(self) -> str:
        """A phrase for reports."""
        if self.rebased is None:
            return f"{len(self.rows):,} labelled photos"
        return f"{self.rebased.rows:,} live predictions from {self.period} UTC ({self.rebased.reason})"

    @property
    def period(self) -> str | None:
        """The rebased window's first and last minute, in UTC; None for photos."""
        if self.rebased is None:
            return None
        return f"{self.rebased.first:%Y-%m-%d %H:%M} to {self.rebased.last:%Y-%m-%d %H:%M}"

    @cached_property
    def identity(self) -> str:
        """Digest of the compared columns, in hexadecimal; results with different references must not be mixed."""
        columns = ["outcome", "mood", "reliability", *NUMBERS]
        values = pd.util.hash_pandas_object(self.rows[columns].astype(dict.fromkeys(NUMBERS, "float32")), index=False)
        return hashlib.sha256(
            f"{self.model_version} {self.model_digest}".encode() + values.to_numpy().tobytes()
        ).hexdigest()

    @classmethod
    def load(cls, directory: Path = DIRECTORY, rebased: Path | None = REBASED) -> Reference:
        """The released champion's reference.

        Args:
            directory: Directory of the reference that came with the champion.
            rebased: Directory of a live window; it wins if it belongs to the same champion. None ignores it.

        Raises:
            FileNotFoundError: The stage `reference` has not run.
            ValueError: The reference is that of another model than the bundle's, or the rebased one is damaged or
                keeps rows.
        """
        path = directory / REFERENCE_FILE
        if not path.exists():
            raise FileNotFoundError(f"There is no reference at {path}: run the stage `reference` (`dvc repro`).")
        table = pd.read_parquet(path)
        table = table.assign(**{name: None for name in _LATER if name not in table})
        version, digest = str(table["model_version"].iloc[0]), _digest(table, directory)
        labelled = table[table["label"].notna() & table["mood"].notna()].reset_index(drop=True)
        if rebased is not None and (record := _read_record(rebased)) is not None:
            same = digest is None or record.model_digest in (None, digest)
            if record.model_version == version and same:
                return cls(version, _read_rows(rebased, record), labelled, record, digest)
        return cls(version, table[table["source"] == "photos"].reset_index(drop=True), labelled, None, digest)


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write rows as Parquet; numbers as float32, since the log rounds them to five decimal places."""
    numbers = {name: "float32" for name in rows if name in NUMBERS}
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.astype(numbers).to_parquet(path, index=False, compression="zstd")


def write_rebased(record: RebaseRecord, kept: pd.DataFrame, directory: Path) -> None:
    """Write a rebased reference in place of the one that is there.

    Args:
        record: Window and reason.
        kept: Result of `monitoring.distributions.summarise`.
        directory: Directory of the rebased reference.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    kept.to_csv(directory / DISTRIBUTIONS_FILE, index=False, lineterminator="\n")
    (directory / RECORD_FILE).write_text(record.model_dump_json(indent=2) + "\n")


def _digest(table: pd.DataFrame, directory: Path) -> str | None:
    """The champion's digest, as reference and bundle state it; None if neither does."""
    own = str(table["model_digest"].dropna().iloc[0]) if "model_digest" in table else None
    metadata = directory.parent / "classifier" / METADATA_FILE
    released = json.loads(metadata.read_bytes()).get("digest") if metadata.exists() else None
    if own and released and own != released:
        raise ValueError(
            f"The reference in {directory} was made for the model {own[:12]}, but the bundle holds {released[:12]}: "
            "run the stage `reference` (`dvc repro`)."
        )
    return own or released


def _read_record(directory: Path) -> RebaseRecord | None:
    """The record of a rebased reference; None if there is none."""
    again = "Rebase again, or return to the reference photos with `python -m monitoring.rebase --undo`."
    if (directory / REFERENCE_FILE).exists():
        raise ValueError(f"{directory} keeps a row of every live picture, which a rebase no longer does. {again}")
    path = directory / RECORD_FILE
    if not path.exists():
        return None
    try:
        return RebaseRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is damaged. {again}") from error


def _read_rows(directory: Path, record: RebaseRecord) -> pd.DataFrame:
    """Rows with the distributions of a rebased reference."""
    kept = pd.read_csv(directory / DISTRIBUTIONS_FILE, dtype={"value": str})
    rows = distributions.expand(kept).assign(model_version=record.model_version, source="live", label=None)
    size = record.session_rows or 1.0
    sessions = np.arange(len(rows)) // size if size > 1 else np.full(len(rows), np.nan)
    return rows.set_index(pd.Index(sessions, name=SHUFFLED))
