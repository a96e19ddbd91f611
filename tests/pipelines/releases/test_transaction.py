"""`pipelines.releases.transaction`: all of the new files, or all of the old ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.releases.transaction import Busy, recover, replace, transaction

CHANGED = (Path("directory"), Path("file"), Path("new"))


@pytest.fixture(autouse=True)
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A directory and a file, and their contents."""
    monkeypatch.chdir(tmp_path)
    Path("directory").mkdir()
    for path in ("directory/a", "directory/b", "file"):
        Path(path).write_text(f"old {path}")
    return contents()


def contents() -> dict[str, str]:
    """All files but those of the transaction."""
    files = sorted(path for path in Path().rglob("*") if path.is_file() and path.parts[0] != ".release")
    return {path.as_posix(): path.read_text() for path in files}


def change(work: Path) -> None:
    """Replace the directory, delete the file and create another."""
    (work / "directory").mkdir()
    (work / "directory" / "a").write_text("new a")
    replace(work / "directory", Path("directory"))
    Path("file").unlink()
    Path("new").write_text("new")


def kill_in_the_middle() -> None:
    """Run a command in another process that ends within the transaction."""
    child = os.fork()
    if not child:
        with transaction(CHANGED) as work:
            change(work)
            os._exit(9)
    os.waitpid(child, 0)


def test_what_the_body_has_done_stays_if_it_ends() -> None:
    with transaction(CHANGED) as work:
        change(work)
    assert contents() == {"directory/a": "new a", "new": "new"}
    assert not recover()
    assert contents() == {"directory/a": "new a", "new": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_all_is_as_before_if_it_fails(before: dict[str, str], error: type[BaseException]) -> None:
    def interrupted() -> None:
        with transaction(CHANGED) as work:
            change(work)
            raise error

    with pytest.raises(error):
        interrupted()
    assert contents() == before


def test_all_is_as_before_once_a_killed_command_is_cleaned_up(before: dict[str, str]) -> None:
    kill_in_the_middle()
    assert contents() != before
    assert recover()
    assert contents() == before


def test_the_next_transaction_cleans_up_too(before: dict[str, str]) -> None:
    kill_in_the_middle()
    assert contents() != before
    with transaction(CHANGED) as work:
        assert contents() == before
        assert not [*work.iterdir()]


def test_a_second_command_does_not_take_a_running_one_for_an_interrupted_one() -> None:
    with transaction(CHANGED):
        with pytest.raises(Busy), transaction(CHANGED):
            pass
        with pytest.raises(Busy):
            recover()
