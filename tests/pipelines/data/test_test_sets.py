"""Versions of the sets that models are measured on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.data import test_sets
from pipelines.data.dataset import DatasetError

SET = [(b"one", "0"), (b"two", "1"), (b"three", "1")]


def test_a_version_does_not_depend_on_the_order() -> None:
    assert test_sets.version_of(SET) == test_sets.version_of(reversed(SET))


@pytest.mark.parametrize(
    "other",
    [SET[:2], [*SET, (b"four", "0")], [(b"other", "0"), *SET[1:]], [(b"one", "2"), *SET[1:]]],
    ids=["a picture less", "a picture more", "another picture", "another label"],
)
def test_other_images_or_labels_are_another_version(other: list[tuple[bytes, str]]) -> None:
    assert test_sets.version_of(other) != test_sets.version_of(SET)


def test_differences_name_the_set_and_both_versions() -> None:
    other = {"validation": test_sets.FIRST["validation"], "test": {**test_sets.FIRST["test"], "photos": "0123"}}
    assert test_sets.differences(test_sets.FIRST, test_sets.FIRST) == []
    assert test_sets.differences(other, test_sets.FIRST, "validation") == []
    (found,) = test_sets.differences(other, test_sets.FIRST)
    assert found == f"test photos 0123 instead of {test_sets.FIRST['test']['photos']}"


def test_a_missing_file_is_an_error_that_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Take it from git"):
        test_sets.present(tmp_path / "test_sets.json")


def test_the_present_versions_are_read_as_they_were_written(tmp_path: Path) -> None:
    sets: dict[str, dict[str, dict[str, str | int]]] = {
        split: {source: {"version": version, "images": 3} for source, version in sources.items()}
        for split, sources in test_sets.FIRST.items()
    }
    test_sets.write(sets, tmp_path / "sets" / "test_sets.json")
    assert test_sets.read(tmp_path / "sets" / "test_sets.json") == sets
    assert test_sets.present(tmp_path / "sets" / "test_sets.json") == test_sets.FIRST
