"""The model card: every number comes from the reports, and errors are shown as numbers, nobody's face."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines import paths
from pipelines.data import test_sets
from pipelines.evaluation import metrics
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.model_card import __main__ as command
from pipelines.model_card import render
from pipelines.params import Params
from pipelines.registry import candidates, measurement
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.training.networks import Heads, mini_xception
from service.classifier import METADATA_FILE
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support import toys
from tests.support.models import described

ARCHITECTURE = "toy"
EVALUATION = Path("reports/evaluate", ARCHITECTURE)
PICTURES = {"confusion.png", "reliability.png", "risk_coverage.png", "slices.png"}
WRONG_NEGATIVES = 7


def predictions(faces: int = 40) -> Predictions:
    """The model takes some negative faces for neutral, with a confidence of 0.97."""
    moods = toys.faces(faces).ferplus_mood
    predicted = moods.copy()
    predicted[np.flatnonzero(moods == MOODS.index("negative"))[:WRONG_NEGATIVES]] = MOODS.index("neutral")
    return Predictions(moods, np.full((faces, 4), 0.01) + 0.96 * np.eye(4)[predicted])


def write_evaluation() -> dict[str, Any]:
    """Output of the stage `evaluate`.

    Returns:
        The content of `metrics.json`.
    """
    params = Params.read().evaluate
    tests = dict.fromkeys(("ferplus", "original", "photos", "original_head"), predictions())
    losses = metrics.corruption_losses(tests["ferplus"], dict.fromkeys(CORRUPTIONS, predictions(80)))
    losses = pd.concat([losses.assign(split=split) for split in ("validation", "test")])
    measurement.write_reports(EVALUATION, ARCHITECTURE, tests, params)
    measurement.write_corruptions(EVALUATION, ARCHITECTURE, losses, {"validation": 0.8, "test": 0.8})
    corrupted = {name: predictions() for name in CORRUPTIONS}
    ValidationPredictions.of(tests, corrupted).save(EVALUATION / candidates.VALIDATION_FILE)
    test = measurement.split_metrics(tests, losses, params)
    test["photos"]["coverage"] = 0.995
    measured = {
        "validation": {"ferplus": test["ferplus"]},
        "test": test,
        "temperature": 1.25,
        "size_bytes": 200_000,
        "parameters": 54_321,
        "latency_ms": 0.4,
    }
    (EVALUATION / candidates.METRICS_FILE).write_text(json.dumps(measured))
    return measured


def write_other_reports() -> None:
    """Reports of the stages `prepare`, `reliability` and `package`."""
    for path in (paths.CLASS_TABLE, paths.LITERT_REPORT, paths.RELIABILITY / paths.RELIABILITY_REPORT):
        path.parent.mkdir(parents=True, exist_ok=True)
    test, validation = (
        {"faces": 40, "error": 0.21, "reliable_error": wrong, "coverage": covered}
        for wrong, covered in ((0.081, 0.734), (0.079, 0.727))
    )
    trusted = {
        "max_error": 0.1,
        "level": 0.95,
        "groups": {
            "test": {"fer2013": dict.fromkeys(("clean", "jpeg_20", "very_dark"), test), "snapshots": {"turned": test}},
            "validation": {"fer2013": dict.fromkeys(("clean", "jpeg_20", "very_dark"), validation)},
        },
        "moods": {"test": {"fer2013": {"negative": test}}, "validation": {"fer2013": {}}},
    }
    (paths.RELIABILITY / paths.RELIABILITY_REPORT).write_text(json.dumps(trusted))
    (paths.RELIABILITY / paths.RISK_COVERAGE_PICTURE).write_bytes(b"a picture")
    paths.CLASS_TABLE.write_text(
        "split,source,positive,negative,neutral,other,total\ntrain,fer2013,7437,7327,8933,3037,26734\n"
    )
    counts = {
        "removed": 1930,
        "photos_without_a_face": 210,
        "fer2013_images_without_a_vote_that_counts": 3,
        "validation_images_also_in_test": 138,
    }
    paths.LEAKS.write_text(json.dumps(counts))
    litert = {
        "faces": 4792,
        "served": {"bytes": 237_442, "weighted_f1": 0.8},
        "float32": {"bytes": 230_000, "weighted_f1": 0.8, "largest_difference": 1e-6, "same_mood": 1.0},
        "int8": {"bytes": 95_000, "weighted_f1": 0.798, "largest_difference": 0.02, "same_mood": 0.991},
    }
    paths.LITERT_REPORT.write_text(json.dumps(litert))


def released_decision() -> dict[str, Any]:
    """The decision by which the released champion was promoted."""
    found = Champion.read(ROOT / paths.CHAMPION)
    assert found is not None
    assert found.record.decision is not None
    return found.record.decision


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a champion and all reports that the card needs."""
    directory = tmp_path_factory.mktemp("release")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(directory)
        toys.write_params(directory, [ARCHITECTURE])
        toys.write_candidate(ARCHITECTURE, toys.brightness_model(), weights="first", score=0.8)
        measured = write_evaluation()
        write_other_reports()
        candidate = candidates.Candidate.of(ARCHITECTURE)
        record = ChampionRecord(
            architecture=ARCHITECTURE,
            version="7",
            digest=candidate.digest,
            run_id=candidate.run_id,
            reason="toy replaces the champion.",
            decision=released_decision(),
            temperature=1.25,
            input=candidate.input,
            mirror_averaging=True,
            validation_faces="today",
            training_parameters={"recipe": "distilled", "epochs": "36", "warm_up": "None", "input.size": "48"},
            metrics=measured,
        )
        Champion(record, candidate).write()
    return directory


