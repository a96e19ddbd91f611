"""The files of a release in git's history."""

from __future__ import annotations

import json
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import yaml

from pipelines import paths
from pipelines.registry.champion import RECORD_FILE
from pipelines.releases.ledger import Release
from service.classifier import GRAPH_FILE, METADATA_FILE, InputSpec, digest_of

CLASSIFIER: Final = paths.BUNDLE / "classifier"


@dataclass(frozen=True)
class Commit:
    """A commit that holds a release.

    Attributes:
        revision: Hash of the commit.
    """

    revision: str

    def holds(self, path: Path) -> bool:
        """Whether a file or directory is in it."""
        return bool(_git("ls-tree", self.revision, "--", path.as_posix()))

    def extract(self, path: Path, directory: Path) -> Path:
        """Write a file or directory of the commit below a directory.

        Returns:
            Where it is now.
        """
        packed = _git("archive", self.revision, "--", path.as_posix())
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4, which Debian 12 lacks
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(directory)
        return directory / path

    def locked(self, stage: str) -> dict[str, Any]:
        """DVC's record of a stage at the commit; empty if there is none."""
        return _stage(self._read(paths.DVC_LOCK), stage)

    def _read(self, path: Path) -> bytes | None:
        """The content of a file; None if the commit lacks it."""
        shown = subprocess.run(["git", "show", f"{self.revision}:{path.as_posix()}"], capture_output=True)
        return shown.stdout if shown.returncode == 0 else None

    def _is(self, release: Release) -> bool:
        """Whether the commit's bundle and champion are a release."""
        metadata, record = self._read(CLASSIFIER / METADATA_FILE), self._read(paths.CHAMPION / RECORD_FILE)
        if metadata is None or record is None:
            return False
        bundle, champion = json.loads(metadata), json.loads(record)
        if not bundle["version"] == champion["version"] == str(release.number):
            return False
        # Computed, because the bundles of the first releases do not say it.
        graph = self._read(CLASSIFIER / GRAPH_FILE)
        spec = InputSpec.model_validate(bundle["input"])
        digest = digest_of(graph or b"", moods=tuple(bundle["moods"]), spec=spec, temperature=bundle["temperature"])
        return digest == release.digest


def find(release: Release) -> Commit | None:
    """The newest commit whose bundle and champion are a release; None if the history has none.

    The newest one, because a champion may be measured again without a change of what is served.
    """
    files = [CLASSIFIER / METADATA_FILE, CLASSIFIER / GRAPH_FILE, paths.CHAMPION / RECORD_FILE]
    logged = subprocess.run(
        ["git", "log", "--format=%H", "HEAD", "--", *map(str, files)], capture_output=True, text=True
    )
    commits = map(Commit, logged.stdout.split())
    return next((commit for commit in commits if commit._is(release)), None)


def locked(stage: str) -> dict[str, Any]:
    """DVC's record of a stage now; empty if there is none."""
    return _stage(paths.DVC_LOCK.read_bytes() if paths.DVC_LOCK.exists() else None, stage)


def _stage(lock: bytes | None, stage: str) -> dict[str, Any]:
    """The entry of a stage in a lock."""
    return dict(yaml.safe_load(lock)["stages"].get(stage, {})) if lock else {}


def _git(*arguments: str) -> bytes:
    """What a git command prints.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    return subprocess.run(["git", *arguments], check=True, capture_output=True).stdout
