"""The files by which others use the project: licence, version, changelog, workflows, hooks, what the guides name."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import service
from monitoring.params import SECRET_VARIABLE
from service.settings import PREFIX, Settings
from tests.conftest import ROOT

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt."""

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """What a command printed, and its exit status."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def read_yaml(*path: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*path).read_text())


def test_the_licence_is_apache_2_0_to_the_letter() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0
    assert read_yaml("CITATION.cff")["license"] == "Apache-2.0"


def test_the_version_and_its_date_are_the_same_everywhere() -> None:
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    citation = read_yaml("CITATION.cff")
    assert released[0] == (service.__version__, citation["date-released"])
    assert citation["version"] == service.__version__


def test_the_release_notes_are_the_changelogs_section_on_the_version() -> None:
    headings_and_sections = re.split(r"^## \[(.+?)\].*\n", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[1:]
    sections = dict(zip(headings_and_sections[::2], headings_and_sections[1::2], strict=True))
    for version in (service.__version__, "0.1.0"):  # the last one has no heading after it
        notes = run(".github/release_notes.sh", version)
        assert notes.returncode == 0
        assert notes.stdout == sections[version].strip() + "\n"


@pytest.mark.parametrize("version", ["9.9.9", "0.2", ".", ""])
def test_a_version_without_a_section_has_no_release_notes(version: str) -> None:
    notes = run(".github/release_notes.sh", version)
    assert notes.returncode == 1
    assert notes.stdout == ""
    assert "CHANGELOG.md" in notes.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("vendor.github-issue-forms", [ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_for_others_follows_its_published_schema(schema: str, files: list[Path]) -> None:
    checked = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_names_its_actions_by_commit_and_asks_for_its_permissions(workflow: Path) -> None:
    used = re.findall(r"uses: (?!\./)\S+?@(\S+)", workflow.read_text())
    assert used
    assert [reference for reference in used if not re.fullmatch(r"[0-9a-f]{40}", reference)] == []
    assert read_yaml(".github", "workflows", workflow.name)["permissions"] in ({}, {"contents": "read"})


def test_the_workflows_test_the_oldest_and_the_newest_python() -> None:
    (lowest, beyond) = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[0]
    matrix = read_yaml(".github", "workflows", "tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{lowest}", f"3.{int(beyond) - 1}"]


def test_the_bill_of_materials_is_made_with_the_python_of_the_image() -> None:
    steps = read_yaml(".github", "workflows", "release.yml")["jobs"]["build"]["steps"]
    (python,) = (step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", ""))
    assert read_yaml("bentofile.yaml")["docker"]["python_version"] == python


def test_the_hooks_run_what_make_lint_runs() -> None:
    linted = run("make", "--dry-run", "--old-file=.venv-dev/.installed", "lint").stdout.splitlines()
    hooks = [hook for repo in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == [line for line in linted if line.startswith(".venv-dev/")]
    assert run(sys.executable, "-m", "pre_commit", "validate-config").returncode == 0


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md", "NOTICE", "bundle/LICENSE.md"])
def test_a_path_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"(?<![\w/.])((?:\.github|\w+)/[\w./-]*\w\.(?:py|ya?ml|md|sh|json|onnx))", text)
    assert named
    places = (ROOT, (ROOT / document).parent)
    assert [path for path in named if "NAME" not in path and not any((place / path).exists() for place in places)] == []


def test_every_claim_of_the_threat_model_names_tests_and_settings_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    modules = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    tests = {name for module in modules for name in re.findall(r"def (test_\w+)", module)}
    (model,) = re.findall(r"^## Threat model$(.+?)^### What a reverse proxy", text, re.M | re.S)
    claims = [row.split("|")[1:-1] for row in model.splitlines() if row.startswith("| ") and "---" not in row]
    for claim, _, names in claims:
        if claim.strip() != "claim":
            assert "`test_" in names, f"{claim.strip()} has no test"
    assert set(re.findall(r"`(test_\w+)`", text)) <= tests
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {SECRET_VARIABLE}
    assert set(re.findall(r"MEAA_\w+", text)) <= known
