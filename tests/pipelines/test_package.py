"""Stage `package`: the registry's champion becomes the bundle's classifier, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from pipelines import model_card, onnx_export, package, register, registry
from pipelines.champion import Champion
from service.classifier import MoodClassifier
from tests.conftest import ROOT
from tests.pipelines import toys

ARCHITECTURE = "toy"


def graph_of(model: keras.Model, directory: Path) -> bytes:
    """The model as the service would run it."""
    path = directory / "converted.onnx"
    onnx_export.export(model, (None, toys.SIZE, toys.SIZE, 1), path, ["probabilities"])
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


def test_the_packaged_classifier_answers_as_the_registrys_champion(released: keras.Model, tmp_path: Path) -> None:
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


def test_a_registry_with_another_champion_is_an_error_that_says_what_to_run(
    released: keras.Model, workspace: Path
) -> None:
    version = registry.champion_version()
    assert version is not None
    registry.annotate(version, "moved by hand", {registry.DIGEST_TAG: "of another model"})
    with pytest.raises(LookupError, match=r"dvc repro .* register"):
        package.load_champion(champion().record)


def test_the_released_model_card_is_what_the_reports_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (ROOT / "bundle/classifier" / package.MODEL_CARD_FILE).read_text() == model_card.render(champion())
