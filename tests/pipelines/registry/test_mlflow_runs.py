"""What MLflow's pages show: a run per pipeline with a child per stage, models by name, metrics of the best epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import mlflow
import pandas as pd
import psutil
import pytest
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipelines.params import Params
from pipelines.registry import descriptions, mlflow_store, pipeline_run, provenance, runs, training_run
from pipelines.registry.candidates import Candidate
from pipelines.releases import restore_runs
from pipelines.training.config import TrainingConfig
from tests.conftest import ROOT
from tests.support import toys

NAME, OTHER = "toy", "other"
STARTED, ENDED = datetime(2026, 3, 1, 9, 0, tzinfo=UTC), datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
BEST_EPOCH = 1
"""By the history of `toys.write_model`, whose last epoch is 2."""
DVC_PROGRAM = """#!{python}
import subprocess
import sys
sys.exit(subprocess.call(["sh", "-c", sys.argv[1] + "; true"]))
"""


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return toys.brightness_model()


@pytest.fixture
def candidate(workspace: Path, model: keras.Model) -> Candidate:
    """An evaluated model whose training is dated."""
    toys.write_params(workspace, [NAME, OTHER])
    toys.write_candidate(NAME, model, weights="first", score=0.8)
    date(NAME, STARTED, ENDED)
    return Candidate.of(NAME)


def date(name: str, started: datetime, ended: datetime) -> None:
    """Write into a model's files when it was trained."""
    path = Path("models", name, "training.json")
    dates = {"started": started.isoformat(), "ended": ended.isoformat()}
    path.write_text(json.dumps(json.loads(path.read_text()) | dates))


def commit(message: str) -> None:
    """Commit all files of the working directory, on the first of March at noon."""
    day = "2026-03-01T12:00:00+00:00"
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": day}
    names |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}
    for command in (["init", "-q"], ["add", "models", "reports"], ["commit", "-q", "-m", message]):
        subprocess.run(["git", *command], check=True, env={**os.environ, **names})


def every_run() -> list[Run]:
    return mlflow.search_runs(output_format="list")


def by_stage(stage: str) -> list[Run]:
    return [run for run in every_run() if run.data.tags[pipeline_run.STAGE_TAG] == stage]


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def test_a_restored_model_has_the_name_of_its_architecture_metrics_of_its_best_epoch_and_dates(
    candidate: Candidate,
) -> None:
    run_id = runs.ensure_run(candidate)
    logged = mlflow_store.logged_model(run_id)
    assert (logged.name, logged.model_type) == (NAME, "classifier")
    assert logged.tags[mlflow_store.DIGEST_TAG] == candidate.digest
    assert logged.tags["trained"] == ENDED.isoformat()
    metrics = {metric.key: metric for metric in logged.metrics}
    assert metrics["val_cross_entropy"].value == 1.0  # 1.2 in the first epoch, 1.1 in the last
    assert metrics["validation/ferplus/weighted_f1"].value == 0.8
    assert {metric.step for metric in metrics.values()} == {BEST_EPOCH}
    # Those of the evaluation belong to the faces that they were measured on.
    assert metrics["validation/ferplus/weighted_f1"].dataset_name == "faces/validation"
    assert metrics["test/ferplus/weighted_f1"].dataset_name == "faces/test"
    assert metrics["validation/ferplus/weighted_f1"].dataset_digest == candidate.validation_faces
    assert metrics["size_bytes"].dataset_name is None
    info = mlflow.get_run(run_id).info
    assert (info.start_time, info.end_time) == (milliseconds(STARTED), milliseconds(ENDED))
    assert info.status == "FINISHED"


def test_without_dates_in_its_summary_a_training_ended_when_its_model_was_saved(
    workspace: Path, model: keras.Model
) -> None:
    toys.write_params(workspace, [NAME])
    toys.write_candidate(NAME, model, weights="first", score=0.8)
    past = runs.past_of_training(Path("models", NAME))
    saved = datetime.fromtimestamp(Path("models", NAME, "model.keras").stat().st_mtime, UTC)
    assert abs((past.end.replace(tzinfo=None) - saved.astimezone().replace(tzinfo=None)).total_seconds()) < 60
    run = mlflow.get_run(runs.ensure_training_run(Path("models", NAME)))
    assert run.info.end_time == milliseconds(past.end)
    assert run.data.tags["start"] == "not recorded"


def test_what_a_commit_holds_is_restored_as_one_pipeline_run_with_a_child_per_stage(
    candidate: Candidate, model: keras.Model
) -> None:
    toys.write_candidate(OTHER, model, weights="first", score=0.7)
    date(OTHER, STARTED.replace(hour=7), ENDED)
    commit("Two nets")
    for _ in range(2):
        restore_runs.main()
    (parent,) = by_stage("pipeline")
    children = [run for run in every_run() if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent.info.run_id]
    assert sorted(run.info.run_name for run in children) == ["evaluate other", "evaluate toy", "other", "toy"]
    assert parent.info.start_time == milliseconds(STARTED.replace(hour=7))
    assert parent.info.end_time == milliseconds(datetime(2026, 3, 1, 12, tzinfo=UTC))
    assert parent.data.tags["mlflow.note.content"] == "Two nets"
    assert len(every_run()) == 5


def test_stages_of_one_dvc_repro_are_children_of_one_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dvc = psutil.Process()
    monkeypatch.setattr(provenance, "dvc_process", lambda: dvc)
    with pipeline_run.stage("train", NAME):
        mlflow.log_metric("loss", 1.0)
        (parent,) = by_stage("pipeline")
        assert parent.info.status == "RUNNING"
    with pipeline_run.stage("evaluate", f"evaluate {NAME}"):
        pass
    (parent,) = by_stage("pipeline")
    assert parent.info.start_time == int(dvc.create_time() * 1000)
    assert parent.info.status == "FINISHED"
    children = by_stage("train") + by_stage("evaluate")
    assert {run.data.tags[MLFLOW_PARENT_RUN_ID] for run in children} == {parent.info.run_id}


