"""The rooms: what may import what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ORDER = (
    ("paths", "markdown", "callbacks"),
    ("params",),
    ("data",),
    ("training", "ingest"),
    ("evaluation",),
    ("export", "registry"),
    ("model_card", "planning"),
    ("releases",),
)
"""The rooms of `pipelines/` from the ground up; a module that is none of them is a stage or a script."""
FLOORS = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}


def modules(package: str) -> list[Path]:
    """The Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """The dotted names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room, stage or script of `pipelines` that a dotted name leads into."""
    package, _, rest = name.partition(".")
    return rest.split(".")[0] if package == "pipelines" and rest else None


def test_pipelines_has_at_most_24_rooms() -> None:
    seen = {
        path.name for path in (ROOT / "pipelines").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert len(seen - {"__init__.py"}) <= 24


@pytest.mark.parametrize("package", ["service", "pipelines", "monitoring", "benchmarks"])
def test_nothing_imports_a_stage(package: str) -> None:
    stages = {path.stem for path in (ROOT / "pipelines").glob("*.py")} - FLOORS.keys() - {"__init__"}
    stages = {f"pipelines.{stage}" for stage in stages} | {"monitoring.make_reference"}
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if ".".join(name.split(".")[:2]) in stages
    ]
    assert not found


def test_a_room_imports_only_rooms_below_it() -> None:
    upwards = []
    for path in modules("pipelines"):
        room = path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")
        for other in map(room_of, imports(path)):
            if room in FLOORS and other is not None and other != room and FLOORS[other] >= FLOORS[room]:
                upwards.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not upwards


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("service", {"pipelines", "monitoring", "benchmarks", "tests"}),
        ("pipelines", {"monitoring", "benchmarks", "tests"}),
        ("monitoring", {"benchmarks", "tests"}),
        ("benchmarks", {"tests"}),
    ],
)
def test_a_package_imports_nothing_above_it(package: str, above: set[str]) -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in above
    }
    assert not found


def test_no_test_imports_a_test() -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("tests")
        for name in imports(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split(".")[:-1])
    ]
    assert not found


def test_no_module_is_longer_than_400_lines_but_the_detector() -> None:
    long = [
        str(path.relative_to(ROOT))
        for package in ("service", "pipelines", "monitoring", "benchmarks")
        for path in modules(package)
        if len(path.read_text().splitlines()) > 400
    ]
    assert long in ([], ["service/detector.py"])
