"""Stage `evaluate` on a toy with known metrics: faces whose mood is their brightness, and a model that reads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import typer
from numpy.typing import NDArray

from pipelines import evaluate, paths
from pipelines.data import test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.data.splits import photos_of_split
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import ValidationPredictions, open_classifier
from pipelines.export.original_head import original_head
from pipelines.params import Params
from pipelines.registry import mlflow_store, runs
from pipelines.registry.candidates import Candidate
from service.moods import MOODS
from tests.conftest import ROOT
from tests.support import toys
from tests.support.store import enter

pytestmark = pytest.mark.slow

TESTS = ["ferplus", "original", "photos"]
PHOTOS = 24
WRONG_ORIGINALS = 5
TEST_FACES = 40
VERSIONS = {split: {"fer2013": f"{split} 1", "photos": f"{split} 2"} for split in ("validation", "test")}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, astronaut: NDArray[np.uint8]) -> Path:
    """A directory in which the stage has run for `toy` and for `headed`; every third photo shows nobody."""
    directory = tmp_path_factory.mktemp("evaluated")
    shutil.copy(empty_store, directory)
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(directory, monkeypatch)
        toys.write_params(directory, ["toy", "headed"])
        toys.write_model(Path("models/toy"), "toy", toys.brightness_model(), run_id="made elsewhere")
        toys.write_model(Path("models/headed"), "headed", toys.headed_model(), run_id="made elsewhere too")
        Path("faces").mkdir()
        parts = [toys.faces(TEST_FACES, wrong_originals=WRONG_ORIGINALS), toys.faces(8, source="photos")]
        FaceSet.concatenate(parts).save(Path("faces/test.npz"))
        FaceSet.concatenate(parts).save(Path("faces/validation.npz"))
        portrait = cv2.resize(astronaut, (224, 224), interpolation=cv2.INTER_AREA)
        nobody = np.full_like(portrait, 128)
        toys.write_photos(
            Path("data/photos.parquet"),
            [nobody if index % 3 == 0 else portrait for index in range(PHOTOS)],
            ["happiness" if index % 2 else "neutral" for index in range(PHOTOS)],
        )
        toys.write_people(paths.PHOTOS)
        toys.write_test_sets(paths.TEST_SETS, VERSIONS)
        Path("bundle").symlink_to(ROOT / "bundle")
        evaluate.main("toy")
        evaluate.main("headed")
    return directory


@pytest.fixture
def inside(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That directory as the working directory."""
    enter(evaluated, monkeypatch)
    return evaluated


def read_metrics(directory: Path, architecture: str = "toy") -> dict[str, Any]:
    return json.loads((directory / "reports/evaluate" / architecture / "metrics.json").read_text())


def test_a_model_without_error_has_perfect_metrics_on_ferplus_labels(evaluated: Path) -> None:
    ferplus = read_metrics(evaluated)["test"]["ferplus"]
    assert ferplus["weighted_f1"] == ferplus["macro_f1"] == ferplus["accuracy"] == ferplus["macro_recall"] == 1
    assert ferplus["images"] == TEST_FACES


def test_the_same_images_are_scored_by_their_original_labels_too(evaluated: Path) -> None:
    original = read_metrics(evaluated)["test"]["original"]
    assert original["images"] == TEST_FACES
    assert original["accuracy"] == pytest.approx(1 - WRONG_ORIGINALS / TEST_FACES)


def test_photos_without_a_face_lower_the_coverage_and_are_not_forgotten(inside: Path) -> None:
    rows = photos_of_split(Path("data/photos.parquet"), Params.read().prepare, "test").rows
    with_face = int((rows % 3 != 0).sum())
    photos = read_metrics(inside)["test"]["photos"]
    assert 0 < with_face < len(rows)
    assert photos["images"] == with_face
    assert photos["coverage"] == pytest.approx(with_face / len(rows), rel=1e-4)


def test_the_versions_of_the_test_sets_stand_beside_the_metrics(inside: Path) -> None:
    assert Candidate.of("toy").test_sets == VERSIONS
    assert read_metrics(inside)["test"]["photos"]["people"] == test_sets.read()["test"]["photos"]["people"]


def test_validation_metrics_are_given_by_source(evaluated: Path) -> None:
    validation = read_metrics(evaluated)["validation"]
    assert (validation["ferplus"]["images"], validation["photos"]["images"]) == (TEST_FACES, 8)
    assert validation["original"]["accuracy"] == pytest.approx(1 - WRONG_ORIGINALS / TEST_FACES)


