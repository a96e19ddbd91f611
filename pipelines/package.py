"""Stage `package`: the champion to the bundle that the service and phones run.

Takes the champion from git's copy, `models/champion`: the graph that was evaluated is the one that is served. Converts
the trained model to LiteRT for phones, and compares all graphs with it on real faces. Writes graphs, metadata and model
card to `bundle/classifier` and the metrics of the LiteRT files to `paths.LITERT_REPORT`, and imports the bundle into
BentoML's model store. The same champion gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the LiteRT converter is TensorFlow's

import keras
import numpy as np
from numpy.typing import NDArray

from pipelines import paths
from pipelines.data.face_sets import SOURCES, FaceSet
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import Predictions, classify
from pipelines.export import to_bento, to_litert
from pipelines.export.serving_model import serving_model
from pipelines.export.to_litert import LiteRTClassifier
from pipelines.model_card import render as model_card
from pipelines.params import Params
from pipelines.registry.candidates import MODEL_FILE
from pipelines.registry.champion import Champion, ChampionRecord
from pipelines.releases import transaction
from service.classifier import GRAPH_FILE, METADATA_FILE, MoodClassifier, calibrate, normalise

MAX_INT8_LOSS: Final = 0.005
"""Weighted F1 that int8 may lose against the served graph."""

_LEAST_FACES: Final = 1000
"""On fewer faces a single prediction may use up a large part of MAX_INT8_LOSS."""
_SEED: Final = 20


def write_classifier(champion: Champion, directory: Path) -> None:
    """Write graph and metadata for `service.classifier`: the graph that was evaluated, byte for byte."""
    shutil.copy(champion.candidate.model / GRAPH_FILE, directory)
    (directory / METADATA_FILE).write_text(champion.metadata.model_dump_json(indent=2) + "\n")


def write_litert(trained: keras.Model, record: ChampionRecord, train: FaceSet, directory: Path) -> None:
    """Write the files for phones; `trained` is the champion as it was trained."""
    to_litert.export(
        serving_model(trained, mirror_averaging=False),
        record.input,
        to_litert.representative_faces(train, to_litert.REPRESENTATIVE_FACES, _SEED),
        directory,
        mirror_averaging=record.mirror_averaging,
        temperature=record.temperature,
    )


def check(model: keras.Model, directory: Path, faces: NDArray[np.uint8]) -> float:
    """Compare the graph with the trained model.

    Args:
        model: Model as served.
        directory: Directory that `write_classifier` wrote.
        faces: uint8 (n, size, size).

    Returns:
        The largest difference of a calibrated probability between graph and model.

    Raises:
        RuntimeError: a probability differs by more than `evaluate.max_parity_difference`.
    """
    classifier, limit = MoodClassifier(directory), Params.read().evaluate.max_parity_difference
    raw = model.predict(normalise(faces, classifier.metadata.input), verbose=0)
    expected = calibrate(raw, classifier.metadata.temperature)
    difference = float(np.abs(classify(classifier, faces) - expected).max())
    if not difference <= limit:
        raise RuntimeError(f"the graph differs from the trained model by {difference:.2g} in a probability")
    return difference


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
        RuntimeError: a graph differs too much; see `check` and `check_litert`.
    """
    limit, champion = Params.read().evaluate.max_parity_difference, Champion.read()
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run the stage `register` (`dvc repro`).")
    record = champion.record
    trained = keras.models.load_model(champion.candidate.model / MODEL_FILE, compile=False)
    model = serving_model(trained, mirror_averaging=record.mirror_averaging)
    train, validation = (FaceSet.load(paths.FACES / f"{split}.npz") for split in ("train", "validation"))

    # Written beside the released bundle and then renamed, so that a failure leaves the released one as it was.
    target = paths.BUNDLE / "classifier"
    partial = target.with_name("classifier.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_classifier(champion, partial)
    difference = check(model, partial, validation.pixels)
    write_litert(trained, record, train, partial)
    report = metrics.rounded(measure_litert(partial, validation))
    check_litert(report, limit)
    paths.LITERT_REPORT.parent.mkdir(parents=True, exist_ok=True)
    paths.LITERT_REPORT.write_text(json.dumps(report, indent=2) + "\n")
    model_card.write(champion, partial)
    transaction.replace(partial, target)
    tag = to_bento.import_bundle(paths.BUNDLE)
    print(
        f"Release {record.version} ({record.architecture}, digest {champion.served_digest[:12]}) is in {target} and in "
        f"BentoML's store as {tag}. Largest difference from the Keras model on {len(validation):,} faces: "
        f"{difference:.1e}\n"
        f"LiteRT: {json.dumps(report, indent=2)}"
    )


if __name__ == "__main__":
    main()
