"""`promote` and `rollback` in a repository of git and DVC: all that belongs together changes at once, and nothing
undoes it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from dvc.repo import Repo

from pipelines import package, register
from pipelines.registry import mlflow_store, results
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.releases import by_hand, promote, promotion, rollback
from pipelines.releases.ledger import Ledger, Release
from tests.conftest import ROOT
from tests.support import toys
from tests.support.mlflow_stores import closed_port
from tests.support.store import enter
from tests.support.toys import write_predicted_candidate

STEADY, RIVAL = "steady", "rival"
STAGES = """stages:
  register:
    cmd: "true"
    deps: [reports/evaluate]
    outs: [models/champion: {cache: false}, models/releases.json: {cache: false}, reports/register: {cache: false}]
  reliability:
    cmd: "true"
    deps: [models/champion, bundle/detector]
    outs: [reports/reliability: {cache: false}]
  package:
    cmd: "true"
    deps: [models/champion, reports/compare/results.md, reports/reliability]
    outs: [bundle/classifier: {cache: false}, reports/package/litert.json: {cache: false}]
  reference:
    cmd: "true"
    deps: [bundle/classifier, bundle/detector]
    outs: [bundle/reference: {cache: false}]
  detector_equivalence:
    cmd: "true"
    deps: [bundle/classifier]
    outs: [reports/detector_equivalence: {cache: false}]
"""


def write_bundle() -> None:
    """What the stages after `register` write, with small stand-ins for graphs for phones, card and reference."""
    champion = Champion.read()
    assert champion is not None
    classifier = Path("bundle/classifier")
    shutil.rmtree(classifier, ignore_errors=True)
    classifier.mkdir(parents=True)
    package.write_classifier(champion, classifier)
    for path in (
        "reports/reliability/report.json",
        "bundle/classifier/MODEL_CARD.md",
        "bundle/classifier/reliability.json",
        "bundle/reference/reference.parquet",
        "reports/package/litert.json",
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f'"{path} of release {champion.record.version}"\n')


def write_equivalence() -> None:
    """What the stage `detector_equivalence` writes."""
    Path("reports/detector_equivalence").mkdir(exist_ok=True)
    Path("reports/detector_equivalence/equivalence.md").write_text(f"of release {record().version}\n")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit() -> None:
    """Tell DVC that all stages have run, and commit all files."""
    with Repo() as repo:
        repo.commit(force=True)
    git("add", "--all")
    git("commit", "--quiet", "--message", "a state")


def stale() -> set[str]:
    """The stages that DVC would run."""
    with Repo() as repo:
        return set(repo.status())


def record() -> ChampionRecord:
    found = Champion.read()
    assert found is not None
    return found.record


def current() -> Release:
    found = Ledger.read().current
    assert found is not None
    return found


def content() -> dict[str, bytes]:
    """All tracked files, as they are in the directory."""
    paths = [Path(name) for name in git("ls-files").splitlines()]
    return {path.as_posix(): path.read_bytes() for path in paths if path.exists()}


def restrict(files: dict[str, bytes], *directories: str) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith(directories)}


def release(architecture: str, **options: Any) -> None:
    """A release by the gate and the stages after it, committed."""
    promotion.release(
        Candidate.of(architecture),
        **{"action": "promote", "gate": "promoted", "reason": f"{architecture} is better", **options},
        decision=None,
        training_parameters={"architecture": architecture},
    )
    results.write(promote.Params.read())
    write_bundle()
    write_equivalence()
    commit()


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return toys.brightness_model()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, model: keras.Model) -> Path:
    """A repository with release 1, `steady`, and release 2, `rival`, which is the champion."""
    directory = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(directory)
        git("init", "--quiet", "--initial-branch", "main")
        git("config", "user.name", "Ada")
        git("config", "user.email", "ada@clinic.example")
        Repo.init(".").close()
        Path(".gitignore").write_text("/mlflow.db\n/clone.db\n/mlruns\n/.release/\n")
        Path("dvc.yaml").write_text(STAGES)
        Path("CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
        toys.write_params(directory, [STEADY, RIVAL])
        for name in ("bundle/detector", "reports/register"):
            Path(name).mkdir(parents=True)
            Path(name, "file").write_text("x")
        write_predicted_candidate(STEADY, model, weights="first", score=0.80)
        write_predicted_candidate(RIVAL, model, weights="first", score=0.85)
        release(STEADY)
        release(RIVAL)
    return directory


@pytest.fixture
def clone(repository: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh clone with an empty store, whose stages `package` and `reference` are stand-ins."""
    subprocess.run(["git", "clone", "--quiet", repository, tmp_path / "clone"], check=True)
    directory = tmp_path / "clone"
    shutil.copy(empty_store, directory)
    enter(directory, monkeypatch)
    git("config", "user.name", "Grace")
    git("config", "user.email", "grace@clinic.example")
    monkeypatch.setattr(by_hand, "build", write_bundle)
    return directory