def test_a_stage_that_fails_marks_its_run_and_the_pipelines(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "dvc_process", psutil.Process)
    with pytest.raises(ValueError, match="out of luck"), pipeline_run.stage("register", "register"):
        raise ValueError("out of luck")
    assert {run.info.status for run in every_run()} == {"FAILED"}


def test_a_stage_by_hand_has_a_run_without_a_parent(workspace: Path) -> None:
    (workspace / "decision.md").write_text("refused")
    pipeline_run.log_stage("register", "register", workspace / "decision.md", {"decision": "refused"})
    (run,) = every_run()
    assert MLFLOW_PARENT_RUN_ID not in run.data.tags
    assert run.data.tags["decision"] == "refused"
    assert [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == ["decision.md"]


@pytest.mark.parametrize("by_dvc", [True, False])
def test_dvc_is_found_among_the_processes_that_started_a_stage(tmp_path: Path, by_dvc: bool) -> None:
    program = tmp_path / "dvc"
    program.write_text(DVC_PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    stage = "from pipelines.registry import provenance; print(bool(provenance.dvc_process()))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | ({"DVC_STAGE": "train@toy"} if by_dvc else {})
    command = [str(program), f"{sys.executable} -c '{stage}'"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(by_dvc)


def test_an_evaluation_that_gave_other_metrics_is_recorded_again_and_no_other(
    candidate: Candidate, model: keras.Model
) -> None:
    for _ in range(2):
        runs.ensure_run(candidate)
    assert len(by_stage("evaluate")) == 1
    toys.write_candidate(NAME, model, weights="first", score=0.9)
    runs.ensure_run(Candidate.of(NAME))
    assert len(by_stage("evaluate")) == 2
    assert len(by_stage("train")) == 1


def test_a_training_records_its_dates_its_faces_and_the_epochs_that_were_not_logged(
    workspace: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys.write_params(workspace, [NAME])
    Path("faces").mkdir()
    for split in ("train", "validation"):
        toys.faces(8).save(Path(f"faces/{split}.npz"))
    losses = [1.2, 1.0, 1.1]

    def fit(*arguments: Any, **options: Any) -> tuple[keras.Model, pd.DataFrame]:
        training_run.LogToMlflow().on_epoch_end(0, {"val_cross_entropy": losses[0]})  # the store is away for the others
        return model, pd.DataFrame({"epoch": range(3), "val_cross_entropy": losses})

    monkeypatch.setattr(training_run, "fit", fit)
    before = datetime.now(UTC).replace(microsecond=0)
    params = Params.read()
    training_run.train(TrainingConfig.of(params, params.model(NAME)), Path("models/toy"), Path("checkpoints/toy"))
    summary = json.loads(Path("models/toy/training.json").read_text())
    assert datetime.fromisoformat(summary["started"]) <= before <= datetime.fromisoformat(summary["ended"])
    run = mlflow.get_run(summary["run_id"])
    curve = mlflow.MlflowClient().get_metric_history(summary["run_id"], "val_cross_entropy")
    assert sorted((point.step, point.value) for point in curve) == list(enumerate(losses))
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("faces/train", provenance.md5(Path("faces/train.npz")))
    logged = mlflow_store.logged_model(run.info.run_id)
    assert mlflow_store.step_of(run.info.run_id, logged.model_id) == BEST_EPOCH


@pytest.fixture
def version(candidate: Candidate) -> Callable[[], Any]:
    """A registered version of the candidate, read anew at each call."""
    created = mlflow_store.ensure_version(candidate.digest, runs.ensure_run(candidate))
    mlflow_store.annotate(created, "it is better.", {"architecture": NAME})
    return lambda: mlflow.MlflowClient().get_model_version(mlflow_store.REGISTERED_MODEL, str(created.version))


def test_a_challenger_that_becomes_champion_is_no_challenger_any_more(version: Callable[[], Any]) -> None:
    mlflow_store.set_challenger_alias(version())
    assert version().aliases == ["challenger"]
    mlflow_store.set_champion_alias(version())
    assert version().aliases == ["champion"]
    assert version().tags["trained"] == ENDED.isoformat()


def test_versions_and_model_are_described_by_the_first_lines_of_the_card_and_a_link(
    version: Callable[[], Any], tmp_path: Path
) -> None:
    card = tmp_path / "MODEL_CARD.md"
    card.write_text("# Model card: toy\n\nHow.\n\n## What it is\n\n- **Terms:** [these](../LICENSE.md).\n\n## Limits\n")
    descriptions.describe(version(), card=card)
    shown = version()
    assert shown.description.startswith("toy: it is better.")
    address = f"#/experiments/{mlflow_store.experiment_id()}/runs/{shown.run_id}/artifacts/card/MODEL_CARD.md"
    link = f"[Model card]({address}?workflowType=machine_learning)"
    registered = mlflow.MlflowClient().get_registered_model(mlflow_store.REGISTERED_MODEL)
    for description in (shown.description, registered.description):
        assert "**Model card: toy**\n\n- **Terms:** these." in description
        assert "Limits" not in description
        assert link in description
    assert mlflow.artifacts.load_text(f"runs:/{shown.run_id}/card/MODEL_CARD.md") == card.read_text()
    assert mlflow_store.reason_of(shown) == "it is better."
