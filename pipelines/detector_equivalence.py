"""Stage `detector_equivalence`: is the service's cascade still MTCNN, and do its shortcuts cost any accuracy?

Against the `mtcnn` package, on photos and on camera frames composed of them:

- at the package's settings, how many of its faces the cascade finds again, and how many it adds;
- at the bundle's settings, on frames as the service decodes them, whether it finds the largest face where that is
  large enough to be looked for.

And between exact arithmetic on whole images and the bundle's settings: the weighted F1 of the moods of held-out photos.

A leaf of the pipeline: it changes nothing, and fails where a bound is missed. The package takes most of its time,
some ten minutes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"  # the package's nets are TensorFlow models

import cv2
import numpy as np
from mtcnn import MTCNN
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from sklearn.metrics import f1_score

from pipelines import markdown, paths
from pipelines.convert_detector import sample_photos
from pipelines.data.splits import photos_of_split
from pipelines.evaluation.predictions import predict_photos
from pipelines.params import Params
from service import faces, images
from service.classifier import MoodClassifier
from service.detector import SETTINGS_FILE, DetectorSettings, Face, FaceDetector
from service.estimator import MoodEstimator

Pixels = NDArray[np.uint8]
Detect = Callable[[Pixels], list[Face]]

PHOTOS: Final = 1200
FRAMES: Final = {(640, 480): 120, (1920, 1080): 60}
"""How many frames are composed, by width and height: what phones' front cameras send."""

MIN_IOU: Final = 0.9
MAX_CONFIDENCE_DIFFERENCE: Final = 0.02
MIN_MATCHED: Final = 0.99
MAX_EXTRA: Final = 0.01
MIN_LARGEST_IOU: Final = 0.5
MIN_LARGEST_FOUND: Final = 0.995
MIN_SHARE: Final = 0.08
"""Side of the smallest face that must be found at the bundle's settings, as a share of the frame's shorter side."""
MAX_F1_LOSS: Final = 0.002

_PHOTO_SHARES: Final = (0.16, 0.25, 0.4, 0.65, 0.95)
"""Height of a photo in a frame, as a share of the frame's; its face takes some two thirds of that."""
_PLACES_TRIED: Final = 20


@dataclass
class Agreement:
    """How the cascade agrees with the package at the same settings.

    Attributes:
        images: how many were compared.
        faces: that the package found.
        matched: of these, how many the cascade found: intersection over union of at least `MIN_IOU`, confidence
            within `MAX_CONFIDENCE_DIFFERENCE`.
        extra: faces that the cascade alone found.
        confidence_difference: the largest of a matched face.
    """

    images: int = 0
    faces: int = 0
    matched: int = 0
    extra: int = 0
    confidence_difference: float = 0.0

    def add(self, ours: Sequence[Face], theirs: Sequence[Face]) -> None:
        """Count one image's faces; each of ours matches one of theirs at most."""
        unmatched = list(ours)
        for other in theirs:
            best = max(unmatched, key=lambda face: overlap(face, other), default=None)
            if best is None or overlap(best, other) < MIN_IOU:
                continue
            difference = abs(best.confidence - other.confidence)
            if difference <= MAX_CONFIDENCE_DIFFERENCE:
                unmatched.remove(best)
                self.matched += 1
                self.confidence_difference = max(self.confidence_difference, round(difference, 6))
        self.images += 1
        self.faces += len(theirs)
        self.extra += len(unmatched)

    def __add__(self, other: Agreement) -> Agreement:
        """Of both sets of images together."""
        return Agreement(
            self.images + other.images,
            self.faces + other.faces,
            self.matched + other.matched,
            self.extra + other.extra,
            max(self.confidence_difference, other.confidence_difference),
        )


