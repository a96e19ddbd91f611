"""All or nothing for commands that replace several files: an interrupted one leaves the files of before.

    python -m pipelines.releases.transaction     # puts back what an interrupted promotion or rollback has left

Copies of the files are made first. If the command fails, or is interrupted from the keyboard, it puts them back. If it
is killed, or the power fails, the next command does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pipelines import paths

_LOCK: Final = "lock"
_COPIES: Final = "before"
_LIST: Final = "paths.json"


class Busy(RuntimeError):
    """Another promotion or rollback is running in this checkout."""


@contextlib.contextmanager
def transaction(changed: Sequence[Path], directory: Path = paths.TRANSACTION) -> Iterator[Path]:
    """Put files and directories back if the body fails.

    Args:
        changed: Files and directories that the body may change, create or delete; relative to the project's root.
        directory: Directory for copies and the lock, on the same file system.

    Yields:
        An empty directory for the body's own files, on the same file system as `changed`.

    Raises:
        Busy: see there.
    """
    with _locked(directory):
        _put_back(directory)
        work = directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        _copy(changed, directory)
        try:
            yield work
        except BaseException:
            _put_back(directory)
            raise
        shutil.rmtree(directory / _COPIES)
        shutil.rmtree(work)


def recover(directory: Path = paths.TRANSACTION) -> bool:
    """Put back what an interrupted command has left.

    Returns:
        Whether there was anything.

    Raises:
        Busy: the command is still running.
    """
    if not directory.exists():
        return False
    with _locked(directory):
        return _put_back(directory)


def replace(new: Path, old: Path) -> None:
    """Put a file or directory in another's place, on the same file system."""
    if old.is_dir():
        passed = new.with_name(f"{new.name}.passed")
        old.rename(passed)
        new.rename(old)
        shutil.rmtree(passed)
    else:
        old.parent.mkdir(parents=True, exist_ok=True)
        new.replace(old)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """A lock that ends with the process, however it ends."""
    directory.mkdir(exist_ok=True)
    with (directory / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("Another promotion or rollback is running in this checkout: wait for it.") from None
        yield


def _copy(changed: Sequence[Path], directory: Path) -> None:
    """Copy files; the directory gets its name once it is complete."""
    partial = directory / f"{_COPIES}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for index, path in enumerate(changed):
        if path.is_dir():
            shutil.copytree(path, partial / str(index), symlinks=True)
        elif path.exists():
            shutil.copy2(path, partial / str(index))
    (partial / _LIST).write_text(json.dumps([path.as_posix() for path in changed]))
    partial.rename(directory / _COPIES)


def _put_back(directory: Path) -> bool:
    """Put the copies in their places; they stay until all are there, so that this may be interrupted too.

    Returns:
        Whether there were copies.
    """
    copies = directory / _COPIES
    if not copies.exists():
        return False
    for index, name in enumerate(json.loads((copies / _LIST).read_text())):
        path, copy = Path(name), copies / str(index)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if copy.is_dir():
            shutil.copytree(copy, path, symlinks=True)
        elif copy.exists():
            shutil.copy2(copy, path)
    shutil.rmtree(copies)
    return True


if __name__ == "__main__":
    print("Put back the files of before." if recover() else "There is nothing to put back.")
