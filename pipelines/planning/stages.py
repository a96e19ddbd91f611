"""The stages that `dvc repro` would run, from `dvc status` and `dvc dag`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

from pipelines.registry.provenance import TRAINING_STAGES

_NOT_REPEATABLE: Final = (*TRAINING_STAGES, "teach")
"""Stages that do not make the same bytes from the same inputs."""
_MISSING: Final = "deleted"


class DvcError(SystemExit):
    """DVC cannot read the project. Uncaught, it ends the process with DVC's message."""


@dataclass(frozen=True)
class Step:
    """A stage that would run.

    Attributes:
        stage: Its address, for example `prepare` or `models/dvc.yaml:train@mini_xception`.
        changes: What has changed since it last ran, for example `data/photos.parquet` or `params.yaml gate`. Empty if
            only a stage before it runs, which may give it the same inputs again; DVC then skips it.
    """

    stage: str
    changes: tuple[str, ...]

    @property
    def model(self) -> str | None:
        """The model that the stage trains; None if it trains none."""
        name, _, model = self.stage.rpartition(":")[2].partition("@")
        return model if name in TRAINING_STAGES else None


def plan(target: str) -> list[Step]:
    """What `dvc repro TARGET` would run, in an order in which it can run.

    Args:
        target: A `dvc.yaml`, for all its stages, or the address of one stage.

    Raises:
        DvcError: DVC fails; the message is its own.
    """
    return steps(*ask_dvc(), target)


def ask_dvc() -> tuple[dict[str, Any], dict[str, set[str]]]:
    """What DVC says of the project in the working directory: the first two arguments of `steps`.

    Raises:
        DvcError: DVC fails; the message is its own.
    """
    return json.loads(_dvc("status", "--json")), _edges(_dvc("dag", "--dot"))


def steps(status: Mapping[str, Any], edges: Mapping[str, set[str]], target: str) -> list[Step]:
    """As `plan`, from what DVC says.

    Args:
        status: Content of `dvc status --json`.
        edges: The stages that each stage depends on, with a key for every stage.
        target: See `plan`.
    """
    wanted: set[str] = set()
    waiting = [stage for stage in edges if stage == target or _file_of(stage) == target]
    while waiting:
        stage = waiting.pop()
        if stage not in wanted:
            wanted.add(stage)
            waiting += edges[stage]
    found: list[Step] = []
    renewed: set[str] = set()  # stages whose outputs may change
    for stage in TopologicalSorter(edges).static_order():
        if stage not in wanted or stage.endswith(".dvc"):
            continue
        changes = list(_changes(status.get(stage, [])))
        # What is missing is made again by a stage before it, with the same bytes if that one's inputs are as they were.
        own = tuple(name for kind, name, change in changes if (kind, change) != ("deps", _MISSING))
        lost_only = all(change == _MISSING for _, _, change in changes)
        after_renewed = not edges[stage].isdisjoint(renewed)
        if own or after_renewed:
            found.append(Step(stage, own))
            if after_renewed or not lost_only or _kind_of(stage) in _NOT_REPEATABLE:
                renewed.add(stage)
    return found


def _changes(entries: list[Any]) -> Iterator[tuple[str, str, str]]:
    """What `dvc status` says of a stage: `deps`, `outs` or `command`, a name, and `modified`, `deleted` and so on."""
    for entry in entries:
        if isinstance(entry, str):
            yield "command", entry, "modified"
            continue
        for title, items in entry.items():
            kind = title.removeprefix("changed ")
            for name, change in items.items():
                if isinstance(change, dict):  # parameters of a file
                    yield from ((kind, f"{name} {key}", value) for key, value in change.items())
                else:
                    yield kind, name, change


def _edges(dot: str) -> dict[str, set[str]]:
    """The stages that each stage depends on, from a graph in the language of Graphviz."""
    edges: dict[str, set[str]] = {name: set() for name in re.findall(r'^"([^"]+)";$', dot, re.MULTILINE)}
    for before, after in re.findall(r'^"([^"]+)" -> "([^"]+)";$', dot, re.MULTILINE):
        edges.setdefault(before, set())
        edges.setdefault(after, set()).add(before)
    return edges


def _file_of(stage: str) -> str:
    """The `dvc.yaml` of a stage; a dataset is its own file."""
    return stage if stage.endswith(".dvc") else stage.rpartition(":")[0] or "dvc.yaml"


def _kind_of(stage: str) -> str:
    """A stage's name without its file and its model."""
    return stage.rpartition(":")[2].partition("@")[0]


def _dvc(*arguments: str) -> str:
    """What a DVC command prints."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DvcError(done.stderr.strip() or f"dvc {' '.join(arguments)} failed")
    return done.stdout