@dataclass
class LargestFound:
    """Whether the cascade finds the package's largest face.

    Attributes:
        images: how many show, to the package, a largest face of at least `MIN_SHARE` of their shorter side.
        found: of these, in how many the cascade's largest face overlaps it by at least `MIN_LARGEST_IOU`.
        elsewhere: of those left, in how many another of the cascade's faces does.
    """

    images: int = 0
    found: int = 0
    elsewhere: int = 0

    def add(self, ours: Sequence[Face], theirs: Sequence[Face], shorter_side: int) -> None:
        """Count one image."""
        if not theirs:
            return
        wanted = faces.largest(theirs)
        if max(wanted.width, wanted.height) < MIN_SHARE * shorter_side:
            return
        self.images += 1
        if ours and overlap(faces.largest(ours), wanted) >= MIN_LARGEST_IOU:
            self.found += 1
        elif any(overlap(face, wanted) >= MIN_LARGEST_IOU for face in ours):
            self.elsewhere += 1

    def __add__(self, other: LargestFound) -> LargestFound:
        """Of both sets of images together."""
        return LargestFound(self.images + other.images, self.found + other.found, self.elsewhere + other.elsewhere)


def overlap(face: Face, other: Face) -> float:
    """Intersection over union of two faces' boxes, in [0, 1]."""
    width = min(face.x + face.width, other.x + other.width) - max(face.x, other.x)
    height = min(face.y + face.height, other.y + other.height) - max(face.y, other.y)
    shared = max(0, width) * max(0, height)
    return shared / (face.width * face.height + other.width * other.height - shared)


def package() -> Detect:
    """`mtcnn.MTCNN().detect_faces` at its defaults."""
    nets = MTCNN()

    def detect(pixels: Pixels) -> list[Face]:
        return [Face(*map(int, face["box"]), float(face["confidence"])) for face in nets.detect_faces(pixels)]

    return detect


def compose_frames(photos: Sequence[Pixels], width: int, height: int, count: int) -> Iterator[Pixels]:
    """Camera frames that show one to three of the photos, at random places beside each other; the same at every call.

    Args:
        photos: what is pasted, one after the other.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        count: how many frames.

    Yields:
        uint8 (height, width, 3) RGB. The ground is a photo blurred until no face is left in it.
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
    theirs: Iterable[Sequence[Face]], pixels: Iterable[Pixels], exact: FaceDetector, served: FaceDetector
) -> tuple[Agreement, LargestFound]:
    """Both comparisons over a set of images.

    Args:
        theirs: what the package finds in each.
        pixels: the images, uint8 (height, width, 3) RGB each.
        exact: the cascade at the package's settings.
        served: the cascade at the bundle's; it sees what the service decodes from each image as a JPEG file.
    """
    agreement, largest = Agreement(), LargestFound()
    for image, wanted in zip(pixels, theirs, strict=True):
        agreement.add(exact.detect(image), wanted)
        largest.add(detect_as_served(served, image), wanted, min(image.shape[:2]))
    return agreement, largest


def detect_as_served(detector: FaceDetector, pixels: Pixels) -> list[Face]:
    """Faces that the service finds in an image that reaches it as a JPEG file of high quality."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    frame = images.decode_frame(file.getvalue(), working_side=detector.settings.working_side)
    return [frame.in_image(face) for face in detector.detect(frame.pixels)]


def compare_moods(bundle: Path, photos: Path) -> dict[str, float | int]:
    """What the shortcuts of the bundle's settings cost on the held-out photos, validation and test together.

    Returns:
        Weighted F1 and the share of photos with a face, in exact arithmetic and as served, and how many photos
        there are. A photo without a face has no part in its F1.
    """
    classifier = MoodClassifier(bundle / "classifier")
    served = DetectorSettings.read(bundle / "detector" / SETTINGS_FILE)
    held_out = photos_of_split(photos, Params.read().prepare, "validation", "test")
    result: dict[str, float | int] = {"photos": len(held_out.rows)}
    for name, settings in {"exact": replace(served, exact=True, working_side=None), "served": served}.items():
        estimator = MoodEstimator(FaceDetector(bundle / "detector", settings), classifier)
        predictions, coverage = predict_photos(estimator, photos, held_out)
        f1 = f1_score(predictions.moods, predictions.predicted, average="weighted")
        result |= {f"{name}_weighted_f1": round(float(f1), 4), f"{name}_coverage": round(coverage, 4)}
    return result


