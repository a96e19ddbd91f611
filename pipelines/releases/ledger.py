"""The ledger of releases, `models/releases.json`: which classifier was released under which number, by whom and why.

The number is a release's name in answers, metrics, prediction log and drift reference. Git decides it: a new release
has the highest number of the ledger plus one, whatever an MLflow registry calls the model. Two clones that release at
the same time therefore change the same lines, and git reports a conflict instead of keeping two releases of one name.

An entry is added if the champion changes, and none is ever changed or removed:

- `promote`: the gate promoted a challenger, or a maintainer promoted a model (`python -m pipelines.releases.promote`).
- `refresh`: the champion was measured or exported again, and what is served differs, for example in its calibration.
- `rollback`: a maintainer went back to an earlier release (`python -m pipelines.releases.rollback`).

The same classifier has the same number again: the entry of a rollback carries the number of the release that it brings
back. A decision by hand withdraws all other models that there are. The gate does not promote a withdrawn model; a
maintainer may.
"""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from pipelines import paths
from pipelines.registry.champion import Champion

Action = Literal["promote", "refresh", "rollback"]
Verdict = Literal["promoted", "refused", "not asked"]


class Release(BaseModel):
    """An entry of the ledger.

    Attributes:
        number: Number of the release; the bundle calls it `version`.
        architecture: Name of the model in `params.yaml`.
        digest: Digest of what is served; see `service.classifier.digest_of`.
        model: Digest of the trained model; see `pipelines.registry.candidates.identity`. It stays the same if the model
            is calibrated or exported again.
        action: What made it the champion.
        gate: What the gate said about it.
        by: Git's name of the person who did it.
        at: Time, UTC.
        reason: Why, in a sentence.
        withdraws: Digests of the models (as `model`) that the gate no longer promotes.
    """

    model_config = ConfigDict(frozen=True)

    number: int = Field(ge=1)
    architecture: str
    digest: str
    model: str
    action: Action
    gate: Verdict
    by: str
    at: AwareDatetime
    reason: str
    withdraws: tuple[str, ...] = ()

    @classmethod
    def now(
        cls,
        number: int,
        champion: Champion,
        *,
        action: Action,
        gate: Verdict,
        reason: str,
        withdraws: Iterable[str] = (),
    ) -> Release:
        """An entry of the present time and user.

        Args:
            number: Number of the release.
            champion: Champion that it makes.
            action: See the attributes.
            gate: See the attributes.
            reason: See the attributes.
            withdraws: See the attributes.
        """
        return cls(
            number=number,
            architecture=champion.record.architecture,
            digest=champion.served_digest,
            model=champion.record.digest,
            action=action,
            gate=gate,
            by=user(),
            at=datetime.now(UTC).replace(microsecond=0),
            reason=reason,
            withdraws=tuple(sorted(set(withdraws) - {champion.record.digest})),
        )

    @property
    def title(self) -> str:
        """Number, name and the beginning of the digest."""
        return f"release {self.number} ({self.architecture}, digest {self.digest[:12]})"


_ENTRIES = TypeAdapter(tuple[Release, ...])