@pytest.fixture
def without_mlflow(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh clone whose MLflow does not answer."""
    with closed_port() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield clone


def test_a_rollback_on_a_fresh_clone_brings_back_all_that_belongs_together(without_mlflow: Path) -> None:
    before = content()
    git("checkout", "--quiet", "HEAD~1")
    first = content()
    git("checkout", "--quiet", "main")
    rollback.main("ward 3 reports wrong moods")
    after = content()
    together = ("models/champion", "bundle/", "reports/package", "reports/reliability", "reports/detector_equivalence")
    assert restrict(after, *together) == restrict(first, *together)
    assert json.loads(after["bundle/classifier/metadata.json"])["version"] == record().version == "1"
    assert b"**steady**" in after["reports/compare/results.md"]
    assert restrict(after, "models/steady", "models/rival", "reports/evaluate") == restrict(
        before, "models/steady", "models/rival", "reports/evaluate"
    )
    assert stale() == set()


def test_who_when_and_why_of_a_rollback_stand_in_ledger_and_changelog(without_mlflow: Path) -> None:
    rollback.main("ward 3 reports wrong moods", 1)
    assert [(entry.number, entry.action) for entry in Ledger.read().entries] == [
        (1, "promote"),
        (2, "promote"),
        (1, "rollback"),
    ]
    entry = current()
    assert (entry.by, entry.reason) == ("Grace", "ward 3 reports wrong moods")
    assert abs(entry.at.timestamp() - time.time()) < 60
    line = Path("CHANGELOG.md").read_text().splitlines()[-1]
    assert line.startswith("- Release 1, steady (digest ")
    assert "brought back on" in Path("CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_stage_register_does_not_undo_a_rollback(clone: Path) -> None:
    rollback.main("ward 3 reports wrong moods")
    kept = content()
    register.main()  # rival is better by the gate's rule, and the store has never seen any of them
    assert record().architecture == STEADY
    assert restrict(content(), "models/", "bundle/") == restrict(kept, "models/", "bundle/")
    version = mlflow_store.champion_version()
    assert version is not None
    assert (version.tags["architecture"], version.tags["release"]) == (STEADY, "1")
    assert "rollback to release 1" in Path("reports/register/decision.md").read_text()


def test_what_was_withdrawn_is_promoted_if_a_maintainer_names_it_and_has_its_number_again(
    without_mlflow: Path,
) -> None:
    rollback.main("ward 3 reports wrong moods")
    commit()
    promote.main(RIVAL, "it was the camera")
    assert (record().architecture, record().version) == (RIVAL, "2")
    assert set(Ledger.read().withdrawn()) == {Candidate.of(STEADY).digest}
    assert Ledger.read().number_of("another") == 3


@pytest.mark.parametrize("command", ["rollback", "promote"])
def test_an_mlflow_that_does_not_answer_is_a_warning_within_seconds(
    without_mlflow: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    started = time.monotonic()
    if command == "rollback":
        rollback.main("a reason")
    else:
        promote.main(STEADY, "a reason")
    assert time.monotonic() - started < 10
    assert record().architecture == STEADY
    said = capsys.readouterr().err
    assert said.startswith("Warning: MLflow does not answer")
    assert "the stage `register` moves it" in said


@pytest.mark.slow
def test_a_promotion_against_the_gate_says_so_and_moves_the_alias(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promote.main(STEADY, "clinic B has bright rooms")
    assert "The gate refuses it" in capsys.readouterr().out
    entry = current()
    assert (entry.number, entry.action, entry.gate, entry.by) == (1, "promote", "refused", "Grace")
    assert record().decision is not None
    assert not record().decision["promoted"]  # type: ignore[index]
    assert "promoted against the gate on" in " ".join(Path("CHANGELOG.md").read_text().split())
    version = mlflow_store.champion_version()
    assert version is not None
    assert version.tags["architecture"] == STEADY
    assert version.tags["decision"] == "promoted by Grace"
    assert stale() == {"detector_equivalence"}  # DVC makes the report about the released classifier again


@pytest.mark.slow
def test_a_promotion_by_digest_finds_models_and_releases(without_mlflow: Path) -> None:
    promote.main(Candidate.of(STEADY).digest[:10], "a reason")
    assert record().architecture == STEADY
    commit()
    promote.main(Ledger.read().find(2).digest[:10], "a reason")
    assert record().architecture == RIVAL


def test_a_new_model_gets_the_next_number_after_a_rollback(without_mlflow: Path, model: keras.Model) -> None:
    rollback.main("a reason")
    write_predicted_candidate(RIVAL, model, weights="second", score=0.7)
    commit()
    promote.main(RIVAL, "a reason")
    assert record().version == "3"
    assert [entry.number for entry in Ledger.read().entries] == [1, 2, 1, 3]


@pytest.mark.parametrize("failing", ["build", "write"])
def test_a_promotion_that_fails_leaves_everything_as_it_was(
    without_mlflow: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    def fail(*_: object) -> None:
        write_bundle()
        raise RuntimeError("no faces here")

    monkeypatch.setattr(by_hand if failing == "build" else results, failing, fail)
    with pytest.raises(SystemExit, match="1"):
        promote.main(STEADY, "a reason")
    assert "Error: no faces here" in capsys.readouterr().err
    assert git("status", "--porcelain") == ""


def test_a_rollback_that_is_interrupted_leaves_everything_as_it_was(
    without_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rollback.main("a reason")
    assert git("status", "--porcelain") == ""


def test_a_champion_that_is_not_committed_is_not_lost(
    without_mlflow: Path, model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predicted_candidate(STEADY, model, weights="second", score=0.9)
    promote.main(STEADY, "a reason")
    for command in (lambda: rollback.main("a reason"), lambda: promote.main(RIVAL, "a reason")):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            command()
        assert "The files of release 3 (steady" in capsys.readouterr().err
    assert record().version == "3"


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (lambda: rollback.main("a reason", 9), "no release 9; it has 1, 2"),
        (lambda: rollback.main("a reason", 2), "Release 2 (rival"),
        (lambda: promote.main(RIVAL, "a reason"), "is the champion already: release 2"),
        (lambda: promote.main("unknown", "a reason"), "no model 'unknown'"),
    ],
    ids=["no such release", "the champion's", "the champion", "no such model"],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(
    without_mlflow: Path, capsys: pytest.CaptureFixture[str], command: Any, complaint: str
) -> None:
    with pytest.raises(SystemExit, match="1"):
        command()
    assert complaint in capsys.readouterr().err
    assert git("status", "--porcelain") == ""


@pytest.mark.slow
def test_two_clones_that_release_make_a_conflict_in_the_ledger_and_the_second_takes_the_next_number(
    without_mlflow: Path, repository: Path, tmp_path: Path, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    subprocess.run(["git", "clone", "--quiet", repository, theirs], check=True)
    for directory, name in ((theirs, STEADY), (without_mlflow, RIVAL)):
        monkeypatch.chdir(directory)
        git("config", "user.name", name)
        git("config", "user.email", f"{name}@clinic.example")
        write_predicted_candidate(name, model, weights="retrained", score=0.9)
        promote.main(name, "retrained")
        assert record().version == "3"
        write_equivalence()
        commit()
    git("fetch", "--quiet", str(theirs), "main")
    merged = subprocess.run(["git", "merge", "FETCH_HEAD"], capture_output=True, text=True, check=False)
    assert merged.returncode != 0
    assert "CONFLICT (content): Merge conflict in models/releases.json" in merged.stdout
    with pytest.raises(ValueError, match="two clones released"):
        Ledger.read()
    # The commands of docs/improve/gate.md.
    _, _, commands = (ROOT / "docs" / "improve" / "gate.md").read_text().partition("git checkout origin/main -- ")
    named = commands.partition("\ngit commit")[0].replace("\\", " ").split()
    git("checkout", "FETCH_HEAD", "--", *(name for name in named if Path(name).exists()))
    git("commit", "--quiet", "--no-edit")
    assert [entry.architecture for entry in Ledger.read().entries] == [STEADY, RIVAL, STEADY]
    promote.main(RIVAL, "better than both")
    assert [entry.number for entry in Ledger.read().entries] == [1, 2, 3, 4]
    assert (record().architecture, record().version) == (RIVAL, "4")


@pytest.mark.slow
def test_a_release_that_was_never_committed_comes_back_from_mlflow(clone: Path, model: keras.Model) -> None:
    write_predicted_candidate(STEADY, model, weights="second", score=0.9)
    promote.main(STEADY, "never committed")
    digest = current().digest
    for name in (RIVAL, STEADY):  # it is lost: only the ledger and MLflow know of it
        write_predicted_candidate(name, model, weights="third", score=0.95)
    promotion.release(
        Candidate.of(RIVAL), action="promote", gate="promoted", reason="x", decision=None, training_parameters={}
    )
    write_bundle()
    commit()
    rollback.main("back to what was never committed", 3)
    assert (record().version, current().digest) == ("3", digest)
    assert json.loads(Path("bundle/classifier/metadata.json").read_text())["digest"] == digest


def test_a_reference_that_another_detector_made_is_made_again(without_mlflow: Path) -> None:
    Path("bundle/detector/file").write_text("another detector")
    commit()
    rollback.main("a reason")
    assert stale() == {"reliability", "reference"}  # both saw the photos through it


def test_a_release_of_before_the_rule_of_reliability_promises_nothing_until_one_is_fitted(
    without_mlflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promote.main(STEADY, "a reason")
    shutil.rmtree("reports/reliability")
    Path("bundle/classifier/reliability.json").unlink()
    git("add", "--all")
    git("commit", "--quiet", "--message", "as the first releases were")
    promote.main(RIVAL, "a reason")
    commit()
    rollback.main("a reason", 1)
    assert record().architecture == STEADY
    assert not Path("bundle/classifier/reliability.json").exists()
    assert "`dvc repro` will make again, for this release: reliability" in capsys.readouterr().out
    assert "reliability" in stale()


def test_what_had_to_run_before_still_has_to(without_mlflow: Path) -> None:
    Path("reports/evaluate/steady/moods.csv").write_text("evaluated, and not compared yet\n")
    assert stale() == {"register"}
    rollback.main("a reason")
    assert stale() == {"register"}
