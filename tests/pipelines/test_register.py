"""Stage `register` against a real MLflow registry: the champion there and in git's copy, and the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import onnx
import pytest
from mlflow.entities.model_registry import ModelVersion

from pipelines import register
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.export import to_onnx
from pipelines.registry import champion, mlflow_store
from pipelines.registry.candidates import VALIDATION_FILE, Candidate, sha256
from pipelines.releases import promotion, restore_runs
from pipelines.releases.ledger import Ledger
from service.moods import MOODS
from tests.support import toys
from tests.support.store import enter, use_store
from tests.support.toys import write_predicted_candidate

STEADY, RIVAL = "steady", "rival"


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return toys.brightness_model()


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, model: keras.Model) -> Path:
    """A directory in which the stage has run once: `steady` with 0.80 is champion, `rival` has 0.70."""
    directory = tmp_path_factory.mktemp("first_release")
    shutil.copy(empty_store, directory)
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(directory, monkeypatch)
        toys.write_params(directory, [STEADY, RIVAL])
        write_predicted_candidate(STEADY, model, weights="first", score=0.80)
        write_predicted_candidate(RIVAL, model, weights="first", score=0.70)
        register.main()
    return directory


@pytest.fixture
def released(first_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with its store, as the working directory."""
    shutil.copytree(first_release, tmp_path, dirs_exist_ok=True)
    enter(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def fresh_clone(released: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same files with an empty store."""
    use_store(Path(shutil.copy(empty_store, released / "clone.db")), monkeypatch)
    return released


def champion_version() -> ModelVersion:
    version = mlflow_store.champion_version()
    assert version is not None
    return version


def versions() -> list[ModelVersion]:
    return sorted(
        mlflow.MlflowClient().search_model_versions(f"name = '{mlflow_store.REGISTERED_MODEL}'"),
        key=lambda version: int(version.version),
    )


def record() -> champion.ChampionRecord:
    """Git's champion."""
    found = champion.Champion.read()
    assert found is not None
    return found.record


def exported(model: keras.Model, directory: Path) -> bytes:
    """The model as an ONNX file."""
    path = directory / "mood.onnx"
    to_onnx.export(model, (None, toys.SIZE, toys.SIZE, 1), path, [to_onnx.OUTPUT_NAME])
    return path.read_bytes()


def renumber(number: int) -> None:
    """Give the only release of the ledger another number."""
    (entry,) = Ledger.read().entries
    Ledger((entry.model_copy(update={"number": number}),)).write()
    kept = champion.Champion.read()
    assert kept is not None
    champion.Champion(kept.record.model_copy(update={"version": str(number)}), kept.candidate).write()


def withdraw(*models: str) -> None:
    """Withdraw models as a decision by hand does."""
    ledger = Ledger.read()
    assert ledger.current is not None
    ledger.added(ledger.current.model_copy(update={"withdraws": models, "reason": "a test"})).write()


def decision() -> dict[str, Any]:
    return json.loads(Path("reports/register/decision.json").read_text())


def content(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_the_best_candidate_becomes_the_first_champion(released: Path) -> None:
    version = champion_version()
    assert version.tags["architecture"] == STEADY
    assert version.tags["decision"] == "promoted"
    assert decision()["reason"] == record().reason
    assert record().reason in version.description
    assert "steady is the first champion" in record().reason


def test_the_champions_model_can_be_loaded_from_the_registry(released: Path) -> None:
    loaded = mlflow.tensorflow.load_model(f"models:/{mlflow_store.REGISTERED_MODEL}@{mlflow_store.CHAMPION_ALIAS}")
    assert loaded.input_shape == (None, toys.SIZE, toys.SIZE, 1)


def test_git_keeps_a_copy_of_the_champion_that_packaging_can_start_from(released: Path) -> None:
    kept = record()
    assert (kept.architecture, kept.version, kept.temperature) == (STEADY, str(champion_version().version), 1.25)
    assert kept.input.size == toys.SIZE
    assert kept.metrics["test"]["ferplus"]["weighted_f1"] == pytest.approx(0.79)
    assert Path("models/champion/model.keras").read_bytes() == Path("models/steady/model.keras").read_bytes()
    assert Path("models/champion/mood.onnx").read_bytes() == Path("models/steady/mood.onnx").read_bytes()


def test_all_candidates_stand_side_by_side_in_one_table(released: Path) -> None:
    lines = Path("reports/register/comparison.csv").read_text().splitlines()
    assert lines[0] == "metric,steady,rival"
    assert "validation.ferplus.weighted_f1,0.8,0.7" in lines


@pytest.mark.parametrize("columns", [None, "80"])
def test_the_table_on_the_terminal_cuts_no_name(
    workspace: Path,
    model: keras.Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: str | None,
) -> None:
    names = [f"mini_xception_with_a_long_name_{index}" for index in range(2)]
    toys.write_params(workspace, names)
    for name in names:
        write_predicted_candidate(name, model, weights="first", score=0.8)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("FORCE_COLOR", "1")  # Rich then takes the output for a terminal
    register.main()
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


def test_a_second_run_changes_nothing(released: Path) -> None:
    kept = content(Path("models/champion"))
    register.main()
    assert len(versions()) == 1
    assert content(Path("models/champion")) == kept
    assert champion_version().tags["decision"] == "promoted"
    assert not decision()["promoted"]
    assert "The champion stays" in decision()["reason"]


def test_a_champion_that_was_evaluated_again_is_released_with_the_new_metrics(
    released: Path, model: keras.Model
) -> None:
    reason = record().reason
    write_predicted_candidate(STEADY, model, weights="first", score=0.82, graph=b"exported anew")
    register.main()
    kept = record()
    assert kept.metrics["validation"]["ferplus"]["weighted_f1"] == 0.82
    assert Path("models/champion/mood.onnx").read_bytes() == b"exported anew"
    assert (kept.reason, len(versions())) == (reason, 1)
    assert decision()["champion"]["score"] == 0.82
    assert not decision()["promoted"]
    # Other bytes are served, so that it is another release of the same model.
    assert [(entry.number, entry.action) for entry in Ledger.read().entries] == [(1, "promote"), (2, "refresh")]
    assert (kept.version, champion_version().tags["release"]) == ("2", "2")
    assert "evaluated again, and its graph differs" in Ledger.read().entries[1].reason


def test_a_champion_whose_graph_was_only_named_anew_keeps_its_number_and_its_bytes(
    workspace: Path, model: keras.Model
) -> None:
    toys.write_params(workspace, [STEADY])
    graph = exported(model, workspace)
    write_predicted_candidate(STEADY, model, weights="first", score=0.80, graph=graph)
    register.main()
    renamed = onnx.load_from_string(graph)
    for node in renamed.graph.node:
        node.name = f"another {node.name}"
    write_predicted_candidate(STEADY, model, weights="first", score=0.82, graph=renamed.SerializeToString())
    register.main()
    assert record().metrics["validation"]["ferplus"]["weighted_f1"] == 0.82
    assert (record().version, len(Ledger.read().entries)) == ("1", 1)
    assert Path("models/champion/mood.onnx").read_bytes() == graph


def test_a_better_challenger_becomes_champion(released: Path, model: keras.Model) -> None:
    before = champion_version().version
    write_predicted_candidate(RIVAL, model, weights="second", score=0.81)
    register.main()
    assert champion_version().version != before
    assert champion_version().tags["architecture"] == record().architecture == RIVAL
    assert "rival replaces the champion, steady" in champion_version().description


@pytest.mark.parametrize("score", [0.80, 0.75], ids=["equal", "worse"])
def test_a_challenger_that_is_not_better_gets_a_version_but_not_the_alias(
    released: Path, model: keras.Model, score: float
) -> None:
    before, kept = champion_version().version, content(Path("models/champion"))
    write_predicted_candidate(STEADY, model, weights="second", score=score)
    register.main()
    register.main()  # the same challenger does not become a version twice
    assert champion_version().version == before
    assert content(Path("models/champion")) == kept
    refused = versions()[1:]
    assert [version.tags["decision"] for version in refused] == ["refused"]
    assert "The champion stays" in refused[0].description


@pytest.mark.parametrize(
    ("figures", "complaint"),
    [
        ({"size_bytes": 1_000_001}, "1,000,001 bytes"),
        ({"multiply_adds": 100_000_000}, "100,000,000 multiply-adds"),
        ({"latency_ratio": 100.0}, "100 times as long as the fixed network"),
    ],
    ids=["too large", "too many multiply-adds", "too slow"],
)
def test_the_best_model_is_refused_if_it_breaks_a_bound(
    released: Path, model: keras.Model, figures: dict[str, Any], complaint: str
) -> None:
    write_predicted_candidate(RIVAL, model, weights="second", score=0.95, **figures)
    register.main()
    assert champion_version().tags["architecture"] == record().architecture == STEADY
    assert complaint in decision()["out_of_bounds"][RIVAL][0]
    assert len(versions()) == 1


def test_a_fresh_clone_has_its_runs_and_champion_restored_once(fresh_clone: Path) -> None:
    kept = content(Path("models/champion"))
    for _ in range(2):
        restore_runs.main()
    runs = mlflow.search_runs(output_format="list")
    names = [run.info.run_name for run in runs]
    assert sorted(names) == sorted([STEADY, RIVAL, f"evaluate {STEADY}", f"evaluate {RIVAL}"])
    assert champion_version().tags["decision"] == "taken from git"
    assert mlflow_store.reason_of(champion_version()) == record().reason
    assert champion_version().description.startswith(record().reason)
    assert content(Path("models/champion")) == kept


def test_a_fresh_clone_compares_challengers_with_the_champion_of_git(fresh_clone: Path, model: keras.Model) -> None:
    write_predicted_candidate(STEADY, model, weights="second", score=0.75)
    register.main()
    assert champion_version().tags[mlflow_store.DIGEST_TAG] == record().digest
    assert record().metrics["validation"]["ferplus"]["weighted_f1"] == 0.80
    assert [version.tags["decision"] for version in versions()] == ["taken from git", "refused"]


def test_the_registry_follows_git_if_another_version_was_made_champion_there_and_the_stage_says_so(
    released: Path, model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predicted_candidate(RIVAL, model, weights="second", score=0.79)
    write_predicted_candidate(STEADY, model, weights="second", score=0.70)
    register.main()  # rival is refused, and is a version now
    mlflow_store.set_champion_alias(versions()[1])
    kept = content(Path("models/champion"))
    capsys.readouterr()
    register.main()
    said = capsys.readouterr().out
    assert "git has release 1 (steady), the registry has an unreleased model (rival, version 2 there)" in said
    assert "Git decides" in said
    assert "pipelines.releases.promote" in said
    assert content(Path("models/champion")) == kept
    assert champion_version().tags["architecture"] == STEADY


@pytest.mark.parametrize("score", [0.85, 0.75], ids=["better", "worse"])
def test_a_champion_that_came_with_a_pull_is_the_registrys_too(
    fresh_clone: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch, score: float
) -> None:
    # A colleague, with a store of their own, releases another champion by hand.
    write_predicted_candidate(RIVAL, model, weights="theirs", score=score)
    write_predicted_candidate(STEADY, model, weights="theirs", score=0.5)
    promotion.release(
        Candidate.of(RIVAL), action="promote", gate="refused", reason="x", decision=None, training_parameters={}
    )
    # Their files are pulled to where the first champion is in the registry.
    use_store(fresh_clone / "mlflow.db", monkeypatch)
    register.main()
    assert champion_version().tags["architecture"] == record().architecture == RIVAL
    assert champion_version().tags["release"] == record().version == "2"


def test_on_a_fresh_clone_the_next_release_has_the_highest_number_of_the_ledger_plus_one(
    fresh_clone: Path, model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Ledger.read().entries[0]
    renumber(40)  # there were many releases before this clone
    write_predicted_candidate(RIVAL, model, weights="second", score=0.85)
    register.main()
    assert record().version == "41"
    assert [entry.number for entry in Ledger.read().entries] == [40, 41]
    assert {version.version for version in versions()} == {1, 2}  # the registry counts for itself
    assert champion_version().tags["release"] == "41"
    assert champion_version().tags["release_digest"] == Ledger.read().entries[1].digest != first.digest
    assert "version 2" in capsys.readouterr().out  # its number stands in the table


def test_a_clone_that_is_behind_the_registry_promotes_nothing_and_says_pull(
    released: Path, model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: Path(path).read_bytes() for path in ("models/champion/champion.json", "models/releases.json")}
    write_predicted_candidate(RIVAL, model, weights="second", score=0.85)
    register.main()  # another clone, with the same registry
    for path, text in before.items():
        Path(path).write_bytes(text)
    shutil.copy("models/steady/mood.onnx", "models/champion")
    write_predicted_candidate(RIVAL, model, weights="third", score=0.9)
    capsys.readouterr()
    with pytest.raises(LookupError, match="git pull"):
        register.main()
    assert "newer than models/releases.json knows: git pull" in capsys.readouterr().out
    assert champion_version().tags["release"] == "2"
    assert Path("models/releases.json").read_bytes() == before["models/releases.json"]


def test_a_champion_that_git_checkout_brought_back_is_no_silent_rollback(released: Path, model: keras.Model) -> None:
    shutil.copytree("models/champion", "old")
    write_predicted_candidate(RIVAL, model, weights="second", score=0.85)
    register.main()
    shutil.rmtree("models/champion")
    Path("old").rename("models/champion")
    with pytest.raises(LookupError, match=r"is release 1 .* release 2 .*python -m pipelines.releases.rollback NUMBER"):
        register.main()
    assert champion_version().tags["release"] == "2"


def test_a_withdrawn_model_is_not_promoted_and_the_report_says_why(released: Path, model: keras.Model) -> None:
    write_predicted_candidate(RIVAL, model, weights="second", score=0.9)
    withdraw(Candidate.of(RIVAL).digest)
    register.main()
    assert record().architecture == champion_version().tags["architecture"] == STEADY
    assert decision()["out_of_bounds"][RIVAL][0].startswith("withdrawn on ")
    assert "a test" in decision()["out_of_bounds"][RIVAL][0]
    write_predicted_candidate(RIVAL, model, weights="third", score=0.9)  # trained again: another model
    register.main()
    assert record().architecture == RIVAL


def test_the_champion_stays_if_all_others_are_withdrawn(released: Path, model: keras.Model) -> None:
    write_predicted_candidate(STEADY, model, weights="second", score=0.9)
    withdraw(Candidate.of(STEADY).digest, Candidate.of(RIVAL).digest)
    register.main()
    assert record().version == "1"
    assert "all candidates are withdrawn" in decision()["reason"]


def test_the_evidence_is_written_to_version_run_and_reports(released: Path, model: keras.Model) -> None:
    write_predicted_candidate(RIVAL, model, weights="second", score=0.85)
    register.main()
    version, evidence = champion_version(), decision()["evidence"]
    assert evidence["metric"]["difference"] == pytest.approx(0.05)
    assert len(evidence["parts"]) == len(MOODS) + len(CORRUPTIONS) + 1  # 10 photos of a mood are too few to compare on
    assert version.tags["gate.difference"] == "+0.0500"
    assert version.tags["gate.worse_on"] == "nothing"
    assert version.run_id is not None
    assert promotion.logged_decision(version.run_id) == decision() == record().decision
    readable = Path("reports/register/decision.md").read_text()
    assert mlflow.artifacts.load_text(f"runs:/{version.run_id}/gate/decision.md") == readable
    assert "# The gate's decision: promoted" in readable
    assert "| corruption dark | weighted_f1 | 4,000 | 0.8000 | 0.8500 | +0.0500 |" in readable


def test_a_better_challenger_that_is_much_worse_on_one_mood_gets_a_version_that_says_so(
    released: Path, model: keras.Model
) -> None:
    write_predicted_candidate(RIVAL, model, weights="second", score=0.92, negative=0.6)
    register.main()
    assert champion_version().tags["architecture"] == record().architecture == STEADY
    refused = versions()[1]
    assert refused.tags["decision"] == "refused"
    assert refused.tags["gate.worse_on"] == "mood negative"
    assert refused.tags["gate.narrowest"].startswith("mood negative: f1 -0.")
    assert "worse on mood negative" in refused.description
    assert "**worse**" in Path("reports/register/decision.md").read_text()


def release_with_graph(workspace: Path, model: keras.Model, **options: Any) -> None:
    """Release a model that can be measured again, and write other validation faces, on which it makes no error."""
    toys.write_params(workspace, [STEADY])
    write_predicted_candidate(STEADY, model, weights="first", score=0.6, graph=exported(model, workspace), **options)
    register.main()
    Path("faces").mkdir()
    FaceSet.concatenate([toys.faces(8), toys.faces(8, source="photos")]).save(Path("faces/validation.npz"))


def challenge_without_error(model: keras.Model) -> None:
    """A challenger with correct predictions for all present validation faces."""
    today = sha256(Path("faces/validation.npz"))
    write_predicted_candidate(STEADY, model, weights="second", score=0.9, validation_faces=today)
    moods = toys.faces(8).ferplus_mood
    certain = np.eye(len(MOODS), dtype=np.float32)[moods]
    certain_predictions = Predictions(moods, certain)
    ValidationPredictions(certain_predictions, certain_predictions, dict.fromkeys(CORRUPTIONS, moods)).save(
        Path("reports/evaluate", STEADY, VALIDATION_FILE)
    )


def test_a_champion_whose_validation_faces_have_changed_is_measured_again(workspace: Path, model: keras.Model) -> None:
    release_with_graph(workspace, model, validation_faces="old")
    challenge_without_error(model)
    register.main()
    # On today's faces the champion makes no error, whatever it did on the old ones.
    assert decision()["champion"]["score"] == 1
    assert decision()["evidence"]["metric"]["difference"] == 0
    assert not decision()["promoted"]


def test_if_it_cannot_be_measured_again_the_error_says_what_to_run(workspace: Path, model: keras.Model) -> None:
    release_with_graph(workspace, model, validation_faces="old")
    challenge_without_error(model)
    Path("faces/validation.npz").unlink()
    with pytest.raises(FileNotFoundError, match="run the stage `prepare`"):
        register.main()
