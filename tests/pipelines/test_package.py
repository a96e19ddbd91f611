"""Stage `package`: the champion becomes the bundle's classifier and the phones' files; nothing else does."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from pipelines import package, register
from pipelines.data.face_sets import FaceSet
from pipelines.export import to_bento, to_onnx
from pipelines.registry.champion import Champion
from pipelines.releases.ledger import Ledger
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


def test_the_packaged_classifier_is_the_champion_and_its_graph_the_one_that_was_evaluated(
    released: keras.Model, tmp_path: Path
) -> None:
    bundle = tmp_path / "classifier"
    bundle.mkdir()
    faces = toys.faces(64)
    package.write_classifier(champion(), bundle)

    assert package.check(released, bundle, faces.pixels) < 1e-5
    classifier = MoodClassifier(bundle)
    assert classifier.predict(faces.pixels).argmax(axis=1).tolist() == faces.ferplus_mood.tolist()
    assert (classifier.metadata.name, classifier.metadata.version) == (ARCHITECTURE, "1")
    assert classifier.metadata.digest == Ledger.read().entries[0].digest
    assert classifier.metadata.temperature == 1.25
    assert (bundle / "mood.onnx").read_bytes() == Path("models", ARCHITECTURE, "mood.onnx").read_bytes()


def test_a_graph_that_is_not_the_trained_model_is_not_packaged(released: keras.Model, tmp_path: Path) -> None:
    bundle = tmp_path / "classifier"
    bundle.mkdir()
    package.write_classifier(champion(), bundle)
    with pytest.raises(RuntimeError, match="differs from the trained model"):
        package.check(toys.brightness_model(sharpness=2.0), bundle, toys.faces(64).pixels)


def test_the_same_champion_gives_the_same_bytes_and_the_same_tag(released: keras.Model, tmp_path: Path) -> None:
    bundles = []
    for name in ("first", "second"):
        packaged(tmp_path / name / "classifier", toys.faces(64))
        bundles.append(to_bento.fingerprint(tmp_path / name))
        (tmp_path / name / "reference").mkdir()
        (tmp_path / name / "reference" / "reference.parquet").write_text(f"made after the {name} packaging")
    assert bundles[0] == bundles[1] == to_bento.fingerprint(tmp_path / "first")


def packaged(directory: Path, faces: FaceSet) -> dict:
    """Report about the champion's files for phones, measured on some faces."""
    directory.mkdir(parents=True, exist_ok=True)
    package.write_classifier(champion(), directory)
    trained = keras.models.load_model(champion().candidate.model / "model.keras", compile=False)
    package.write_litert(trained, champion().record, toys.faces(400, seed=1), directory)
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
