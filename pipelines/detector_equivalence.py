"""Stage `detector_equivalence`: is the service's cascade still MTCNN, and do its shortcuts cost accuracy?

The cascade is compared with the `mtcnn` package on photos and on camera frames composed of photos:

- at the package's settings: how many of the package's faces it finds, and how many more;
- at the bundle's settings, on frames as the service decodes them: whether the search of a snapshot finds the largest
  face if that face is large enough to be searched for.

That search ends once the largest face is certain; how often it finds another one than the whole cascade is counted too.

The stage also compares the weighted F1 of the moods of held-out photos between exact arithmetic on whole images and the
bundle's settings.

No other stage uses the result. The stage fails if a bound is missed. It takes some ten minutes, most of them in the
package.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

os.environ["KERAS_BACKEND"] = "tensorflow"  # the package's nets are TensorFlow models

import cv2
import numpy as np
from PIL import Image
from rich.progress import track

from pipelines import markdown, paths
from pipelines.data.splits import photos_of_split
from pipelines.evaluation import agreement
from pipelines.evaluation.agreement import Agreement, Detect, LargestFound, Pixels, SameLargest
from pipelines.evaluation.bootstrap import weighted_f1
from pipelines.evaluation.metrics import confusion
from pipelines.evaluation.predictions import predict_photos
from pipelines.params import Params, PrepareParams
from service import images
from service.classifier import MoodClassifier
from service.detector import SETTINGS_FILE, DetectorSettings, Face, FaceDetector
from service.estimator import MoodEstimator

PHOTOS: Final = 1200
FRAMES: Final = {(640, 480): 120, (1920, 1080): 60}
"""Number of composed frames by width and height; these are sizes that phones' front cameras send."""

MAX_EXTRA: Final = 0.01
MIN_LARGEST_FOUND: Final = 0.995
MIN_SAME_LARGEST: Final = 0.997
MAX_F1_LOSS: Final = 0.002

_PHOTO_SHARES: Final = (0.16, 0.25, 0.4, 0.65, 0.95)
"""Heights of a photo in a frame, as shares of the frame's height; its face takes some two thirds of that."""
_PLACES_TRIED: Final = 20


