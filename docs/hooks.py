"""MkDocs hooks: links of the guides to files elsewhere in the repository also work in the site.

The guides link to reports, the model card and configuration by relative paths, as a code host shows them. MkDocs knows
files in `docs/` only. These hooks copy every linked file into the site, below `repository/`, and adapt the links.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
_COPIES: Final = "repository"
_LINK: Final = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)\s#]+)(#[^)\s]*)?\)")


def _source(uri: str) -> Path:
    """The file behind an address in the site."""
    path = Path(uri)
    return ROOT / path.relative_to(_COPIES) if path.parts[0] == _COPIES else DOCS / path


def _uri(source: Path) -> str:
    """The address of a file in the site."""
    if source.is_relative_to(DOCS):
        return source.relative_to(DOCS).as_posix()
    return (_COPIES / source.relative_to(ROOT)).as_posix()


def _linked(source: Path) -> Iterator[Path]:
    """The existing files that a Markdown file links to, in `docs/` or elsewhere."""
    for _, target, _ in _LINK.findall(source.read_text(encoding="utf-8")):
        path = (source.parent / target).resolve()
        if path.is_file() and path.is_relative_to(ROOT):
            yield path


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to and that are not in `docs/`; then those that these link to."""
    pending = [_source(file.src_uri) for file in files.documentation_pages()]
    while pending:
        for path in _linked(pending.pop()):
            uri = _uri(path)
            if not path.is_relative_to(DOCS) and uri not in files.src_uris:
                added = File.generated(config, uri, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV)
                files.append(added)
                if path.suffix == ".md":
                    pending.append(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links to where the files are in the site; a link to a folder becomes plain text."""
    source = _source(page.file.src_uri)

    def adapt(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        path = (source.parent / target).resolve()
        if path.is_dir():
            return text
        if not path.is_file() or not path.is_relative_to(ROOT):
            return match[0]
        return f"[{text}]({os.path.relpath(_uri(path), Path(page.file.src_uri).parent)}{anchor or ''})"

    return _LINK.sub(adapt, markdown)