def test_size_parameters_and_latency_are_those_of_the_served_graph(evaluated: Path) -> None:
    measured = read_metrics(evaluated)
    assert measured["size_bytes"] == (evaluated / "models/toy/mood.onnx").stat().st_size
    assert measured["parameters"] == 8
    assert 0 < measured["latency_ms"] <= measured["latency_p99_ms"]
    assert measured["parity_difference"] < 1e-5


def test_each_mood_has_a_row_for_each_test_with_intervals_around_its_metrics(evaluated: Path) -> None:
    table = pd.read_csv(evaluated / "reports/evaluate/toy/moods.csv")
    assert table.groupby("test")["mood"].apply(list).to_dict() == {name: list(MOODS) for name in TESTS}
    original = table[table["test"] == "original"]
    for metric in ("recall", "f1"):
        assert (original[f"{metric}_low"] <= original[metric]).all()
        assert (original[metric] <= original[f"{metric}_high"]).all()
    assert (original["f1_low"] < original["f1_high"]).all()


def test_main_metrics_have_intervals(evaluated: Path) -> None:
    original = read_metrics(evaluated)["test"]["original"]
    for name in ("weighted_f1", "accuracy", "macro_recall"):
        interval = original[f"{name}_interval"]
        assert interval["low"] < original[name] < interval["high"]


def test_every_corruption_has_its_metrics_on_both_splits(evaluated: Path) -> None:
    measured = read_metrics(evaluated)
    table = pd.read_csv(evaluated / "reports/evaluate/toy/slices.csv")
    assert list(table.columns) == ["split", "slice", "weighted_f1", "loss", "macro_recall"]
    for split in ("validation", "test"):
        rows = table[table["split"] == split].set_index("slice")
        assert list(rows.index) == list(measured[split]["slices"]) == list(CORRUPTIONS)
        corrupted = {name: values["weighted_f1"] for name, values in measured[split]["slices"].items()}
        assert rows["weighted_f1"].to_dict() == pytest.approx(corrupted, abs=1e-4)
        assert measured[split]["worst_slice_loss"] == pytest.approx(1 - min(corrupted.values()), abs=1e-4)


def test_a_model_that_sees_brightness_alone_fails_in_the_dark_and_not_by_compression(evaluated: Path) -> None:
    corrupted = read_metrics(evaluated)["test"]["slices"]
    assert corrupted["jpeg_20"]["weighted_f1"] == corrupted["half_resolution"]["weighted_f1"] == 1
    assert corrupted["dark"]["weighted_f1"] < 0.6


def test_the_validation_predictions_are_kept_for_the_gate(inside: Path) -> None:
    kept = ValidationPredictions.load(inside / "reports/evaluate/toy/validation.npz")
    validation = FaceSet.load(Path("faces/validation.npz"))
    np.testing.assert_array_equal(kept.ferplus.moods, validation.of_source("fer2013").ferplus_mood)
    np.testing.assert_array_equal(kept.photos.moods, validation.of_source("photos").ferplus_mood)
    assert (kept.ferplus.predicted == kept.ferplus.moods).all()
    assert (kept.photos.predicted == kept.photos.moods).all()
    assert list(kept.corrupted) == list(CORRUPTIONS)
    assert (kept.corrupted["jpeg_20"] == kept.ferplus.moods).all()
    assert not (kept.corrupted["dark"] == kept.ferplus.moods).all()


def test_the_graph_repeats_the_predictions_that_were_kept(inside: Path) -> None:
    params, temperature = Params.read(), read_metrics(inside)["temperature"]
    classifier = open_classifier(Path("models/toy/mood.onnx"), "toy", params.input, temperature)
    validation = FaceSet.load(Path("faces/validation.npz"))
    repeated = ValidationPredictions.measure(classifier, validation, params.evaluate.seed)
    kept = ValidationPredictions.load(Path("reports/evaluate/toy/validation.npz"))
    for name, predicted in kept.corrupted.items():
        np.testing.assert_array_equal(repeated.corrupted[name], predicted)
    np.testing.assert_allclose(repeated.ferplus.probabilities, kept.ferplus.probabilities, atol=1e-6)


