"""The model card says what the reports say, whatever reports there are, and shows figures and nobody's face."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from pipelines import evaluate, paths
from pipelines.evaluation import metrics
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.model_card import architecture_picture, render
from pipelines.params import Params
from pipelines.registry import candidates, decision_report, gate
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.registry.gate import Contender
from pipelines.training.networks import Heads, mini_xception, residual
from service.moods import MOODS
from tests.pipelines import test_gate
from tests.support import toys

ARCHITECTURE = "toy"
EVALUATION = Path("reports/evaluate", ARCHITECTURE)
WRONG_NEGATIVES = 7


def predictions(faces: int = 40) -> Predictions:
    """Of some negative faces the model says, with a confidence of 0.97, that they are neutral."""
    moods = toys.faces(faces).ferplus_mood
    answered = moods.copy()
    answered[np.flatnonzero(moods == MOODS.index("negative"))[:WRONG_NEGATIVES]] = MOODS.index("neutral")
    return Predictions(moods, np.full((faces, 4), 0.01) + 0.96 * np.eye(4)[answered])


def write_evaluation(*, complete: bool) -> dict[str, Any]:
    """What `evaluate` leaves of an architecture; without what older releases lack where it is not complete.

    Returns:
        The content of `metrics.json`.
    """
    params, tests = (
        Params.read().evaluate,
        dict.fromkeys(("ferplus", "original", "photos", "original_head"), predictions()),
    )
    losses = metrics.corruption_losses(tests["ferplus"], dict.fromkeys(CORRUPTIONS, predictions(80)))
    losses = pd.concat([losses.assign(split=split) for split in ("validation", "test")])
    evaluate.write_reports(EVALUATION, ARCHITECTURE, tests, params)
    figures = evaluate.split_metrics(tests, losses, params)
    figures["photos"]["coverage"] = 0.995
    if complete:
        evaluate.write_corruptions(EVALUATION, ARCHITECTURE, losses, {"validation": 0.8, "test": 0.8})
        sliced = {name: predictions() for name in CORRUPTIONS}
        ValidationPredictions.of(tests, sliced).save(EVALUATION / candidates.VALIDATION_FILE)
    else:
        figures = {name: metrics.summarise(tests[name], 15) for name in ("ferplus", "original", "photos")}
        figures["photos"]["coverage"] = 0.995
        table = pd.read_csv(EVALUATION / candidates.MOODS_FILE)
        columns = ["test", "mood", "precision", "recall", "f1", "support"]
        table[columns].to_csv(EVALUATION / candidates.MOODS_FILE, index=False)
    measured = {
        "validation": {"ferplus": figures["ferplus"]},
        "test": figures,
        "temperature": 1.25,
        "size_bytes": 200_000,
        "parameters": 54_321,
        "latency_ms": 0.4,
    }
    (EVALUATION / candidates.METRICS_FILE).write_text(json.dumps(measured))
    return measured


def write_data_reports() -> None:
    """What `prepare` leaves, but for the faces."""
    Path("reports/prepare").mkdir(parents=True)
    Path("reports/prepare/class_table.csv").write_text(
        "split,source,positive,negative,neutral,other,total\ntrain,fer2013,7437,7327,8933,3037,26734\n"
    )
    counts = {
        "removed": 1930,
        "photos_without_a_face": 210,
        "fer2013_images_without_a_vote_that_counts": 3,
        "validation_images_also_in_test": 138,
    }
    Path("reports/prepare/leaks.json").write_text(json.dumps(counts))


def release(workspace: Path, *, complete: bool) -> None:
    """Leave a champion in the working directory, with all reports or with those of an older release."""
    toys.write_params(workspace, [ARCHITECTURE, "not_trained_yet"])
    toys.write_candidate(ARCHITECTURE, toys.brightness_model(), weights="first", score=0.8)
    write_data_reports()
    measured = write_evaluation(complete=complete)
    challenger = test_gate.contender(ARCHITECTURE, 0.9)
    decision = gate.decide(
        [challenger],
        test_gate.CHAMPION,
        test_gate.RULE,
        {challenger.digest: test_gate.answers(0.85), test_gate.CHAMPION.digest: test_gate.answers(0.8)},
    )
    candidate = candidates.Candidate.of(ARCHITECTURE)
    record = ChampionRecord(
        architecture=ARCHITECTURE,
        version="7",
        digest=candidate.digest,
        run_id=candidate.run_id,
        reason=decision.reason,
        decision=asdict(decision) if complete else None,
        temperature=1.25,
        input=candidate.input,
        mirror_averaging=True,
        validation_faces="today",
        training_parameters={"recipe": "distilled", "epochs": "36"} if complete else {"epochs": "300"},
        metrics=measured,
    )
    Champion(record, candidate).write()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of two releases: one with all reports, one as older ones were."""
    directory = tmp_path_factory.mktemp("releases")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("complete", "older"):
            (directory / name).mkdir()
            monkeypatch.chdir(directory / name)
            release(directory / name, complete=name == "complete")
    return directory


