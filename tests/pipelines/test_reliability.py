"""Stage `reliability`: the rule of the champion, its report and its plot, from toy faces and a few photos."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import paths, reliability
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation import corruptions, reliability_groups
from pipelines.evaluation.reliability_groups import CLEAN
from pipelines.export import to_onnx
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion, ChampionRecord
from service.quality import RULE_FILE, ReliabilityRule
from tests.conftest import ROOT
from tests.support import toys

KEPT = ("motion_blur", "rotated", "loose_crop", "mouth_covered")
"""Corruptions that leave the toy's faces as bright as they are, and one that does not."""
STRONG = ("small",)


@pytest.fixture
def champion(tmp_path: Path, astronaut: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> Champion:
    """A champion that knows the mood from a face's brightness, in a directory with faces and photos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corruptions, "CORRUPTIONS", {name: corruptions.CORRUPTIONS[name] for name in KEPT})
    monkeypatch.setattr(reliability_groups, "EXTREMES", {name: reliability_groups.EXTREMES[name] for name in STRONG})
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
        FaceSet.concatenate([toys.faces(80), toys.faces(64, source="photos")]).save(paths.face_set(split))
    portrait = np.asarray(cv2.resize(astronaut, (112, 112), interpolation=cv2.INTER_AREA), np.uint8)
    toys.write_photos(paths.PHOTOS, [portrait] * 16, ["happiness", "neutral"] * 8)
    toys.write_people(paths.PHOTOS)
    paths.BUNDLE.symlink_to(ROOT / "bundle")
    return Champion(record, candidate).write()


def test_rule_report_and_plot_are_written(champion: Champion) -> None:
    reliability.main()
    rule = ReliabilityRule.load(paths.RELIABILITY, champion.served_digest)
    assert rule.model_digest == champion.served_digest
    report = json.loads((paths.RELIABILITY / paths.RELIABILITY_REPORT).read_text())
    for split in ("validation", "test"):
        groups = report["groups"][split]
        assert list(groups) == list(reliability.SOURCES) == ["fer2013", "photos", "snapshots"]
        assert list(groups["fer2013"]) == list(groups["photos"]) == [CLEAN, *KEPT, *STRONG]
        assert groups["fer2013"][CLEAN]["faces"] == 80
        assert groups["fer2013"][CLEAN]["error"] == 0
        assert groups["fer2013"]["rotated"]["coverage"] > 0.2
        assert 1 <= groups["snapshots"][CLEAN]["faces"] <= 8
    for one in report["groups"]["validation"]["fer2013"].values():
        assert one["coverage"] == 0 or one["reliable_error"] <= report["max_error"] == 0.1
    assert (paths.RELIABILITY / paths.RISK_COVERAGE_PICTURE).read_bytes().startswith(b"\x89PNG")


def test_the_same_faces_give_the_same_files(champion: Champion) -> None:
    reliability.main()
    before = {path.name: path.read_bytes() for path in paths.RELIABILITY.iterdir()}
    assert len(before) == 3
    reliability.main()
    assert {path.name: path.read_bytes() for path in paths.RELIABILITY.iterdir()} == before


def test_the_test_split_decides_nothing(champion: Champion) -> None:
    reliability.main()
    before = (paths.RELIABILITY / RULE_FILE).read_bytes()
    other = toys.faces(80)
    moods = (other.ferplus_mood + 1) % 4
    photos = toys.faces(64, source="photos")
    FaceSet.concatenate([FaceSet(**{**vars(other), "ferplus_mood": moods}), photos]).save(paths.face_set("test"))
    reliability.main()
    assert (paths.RELIABILITY / RULE_FILE).read_bytes() == before


def test_without_a_champion_the_error_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toys.write_params(tmp_path, ["toy"])
    with pytest.raises(FileNotFoundError, match="run the stage `register`"):
        reliability.main()