def report(
    results: Mapping[str, tuple[Agreement, LargestFound]], moods: Mapping[str, float | int]
) -> tuple[dict[str, Any], str]:
    """The figures for a JSON file, with what became of each bound, and the same as Markdown.

    Args:
        results: by the name of the set of images.
        moods: of `compare_moods`.
    """
    agreement, largest = Agreement(), LargestFound()
    for one, other in results.values():
        agreement, largest = agreement + one, largest + other
    every = {**results, "all": (agreement, largest)}
    bounds = {
        "matched": agreement.matched >= MIN_MATCHED * agreement.faces,
        "extra": agreement.extra <= MAX_EXTRA * agreement.faces,
        "largest_found": largest.found >= MIN_LARGEST_FOUND * largest.images,
        "weighted_f1": moods["served_weighted_f1"] >= moods["exact_weighted_f1"] - MAX_F1_LOSS,
    }
    figures = {
        "package_settings": {name: asdict(one) for name, (one, _) in every.items()},
        "bundle_settings": {name: asdict(other) for name, (_, other) in every.items()},
        "moods": dict(moods),
        "bounds_hold": bounds,
    }
    text = f"""# The cascade against the `mtcnn` package

Written by `python -m pipelines.detector_equivalence`. Frames are composed of photos.

## At the package's settings, in exact arithmetic

Matched: intersection over union of at least {MIN_IOU}, confidence within {MAX_CONFIDENCE_DIFFERENCE}. Bounds:
{MIN_MATCHED:.0%} of its faces matched, at most {MAX_EXTRA:.0%} more.

{
        markdown.table(
            ("images of", "images", "its faces", "matched", "extra", "largest difference in confidence"),
            (
                (name, one.images, one.faces, one.matched, one.extra, f"{one.confidence_difference:.1g}")
                for name, (one, _) in every.items()
            ),
        )
    }

## At the bundle's settings, as the service decodes

Where the package's largest face has a side of at least {MIN_SHARE:.0%} of the frame's shorter side, it is also the
largest of the service (intersection over union of at least {MIN_LARGEST_IOU}). Bound: {MIN_LARGEST_FOUND:.1%}.

{
        markdown.table(
            ("images of", "with such a face", "found", "found, but not as the largest", "share"),
            (
                (name, other.images, other.found, other.elsewhere, other.found / max(other.images, 1))
                for name, (_, other) in every.items()
            ),
        )
    }

## Moods of the held-out photos

{moods["photos"]:,} photos of validation and test. Bound: {MAX_F1_LOSS} of weighted F1.

{
        markdown.table(
            ("detector", "weighted F1", "photos with a face"),
            (
                ("exact arithmetic", f"{moods['exact_weighted_f1']:.4f}", f"{moods['exact_coverage']:.4f}"),
                ("as served", f"{moods['served_weighted_f1']:.4f}", f"{moods['served_coverage']:.4f}"),
            ),
        )
    }
"""
    return figures, text


def main(detect: Detect | None = None) -> None:
    """Compare and write the report.

    Args:
        detect: the package; loaded where it is not given.

    Raises:
        RuntimeError: a bound is missed; the report says by how much.
    """
    theirs = detect or package()
    nets = paths.BUNDLE / "detector"
    exact, served = FaceDetector(nets, DetectorSettings()), FaceDetector(nets)
    photos = sample_photos(paths.PHOTOS, PHOTOS)
    sets: dict[str, tuple[int, Callable[[], Iterable[Pixels]]]] = {"photos": (len(photos), lambda: photos)}
    for (width, height), count in FRAMES.items():
        sets[f"{width}x{height}"] = count, partial(compose_frames, photos, width, height, count)
    results = {}
    for name, (count, pictures) in sets.items():
        found = (theirs(picture) for picture in pictures())
        shown = track(pictures(), f"{name} through both", total=count)
        results[name] = compare(found, shown, exact, served)
    figures, text = report(results, compare_moods(paths.BUNDLE, paths.PHOTOS))
    paths.DETECTOR_EQUIVALENCE.mkdir(parents=True, exist_ok=True)
    (paths.DETECTOR_EQUIVALENCE / "equivalence.json").write_text(json.dumps(figures, indent=2) + "\n")
    (paths.DETECTOR_EQUIVALENCE / "equivalence.md").write_text(text)
    print(text)
    missed = [name for name, holds in figures["bounds_hold"].items() if not holds]
    if missed:
        raise RuntimeError(f"the cascade is not what the mtcnn package is: {', '.join(missed)}")


if __name__ == "__main__":
    main()
