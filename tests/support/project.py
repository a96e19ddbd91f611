"""A checkout of its own with a small dataset: its parts of the code, numbers for a quick run, a few hundred faces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from pipelines.data import dataset
from tests.conftest import ROOT
from tests.support.pictures import encode
from tests.support.toys import write_fer2013

FACES, PHOTOS = 400, 80
THE_LOOP = ("reference",)
"""The last stage. It needs all others except `detector_equivalence`, which takes minutes and has no dependants."""

_PARTS = ("service", "pipelines", "monitoring", "bundle/session", "dvc.yaml", "models/dvc.yaml")


def write_sample(source: Path, target: Path, form: dataset.ParquetFormat, count: int) -> None:
    """Rows spread over a file of the dataset."""
    chosen = np.linspace(0, dataset.read(source, form.schema, ["emotion"]).num_rows - 1, count).astype(int)
    wanted = set(chosen.tolist())
    rows = enumerate(dataset.rows(source, form.schema))
    dataset.write(target, form, (row for index, row in rows if index in wanted))


def write_synthetic_photos(target: Path, astronaut: NDArray[np.uint8], count: int) -> None:
    """One face in many pictures, as if of many people."""
    face = astronaut[:224, 112:336]
    random = np.random.default_rng(2)
    emotions = ("happiness", "neutral", "anger", "surprise")
    rows = []
    for index in range(count):
        picture = face[:, ::-1] if index % 2 else face
        matrix = cv2.getRotationMatrix2D((112, 112), random.uniform(-10, 10), random.uniform(0.8, 1.1))
        picture = cv2.warpAffine(np.ascontiguousarray(picture), matrix, (224, 224))
        rows.append(
            {
                "image": {"bytes": encode(picture), "path": f"Person_{index // 2}_{index % 2:04}.jpg"},
                "emotion": emotions[index // 2 % 4],
                "identity": f"Person_{index // 2}",
            }
        )
    dataset.write(target, dataset.PHOTOS, rows)


def make(directory: Path, astronaut: NDArray[np.uint8], change: Callable[[dict[str, Any]], None]) -> None:
    """Fill a directory with the project, with few faces and no model; they come from `data/` if that is here.

    Args:
        directory: Empty directory.
        astronaut: Picture with a face.
        change: Function that changes the content of `params.yaml`, beside the epochs (one) and the split.
    """
    for name in _PARTS:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, directory / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for recipe in params["train"].values():
        recipe["epochs"] = 1
    params["prepare"]["photo_splits"] = {"validation": 0.2, "test": 0.2}
    params["evaluate"]["latency_runs"] = 20
    change(params)
    (directory / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    if (ROOT / "data" / "fer2013.parquet").is_file() and (ROOT / "data" / "photos.parquet").is_file():
        write_sample(ROOT / "data" / "fer2013.parquet", directory / "data" / "fer2013.parquet", dataset.FER2013, FACES)
        write_sample(ROOT / "data" / "photos.parquet", directory / "data" / "photos.parquet", dataset.PHOTOS, PHOTOS)
    else:
        write_fer2013(directory / "data" / "fer2013.parquet", FACES)
        write_synthetic_photos(directory / "data" / "photos.parquet", astronaut, PHOTOS)
    for command in (["git", "init", "-q", "-b", "main"], [*dvc(), "init", "-q"], [*dvc(), "add", "-q", "data"]):
        run(command, directory)


def dvc() -> list[str]:
    """The command of the environment that the tests run in."""
    return [sys.executable, "-m", "dvc"]


def run(command: list[str], directory: Path, **environment: str) -> str:
    """What a command prints in the project; the test fails if the command does."""
    done = start(command, directory, **environment)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def start(command: list[str], directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended in the project.

    Args:
        command: Command.
        directory: Root of the project.
        environment: Variables of the command, beside those of this process.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        command,
        cwd=directory,
        env=inherited
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # the stages say `python`
            "BENTOML_HOME": str(directory / "bentoml"),
            "DVC_NO_ANALYTICS": "true",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