def open_release(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    """The champion of a copy of a release, as the working directory."""
    shutil.copytree(source, target)
    monkeypatch.chdir(target)
    found = Champion.read()
    assert found is not None
    return found


@pytest.fixture
def champion(releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    return open_release(releases / "complete", tmp_path / "release", monkeypatch)


@pytest.fixture
def older(releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Champion:
    return open_release(releases / "older", tmp_path / "release", monkeypatch)


def test_every_figure_comes_out_of_the_reports(champion: Champion) -> None:
    card = render.render(champion)
    ferplus = champion.record.metrics["test"]["ferplus"]
    interval = ferplus["weighted_f1_interval"]
    assert "54,321 parameters, 200,000 bytes" in card
    assert "| train | fer2013 | 7,437 | 7,327 | 8,933 | 3,037 | 26,734 |" in card
    assert (
        f"| FER2013 `PrivateTest`, FER+ labels | {ferplus['weighted_f1']:.3f} "
        f"({interval['low']:.3f} to {interval['high']:.3f}) |" in card
    )
    assert re.search(r"\| ferplus \| negative \| 1\.000 \| 0\.300 \(0\.\d{3} to 0\.\d{3}\) \|", card)
    assert "Trained by the recipe `distilled`: `epochs` 36." in card


def test_it_says_what_the_model_must_not_be_used_for_and_under_which_licences_its_data_came(champion: Champion) -> None:
    card = render.render(champion)
    for said in ("no diagnosis", "Not for: decisions about a person", "2024/1689", "for research", "MIT", "Apache-2.0"):
        assert said in card


def test_failures_are_told_in_figures(champion: Champion) -> None:
    card = render.render(champion)
    assert "| negative | 0 | 3 | 7 | 0 | 10 |" in card
    assert "- negative taken for neutral: 7 times, 100% of all errors, 70.0% of the negative faces" in card
    assert "| FER2013 | 0.9 to 1 | 40 | 7 | 17.5% |" in card


def test_each_slice_has_a_row(champion: Champion) -> None:
    card = render.render(champion)
    for one in CORRUPTIONS.values():
        assert f"| {one.title} | " in card


def test_the_head_for_the_original_labels_stands_beside_the_one_that_is_served(champion: Champion) -> None:
    card = render.render(champion)
    assert "| the same, by a head of its own | " in card
    assert "it is measured here, and not shipped" in card


def test_the_gates_evidence_is_in_the_card(champion: Champion) -> None:
    card = render.render(champion)
    assert champion.record.reason in card
    assert "the challenger is this model" in card
    assert "| slice dark | weighted_f1 | 2,000 | 0.8000 | 0.8500 | +0.0500 |" in card


def test_the_files_for_phones_are_in_the_card_where_they_were_measured(champion: Champion) -> None:
    assert "LiteRT" not in render.render(champion)
    paths.LITERT_REPORT.parent.mkdir(parents=True)
    report = {
        "faces": 4792,
        "served": {"bytes": 237_442, "weighted_f1": 0.8},
        "int8": {"bytes": 95_000, "weighted_f1": 0.798, "largest_difference": 0.02, "same_mood": 0.991},
    }
    paths.LITERT_REPORT.write_text(json.dumps(report))
    assert "| LiteRT, int8 | 95,000 | 0.7980 | 2.0e-02 | 99.10% |" in render.render(champion)


def test_every_picture_that_the_card_shows_is_written_beside_it(champion: Champion, tmp_path: Path) -> None:
    directory = tmp_path / "classifier"
    directory.mkdir()
    render.write_pictures(champion, directory)
    shown = set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", render.render(champion)))
    assert shown == {path.name for path in directory.iterdir()}
    assert shown == {"architecture.png", "confusion.png", "reliability.png", "slices.png"}


def test_a_release_without_slices_intervals_or_answers_has_a_card_without_them(older: Champion, tmp_path: Path) -> None:
    directory = tmp_path / "classifier"
    directory.mkdir()
    render.write_pictures(older, directory)
    card = render.render(older)
    assert set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", card)) == {path.name for path in directory.iterdir()}
    assert "slices.png" not in card
    assert "In brackets" not in card
    assert "head of its own | " not in card.replace("original, own head", "")
    assert "| ferplus | negative | 1.000 | 0.300 |" in card
    assert older.record.reason in card


def test_an_architecture_that_was_not_evaluated_yet_is_left_out(champion: Champion) -> None:
    assert "not_trained_yet" not in render.render(champion)


def test_the_network_is_drawn_block_by_block_with_the_shapes_of_its_tensors() -> None:
    elements = architecture_picture.read(mini_xception(48, 4))
    blocks = [element for element in elements if isinstance(element, architecture_picture.Block)]
    assert [block.shape for block in blocks] == [(22, 22, 16), (11, 11, 32), (6, 6, 64), (3, 3, 128)]
    assert [box.label for box in blocks[0].main] == [
        "separable conv 3×3, 16, BN, ReLU",
        "separable conv 3×3, 16, BN",
        "max pooling 3×3, stride 2",
    ]
    assert [box.label for box in blocks[0].skip] == ["conv 1×1, 16, stride 2, BN"]
    assert [element.label for element in elements if element not in blocks][-4:] == [
        "conv 3×3, 4",
        "global average pooling",
        "softmax",
        "positive, negative, neutral, other",
    ]


def test_auxiliary_heads_are_not_drawn_and_sums_of_emotions_are() -> None:
    model = mini_xception(48, 4, heads=Heads(emotion_moods=(0, 1, 1, 2, 3), original=True))
    labels = [element.label for element in architecture_picture.read(model)]
    assert labels.count("global average pooling") == 1
    assert labels[-2] == "sums of the emotions of each mood"


def test_a_skip_connection_without_a_layer_is_drawn(tmp_path: Path) -> None:
    figure = architecture_picture.draw(residual(48, 4), "residual")
    figure.savefig(tmp_path / "network.png", dpi=50)
    height, width = cv2.imread(str(tmp_path / "network.png")).shape[:2]
    assert height > width


def test_the_first_champions_decision_needs_no_evidence() -> None:
    first = gate.decide([Contender("toy", "digest", 0.8, 200_000, 0.2)], None, test_gate.RULE, {})
    report = decision_report.render(asdict(first))
    assert "toy is the first champion" in report
    assert "| challenger | toy | 0.8000 | 200,000 | 0.20 ms |" in report
