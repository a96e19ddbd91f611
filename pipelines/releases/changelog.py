"""A line of the changelog for each release."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

from pipelines.releases.ledger import Release

CHANGELOG: Final = Path("CHANGELOG.md")

_HEADING: Final = "### Models released"
_UNRELEASED: Final = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_WIDTH: Final = 120
_DONE: Final = {"promote": "promoted", "refresh": "measured again", "rollback": "brought back"}


def add(entry: Release, path: Path = CHANGELOG) -> None:
    """Write a release under the unreleased heading of a changelog; do nothing if there is no such file or heading."""
    text = path.read_text() if path.exists() else ""
    section = _UNRELEASED.search(text)
    if section is None:
        return
    content = section[1].rstrip("\n")
    if _HEADING not in content.splitlines():
        content += f"\n\n{_HEADING}\n"
    before, _, after = content.partition(f"{_HEADING}\n")
    written, rest = re.split(r"(?=^### )", after, maxsplit=1, flags=re.MULTILINE) if "\n### " in after else (after, "")
    lines = [*written.strip("\n").splitlines(), *line_of(entry).splitlines()]
    parts = [f"{before}{_HEADING}\n", "\n".join(lines), *(["", rest.strip("\n")] if rest else [])]
    renewed = "\n".join(parts).strip("\n")
    path.write_text(f"{text[: section.start(1)]}\n{renewed}\n\n{text[section.end(1) :]}".rstrip("\n") + "\n")


def line_of(entry: Release) -> str:
    """The item of a list about a release, wrapped."""
    against = " against the gate" if entry.gate == "refused" else ""
    text = (
        f"Release {entry.number}, {entry.architecture} (digest {entry.digest[:12]}), {_DONE[entry.action]}{against} on "
        f"{entry.at:%Y-%m-%d} by {entry.by}: {entry.reason}"
    )
    return textwrap.fill(
        " ".join(text.split()),
        _WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
