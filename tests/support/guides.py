"""The code of the guides, as a reader copies it."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def code(guide: str, language: str, place: int = 0) -> str:
    """A code block of a guide in `docs/`.

    Args:
        guide: Path of the guide in `docs/`.
        language: Language of the block.
        place: Its place among the guide's blocks of that language.
    """
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return blocks[place]
