"""Stage `package`: the registry's champion to the bundle that the service and phones run.

Loads `models:/mood-estimator@champion`, converts it to ONNX for the service and to LiteRT for phones, and compares the
converted graphs with the model on real faces. Writes graphs, metadata and model card to `bundle/classifier` and the
metrics of the LiteRT files to `paths.LITERT_REPORT`, and imports the bundle into BentoML's model store.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the LiteRT converter is TensorFlow's

import keras
import mlflow
import numpy as np
from numpy.typing import NDArray

from pipelines import paths
from pipelines.data.face_sets import SOURCES, FaceSet
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import Predictions, classify, open_classifier
from pipelines.export import to_bento, to_litert, to_onnx
from pipelines.export.serving_model import serving_model
from pipelines.export.to_litert import LiteRTClassifier
from pipelines.model_card import render as model_card
from pipelines.params import Params
from pipelines.registry import mlflow_store
from pipelines.registry.champion import Champion, ChampionRecord
from service.classifier import GRAPH_FILE, METADATA_FILE, ClassifierMetadata, MoodClassifier, calibrate, normalise
from service.moods import MOODS

MAX_INT8_LOSS: Final = 0.005
"""Weighted F1 that int8 may lose against the served graph."""

_LEAST_FACES: Final = 1000
"""On fewer faces a single prediction may use up a large part of MAX_INT8_LOSS."""
_SEED: Final = 20


def load_champion(record: ChampionRecord) -> keras.Model:
    """The registry's champion as it was trained.

    Raises:
        LookupError: the registry's champion is not the one that `models/champion` describes, or there is none.
    """
    version = mlflow_store.champion_version()
    if version is None or version.tags.get(mlflow_store.DIGEST_TAG) != record.digest:
        found = "no champion" if version is None else f"version {version.version} as champion"
        raise LookupError(
            f"The registry has {found}, which is not the model in {paths.CHAMPION}. "
            "Run the stage `register`, which makes them the same: dvc repro --force --single-item register"
        )
    return mlflow.tensorflow.load_model(f"models:/{mlflow_store.REGISTERED_MODEL}@{mlflow_store.CHAMPION_ALIAS}")


def write_classifier(model: keras.Model, record: ChampionRecord, directory: Path) -> None:
    """Write graph and metadata for `service.classifier`; `model` is the model as served."""
    spec = record.input
    to_onnx.export(model, (None, spec.size, spec.size, 1), directory / GRAPH_FILE, [to_onnx.OUTPUT_NAME])
    metadata = ClassifierMetadata(
        name=record.architecture, version=record.version, moods=MOODS, input=spec, temperature=record.temperature
    )
    (directory / METADATA_FILE).write_text(metadata.model_dump_json(indent=2) + "\n")


def write_litert(trained: keras.Model, record: ChampionRecord, train: FaceSet, directory: Path) -> None:
    """Write the files for phones; `trained` is the result of `load_champion`."""
    to_litert.export(
        serving_model(trained, mirror_averaging=False),
        record.input,
        to_litert.representative_faces(train, to_litert.REPRESENTATIVE_FACES, _SEED),
        directory,
        mirror_averaging=record.mirror_averaging,
        temperature=record.temperature,
    )


def check(model: keras.Model, directory: Path, champion: Champion, faces: NDArray[np.uint8]) -> float:
    """Compare the converted graph with the registry's model and with the graph that was evaluated.

    Args:
        model: Model as served.
        directory: Directory that `write_classifier` wrote.
        champion: Champion whose metrics go into the model card.
        faces: uint8 (n, size, size).

    Returns:
        The largest difference of a calibrated probability between converted graph and model.

    Raises:
        RuntimeError: a probability differs by more than `evaluate.max_parity_difference`.
    """
    classifier, record, limit = MoodClassifier(directory), champion.record, Params.read().evaluate.max_parity_difference
    evaluated = open_classifier(
        champion.candidate.model / GRAPH_FILE, record.architecture, record.input, record.temperature
    )
    converted = classify(classifier, faces)
    raw = model.predict(normalise(faces, record.input), verbose=0)
    differences = {
        "the registry's model": float(np.abs(converted - calibrate(raw, record.temperature)).max()),
        "the graph that was evaluated": float(np.abs(converted - classify(evaluated, faces)).max()),
    }
    for other, difference in differences.items():
        if not difference <= limit:
            raise RuntimeError(f"the converted graph differs from {other} by {difference:.2g} in a probability")
    return differences["the registry's model"]


def measure_litert(directory: Path, validation: FaceSet) -> dict[str, Any]:
    """Compare the LiteRT files with the service.

    Args:
        directory: Directory that `write_classifier` and `write_litert` wrote.
        validation: Faces, some of them from FER2013.

    Returns:
        The content of `paths.LITERT_REPORT`: the numbers of faces; for each LiteRT file its size in bytes, the largest
        and the mean difference of a probability to the service's, and the share of faces with the same mood; for each
        file and for the service weighted F1 and calibration error on FER2013's faces, by the labels of the training.
    """
    service = MoodClassifier(directory)
    served, spec = classify(service, validation.pixels), service.metadata.input
    fer2013 = validation.source == SOURCES.index("fer2013")
    moods, bins = validation.soft_labels.argmax(axis=1).astype(np.int8), Params.read().evaluate.calibration_bins

    def measure(file: str, probabilities: NDArray[np.floating[Any]]) -> dict[str, float | int]:
        summary = metrics.summarise(Predictions(moods[fer2013], probabilities[fer2013].astype(np.float64)), bins)
        validated = {name: summary[name] for name in ("weighted_f1", "expected_calibration_error")}
        return {"bytes": (directory / file).stat().st_size, **validated}

    report: dict[str, Any] = {
        "faces": len(validation),
        "faces_of_fer2013": int(fer2013.sum()),
        "served": measure(GRAPH_FILE, served),
    }
    for name, file in (("float32", to_litert.FLOAT_FILE), ("int8", to_litert.INT8_FILE)):
        probabilities = LiteRTClassifier(directory / file, spec).predict(validation.pixels)
        report[name] = {
            **measure(file, probabilities),
            "largest_difference": float(np.abs(probabilities - served).max()),
            "mean_difference": float(np.abs(probabilities - served).mean()),
            "same_mood": float((probabilities.argmax(axis=1) == served.argmax(axis=1)).mean()),
        }
    return report


def check_litert(report: dict[str, Any], max_difference: float) -> None:
    """Check that the LiteRT files are close to the service.

    Args:
        report: Result of `measure_litert`.
        max_difference: Largest difference of a probability that float32 may have.

    Raises:
        RuntimeError: float32 differs by more in a probability, or int8 loses more than `MAX_INT8_LOSS` of weighted F1
            on 1,000 faces or more.
    """
    difference = report["float32"]["largest_difference"]
    if not difference <= max_difference:
        raise RuntimeError(f"{to_litert.FLOAT_FILE} differs from the service by {difference:.2g} in a probability")
    loss = report["served"]["weighted_f1"] - report["int8"]["weighted_f1"]
    if report["faces_of_fer2013"] >= _LEAST_FACES and not loss <= MAX_INT8_LOSS:
        raise RuntimeError(
            f"{to_litert.INT8_FILE} loses {loss:.4f} of weighted F1, {MAX_INT8_LOSS} are allowed. Look at the ranges "
            "of the activations, or measure them on more faces (pipelines.export.to_litert.REPRESENTATIVE_FACES)."
        )


def main() -> None:
    """Package the champion.

    Raises:
        FileNotFoundError: there is no champion yet.
        LookupError: the registry has another champion, or none.
        RuntimeError: a converted graph differs too much; see `check` and `check_litert`.
    """
    champion = Champion.read()
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run the stage `register` (`dvc repro`).")
    mlflow_store.connect()
    record = champion.record
    trained = load_champion(record)
    model = serving_model(trained, mirror_averaging=record.mirror_averaging)
    train, validation = (FaceSet.load(paths.FACES / f"{split}.npz") for split in ("train", "validation"))

    # Written beside the released bundle and then renamed, so that a failure leaves the released one as it was.
    target = paths.BUNDLE / "classifier"
    partial = target.with_name("classifier.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_classifier(model, record, partial)
    difference = check(model, partial, champion, validation.pixels)
    write_litert(trained, record, train, partial)
    report = metrics.rounded(measure_litert(partial, validation))
    check_litert(report, Params.read().evaluate.max_parity_difference)
    paths.LITERT_REPORT.parent.mkdir(parents=True, exist_ok=True)
    paths.LITERT_REPORT.write_text(json.dumps(report, indent=2) + "\n")
    model_card.write(champion, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    tag = to_bento.import_bundle(paths.BUNDLE)
    print(
        f"{record.architecture} version {record.version} is in {target} and in BentoML's store as "
        f"{tag}; largest difference from the Keras model on {len(validation):,} faces: {difference:.1e}\n"
        f"LiteRT: {json.dumps(report, indent=2)}"
    )


if __name__ == "__main__":
    main()
