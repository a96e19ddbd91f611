"""A month of a maintainer on a small dataset: two clones, two releases, a rollback, late labels, drift, a rebase.

Every step is a command of the guides, run as written there. Nothing may collide, and nothing may be lost.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from service.observation import COLUMNS
from tests.support.pictures import encode
from tests.support.predictions import predictions
from tests.support.project import THE_LOOP, dvc, make, run, start
from tests.support.receiver import receiving
from tests.support.server import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

MODEL = "mini_xception_fine"
DEAD = "http://127.0.0.1:9"
"""An MLflow server that does not answer."""
DRIFTED = 2


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def change(params: dict[str, Any]) -> None:
    """One small model, and a gate that is easily convinced: the month is about its promises, not about quality."""
    models = params["models"]
    models |= {"from_scratch": {MODEL: models["from_scratch"][MODEL]}, "fine_tuned": {}, "distilled": {}}
    params |= {"candidates": [MODEL], "compared": []}
    params["teacher"]["members"] = [MODEL, MODEL]


def commit(clone: Path, message: str) -> None:
    run(["git", "add", "--all"], clone)
    run(["git", "commit", "-q", "-m", message], clone)


def released(clone: Path) -> tuple[str, str]:
    """Number and digest of the bundle."""
    metadata = json.loads((clone / "bundle" / "classifier" / "metadata.json").read_text())
    return metadata["version"], metadata["digest"]


def ledger(clone: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((clone / "models" / "releases.json").read_text())
    return entries


def people(clone: Path) -> dict[str, str]:
    table = pd.read_csv(clone / "splits" / "people.csv", dtype=str)
    return dict(zip(table["person"], table["split"], strict=True))


def write_photos(directory: Path, astronaut: NDArray[np.uint8], count: int) -> None:
    """Photos of new people in folders named as emotions: two moods, two pictures of each person."""
    random = np.random.default_rng(7)
    lines = ["image,emotion,identity"]
    for index in range(count):
        matrix = cv2.getRotationMatrix2D((112, 112), random.uniform(-15, 15), random.uniform(0.8, 1.1))
        picture = cv2.warpAffine(np.ascontiguousarray(astronaut[:224, 112:336]), matrix, (224, 224))
        light = np.clip(picture * random.uniform(0.5, 1.3) + random.uniform(-20, 20), 0, 255).astype(np.uint8)
        directory.mkdir(exist_ok=True)
        (directory / f"{index}.jpg").write_bytes(encode(light))
        lines.append(f"{index}.jpg,{'happiness' if index % 4 < 2 else 'neutral'},study-{index // 2}")
    (directory / "labels.csv").write_text("\n".join(lines) + "\n")


def write_log(path: Path, clone: Path, rows: list[dict[str, Any]]) -> None:
    version, digest = released(clone)
    known = {"model_version": version, "model_digest": digest}
    path.write_text("".join(json.dumps({name: (row | known)[name] for name in COLUMNS}) + "\n" for row in rows))


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """A directory with a clone `a`, which has released 1, and what it pushed to: a repository and DVC's remote."""
    directory = tmp_path_factory.mktemp("month")
    a = directory / "a"
    a.mkdir()
    make(a, astronaut, change)
    run(["git", "init", "-q", "--bare", "-b", "main", str(directory / "origin.git")], directory)
    run([*dvc(), "remote", "add", "--default", "shared", str(directory / "dvc-remote")], a)
    run(["git", "remote", "add", "origin", str(directory / "origin.git")], a)
    identify(a, "Ada")
    (a / ".gitignore").write_text("/data\n/faces\n/checkpoints\n/mlruns\n/mlflow.db*\n/bentoml\n/live\n__pycache__/\n")
    (a / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    (a / "README.md").write_text("# Project\n")
    run([*dvc(), "repro", *THE_LOOP], a)
    commit(a, "Release 1")
    run([*dvc(), "push", "-q", "data"], a)
    run(["git", "push", "-q", "-u", "origin", "main"], a)
    return directory


def identify(clone: Path, name: str) -> None:
    run(["git", "config", "user.name", name], clone)
    run(["git", "config", "user.email", f"{name.lower()}@example.org"], clone)


def test_a_month(origin: Path, astronaut: NDArray[np.uint8], tmp_path: Path) -> None:
    a, b = origin / "a", origin / "b"
    first = released(a)
    assert first[0] == "1"
    assert [entry["number"] for entry in ledger(a)] == [1]
    before = people(a)

    # A colleague, on a fresh clone with an empty registry, adds people, retrains and releases.
    run(["git", "clone", "-q", str(origin / "origin.git"), str(b)], origin)
    identify(b, "Bob")
    run([*dvc(), "pull", "-q", "data"], b)
    write_photos(tmp_path / "new-photos", astronaut, 24)
    said = run(
        python("pipelines.ingest", "photos", str(tmp_path / "new-photos"), "--append", "--labels",
               str(tmp_path / "new-photos" / "labels.csv")), b
    )  # fmt: skip
    assert "24" in said
    run([*dvc(), "add", "-q", "data"], b)
    run([*dvc(), "repro", *THE_LOOP], b)
    after = people(b)
    assert before.items() < after.items()  # nobody moved
    assert len(after) - len(before) == 12
    if released(b)[0] == "1":  # the gate refused it
        commit(b, "New people")
        said = run(python("pipelines.releases.promote", MODEL, "--reason", "it has seen the people of ward 3"), b)
        assert "The gate" in said
    second = released(b)
    assert second[0] == "2"
    assert second[1] != first[1]
    assert [entry["number"] for entry in ledger(b)] == [1, 2]
    commit(b, "Release 2")
    run([*dvc(), "push", "-q", "data"], b)
    run(["git", "push", "-q"], b)

    # The first clone follows, and goes back to the release before: on a third clone, without data and registry.
    run(["git", "pull", "-q"], a)
    assert released(a) == second
    c = origin / "c"
    run(["git", "clone", "-q", str(origin / "origin.git"), str(c)], origin)
    identify(c, "Cleo")
    said = run(
        python("pipelines.releases.rollback", "--reason", "ward 3 reports wrong moods"), c, MLFLOW_TRACKING_URI=DEAD
    )
    assert "Traceback" not in said
    assert released(c) == first
    assert [(entry["number"], entry["action"], entry["by"]) for entry in ledger(c)][-1] == (1, "rollback", "Cleo")
    commit(c, "Back to release 1")
    run(["git", "push", "-q"], c)
    run(["git", "pull", "-q"], a)
    run([*dvc(), "pull", "-q", "data"], a)
    run([*dvc(), "repro", *THE_LOOP], a)
    assert released(a) == first  # nothing undoes it
    assert [entry["number"] for entry in ledger(a)] == [1, 2, 1]

    # It answers, and labels arrive for what it answered.
    with serve(tmp_path, MEAA_BUNDLE=str(a / "bundle"), MEAA_PREDICTION_LOG=str(tmp_path / "answers.jsonl")) as server:
        answers = [server.upload(encode(astronaut)).json() for _ in range(3)]
    assert {(answer["model"]["version"], answer["model"]["digest"]) for answer in answers} == {first}
    labels = tmp_path / "labels.csv"
    labels.write_text("request,mood\n" + "".join(f"{answer['request']},positive\n" for answer in answers))
    said = run(python("monitoring.feedback", str(labels), "--json", "--log", str(tmp_path / "answers.jsonl")), a)
    found, _ = json.JSONDecoder().raw_decode(said)  # standard error follows
    assert found["images"] == 3

    # Darkness falls while MLflow is down: the alarm comes all the same.
    log = tmp_path / "dark.jsonl"
    write_log(log, a, predictions(600, seed=3, brightness=0.15))
    with receiving() as receiver:
        done = start(
            python("monitoring.drift"), a,
            MEAA_PREDICTION_LOG=str(log), MEAA_WEBHOOK=receiver.url, MLFLOW_TRACKING_URI=DEAD,
        )  # fmt: skip
    assert done.returncode == DRIFTED, done.stdout
    assert "Traceback" not in done.stdout
    alarm = json.loads(receiver.received[0][1])
    assert alarm["model_version"] == "1"
    assert "brightness" in alarm["columns"]

    # The ward is that dark. From now on this is normal.
    run(python("monitoring.rebase", "--reason", "ward 3 at night"), a, MEAA_PREDICTION_LOG=str(log))
    commit(a, "Reference: ward 3 at night")
    write_log(log, a, predictions(600, seed=4, brightness=0.15))
    said = run(python("monitoring.drift"), a, MEAA_PREDICTION_LOG=str(log))
    assert "your rebased window" in said
    run(["git", "push", "-q"], a)
    assert not run(["git", "status", "--porcelain"], a)
