"""`pipelines.releases.ledger`: numbers that only rise, and what a decision by hand withdraws."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.releases import changelog
from pipelines.releases.ledger import Action, Ledger, Release

HEAD = "# Changelog\n\n## [Unreleased]\n"
REST = "\n## [0.2.0] - 2026-11-24\n\n### Added\n\n- A thing.\n"


def entry(number: int, *, action: Action = "promote", digest: str = "", withdraws: tuple[str, ...] = ()) -> Release:
    """An entry about the model `m1`, `m2` and so on."""
    return Release(
        number=number,
        architecture=f"net_{number}",
        digest=digest or f"{number}" * 64,
        model=f"m{number}",
        action=action,
        gate="not asked" if action == "rollback" else "promoted",
        by="Ada",
        at=datetime(2026, 11, 24, tzinfo=UTC),
        reason="a reason",
        withdraws=withdraws,
    )


def ledger(*entries: Release) -> Ledger:
    return Ledger(entries)


def test_the_next_number_is_the_highest_plus_one_whatever_came_last() -> None:
    rolled_back = ledger(entry(4), entry(5), entry(6), entry(4, action="rollback"))
    assert rolled_back.number_of("new") == 7
    assert ledger().number_of("new") == 1


def test_the_same_classifier_has_its_number_again() -> None:
    assert ledger(entry(4), entry(5)).number_of("4" * 64) == 4


def test_a_ledger_comes_back_from_its_file(tmp_path: Path) -> None:
    written = ledger(entry(1), entry(2, withdraws=("m1",)))
    written.write(tmp_path / "releases.json")
    assert Ledger.read(tmp_path / "releases.json") == written
    assert Ledger.read(tmp_path / "none.json") == ledger()


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ((entry(5), entry(5, digest="a" * 64)), "release 5 stands for two classifiers"),
        ((entry(5), entry(4)), "lower number"),
        ((entry(4), entry(5, digest="4" * 64)), "two numbers"),
    ],
    ids=["two of one number", "falling", "one of two numbers"],
)
def test_a_ledger_that_two_clones_have_mixed_up_is_an_error(
    tmp_path: Path, entries: tuple[Release, ...], complaint: str
) -> None:
    ledger(*entries).write(tmp_path / "releases.json")
    with pytest.raises(ValueError, match=complaint):
        Ledger.read(tmp_path / "releases.json")


def test_a_conflict_of_git_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "releases.json").write_text("<<<<<<< HEAD\n=======\n>>>>>>> theirs\n")
    with pytest.raises(ValueError, match="two clones released"):
        Ledger.read(tmp_path / "releases.json")


def test_the_release_before_is_the_one_that_the_current_one_replaced() -> None:
    history = [entry(4), entry(5), entry(6)]
    assert ledger(*history).before().number == 5
    assert ledger(*history, entry(5, action="rollback")).before().number == 4
    assert ledger(*history, entry(4, action="rollback"), entry(7)).before().number == 4
    with pytest.raises(LookupError, match="no release before"):
        ledger(entry(4)).before()
    with pytest.raises(LookupError, match="no release 9; it has 4, 5, 6"):
        ledger(*history).find(9)


def test_a_model_is_withdrawn_until_it_is_the_champion_again() -> None:
    rolled_back = ledger(entry(4), entry(5), entry(4, action="rollback", withdraws=("m5", "m6")))
    assert set(rolled_back.withdrawn()) == {"m5", "m6"}
    assert set(rolled_back.added(entry(5)).withdrawn()) == {"m6"}


def write(path: Path, *entries: Release) -> str:
    for one in entries:
        changelog.add(one, path)
    return path.read_text()


def test_the_changelog_gets_a_line_for_each_release(tmp_path: Path) -> None:
    path = tmp_path / "CHANGELOG.md"
    path.write_text(HEAD + REST)
    lines = [changelog.line_of(one) for one in (entry(4), entry(5), entry(4, action="rollback"))]
    text = write(path, entry(4), entry(5), entry(4, action="rollback"))
    assert text == HEAD + "\n### Models released\n\n" + "\n".join(lines) + "\n" + REST
    assert "- Release 4, net_4 (digest 444444444444), brought back on 2026-11-24 by Ada: a reason" in text
    assert max(map(len, text.splitlines())) <= 120


def test_other_sections_of_the_changelog_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "CHANGELOG.md"
    path.write_text(HEAD + "\n### Added\n\n- One.\n\n### Fixed\n\n- Two.\n" + REST)
    text = write(path, entry(4))
    section = "\n### Models released\n\n" + changelog.line_of(entry(4)) + "\n"
    assert text == HEAD + "\n### Added\n\n- One.\n\n### Fixed\n\n- Two.\n" + section + REST
    path.write_text(HEAD + section + "\n### Fixed\n\n- Two.\n" + REST)
    assert write(path, entry(5)) == (HEAD + section + changelog.line_of(entry(5)) + "\n\n### Fixed\n\n- Two.\n" + REST)


def test_without_an_unreleased_heading_the_changelog_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "CHANGELOG.md"
    path.write_text("# Changelog\n")
    assert write(path, entry(4)) == "# Changelog\n"
    changelog.add(entry(4), tmp_path / "none.md")
    assert not (tmp_path / "none.md").exists()
