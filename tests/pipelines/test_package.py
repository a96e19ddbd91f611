"""Stage `package`: the registry's champion becomes the bundle's classifier and the phones' files; nothing else does."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from pipelines import package, register
from pipelines.data.face_sets import FaceSet
from pipelines.export import to_onnx
from pipelines.registry import mlflow_store
from pipelines.registry.champion import Champion
from service.classifier import MoodClassifier
from tests.support import toys

ARCHITECTURE = "toy"


def graph_of(model: keras.Model, directory: Path) -> bytes:
    """The model as the service would run it."""
    path = directory / "converted.onnx"
    to_onnx.export(model, (None, toys.SIZE, toys.SIZE, 1), path, ["probabilities"])
    return path.read_bytes()


def champion() -> Champion:
    """Git's champion."""
    found = Champion.read()
    assert found is not None
    return found


@pytest.fixture
def released(workspace: Path) -> keras.Model:
    """The working directory after `register` made a model the champion, whose mood is a face's brightness."""
    model = toys.brightness_model()
    toys.write_params(workspace, [ARCHITECTURE])
    toys.write_candidate(ARCHITECTURE, model, weights="first", score=0.8, graph=graph_of(model, workspace))
    register.main()
    return model


def test_the_packaged_classifier_predicts_as_the_registrys_champion(released: keras.Model, tmp_path: Path) -> None:
    bundle = tmp_path / "classifier"
    bundle.mkdir()
    faces = toys.faces(64)
    loaded = package.load_champion(champion().record)
    package.write_classifier(loaded, champion().record, bundle)

    assert package.check(loaded, bundle, champion(), faces.pixels) < 1e-5
    classifier = MoodClassifier(bundle)
    assert classifier.predict(faces.pixels).argmax(axis=1).tolist() == faces.ferplus_mood.tolist()
    assert (classifier.metadata.name, classifier.metadata.version) == (ARCHITECTURE, "1")
    assert classifier.metadata.temperature == 1.25


def test_a_graph_that_is_not_the_one_evaluated_is_not_packaged(released: keras.Model, tmp_path: Path) -> None:
    bundle = tmp_path / "classifier"
    bundle.mkdir()
    other = toys.brightness_model(sharpness=2.0)
    package.write_classifier(other, champion().record, bundle)
    with pytest.raises(RuntimeError, match="the graph that was evaluated"):
        package.check(other, bundle, champion(), toys.faces(64).pixels)


def packaged(directory: Path, faces: FaceSet) -> dict:
    """Report about the champion's files for phones, measured on some faces."""
    directory.mkdir(exist_ok=True)
    loaded = package.load_champion(champion().record)
    package.write_classifier(loaded, champion().record, directory)
    package.write_litert(loaded, champion().record, toys.faces(400, seed=1), directory)
    return package.measure_litert(directory, faces)


def test_the_files_for_phones_predict_as_the_packaged_classifier(released: keras.Model, tmp_path: Path) -> None:
    report = packaged(tmp_path / "classifier", toys.faces(64))
    package.check_litert(report, max_difference=1e-4)
    assert report["faces"] == report["faces_of_fer2013"] == 64
    assert report["float32"]["largest_difference"] < 1e-5
    assert report["int8"]["same_mood"] == 1
    assert report["served"]["weighted_f1"] == report["int8"]["weighted_f1"] == 1
    for name, file in (("float32", "mood.tflite"), ("int8", "mood_int8.tflite")):
        assert report[name]["bytes"] == (tmp_path / "classifier" / file).stat().st_size


def litert_report(*, difference: float = 0.0, int8: float = 0.8, faces: int = 3000) -> dict:
    return {
        "faces_of_fer2013": faces,
        "served": {"weighted_f1": 0.8},
        "float32": {"largest_difference": difference},
        "int8": {"weighted_f1": int8},
    }


def test_a_float_file_with_other_probabilities_is_not_packaged() -> None:
    with pytest.raises(RuntimeError, match=r"mood\.tflite differs"):
        package.check_litert(litert_report(difference=2e-4), max_difference=1e-4)
    with pytest.raises(RuntimeError, match=r"mood\.tflite differs"):
        package.check_litert(litert_report(difference=float("nan")), max_difference=1e-4)


def test_an_int8_file_that_loses_more_than_half_a_point_is_not_packaged() -> None:
    package.check_litert(litert_report(int8=0.796), max_difference=1e-4)
    with pytest.raises(RuntimeError, match=r"mood_int8\.tflite loses 0\.0060"):
        package.check_litert(litert_report(int8=0.794), max_difference=1e-4)


def test_on_a_handful_of_faces_one_that_tips_over_does_not_stop_the_stage() -> None:
    package.check_litert(litert_report(int8=0.78, faces=60), max_difference=1e-4)


def test_a_registry_with_another_champion_is_an_error_that_says_what_to_run(
    released: keras.Model, workspace: Path
) -> None:
    version = mlflow_store.champion_version()
    assert version is not None
    mlflow_store.annotate(version, "moved by hand", {mlflow_store.DIGEST_TAG: "of another model"})
    with pytest.raises(LookupError, match=r"dvc repro .* register"):
        package.load_champion(champion().record)