@pytest.fixture
def champion(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    """The champion of a copy of the release, which is the working directory."""
    shutil.copytree(release, tmp_path / "release")
    monkeypatch.chdir(tmp_path / "release")
    found = Champion.read()
    assert found is not None
    return found


def with_record(champion: Champion, **changes: Any) -> Champion:
    return Champion(champion.record.model_copy(update=changes), champion.candidate)


def test_every_number_comes_from_the_reports(champion: Champion) -> None:
    card = render.render(champion)
    ferplus = champion.record.metrics["test"]["ferplus"]
    interval = ferplus["weighted_f1_interval"]
    assert "54,321 parameters, 200,000 bytes as served" in card
    assert "| train | fer2013 | 7,437 | 7,327 | 8,933 | 3,037 | 26,734 |" in card
    assert "1,930 training images were removed" in card
    assert (
        f"| FER2013 test, FER+ labels | {ferplus['weighted_f1']:.3f} "
        f"({interval['low']:.3f} to {interval['high']:.3f}) |" in card
    )
    assert re.search(r"\| FER2013 test, FER\+ labels \| negative \| 1\.000 \| 0\.300 \(0\.\d{3} to 0\.\d{3}\) \|", card)
    assert "Recipe `distilled`: `epochs` 36." in card
    assert "| LiteRT, int8 | 95,000 | 0.7980 | 2.0e-02 | 99.10% |" in card


def test_it_says_what_the_model_must_not_be_used_for_and_under_which_licences_its_data_came(champion: Champion) -> None:
    card = render.render(champion)
    for said in ("no diagnosis", "not for decisions about a person", "2024/1689", "for research", "MIT", "Apache-2.0"):
        assert said in card
    assert "[Terms of the weights](../LICENSE.md)" in card


def test_errors_are_shown_as_numbers(champion: Champion) -> None:
    card = render.render(champion)
    assert "| negative | 0 | 3 | 7 | 0 | 10 |" in card
    assert "- negative predicted as neutral: 7 faces, 100% of all errors, 70.0% of the negative faces" in card
    assert "| FER2013 | 0.9 to 1 | 40 | 7 | 17.5% |" in card


@pytest.mark.parametrize(
    ("confidence", "name"),
    [(0.49, "below 0.5"), (0.5, "0.5 to 0.7"), (0.69, "0.5 to 0.7"), (0.7, "0.7 to 0.9"), (1.0, "0.9 to 1")],
)
def test_a_range_of_confidence_includes_its_lower_end(confidence: float, name: str) -> None:
    rest = (1 - confidence) / 3
    one = Predictions(np.array([1], np.int8), np.array([[confidence, rest, rest, rest]]))
    assert render._confidences("photos", one) == [
        {"source": "photos", "confidence": name, "predictions": 1, "errors": 1}
    ]


def test_each_corruption_has_a_row(champion: Champion) -> None:
    card = render.render(champion)
    for one in CORRUPTIONS.values():
        assert f"| {one.title} | " in card


def test_what_is_called_reliable_is_shown_by_source_and_corruption_beside_validation(champion: Champion) -> None:
    card = render.render(champion)
    assert "at most 10% of the answers" in card
    assert "On test it is kept in every row." in card
    assert "| FER2013 | clean | 40 | 21.0% | 8.1% | 73.4% | 7.9% | 72.7% |" in card
    assert "| FER2013 | JPEG, quality 20 | 40 | 21.0% | 8.1% | 73.4% | 7.9% | 72.7% |" in card
    assert "| photos, through MTCNN | turned | 40 | 21.0% | 8.1% | 73.4% | – | – |" in card
    assert "| FER2013 | negative | 40 | 21.0% | 8.1% | 73.4% |" in card


def test_the_card_names_every_row_in_which_the_promise_is_not_kept_on_test(champion: Champion) -> None:
    path = paths.RELIABILITY / paths.RELIABILITY_REPORT
    report = json.loads(path.read_text())
    report["groups"]["test"]["fer2013"]["jpeg_20"] = {
        **report["groups"]["test"]["fer2013"]["clean"],
        "reliable_error": 0.113,
    }
    path.write_text(json.dumps(report))
    card = render.render(champion)
    assert "**On test this limit is exceeded** for FER2013, JPEG, quality 20 (11.3%)." in card
    assert "kept in every row" not in card


def test_the_head_for_the_original_labels_stands_beside_the_one_that_is_served(champion: Champion) -> None:
    card = render.render(champion)
    assert "| FER2013 test, original labels (own head) | " in card
    assert "it is not served" in card


def test_a_model_without_that_head_has_a_card_without_it(champion: Champion) -> None:
    measured = champion.record.metrics
    test = {name: value for name, value in measured["test"].items() if name != "original_head"}
    card = render.render(with_record(champion, metrics={**measured, "test": test}))
    assert "it is not served" not in card
    metrics_on_test = card.partition("## Metrics on test")[2].partition("### By mood")[0]
    assert "own head" not in metrics_on_test


def test_the_gates_evidence_is_in_the_card(champion: Champion) -> None:
    card = render.render(champion)
    assert champion.record.reason in card
    assert "the challenger is this model" in card
    assert "| corruption dark | weighted_f1 | 3,579 | 0.7926 | 0.8218 | +0.0292 |" in card


def test_a_champion_without_a_known_decision_has_a_card_with_its_reason(champion: Champion) -> None:
    card = render.render(with_record(champion, decision=None))
    assert card.endswith("## Why it was released\n\ntoy replaces the champion.\n")


def test_the_candidates_are_compared_in_the_card(champion: Champion) -> None:
    assert "| **toy** | `plateau` | 54,321 | 200,000 | 0.40 ms |" in render.render(champion)


def test_the_card_names_the_versions_of_its_test_sets_unless_they_are_the_first(champion: Champion) -> None:
    assert "Versions of the test sets" not in render.render(champion)
    later = {split: {**sources, "photos": f"later {split}"} for split, sources in test_sets.FIRST.items()}
    card = render.render(replace(champion, candidate=replace(champion.candidate, test_sets=later)))
    assert f"FER2013 `{test_sets.FIRST['test']['fer2013']}`, photos `later test`" in card


def test_a_candidate_that_was_measured_on_other_test_sets_is_marked_in_the_card(champion: Champion) -> None:
    others = {split: {**sources, "photos": "another"} for split, sources in test_sets.FIRST.items()}
    toys.write_test_sets(paths.TEST_SETS, others)
    card = render.render(champion)
    assert "| **toy** (other sets) | `plateau`" in card
    assert f"- toy: validation photos {test_sets.FIRST['validation']['photos']} instead of another; test photos" in card


def test_ideas_are_not_in_the_card_because_they_must_not_make_a_release_stale(champion: Champion) -> None:
    before = render.render(champion)
    paths.IDEAS.write_text("idea,expectation\nwider,better\n")
    assert render.render(champion) == before


def test_every_picture_that_the_card_shows_is_written_beside_it(champion: Champion, tmp_path: Path) -> None:
    directory = tmp_path / "classifier"
    directory.mkdir()
    render.write(champion, directory)
    card = (directory / render.MODEL_CARD_FILE).read_text()
    assert set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", card)) == PICTURES
    assert {path.name for path in directory.iterdir()} == {*PICTURES, render.MODEL_CARD_FILE}


def test_no_line_of_a_table_is_broken(champion: Champion) -> None:
    for block in render.render(champion).split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert lines[1].startswith("| ---")
            assert len({line.count("|") for line in lines}) == 1, block


def test_the_layers_are_listed_with_kernel_filters_stride_and_output() -> None:
    rows = {row.pop("name"): tuple(row.values()) for row in render.layers(mini_xception(48, 4))}
    assert list(rows)[:4] == ["image", "entry1_conv", "entry2_conv", "block1_separable1"]
    assert rows["image"] == ("InputLayer", None, None, None, "48×48×1", False)
    assert rows["block1_separable1"] == ("SeparableConv2D", "3×3", 16, 1, "44×44×16", False)
    assert rows["block1_skip_conv"] == ("Conv2D", "1×1", 16, 2, "22×22×16", False)
    assert rows["block1_pool"] == ("MaxPooling2D", "3×3", None, 2, "22×22×16", False)
    assert [rows[f"block{index}_add"][4] for index in (1, 2, 3, 4)] == [
        "22×22×16",
        "11×11×32",
        "6×6×64",
        "3×3×128",
    ]
    assert rows["exit_conv"] == ("Conv2D", "3×3", 4, 1, "3×3×4", False)
    assert list(rows.values())[-1] == ("Softmax", None, None, None, "4", False)
    assert not any("bn" in name or "relu" in name for name in rows)


def test_auxiliary_heads_are_not_listed_and_sums_of_emotions_are() -> None:
    rows = render.layers(mini_xception(48, 4, heads=Heads(emotion_moods=(0, 1, 1, 2, 3), original=True)))
    assert [row["type"] for row in rows].count("GlobalAveragePooling2D") == 1
    assert (rows[-1]["type"], rows[-1]["filters"], rows[-1]["fixed"]) == ("Dense", 4, True)


def write_released(champion: Champion, version: str) -> Path:
    """A released classifier of a version, without its graphs."""
    directory = paths.BUNDLE / "classifier"
    directory.mkdir(parents=True)
    record = champion.record
    metadata = described(version).model_copy(update={"name": record.architecture})
    (directory / METADATA_FILE).write_text(metadata.model_dump_json())
    return directory


def test_the_command_writes_the_card_beside_the_released_classifier(champion: Champion) -> None:
    directory = write_released(champion, champion.record.version)
    command.main()
    assert (directory / render.MODEL_CARD_FILE).read_text() == render.render(champion)


def test_the_command_writes_no_card_of_another_model_than_the_released_one(champion: Champion) -> None:
    directory = write_released(champion, "6")
    with pytest.raises(ValueError, match="run the stage `package`"):
        command.main()
    assert not (directory / render.MODEL_CARD_FILE).exists()


def test_the_released_card_is_what_the_reports_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    champion = Champion.read()
    assert champion is not None
    assert (paths.BUNDLE / "classifier" / render.MODEL_CARD_FILE).read_text() == render.render(champion)
