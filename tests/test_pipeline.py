"""The whole loop on a few hundred faces: labelled images, `dvc repro`, registry, bundle, an answered request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pipelines.params import Params
from pipelines.registry.mlflow_store import CHAMPION_ALIAS, REGISTERED_MODEL
from service.moods import MOODS
from tests.support.pictures import encode
from tests.support.project import THE_LOOP, dvc, make, run, start
from tests.support.server import serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """The project with one model by one cycle, one distilled from a teacher, and one by the plateau that is only
    compared."""

    def change(params: dict[str, Any]) -> None:
        models = params["models"]
        kept = ("mini_xception", "mini_xception_fine")
        models["from_scratch"] = {name: models["from_scratch"][name] for name in kept}
        models["fine_tuned"] = {}
        models["distilled"]["mini_xception_distilled"]["init_from"] = "mini_xception_fine"
        params["candidates"] = ["mini_xception_fine", "mini_xception_distilled"]
        params["compared"] = ["mini_xception"]
        params["teacher"] |= {"members": ["mini_xception_fine", "mini_xception_fine"], "views": 1}

    directory = tmp_path_factory.mktemp("project")
    make(directory, astronaut, change)
    return directory


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
    every_run = client.search_runs([client.get_experiment_by_name("mood-estimation").experiment_id])
    (pipeline,) = [run for run in every_run if run.data.tags["stage"] == "pipeline"]
    children = [run for run in every_run if run.data.tags.get("mlflow.parentRunId") == pipeline.info.run_id]
    assert {run.info.run_name for run in children} == {*models, *(f"evaluate {name}" for name in models), "register"}
    assert {run.info.status for run in every_run} == {"FINISHED"}

    with serve(tmp_path, MEAA_BUNDLE=str(reproduced / "bundle")) as server:
        response = server.upload(encode(astronaut))
    assert response.status_code == 200
    answer = response.json()
    release = json.loads((reproduced / "models" / "releases.json").read_text())[-1]
    assert answer["model"] == {
        "name": release["architecture"],
        "version": str(release["number"]),
        "digest": release["digest"],
    }
    assert champion.tags["release"] == str(release["number"])
    assert release["architecture"] in models
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
