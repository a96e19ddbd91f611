"""The champion, measured again on new test sets: its metrics change, what is served does not."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import paths, register
from pipelines.data import test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation.predictions import ValidationPredictions
from pipelines.export import to_onnx
from pipelines.params import Params
from pipelines.registry.candidates import MODEL_FILES, VALIDATION_FILE, Candidate, sha256
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.releases.ledger import Ledger
from tests.conftest import ROOT
from tests.support import toys

PRESENT = {split: {"fer2013": f"{split} faces", "photos": f"{split} photos"} for split in ("validation", "test")}


@pytest.fixture
def champion(tmp_path: Path, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> Champion:
    """A champion that was measured on the first test sets; those of the directory are others, on which its weighted
    F1 is 1, and not the recorded 0.6."""
    monkeypatch.chdir(tmp_path)
    toys.write_params(tmp_path, ["toy"])
    model = toys.brightness_model()
    to_onnx.export(model, (None, toys.SIZE, toys.SIZE, 1), tmp_path / "mood.onnx", [to_onnx.OUTPUT_NAME])
    toys.write_candidate("toy", model, weights="first", score=0.6, graph=(tmp_path / "mood.onnx").read_bytes())
    candidate = Candidate.of("toy")
    record = ChampionRecord(
        architecture="toy",
        version="7",
        digest=candidate.digest,
        run_id=candidate.run_id,
        reason="toy replaces the champion.",
        temperature=1.25,
        input=candidate.input,
        mirror_averaging=False,
        validation_faces="today",
        training_parameters={"recipe": "plateau"},
        metrics=candidate.metrics,
    )
    paths.FACES.mkdir()
    for split in ("validation", "test"):
        FaceSet.concatenate([toys.faces(40), toys.faces(8, source="photos")]).save(paths.face_set(split))
    portrait = np.asarray(cv2.resize(astronaut, (112, 112), interpolation=cv2.INTER_AREA), np.uint8)
    toys.write_photos(paths.PHOTOS, [portrait] * 8, ["happiness", "neutral"] * 4)
    toys.write_people(paths.PHOTOS)
    paths.BUNDLE.symlink_to(ROOT / "bundle")
    toys.write_test_sets(paths.TEST_SETS, PRESENT)
    return Champion(record, candidate).write()


@pytest.mark.slow
def test_on_new_test_sets_the_champion_is_measured_again_and_serves_what_it_served(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: (champion.candidate.model / name).read_bytes() for name in MODEL_FILES}
    digest, costs = champion.served_digest, champion.record.metrics["latency_ms"]
    again = register.on_present_sets(champion, Params.read())
    assert f"test photos {test_sets.FIRST['test']['photos']} instead of test photos" in capsys.readouterr().out
    assert again == Champion.read()
    assert again.candidate.test_sets == PRESENT
    assert again.record.validation_faces == sha256(paths.face_set("validation"))
    for split in ("validation", "test"):
        assert again.record.metrics[split]["ferplus"]["weighted_f1"] == 1
    assert again.record.metrics["test"]["photos"]["people"] == 20
    assert again.record.metrics["latency_ms"] == costs
    assert again.record.metrics == json.loads((again.candidate.evaluation / "metrics.json").read_text())
    assert len(ValidationPredictions.load(again.candidate.evaluation / VALIDATION_FILE).ferplus) == 40
    assert {name: (again.candidate.model / name).read_bytes() for name in MODEL_FILES} == files
    assert again.served_digest == digest
    assert again.record.reason == champion.record.reason
    # On the present sets nothing is to be done.
    assert register.on_present_sets(again, Params.read()) is again
    assert not capsys.readouterr().out


def test_without_the_faces_the_error_says_what_to_run(champion: Champion) -> None:
    paths.face_set("test").unlink()
    with pytest.raises(FileNotFoundError, match="run the stage `prepare`"):
        register.on_present_sets(champion, Params.read())


def test_a_candidate_that_was_measured_on_other_sets_does_not_challenge(champion: Champion) -> None:
    toys.write_candidate("toy", toys.brightness_model(), weights="second", score=0.9)
    decision = register.decide([Candidate.of("toy")], champion, Ledger(()), Params.read().gate)
    assert not decision.promoted
    assert decision.challenger is None
    assert "its metrics are of other sets (validation fer2013" in decision.out_of_bounds["toy"][0]
    assert "evaluate@toy" in decision.out_of_bounds["toy"][0]