def compose_frames(photos: Sequence[Pixels], width: int, height: int, count: int) -> Iterator[Pixels]:
    """Camera frames with one to three photos at random places beside each other, the same ones at every call.

    Args:
        photos: Photos to paste, one after the other.
        width: Width of the frames, in pixels.
        height: Height of the frames, in pixels.
        count: Number of frames.

    Yields:
        uint8 (height, width, 3) RGB. The background is a photo, blurred until it shows no face.
    """
    random = np.random.default_rng(width)
    queue = iter([*photos] * (1 + 4 * count // len(photos)))
    for index in range(count):
        ground = cv2.resize(next(queue), (4, 3), interpolation=cv2.INTER_AREA)
        frame = np.asarray(cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        taken = np.zeros((height, width), dtype=bool)
        for number in range(1 + index % 3):
            photo, share = next(queue), _PHOTO_SHARES[(index + 2 * number) % len(_PHOTO_SHARES)]
            scale = min(share * height / photo.shape[0], width / photo.shape[1])
            columns, rows = int(photo.shape[1] * scale), int(photo.shape[0] * scale)
            for _ in range(_PLACES_TRIED):
                x, y = random.integers(0, width - columns + 1), random.integers(0, height - rows + 1)
                place = np.s_[y : y + rows, x : x + columns]
                if not taken[place].any():
                    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
                    frame[place], taken[place] = cv2.resize(photo, (columns, rows), interpolation=method), True
                    break
        yield frame


def compare(
    package: Detect, pixels: Iterable[Pixels], exact: FaceDetector, served: FaceDetector
) -> tuple[Agreement, LargestFound, SameLargest]:
    """The comparisons over a set of images.

    Args:
        package: The package's detector.
        pixels: The images.
        exact: The cascade at the package's settings.
        served: The cascade at the bundle's settings; each image reaches it as a JPEG file.
    """
    matched, largest, same = Agreement(), LargestFound(), SameLargest()
    for image in pixels:
        wanted = package(image)
        matched += Agreement.of(exact.detect(image), wanted)
        alone, whole = (detect_as_served(served, image, all_faces=every) for every in (False, True))
        largest += LargestFound.of(alone, wanted, min(image.shape[:2]))
        same += SameLargest.of(alone, whole)
    return matched, largest, same


def detect_as_served(detector: FaceDetector, pixels: Pixels, *, all_faces: bool) -> list[Face]:
    """Faces that the service finds in an image that it receives as a JPEG file of high quality."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    frame = images.decode_frame(file.getvalue(), working_side=detector.settings.working_side)
    return [frame.in_image(face) for face in detector.detect(frame.pixels, all_faces=all_faces)]


def compare_moods(bundle: Path, photos: Path, prepare: PrepareParams) -> dict[str, float | int]:
    """Effect of the bundle's detector settings on the moods of the held-out photos, validation and test together.

    Returns:
        Number of photos; weighted F1 and the share of photos with a face, in exact arithmetic and as served. F1 is that
        of the photos with a face.
    """
    classifier = MoodClassifier(bundle / "classifier")
    served = DetectorSettings.read(bundle / "detector" / SETTINGS_FILE)
    held_out = photos_of_split(photos, prepare, "validation", "test")
    result: dict[str, float | int] = {"photos": len(held_out.rows)}
    for name, settings in {"exact": replace(served, exact=True, working_side=None), "served": served}.items():
        estimator = MoodEstimator(FaceDetector(bundle / "detector", settings), classifier)
        predictions, coverage = predict_photos(estimator, photos, held_out)
        result |= {
            f"{name}_weighted_f1": round(float(weighted_f1(confusion(predictions))), 4),
            f"{name}_coverage": round(coverage, 4),
        }
    return result


def report(
    results: Mapping[str, tuple[Agreement, LargestFound, SameLargest]], moods: Mapping[str, float | int]
) -> dict[str, Any]:
    """The content of `equivalence.json`, with the bounds that hold.

    Args:
        results: Results of `compare` by the name of the set of images.
        moods: Result of `compare_moods`.
    """
    agreements, largests, sames = zip(*results.values(), strict=True)
    found, largest, same = sum(agreements, Agreement()), sum(largests, LargestFound()), sum(sames, SameLargest())
    every = {**results, "all": (found, largest, same)}
    return {
        "package_settings": {name: asdict(one) for name, (one, _, _) in every.items()},
        "bundle_settings": {name: asdict(one) for name, (_, one, _) in every.items()},
        "largest_alone": {name: asdict(one) for name, (_, _, one) in every.items()},
        "moods": dict(moods),
        "bounds_hold": {
            "matched": found.matched >= agreement.MIN_MATCHED * found.faces,
            "extra": found.extra <= MAX_EXTRA * found.faces,
            "largest_found": largest.found >= MIN_LARGEST_FOUND * largest.images,
            "same_largest": same.same >= MIN_SAME_LARGEST * same.images,
            "weighted_f1": moods["served_weighted_f1"] >= moods["exact_weighted_f1"] - MAX_F1_LOSS,
        },
    }


def page(content: Mapping[str, Any]) -> str:
    """The result of `report` as Markdown."""
    return markdown.page(
        Path(__file__).with_suffix(".md.j2"),
        **content,
        min_iou=agreement.MIN_IOU,
        max_confidence_difference=agreement.MAX_CONFIDENCE_DIFFERENCE,
        min_matched=agreement.MIN_MATCHED,
        max_extra=MAX_EXTRA,
        min_share=agreement.MIN_SHARE,
        min_largest_iou=agreement.MIN_LARGEST_IOU,
        min_largest_found=MIN_LARGEST_FOUND,
        min_same_largest=MIN_SAME_LARGEST,
        max_f1_loss=MAX_F1_LOSS,
    )


def main() -> None:
    """Compare and write the report.

    Raises:
        RuntimeError: a bound is missed; the report says by how much.
    """
    prepare = Params.read().prepare  # first: a wrong number must not cost the minutes below
    package, nets = agreement.mtcnn_package(), paths.BUNDLE / "detector"
    exact, served = FaceDetector(nets, DetectorSettings()), FaceDetector(nets)
    photos = agreement.sample_photos(paths.PHOTOS, PHOTOS)
    sets: dict[str, tuple[int, Iterable[Pixels]]] = {"photos": (len(photos), photos)}
    for (width, height), count in FRAMES.items():
        sets[f"{width}x{height}"] = count, compose_frames(photos, width, height, count)
    results = {
        name: compare(package, track(pixels, f"{name} through both", total=count), exact, served)
        for name, (count, pixels) in sets.items()
    }
    content = report(results, compare_moods(paths.BUNDLE, paths.PHOTOS, prepare))
    paths.DETECTOR_EQUIVALENCE.mkdir(parents=True, exist_ok=True)
    (paths.DETECTOR_EQUIVALENCE / "equivalence.json").write_text(json.dumps(content, indent=2) + "\n")
    (paths.DETECTOR_EQUIVALENCE / "equivalence.md").write_text(page(content))
    print(page(content))
    missed = [name for name, holds in content["bounds_hold"].items() if not holds]
    if missed:
        raise RuntimeError(f"the cascade misses a bound against the mtcnn package: {', '.join(missed)}")


if __name__ == "__main__":
    main()
