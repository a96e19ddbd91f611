"""DVC's record of stages whose outputs a promotion or rollback has replaced.

`dvc commit` would record a whole stage as up to date, with all its inputs. Here only the hashes of the replaced paths
are renewed, and only if they were those of the files before: a stage that had to run still has to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import NotDvcRepoError
from dvc.output import Output
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml

from pipelines import paths


@dataclass(frozen=True)
class Recorded:
    """Hashes of paths as DVC computes them.

    Attributes:
        entries: What `dvc.lock` says of a path: `md5`, `size` and, for a directory, `nfiles`. A missing one has none.
    """

    entries: Mapping[Path, Mapping[str, Any]]

    @classmethod
    def of(cls, changed: Collection[Path]) -> Recorded:
        """The hashes of paths that `dvc.yaml` knows, as they are now; none outside a DVC project."""
        wanted = {path.absolute(): path for path in changed}
        try:
            with Repo() as repo:
                known = [entry for stage in repo.index.stages for entry in [*stage.outs, *stage.deps]]
                found = {wanted[path]: one for one in known if (path := Path(one.fs_path)) in wanted and one.exists}
                return cls({path: _entry(one) for path, one in found.items()})
        except NotDvcRepoError:
            return cls({})

    def renew(self, stages: Collection[str]) -> None:
        """Write the present hashes of the paths to the lock, in the entries of stages whose hash was the one before."""
        if not paths.DVC_LOCK.exists():
            return
        now = Recorded.of(self.entries)
        with modify_yaml(str(paths.DVC_LOCK)) as lock:
            for name in stages:
                for entry in [one for kind in ("deps", "outs") for one in lock["stages"].get(name, {}).get(kind, [])]:
                    before, after = (recorded.entries.get(Path(entry["path"])) for recorded in (self, now))
                    if before and after and entry.get("md5") == before["md5"]:
                        entry.update(after)


def _entry(one: Output) -> dict[str, Any]:
    """The entry of the lock for an output or a dependency, as it is now."""
    one.save()  # only in memory
    entry = {"md5": one.hash_info.value, "size": one.meta.size}
    return {**entry, "nfiles": one.meta.nfiles} if one.meta.nfiles is not None else entry
