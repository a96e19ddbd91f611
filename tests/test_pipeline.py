"""The whole loop on a few hundred faces: labelled images, `dvc repro`, registry, bundle, an answered request."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pipelines.data import dataset
from pipelines.params import Params
from pipelines.registry.mlflow_store import CHAMPION_ALIAS, REGISTERED_MODEL
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support.pictures import encode
from tests.support.server import serve
from tests.support.toys import write_fer2013

pytestmark = pytest.mark.slow

FACES, PHOTOS = 400, 80
THE_LOOP = ("reference",)
"""The last stage. It needs all others except `detector_equivalence`, which takes minutes and has no dependants."""


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


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """A checkout of its own with a small dataset and no model; its faces come from `data/` if that is here."""
    directory = tmp_path_factory.mktemp("project")
    for name in ("service", "pipelines", "monitoring", "dvc.yaml", "models/dvc.yaml"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, directory / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for recipe in params["train"].values():
        recipe["epochs"] = 1
    # One model by one cycle, one distilled from a teacher, and one by the plateau that is only compared.
    models = params["models"]
    models["from_scratch"] = {name: models["from_scratch"][name] for name in ("mini_xception", "mini_xception_fine")}
    models["fine_tuned"] = {}
    models["distilled"]["mini_xception_distilled"]["init_from"] = "mini_xception_fine"
    params["candidates"], params["compared"] = ["mini_xception_fine", "mini_xception_distilled"], ["mini_xception"]
    params["teacher"] |= {"members": ["mini_xception_fine", "mini_xception_fine"], "views": 1}
    params["prepare"]["photo_splits"] = {"validation": 0.2, "test": 0.2}
    params["evaluate"]["latency_runs"] = 20
    (directory / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    if (ROOT / "data" / "fer2013.parquet").is_file() and (ROOT / "data" / "photos.parquet").is_file():
        write_sample(ROOT / "data" / "fer2013.parquet", directory / "data" / "fer2013.parquet", dataset.FER2013, FACES)
        write_sample(ROOT / "data" / "photos.parquet", directory / "data" / "photos.parquet", dataset.PHOTOS, PHOTOS)
    else:
        write_fer2013(directory / "data" / "fer2013.parquet", FACES)
        write_synthetic_photos(directory / "data" / "photos.parquet", astronaut, PHOTOS)
    for command in (["git", "init", "-q"], [*dvc(), "init", "-q"], [*dvc(), "add", "-q", "data"]):
        run(command, directory)
    return directory


def dvc() -> list[str]:
    """The command of the environment that the tests run in."""
    return [sys.executable, "-m", "dvc"]


def run(command: list[str], directory: Path) -> str:
    """What a command prints in the project; the test fails if the command does."""
    done = start(command, directory)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def start(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """A command that has ended in the project."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        command,
        cwd=directory,
        env=environment
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # the stages say `python`
            "BENTOML_HOME": str(directory / "bentoml"),
            "DVC_NO_ANALYTICS": "true",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def reproduced(project: Path) -> Path:
    """The project after `dvc repro`."""
    run([*dvc(), "repro", *THE_LOOP], project)
    return project


@pytest.mark.timeout(1500)
def test_dvc_repro_leads_from_labelled_images_to_an_answered_request(
    reproduced: Path, tmp_path: Path, astronaut: NDArray[np.uint8]
) -> None:
    store = f"sqlite:///{reproduced}/mlflow.db"
    client = mlflow.MlflowClient(store, registry_uri=store)
    champion = client.get_model_version_by_alias(REGISTERED_MODEL, CHAMPION_ALIAS)
    models = Params.read(reproduced / "params.yaml").candidates
    assert len(client.search_runs([client.get_experiment_by_name("mood-estimation").experiment_id])) == len(models)

    with serve(tmp_path, MEAA_BUNDLE=str(reproduced / "bundle")) as server:
        response = server.upload(encode(astronaut))
    assert response.status_code == 200
    answer = response.json()
    assert answer["model"]["version"] == str(champion.version)
    assert answer["model"]["name"] in models
    assert list(answer["probabilities"]) == list(MOODS)
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["mood"] == max(answer["probabilities"], key=answer["probabilities"].get)


@pytest.mark.timeout(300)
def test_a_second_dvc_repro_has_nothing_to_do(reproduced: Path) -> None:
    assert "Running stage" not in run([*dvc(), "repro", *THE_LOOP], reproduced)


def test_a_model_that_no_candidate_needs_is_not_trained(reproduced: Path) -> None:
    assert (reproduced / "models" / "mini_xception_fine" / "model.keras").exists()
    assert not (reproduced / "models" / "mini_xception").exists()
    assert not (reproduced / "reports" / "compare" / "mini_xception").exists()


@pytest.mark.timeout(300)
def test_another_learning_rate_retrains_and_changes_nothing_upstream(reproduced: Path) -> None:
    file = reproduced / "params.yaml"
    before = file.read_text()
    params = yaml.safe_load(before)
    params["train"]["one_cycle"]["learning_rate"] /= 2
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    try:
        changed = json.loads(run([*dvc(), "status", "--json"], reproduced))
    finally:
        file.write_text(before)
    never_run = {"detector_equivalence", "models/dvc.yaml:train@mini_xception", "models/dvc.yaml:compare@mini_xception"}
    assert set(changed) - never_run == {"models/dvc.yaml:train@mini_xception_fine"}


@pytest.mark.timeout(300)
def test_a_wrong_number_is_one_sentence_and_takes_no_report_away(reproduced: Path) -> None:
    file = reproduced / "params.yaml"
    before, report = file.read_text(), reproduced / "reports" / "register" / "decision.json"
    params = yaml.safe_load(before)
    params["gate"]["resamples"] = "many"
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    kept = report.read_bytes()
    try:
        failed = start([*dvc(), "repro", *THE_LOOP], reproduced)
    finally:
        file.write_text(before)
    assert failed.returncode != 0
    assert "params.yaml: gate.resamples is 'many'; it should be a valid integer" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert report.read_bytes() == kept