@dataclass(frozen=True)
class Ledger:
    """The entries, oldest first. The last one is about the champion."""

    entries: tuple[Release, ...]

    @classmethod
    def read(cls, path: Path = paths.RELEASES) -> Ledger:
        """The ledger in a file; empty if there is no file.

        Raises:
            ValueError: a number stands for two classifiers, or a classifier has two numbers; the message says which.
        """
        if not path.exists():
            return cls(())
        text = path.read_text()
        if "<<<<<<<" in text:
            raise ValueError(
                f"{path} has a conflict of git: two clones released. Keep the release that was pushed first, and "
                "promote your model by hand; the guide to the gate (docs/improve/gate.md, Releases) has the commands"
            )
        ledger = cls(_ENTRIES.validate_json(text))
        ledger._check(path)
        return ledger

    def _check(self, path: Path) -> None:
        """Raise a ValueError if numbers and digests are not one to one, or if numbers do not rise."""
        known: dict[int, Release] = {}
        for entry in self.entries:
            first = known.get(entry.number)
            if first is None and known and entry.number < max(known):
                raise ValueError(f"{path}: release {entry.number} is new, but has a lower number than one before it")
            if first is not None and first.digest != entry.digest:
                raise ValueError(
                    f"{path}: release {entry.number} stands for two classifiers, {first.digest[:12]} and "
                    f"{entry.digest[:12]}. Two clones released it: keep one entry, and release the other model again "
                    "(python -m pipelines.releases.promote NAME --reason WHY)"
                )
            known[entry.number] = entry
        if len({entry.digest for entry in known.values()}) < len(known):
            raise ValueError(f"{path}: one classifier has two numbers")

    def write(self, path: Path = paths.RELEASES) -> None:
        """Replace the file as a whole."""
        partial = path.with_name(f".{path.name}.partial")
        entries = _ENTRIES.dump_python(self.entries, mode="json")
        partial.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
        partial.replace(path)

    def added(self, entry: Release) -> Ledger:
        """The ledger with one more entry."""
        return Ledger((*self.entries, entry))

    @property
    def current(self) -> Release | None:
        """The entry about the champion; None if nothing was released yet."""
        return self.entries[-1] if self.entries else None

    @property
    def highest(self) -> int:
        """The highest number; 0 if nothing was released yet."""
        return max((entry.number for entry in self.entries), default=0)

    def number_of(self, digest: str) -> int:
        """The number of a classifier: that under which it was released, else the next one."""
        return next((entry.number for entry in self.entries if entry.digest == digest), self.highest + 1)

    def find(self, number: int) -> Release:
        """The latest entry about a release.

        Raises:
            LookupError: there is none.
        """
        for entry in reversed(self.entries):
            if entry.number == number:
                return entry
        known = ", ".join(map(str, sorted({entry.number for entry in self.entries}))) or "none"
        raise LookupError(f"{paths.RELEASES} has no release {number}; it has {known}")

    def before(self) -> Release:
        """The release that the current one replaced when it was promoted.

        Raises:
            LookupError: there is none.
        """
        numbers = [entry.number for entry in self.entries]
        since = next(
            (
                index
                for index, entry in reversed(list(enumerate(self.entries)))
                if entry.number == numbers[-1] and entry.action != "rollback"
            ),
            0,
        )
        if since == 0:
            raise LookupError("There is no release before the current one.")
        return self.find(numbers[since - 1])

    def withdrawn(self) -> dict[str, Release]:
        """The models that the gate does not promote, by their digests (`model`), each with the entry that withdrew it.

        A model that a later entry makes the champion is withdrawn no longer.
        """
        found: dict[str, Release] = {}
        for entry in self.entries:
            found |= dict.fromkeys(entry.withdraws, entry)
            found.pop(entry.model, None)
        return found


def require_consistent(ledger: Ledger, champion: Champion | None) -> None:
    """Check that ledger and champion were written together.

    Raises:
        LookupError: they were not; the message says what to do.
    """
    current = ledger.current
    said = f"release {current.number}" if current else "no release"
    if champion is None:
        if current is not None:
            raise LookupError(
                f"By {paths.RELEASES} {said} is the champion, but {paths.CHAMPION} is missing: git checkout HEAD -- "
                f"{paths.CHAMPION}"
            )
        return
    record = champion.record
    if current is not None and (str(current.number), current.digest) == (record.version, champion.served_digest):
        return
    raise LookupError(
        f"{paths.CHAMPION} is release {record.version} ({record.architecture}, digest {champion.served_digest[:12]}), "
        f"but by {paths.RELEASES} {current.title if current else said} is the champion. To go back to a release: "
        f"python -m pipelines.releases.rollback NUMBER --reason WHY. To undo the difference: git checkout HEAD -- "
        f"{paths.CHAMPION} {paths.RELEASES}"
    )


def user() -> str:
    """Git's name of the user; the account's name if git knows none."""
    configured = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True)
    return configured.stdout.strip() or getpass.getuser()
