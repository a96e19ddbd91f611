"""Stage `evaluate` on a toy whose figures are known: faces whose mood is their brightness, and a model that sees it."""

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
from numpy.typing import NDArray

from pipelines import evaluate, onnx_export, runs, tracking
from pipelines.face_sets import FaceSet
from pipelines.params import read_input, read_prepare
from service.moods import MOODS
from tests.conftest import ROOT
from tests.pipelines import toys
from tests.pipelines.conftest import enter

PHOTOS = 24
WRONG_ORIGINALS = 5
TEST_FACES = 40


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, astronaut: NDArray[np.uint8]) -> Path:
    """A directory in which the stage has run for the architecture `toy`; every third photo shows nobody."""
    directory = tmp_path_factory.mktemp("evaluated")
    shutil.copy(empty_store, directory)
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(directory, monkeypatch)
        toys.write_params(directory, ["toy"])
        toys.write_model(Path("models/toy"), "toy", toys.brightness_model(), run_id="made elsewhere")
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
        Path("bundle").symlink_to(ROOT / "bundle")
        evaluate.main("toy")
    return directory


@pytest.fixture
def inside(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That directory as the working directory."""
    enter(evaluated, monkeypatch)
    return evaluated


def figures(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "reports/evaluate/toy/metrics.json").read_text())


def test_a_model_without_error_has_perfect_figures_on_ferplus_labels(evaluated: Path) -> None:
    ferplus = figures(evaluated)["test"]["ferplus"]
    assert ferplus["weighted_f1"] == ferplus["macro_f1"] == ferplus["accuracy"] == ferplus["macro_recall"] == 1
    assert ferplus["images"] == TEST_FACES


def test_the_same_images_are_scored_by_their_original_labels_too(evaluated: Path) -> None:
    original = figures(evaluated)["test"]["original"]
    assert original["images"] == TEST_FACES
    assert original["accuracy"] == pytest.approx(1 - WRONG_ORIGINALS / TEST_FACES)


def test_photos_without_a_face_lower_the_coverage_and_are_not_forgotten(inside: Path) -> None:
    rows = evaluate.held_out_photos(Path("data/photos.parquet"), read_prepare(), "test").rows
    with_face = int((rows % 3 != 0).sum())
    photos = figures(inside)["test"]["photos"]
    assert 0 < with_face < len(rows)
    assert photos["images"] == with_face
    assert photos["coverage"] == pytest.approx(with_face / len(rows), rel=1e-4)


def test_validation_figures_are_given_by_source(evaluated: Path) -> None:
    validation = figures(evaluated)["validation"]
    assert (validation["ferplus"]["images"], validation["photos"]["images"]) == (TEST_FACES, 8)


def test_size_parameters_and_latency_are_those_of_the_served_graph(evaluated: Path) -> None:
    measured = figures(evaluated)
    assert measured["size_bytes"] == (evaluated / "models/toy/mood.onnx").stat().st_size
    assert measured["parameters"] == 8
    assert 0 < measured["latency_ms"] <= measured["latency_p99_ms"]
    assert measured["parity_difference"] < 1e-5


def test_each_mood_has_a_row_for_each_test(evaluated: Path) -> None:
    table = pd.read_csv(evaluated / "reports/evaluate/toy/moods.csv")
    assert table.groupby("test")["mood"].apply(list).to_dict() == {name: list(MOODS) for name in evaluate.TEST_TITLES}


def test_pictures_and_plots_are_written(evaluated: Path) -> None:
    directory = evaluated / "reports/evaluate/toy"
    for name in ("confusion.png", "reliability.png"):
        height, width = cv2.imread(str(directory / name)).shape[:2]
        assert width > 2 * height  # three tests side by side
    assert len(pd.read_csv(directory / "confusion.csv")) == TEST_FACES
    assert pd.read_csv(directory / "reliability.csv")["count"].sum() == TEST_FACES


def test_the_run_that_trained_the_model_holds_all_of_it(inside: Path) -> None:
    run_id = tracking.find_run("made elsewhere")
    assert run_id is not None
    run = mlflow.get_run(run_id)
    assert run.data.metrics["test/ferplus/weighted_f1"] == 1
    assert run.data.metrics["test/ferplus/by_mood/negative_recall"] == 1
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(run_id, "evaluation")}
    assert {"evaluation/confusion.png", "evaluation/reliability.png", "evaluation/metrics.json"} <= artifacts
    assert {item.dataset.name for item in run.inputs.dataset_inputs} >= {"test.npz", "validation.npz"}


def test_a_run_that_this_store_lacks_is_restored_with_parameters_curves_and_model(inside: Path) -> None:
    run_id = tracking.find_run("made elsewhere")
    assert run_id is not None
    run = mlflow.get_run(run_id)
    assert run.data.tags["restored_from_git"] == "true"
    assert run.data.params["learning_rate"] == "0.001"
    curve = mlflow.MlflowClient().get_metric_history(run_id, "val_cross_entropy")
    assert [(point.step, point.value) for point in curve] == [(0, 1.2), (1, 1.0), (2, 1.1)]
    restored = mlflow.tensorflow.load_model(f"models:/{tracking.logged_model_id(run_id)}")
    np.testing.assert_array_equal(restored.get_weights()[0], toys.brightness_model().get_weights()[0])


def test_a_run_is_restored_once(inside: Path) -> None:
    run_id = runs.ensure_training_run(Path("models/toy"))
    assert runs.ensure_training_run(Path("models/toy")) == run_id == tracking.find_run("made elsewhere")


def test_a_graph_that_is_not_the_models_is_rejected(inside: Path) -> None:
    other = toys.brightness_model(sharpness=2.0)
    graph = inside / "other.onnx"
    onnx_export.export(other, (None, toys.SIZE, toys.SIZE, 1), graph, [evaluate.OUTPUT_NAME])
    classifier = evaluate.open_classifier(graph, "other", read_input(), temperature=1.0)
    with pytest.raises(evaluate.ParityError, match="differs from the Keras model"):
        evaluate.check_parity(toys.brightness_model(), classifier, toys.faces(8).pixels, limit=1e-4)


def test_held_out_photos_are_of_people_in_no_other_split(inside: Path) -> None:
    params, path = read_prepare(), Path("data/photos.parquet")
    rows = [set(evaluate.held_out_photos(path, params, split).rows) for split in ("train", "validation", "test")]
    assert sum(map(len, rows)) == len(set.union(*rows)) == PHOTOS