def test_a_head_for_original_labels_predicts_them_beside_the_served_head(evaluated: Path) -> None:
    measured = read_metrics(evaluated, "headed")
    for split in ("validation", "test"):
        assert measured[split]["ferplus"]["accuracy"] == 1
        assert measured[split]["original"]["accuracy"] == pytest.approx(1 - WRONG_ORIGINALS / TEST_FACES)
        # This head predicts the moods in reverse: it meets the wrong originals of the second and the last mood.
        assert measured[split]["original_head"]["accuracy"] == pytest.approx(2 / TEST_FACES)
    table = pd.read_csv(evaluated / "reports/evaluate/headed/moods.csv")
    assert list(table["test"].unique()) == [*TESTS, "original_head"]


def test_a_model_without_such_a_head_has_no_metrics_of_one(evaluated: Path) -> None:
    measured = read_metrics(evaluated)
    assert "original_head" not in measured["test"]
    assert "original_head" not in measured["validation"]


def test_heads_that_are_not_served_are_neither_in_the_graph_nor_counted(evaluated: Path) -> None:
    plain, headed = read_metrics(evaluated), read_metrics(evaluated, "headed")
    assert headed["parameters"] == plain["parameters"] == 8
    assert headed["size_bytes"] == pytest.approx(plain["size_bytes"], rel=0.1)


def test_the_head_for_original_labels_is_calibrated_by_them_and_not_by_photos() -> None:
    spec, model = Params.read(ROOT / "params.yaml").input, toys.headed_model()
    model.get_layer("original_head").set_weights(model.get_layer("mood_head").get_weights())

    def temperature(validation: FaceSet) -> float:
        head = original_head(model, "headed", spec, validation, 1e-4, mirror_averaging=False)
        assert head is not None
        return head.metadata.temperature

    right, wrong = toys.faces(TEST_FACES), toys.faces(TEST_FACES, wrong_originals=WRONG_ORIGINALS)
    assert temperature(wrong) > 2 * temperature(right)  # less sure where it errs
    photos = toys.faces(TEST_FACES, source="photos")
    assert temperature(FaceSet.concatenate([wrong, photos])) == temperature(wrong)


def test_plots_and_tables_are_written(evaluated: Path) -> None:
    directory = evaluated / "reports/evaluate/toy"
    for name in ("confusion.png", "reliability.png"):
        height, width = cv2.imread(str(directory / name)).shape[:2]
        assert width > 2 * height  # three tests side by side
    assert cv2.imread(str(directory / "slices.png")) is not None
    assert len(pd.read_csv(directory / "confusion.csv")) == TEST_FACES
    assert pd.read_csv(directory / "reliability.csv")["count"].sum() == TEST_FACES


def test_a_run_of_its_own_holds_the_evaluation(inside: Path) -> None:
    (run,) = mlflow.search_runs(filter_string="attributes.run_name = 'evaluate toy'", output_format="list")
    run_id = run.info.run_id
    assert run.data.tags["stage"] == "evaluate"
    assert run.data.metrics["test/ferplus/weighted_f1"] == 1
    assert run.data.metrics["test/ferplus/by_mood/negative_recall"] == 1
    assert run.data.metrics["test/slices/jpeg_20/weighted_f1"] == 1
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(run_id, "evaluation")}
    assert {"evaluation/confusion.png", "evaluation/slices.png", "evaluation/metrics.json"} <= artifacts
    assert {item.dataset.name for item in run.inputs.dataset_inputs} == {"faces/test", "faces/validation"}


def test_a_run_that_this_store_lacks_is_restored_with_parameters_curves_and_model(inside: Path) -> None:
    run_id = mlflow_store.find_run("made elsewhere")
    assert run_id is not None
    run = mlflow.get_run(run_id)
    assert run.data.tags["restored_from_git"] == "true"
    assert run.data.params["learning_rate"] == "0.001"
    curve = mlflow.MlflowClient().get_metric_history(run_id, "val_cross_entropy")
    assert [(point.step, point.value) for point in curve] == [(0, 1.2), (1, 1.0), (2, 1.1)]
    restored = mlflow.tensorflow.load_model(f"models:/{mlflow_store.logged_model(run_id).model_id}")
    np.testing.assert_array_equal(restored.get_weights()[0], toys.brightness_model().get_weights()[0])


def test_a_run_is_restored_once(inside: Path) -> None:
    run_id = runs.ensure_training_run(Path("models/toy"))
    assert runs.ensure_training_run(Path("models/toy")) == run_id == mlflow_store.find_run("made elsewhere")


def test_a_name_that_is_no_candidate_is_refused_with_the_names_that_are(inside: Path) -> None:
    with pytest.raises(
        typer.BadParameter, match=r"'tyo' is neither in .candidates. nor in .compared.; params\.yaml has toy, headed"
    ):
        evaluate.main("tyo")
