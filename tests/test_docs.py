"""The guides: they build, open without a network, and name only what exists."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from docs import tables
from monitoring.params import SECRET_VARIABLE, WEBHOOK_VARIABLE
from service import metrics, openapi, problems
from service.settings import PREFIX, Settings
from tests.conftest import ROOT

GUIDES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "bundle/LICENSE.md")),
        *(ROOT / "deploy").glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
OURS = ("benchmarks", "docs", "monitoring", "pipelines", "service")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_of(path: Path) -> str:
    """The code blocks and code spans of a Markdown file."""
    text = path.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


def anchors_of(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Assets(HTMLParser):
    """What a browser loads by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.classes += values.get("class", "").split()
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "object"):
            self.found += [values[name] for name in ("src", "srcset", "data") if name in values]
        if tag == "link" and values.get("rel") not in ("prev", "next", "canonical"):
            self.found.append(values.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; building fails at a warning."""
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return directory


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_guide_becomes_a_page_of_the_site(site: Path) -> None:
    for guide in (ROOT / "docs").rglob("*.md"):
        assert (site / guide.relative_to(ROOT / "docs")).with_suffix(".html").is_file()


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        assets = Assets()
        assets.feed(page.read_text())
        assert assets.found
        assert [url for url in assets.found if re.match(r"(https?:)?//", url)] == [], page
        assert "mermaid" not in assets.classes, f"{page}: the theme would fetch Mermaid from a CDN"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_every_link_of_a_guide_leads_somewhere(guide: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", prose):
        path = (guide.parent / target).resolve() if target else guide
        assert path.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors_of(path), f"{target} has no heading #{anchor}"


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_every_command_of_a_guide_exists(guide: Path) -> None:
    code = code_of(guide)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?<![\w/-])make ([a-z][\w-]*)", code)) <= targets
    for module in set(re.findall(r"python -m ([\w.]+)", code)):
        if guide.name == "CHANGELOG.md" or module.partition(".")[0] not in OURS or "NAME" in module:
            continue
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"there is no module {module}"
        if spec.submodule_search_locations:
            assert importlib.util.find_spec(f"{module}.__main__"), f"{module} does not start"
        else:
            assert '__name__ == "__main__"' in Path(str(spec.origin)).read_text(), f"{module} does not start"


def test_the_tables_are_those_that_the_code_makes() -> None:
    for name in tables.TABLES:
        page = (tables.PAGES / f"{name}.md").read_text()
        assert f"<!-- table: {name} -->" in page
        assert tables.render(page) == page, "run `python -m docs.tables`"


def fields_of(kind: type) -> Iterator[str]:
    if issubclass(kind, BaseModel):
        yield from kind.model_fields
    else:
        yield from (field.name for field in dataclasses.fields(kind))


@pytest.mark.parametrize("section", tables.SECTIONS)
def test_every_parameter_is_described(section: str) -> None:
    kind = tables.SECTIONS[section]
    assert list(tables.attributes(kind)) == list(fields_of(kind))


def test_every_section_of_the_parameters_is_in_their_reference() -> None:
    sections = yaml.safe_load((ROOT / "params.yaml").read_text())
    documented = {section.partition(".")[0] for section in tables.SECTIONS}
    assert set(sections) - documented == {"candidates", "compared"}
    assert "`candidates`" in (tables.PAGES / "params.md").read_text()


def test_every_error_of_the_service_is_explained() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", (ROOT / "docs/integrate/errors.md").read_text(), re.MULTILINE)
    outcomes = {(status, code) for status, code in openapi.outcomes() if code not in ("ok", "disconnected")}
    refused = {(int(status), problems.from_status(status).code) for status in problems.REFUSALS}
    elsewhere = {(404, "not_found"), (405, "method_not_allowed"), (403, "forbidden"), (426, "upgrade_required")}
    assert {(int(status), code) for status, code in rows} == outcomes | elsewhere | refused


def test_every_metric_of_the_service_is_explained() -> None:
    typed = re.findall(r"^# TYPE (meaa_\w+) ", metrics.exposition()[0].decode(), re.MULTILINE)
    exposed = [name for name in typed if not name.endswith("_created")]  # the client adds these to every counter
    named = re.findall(r"^\| `(meaa_\w+)` \|", (ROOT / "docs/operate/monitoring.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(exposed)


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_every_environment_variable_of_a_guide_is_read_by_something(guide: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {WEBHOOK_VARIABLE, SECRET_VARIABLE}
    assert set(re.findall(r"MEAA_[A-Z_]+", guide.read_text())) <= known


def test_the_results_at_a_glance_have_one_place_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(re.findall(r"^<!-- results: written by the stage register -->$", readme, re.MULTILINE)) == 1
    assert len(re.findall(r"^<!-- /results -->$", readme, re.MULTILINE)) == 1
