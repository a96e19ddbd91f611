"""Small stand-ins for the outputs of stages: faces whose brightness is their mood, a model that recognises it, and
candidates with chosen metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import yaml
from numpy.typing import NDArray

from pipelines import paths
from pipelines.data import dataset, splits, test_sets
from pipelines.data.dataset import EMOTIONS
from pipelines.data.dealing import Bonds, deal
from pipelines.data.face_sets import SOURCES, FaceSet
from pipelines.data.labels import one_hot
from pipelines.data.splits import photo_labels
from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions, ValidationPredictions
from pipelines.params import Params
from pipelines.registry.candidates import VALIDATION_FILE
from service.moods import MOODS
from tests.conftest import ROOT

SIZE = 48
GREYS = (30, 95, 160, 225)
"""Brightness of a face by the index of its mood."""
_PER_MOOD = 1000
_EMOTION_OF_VOTES = {"neutral": "neutral", "happiness": "happy", "anger": "angry", "surprise": "surprise"}


def faces(count: int, *, source: str = "fer2013", wrong_originals: int = 0, seed: int = 0) -> FaceSet:
    """Noisy grey squares with the moods in turn.

    Args:
        count: Number of faces, a multiple of four.
        source: One of `SOURCES`.
        wrong_originals: Number of faces, from the first, whose original label differs from that by votes.
        seed: Seed of the noise.
    """
    noise = np.random.default_rng(seed).integers(-20, 21, (count, SIZE, SIZE))
    brightness = np.resize(GREYS, count)[:, None, None]
    labelled = face_set((brightness + noise).astype(np.uint8), SOURCES.index(source))
    original = labelled.original_mood.copy()
    original[:wrong_originals] = (original[:wrong_originals] + 1) % len(MOODS)
    return replace(labelled, original_mood=original)


def face_set(pixels: NDArray[np.uint8], source: int = 0) -> FaceSet:
    """Faces, uint8 (n, size, size), of a source (an index in `SOURCES`), with the moods in turn."""
    moods = (np.arange(len(pixels)) % len(MOODS)).astype(np.int8)
    return FaceSet(
        pixels=pixels,
        soft_labels=one_hot(moods),
        emotions=np.eye(len(EMOTIONS), dtype=np.float32)[moods],
        ferplus_mood=moods,
        original_mood=moods,
        source=np.full(len(pixels), source, np.uint8),
        row=np.arange(len(pixels), dtype=np.int32),
    )


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    """Random smooth grey pictures, uint8 (count, 48, 48), all different."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 8, 8)).astype(np.float32)
    smooth = [cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.stack(smooth).clip(0, 255).astype(np.uint8)


def brightness_model(sharpness: float = 8.0) -> keras.Model:
    """A model that derives the mood from a face's brightness, without errors on `faces`.

    Args:
        sharpness: Factor of the logits; the probabilities are nearer to 0 and 1 if it is higher.
    """
    inputs = keras.Input((SIZE, SIZE, 1), name="image")
    brightness = keras.layers.GlobalAveragePooling2D(name="brightness")(inputs)
    outputs = keras.layers.Dense(len(MOODS), activation="softmax", name="probabilities")(brightness)
    model = keras.Model(inputs, outputs, name="toy")
    # Neighbouring logits cross half way between the moods' brightnesses.
    borders = (np.array(GREYS[1:]) + GREYS[:-1]) / 255 - 1
    slopes = np.arange(len(MOODS), dtype=np.float32)
    offsets = -np.concatenate([[0], np.cumsum(borders)])
    model.set_weights([sharpness * slopes[None], sharpness * offsets])
    return model


def headed_model() -> keras.Model:
    """The brightness model with two more heads. The one for original labels predicts the moods in reverse: the
    brightest for the darkest and so on."""
    inputs = keras.Input((SIZE, SIZE, 1), name="image")
    brightness = keras.layers.GlobalAveragePooling2D(name="brightness")(inputs)
    heads = {
        name: keras.layers.Dense(count, activation="softmax", name=f"{name}_head")(brightness)
        for name, count in {"mood": len(MOODS), "emotions": len(EMOTIONS), "original": len(MOODS)}.items()
    }
    model = keras.Model(inputs, heads, name="headed")
    kernel, bias = brightness_model().get_weights()
    model.get_layer("mood_head").set_weights([kernel, bias])
    model.get_layer("original_head").set_weights([kernel[:, ::-1], bias[::-1]])
    return model


def write_params(directory: Path, names: list[str]) -> None:
    """The project's `params.yaml` with other models, all of them candidates, and small data."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"] = {"from_scratch": {name: {"recipe": "plateau", "network": "mini_xception"} for name in names}}
    params["teacher"]["members"] = [names[0], names[-1]]
    params["candidates"], params["compared"] = names, []
    params["prepare"]["photo_splits"] = {"validation": 0.3, "test": 0.4}
    params["evaluate"]["latency_runs"] = 20
    (directory / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    write_test_sets(directory / paths.TEST_SETS)


def write_test_sets(path: Path, versions: test_sets.Versions = test_sets.FIRST) -> None:
    """The file of the stage `prepare` with the present versions; by default those of reports that name none."""
    sets: dict[str, dict[str, dict[str, str | int]]] = {
        split: {source: {"version": version, "images": 40, "people": 20} for source, version in sources.items()}
        for split, sources in versions.items()
    }
    test_sets.write(sets, path)


def write_model(directory: Path, architecture: str, model: keras.Model, run_id: str) -> None:
    """Output of the stage `train`."""
    directory.mkdir(parents=True, exist_ok=True)
    model.save(directory / "model.keras")
    (directory / "history.csv").write_text("epoch,cross_entropy,val_cross_entropy\n0,1.3,1.2\n1,1.1,1.0\n2,0.9,1.1\n")
    summary = {"architecture": architecture, "run_id": run_id, "parameters": model.count_params()}
    (directory / "training.json").write_text(json.dumps(summary))


def write_fer2013(path: Path, count: int) -> None:
    """A FER2013 of smooth noise with unanimous votes: no faces, but enough for training; three fifths train."""
    rows = []
    for index, picture in enumerate(pictures(count, seed=1)):
        voted = list(_EMOTION_OF_VOTES)[index % 4]
        rows.append(
            {
                "image": {"bytes": cv2.imencode(".png", picture)[1].tobytes(), "path": f"fer{index:07}.png"},
                "usage": dataset.USAGES[0 if index % 5 < 3 else index % 5 - 2],
                "emotion": _EMOTION_OF_VOTES[voted],
                **{column: 10 * (column == f"votes_{voted}") for column in dataset.VOTE_COLUMNS},
            }
        )
    dataset.write(path, dataset.FER2013, rows)


def write_photos(
    path: Path, pictures: list[NDArray[np.uint8]], emotions: list[str], identities: list[str] | None = None
) -> None:
    """A file of RGB photos, each of another person unless identities are given."""
    rows = []
    identities = identities or [f"person {index}" for index in range(len(pictures))]
    for index, (picture, emotion, identity) in enumerate(zip(pictures, emotions, identities, strict=True)):
        image = {"bytes": cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes(), "path": f"{index}.jpg"}
        rows.append({"image": image, "emotion": emotion, "identity": identity})
    dataset.write(path, dataset.PHOTOS, rows)


def write_people(photos: Path, path: Path = paths.PEOPLE) -> None:
    """The table of the people in photos, who are dealt out to the splits."""
    params = Params.read(ROOT / paths.PARAMS).prepare
    persons, moods = photo_labels(photos, params)
    splits.write_people(deal(persons, moods, {}, params.photo_splits, Bonds({}, {})), path)


def write_candidate(
    architecture: str,
    model: keras.Model,
    *,
    weights: str,
    score: float,
    size_bytes: int = 200_000,
    multiply_adds: int = 2_000_000,
    latency_ratio: float = 0.7,
    latency_ms: float = 0.2,
    graph: bytes | None = None,
    validation_faces: str = "today",
) -> None:
    """Outputs of `train` and `evaluate` for one model, in the working directory.

    Args:
        architecture: Name of the model in `params.yaml`.
        model: Network to save.
        weights: Name that tells one training of the model from another.
        score: Weighted F1 on validation with FER+ labels.
        size_bytes: Size of the served graph.
        multiply_adds: Multiply-adds of the served graph.
        latency_ratio: Latency in units of the fixed network's.
        latency_ms: Median latency.
        graph: ONNX file; by default placeholder bytes that depend on the weights' name.
        validation_faces: Digest of the validation faces.
    """
    directory, evaluation = Path("models", architecture), Path("reports/evaluate", architecture)
    write_model(directory, architecture, model, run_id=f"run of {architecture} {weights}")
    (directory / "mood.onnx").write_bytes(graph or f"graph of {architecture} {weights}".encode())
    evaluation.mkdir(parents=True, exist_ok=True)
    metrics = {
        "validation": {"ferplus": {"weighted_f1": score}},
        "test": {
            **{test: {"weighted_f1": score - 0.01} for test in ("ferplus", "original", "photos")},
            "worst_slice_loss": 0.1,
        },
        "parameters": model.count_params(),
        "temperature": 1.25,
        "size_bytes": size_bytes,
        "multiply_adds": multiply_adds,
        "latency_ratio": latency_ratio,
        "latency_ms": latency_ms,
    }
    (evaluation / "metrics.json").write_text(json.dumps(metrics))
    (evaluation / "moods.csv").write_text("test,mood,precision,recall,f1,support\nferplus,positive,0.9,0.8,0.85,930\n")
    provenance = {
        "architecture": architecture,
        "input": {"size": SIZE, "margin": 0.0, "scale": 2 / 255, "offset": -1.0},
        "mirror_averaging": False,
        "faces": {"validation": validation_faces, "test": "today"},
    }
    (evaluation / "provenance.json").write_text(json.dumps(provenance))


def write_predicted_candidate(
    architecture: str, model: keras.Model, *, score: float, negative: float | None = None, **options: Any
) -> None:
    """`write_candidate` with predictions for 4,000 validation faces and 40 photos; weighted F1 on faces is the score.

    Args:
        architecture: Name of the model in `params.yaml`.
        model: Network to save.
        score: Share of correct predictions for each mood; the others are the next mood.
        negative: Share for the mood negative, if it differs.
        options: Further arguments of `write_candidate`.
    """
    write_candidate(architecture, model, score=score, **options)
    right = np.full(len(MOODS), score)
    if negative is not None:
        right[MOODS.index("negative")] = negative
    moods, codes = np.divmod(np.arange(len(MOODS) * _PER_MOOD), _PER_MOOD)
    answered = (moods + (codes >= np.round(right[moods] * _PER_MOOD))) % len(MOODS)
    photos = np.repeat(np.arange(len(MOODS)), 10)
    ValidationPredictions(
        Predictions(moods.astype(np.int8), np.eye(len(MOODS), dtype=np.float32)[answered]),
        Predictions(photos.astype(np.int8), np.eye(len(MOODS), dtype=np.float32)[photos]),
        dict.fromkeys(CORRUPTIONS, answered.astype(np.int8)),
    ).save(Path("reports/evaluate", architecture, VALIDATION_FILE))
