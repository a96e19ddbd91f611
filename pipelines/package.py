"""Stage `package`: the registry's champion to the bundle that the service runs.

Loads `models:/mood-estimator@champion`, converts it, proves on real faces that the converted graph says what the
model says, writes graph, metadata and model card to `bundle/classifier`, and imports the bundle into BentoML's model
store.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import mlflow
import numpy as np
from numpy.typing import NDArray

from pipelines import bento, model_card, onnx_export, paths, registry, tracking
from pipelines.champion import Champion, ChampionRecord
from pipelines.evaluate import OUTPUT_NAME, open_classifier
from pipelines.face_sets import FaceSet
from pipelines.params import read_evaluate
from pipelines.serving_graph import serving_model
from service.classifier import GRAPH_FILE, METADATA_FILE, ClassifierMetadata, MoodClassifier, calibrate, normalise
from service.moods import MOODS

MODEL_CARD_FILE = "MODEL_CARD.md"


def load_champion(record: ChampionRecord) -> keras.Model:
    """The registry's champion as it is served, which must be the one that `models/champion` describes.

    Raises:
        LookupError: the registry has no champion, or another one.
    """
    version = registry.champion_version()
    if version is None or version.tags.get(registry.DIGEST_TAG) != record.digest:
        found = "no champion" if version is None else f"version {version.version} as champion"
        raise LookupError(
            f"The registry has {found}, which is not the model in {paths.CHAMPION}. "
            "Run the stage `register`, which makes them the same: dvc repro --force --single-item register"
        )
    trained = mlflow.tensorflow.load_model(f"models:/{tracking.REGISTERED_MODEL}@{tracking.CHAMPION_ALIAS}")
    return serving_model(trained, mirror_averaging=record.mirror_averaging)


def write_classifier(model: keras.Model, record: ChampionRecord, directory: Path) -> None:
    """Write graph and metadata, as `service.classifier` reads them."""
    spec = record.input
    onnx_export.export(model, (None, spec.size, spec.size, 1), directory / GRAPH_FILE, [OUTPUT_NAME])
    metadata = ClassifierMetadata(
        name=record.architecture, version=record.version, moods=MOODS, input=spec, temperature=record.temperature
    )
    (directory / METADATA_FILE).write_text(metadata.model_dump_json(indent=2) + "\n")


def check(model: keras.Model, directory: Path, champion: Champion, faces: NDArray[np.uint8]) -> float:
    """That the converted graph says what the registry's model says, and what the graph said that was evaluated.

    Args:
        model: see `load_champion`.
        directory: what `write_classifier` wrote.
        champion: whose figures go into the model card.
        faces: uint8 (n, size, size).

    Returns:
        The largest difference of a calibrated probability, converted graph against model.

    Raises:
        RuntimeError: a probability differs by more than `evaluate.max_parity_difference`.
    """
    classifier, record, limit = MoodClassifier(directory), champion.record, read_evaluate().max_parity_difference
    evaluated = open_classifier(
        champion.candidate.model / GRAPH_FILE, record.architecture, record.input, record.temperature
    )
    converted = classifier.predict(faces)
    raw = model.predict(normalise(faces, record.input), verbose=0)
    differences = {
        "the registry's model": float(np.abs(converted - calibrate(raw, record.temperature)).max()),
        "the graph that was evaluated": float(np.abs(converted - evaluated.predict(faces)).max()),
    }
    for other, difference in differences.items():
        if not difference <= limit:
            raise RuntimeError(f"the converted graph differs from {other} by {difference:.2g} in a probability")
    return differences["the registry's model"]


def main() -> None:
    """Package the champion.

    Raises:
        FileNotFoundError: there is no champion yet.
        RuntimeError: the converted graph does not say what it should; see `check`.
    """
    champion = Champion.read()
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run the stage `register` (`dvc repro`).")
    tracking.connect()
    model = load_champion(champion.record)

    # Written beside the released bundle and renamed, so that a failure leaves that one as it was.
    target = paths.BUNDLE / "classifier"
    partial = target.with_name("classifier.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_classifier(model, champion.record, partial)
    validation = FaceSet.load(paths.FACES / "validation.npz")
    difference = check(model, partial, champion, validation.pixels)
    (partial / MODEL_CARD_FILE).write_text(model_card.render(champion))
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    tag = bento.import_bundle(paths.BUNDLE)
    print(
        f"{champion.record.architecture} version {champion.record.version} is in {target} and in BentoML's store as "
        f"{tag}; largest difference to the Keras model on {len(validation):,} faces: {difference:.1e}"
    )


if __name__ == "__main__":
    main()
