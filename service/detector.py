"""MTCNN: the cascade of P-Net, R-Net and O-Net that finds faces.

Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks",
IEEE Signal Processing Letters 23(10), 2016. The weights are those of the `mtcnn` package (MIT licence), converted
to ONNX by `pipelines.convert_detector`. The arithmetic between the nets (coordinates, suppression, patches) follows
that package: with the package's settings this module finds the same faces.

Boxes inside this module are float64 arrays of shape (n, 4) with rows (x1, y1, x2, y2) in pixels of the image, whose
origin is the upper left corner; scores are float64 arrays of shape (n,). Selecting and cropping a face is left to
`service.faces`.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.runtime import open_session

SETTINGS_FILE: Final[str] = "detector.json"
NET_FILES: Final[tuple[str, str, str]] = ("pnet.onnx", "rnet.onnx", "onet.onnx")

MIN_LOGIT: Final[str] = "min_logit"
"""Name of P-Net's second input, beside the image: the log-odds of a face that a candidate must exceed."""

_PNET_OUTPUTS: Final = ("cells", "offsets", "probabilities")
_RNET_OUTPUTS: Final = ("offsets", "probabilities")
_ONET_OUTPUTS: Final = ("offsets", "probabilities", "landmarks")

# Columns of these outputs side by side.
_OFFSETS: Final = slice(0, 4)
_PROBABILITY: Final[int] = 5
_LANDMARKS: Final = slice(6, 16)

# Geometry of the nets (paper, figure 2): P-Net sees 12 x 12 pixels with a stride of 2, R-Net 24 x 24, O-Net 48 x 48.
_PNET_CELL: Final[int] = 12
_PNET_STRIDE: Final[int] = 2
_RNET_SIZE: Final[int] = 24
_ONET_SIZE: Final[int] = 48

_LOGIT_ROUNDING: Final[float] = 1e-3
"""Margin by which P-Net's own threshold is lower: larger than any rounding error of a logit, so that the comparison of
the probability decides."""

_PATCHES_AT_ONCE: Final[int] = 16
"""Batch size of R- and O-Net: the activations of 16 patches stay in a core's cache; with 64 patches, each takes a fifth
longer (measured)."""

_SUPPRESSED_AT_ONCE: Final[int] = 256
"""Block size of non-maximum suppression; limits memory for images with many candidates."""

_WORSE: Final = ~np.tri(_SUPPRESSED_AT_ONCE, dtype=bool)
"""For boxes in descending order of score: whether the box of the column is worse than the box of the row."""

_MOST_THREADS: Final[int] = 4
"""Most threads for one image: its largest pyramid level is half of the work, so that more would not help."""

_LEVEL_PIXELS: Final[int] = 500_000
"""Most pixels of the largest pyramid level; limits memory for images that are very long and narrow."""

_MOST_CANDIDATES: Final[tuple[int, int, int]] = (2_048, 640, 128)
"""Most candidates that suppression compares at once, that R-Net looks at and that O-Net looks at; the best count. They
bound the time for images that are made of faces. In photos of up to 80 faces there are 1,159, 441 and 83 (measured)."""

_NOSE_DEPTH: Final[float] = 0.6
"""Distance of the nose's tip from the plane of the eyes, in distances of the eyes: 38 mm to 63 mm."""

_STEPS: Final[tuple[int, ...]] = (3, 1)
"""The first levels of the steps of a search for the largest face alone; level 0 shows the smallest faces. Of P-Net's
time for a frame of 640x480, levels 3 and further take a fifth, and level 0 nearly half (measured)."""

_CERTAIN: Final[float] = 0.9
_LARGEST_PER_CELL: Final[float] = 1.5
"""When the largest face so far ends such a search: its least confidence, and its least size (the root of its area) in
cells of the next smaller level. Chosen on 1,227 validation photos and 400 camera frames composed of them: the least of
the sizes 1, 1.25, 1.5, 1.75 and 2 at which each largest face has an IoU of at least 0.9 with that of the whole cascade
and of the confidences 0.7, 0.9 and 0.97, at which this holds alike, the middle one. The search then ends early in
98.9 % of the photos and 96.5 % of the frames, with the very face of the whole cascade in all of them."""

_MOST_LOOKS: Final[int] = 2
_NEAR: Final[float] = 0.08
"""How often O-Net looks for a face whose place is about known, and the share of the box's side by which its edges may
move for the first look to suffice: with two looks the boxes agree best with the cascade's (measured)."""

_REMAP_SIDE: Final[int] = 32_766
"""Longest side, in pixels, of an image that OpenCV's `remap` accepts."""

_HALVED_FROM: Final[float] = 3.0
_HALVED_AGAIN_FROM: Final[float] = 8.0
"""Ratios of an image's size to a pyramid level's size from which on the image is halved before it is scaled: for the
whole image, and for one that was already halved. The small levels, which find the large faces, must be averaged from
many pixels. If each level were made from the one above, boxes would move by 2 % of their width, which would cost 0.7
points of mood F1 on photos; these ratios cost 0.1 points (measured)."""

Boxes = NDArray[np.float64]
Scores = NDArray[np.float64]
Poses = NDArray[np.float64]
"""Yaw and roll of heads, in degrees, (n, 2)."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Face:
    """A face in an image; its box is in whole pixels of the upright image.

    Attributes:
        x: Left edge of the box.
        y: Upper edge of the box.
        width: Width of the box.
        height: Height of the box.
        confidence: O-Net's probability that this is a face, in [0, 1].
        yaw: Turn of the head to the image's right, in degrees, from O-Net's landmarks; None if it is not known.
        roll: Tilt of the head, clockwise in the image, in degrees; None if it is not known.
    """

    x: int
    y: int
    width: int
    height: int
    confidence: float
    yaw: float | None = field(default=None, compare=False)
    roll: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of the cascade; the defaults are those of the `mtcnn` package.

    Attributes:
        min_face_pixels: Side of the smallest face that is searched for, in pixels.
        min_face_share: Side of the smallest face that is searched for, as a share of the image's shorter side. The
            larger of this and `min_face_pixels` counts.
        scale_factor: Ratio of one level of the image pyramid to the level before, in (0, 1).
        thresholds: Face probabilities that a candidate must exceed after P-, R- and O-Net.
        nms_level: Intersection over union (IoU) above which a better box suppresses another, within one pyramid level.
        nms_pyramid: IoU above which a better box suppresses another, across the pyramid levels.
        nms_rnet: IoU above which a better box suppresses another, after R-Net.
        nms_onet: Intersection over the smaller box (IoS) above which a better box suppresses another, after O-Net.
        exact: Whether pyramid levels and patches are sampled from the whole image in floating point, as in the `mtcnn`
            package. Otherwise levels are scaled from halved images, in whole numbers: the same faces in a fraction of
            the time.
        working_side: Shortest side, in pixels, to which a frame may be reduced before it is searched; see
            `service.images.decode_frame`.
    """

    min_face_pixels: int = 20
    min_face_share: float = 0.0
    scale_factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8)
    nms_level: float = 0.5
    nms_pyramid: float = 0.7
    nms_rnet: float = 0.7
    nms_onet: float = 0.7
    exact: bool = True
    working_side: int | None = None

    def __post_init__(self) -> None:
        if self.min_face_pixels < _PNET_CELL:
            raise ValueError(f"min_face_pixels is {self.min_face_pixels}; P-Net sees no face under {_PNET_CELL} pixels")
        if not 0.0 < self.scale_factor < 1.0:
            raise ValueError(f"scale_factor is {self.scale_factor}; it must lie between 0 and 1")
        if len(self.thresholds) != 3:
            raise ValueError(f"thresholds has {len(self.thresholds)} values; P-, R- and O-Net need one each")
        if not all(0.0 < threshold < 1.0 for threshold in self.thresholds):
            raise ValueError(f"thresholds are {self.thresholds}; they are probabilities, and must lie between 0 and 1")

    @classmethod
    def read(cls, path: Path) -> DetectorSettings:
        """Settings from the JSON file that `write` makes."""
        values = json.loads(path.read_text())
        values["thresholds"] = tuple(values["thresholds"])
        return cls(**values)

    def write(self, path: Path) -> None:
        """Write the settings as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


class FaceDetector:
    """The MTCNN cascade, loaded and ready; safe to call from several threads."""

    def __init__(
        self, directory: Path, settings: DetectorSettings | None = None, *, threads: int | None = None
    ) -> None:
        """Load the three nets.

        Args:
            directory: Directory with `NET_FILES` and, unless `settings` is given, `SETTINGS_FILE`.
            settings: Settings that replace those of the directory.
            threads: Number of pyramid levels, or batches of patches, that are processed in parallel while there is only
                one image; None means one per core, up to four. It does not change the faces.
        """
        self.settings = settings or DetectorSettings.read(directory / SETTINGS_FILE)
        self._pnet, self._rnet, self._onet = (open_session(directory / name) for name in NET_FILES)
        cv2.setNumThreads(1)  # the images are small: OpenCV's threads cost a session's frame 0.3 ms, and save nothing
        # Whole nets run in parallel: threads within one net would wait for each other after every small operator.
        threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, "detector") if threads > 1 else None
        self._most = (sys.maxsize,) * 3 if self.settings.exact else _MOST_CANDIDATES
        self._images = 0
        self._lock = threading.Lock()

    def detect(self, image: NDArray[np.uint8], *, all_faces: bool = True) -> list[Face]:
        """Find the faces in an image.

        Args:
            image: RGB image, uint8 (height, width, 3).
            all_faces: Whether every face counts. Otherwise the large ones are searched for first, and smaller ones only
                until the largest is certain. In exact arithmetic every face counts.

        Returns:
            The faces, most confident first; boxes are clipped to the image. The list is empty if there is no face.
        """
        pyramid, found, faces = _Pyramid(image, self.settings), _Candidates.none(), list[Face]()
        end = len(pyramid.scales)
        starts = [] if all_faces or self.settings.exact else [start for start in _STEPS if start < end]
        with self._counted():
            while end:
                first = starts.pop(0) if starts else 0
                # Together the levels before the finest take too little time to be worth other threads.
                levels = (map if first else self._map)(self._propose, pyramid.levels(first, end))
                found = found.after(levels)
                faces = self._judge(image, found)
                if first and _is_certain(faces, _PNET_CELL / pyramid.scales[first - 1]):
                    break
                if not faces:
                    starts.clear()  # nobody is near: the remaining levels at once cost the least
                end = first
        return faces

    def confirm(self, image: NDArray[np.uint8], face: Face) -> Face | None:
        """Find a face again about whose place is known, with O-Net alone: a small part of the time of `detect`.

        O-Net looks at the square around the box, and again at where it then sees the face if that is elsewhere.

        Args:
            image: RGB image, uint8 (height, width, 3).
            face: Face in pixels of the image, where it was in a frame before, or where a caller says that it is.

        Returns:
            The face; None if O-Net sees none there.
        """
        square = _to_squares(np.array([[face.x, face.y, face.x + face.width, face.y + face.height]], np.float64))
        with self._counted():
            for _ in range(_MOST_LOOKS):
                boxes, scores, poses = self._decide(square, self._look_at(self._onet, image, square))
                if not len(boxes):
                    return None
                before, square = square, _to_squares(boxes)
                if np.abs(square - before).max() < _NEAR * (before[0, 2] - before[0, 0]):
                    break
        found = _to_faces(boxes, scores, poses, image.shape[1], image.shape[0])
        return found[0] if found else None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the image among those in progress."""
        with self._lock:
            self._images += 1
        try:
            yield
        finally:
            with self._lock:
                self._images -= 1

    def _map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """`map`, in parallel if no other image is in progress. With several images the cores are busy anyway, and
        handing parts to other threads would cost a tenth to a quarter of the throughput (measured)."""
        return map(function, items) if self._pool is None or self._images > 1 else self._pool.map(function, items)

    def _propose(self, level: tuple[float, NDArray[np.float32]]) -> tuple[Boxes, Scores]:
        """Stage 1: P-Net proposes candidates at one level of `_Pyramid`, in pixels of the image (section II-A)."""
        scale, pixels = level
        threshold = self.settings.thresholds[0]
        min_logit = np.array(math.log(threshold / (1 - threshold)) - _LOGIT_ROUNDING, np.float32)
        cells, offsets, probabilities = self._pnet.run(_PNET_OUTPUTS, {"image": pixels[None], MIN_LOGIT: min_logit})
        confident = probabilities[:, 1] > threshold
        boxes = _decode_proposals(cells[confident], offsets[confident], scale)
        scores = probabilities[confident, 1].astype(np.float64)
        kept = self._suppress(boxes, scores, self.settings.nms_level)
        return boxes[kept], scores[kept]

    def _suppress(self, boxes: Boxes, scores: Scores, threshold: float) -> NDArray[np.intp]:
        """Non-maximum suppression among the best boxes, as many as may be compared at once."""
        if len(scores) <= self._most[0]:
            return non_maximum_suppression(boxes, scores, threshold)
        best = np.argpartition(scores, -self._most[0])[-self._most[0] :]
        return best[non_maximum_suppression(boxes[best], scores[best], threshold)]

    def _judge(self, image: NDArray[np.uint8], found: _Candidates) -> list[Face]:
        """The faces among P-Net's candidates. R- and O-Net look at those that they have not seen before."""
        squares, chosen = self._refine(image, found)
        if not len(squares):
            return []
        looks = self._look_once(self._onet, image, squares, found.decided, chosen)
        boxes, scores, poses = self._decide(squares, looks)
        return _to_faces(boxes, scores, poses, image.shape[1], image.shape[0])

    def _refine(self, image: NDArray[np.uint8], found: _Candidates) -> tuple[Boxes, NDArray[np.intp]]:
        """Stage 2: R-Net rejects most candidates and corrects the other boxes (paper, section II-A).

        Returns:
            Squares that R-Net takes for faces, and the indices of the candidates from which they come.
        """
        if not len(found.scores):
            return found.boxes, np.empty(0, np.intp)
        chosen = self._suppress(found.boxes, found.scores, self.settings.nms_pyramid)[: self._most[1]]
        squares = _to_squares(found.boxes[chosen])
        looks = self._look_once(self._rnet, image, squares, found.refined, chosen)
        boxes, scores = _calibrate(squares, looks[:, _OFFSETS]), looks[:, _PROBABILITY].astype(np.float64)
        confident = scores > self.settings.thresholds[1]
        boxes, scores, chosen = boxes[confident], scores[confident], chosen[confident]
        kept = self._suppress(boxes, scores, self.settings.nms_rnet)[: self._most[2]]
        return _to_squares(boxes[kept]), chosen[kept]

    def _decide(self, squares: Boxes, looks: NDArray[np.float32]) -> tuple[Boxes, Scores, Poses]:
        """Stage 3: O-Net, which sees the most pixels, decides and corrects the boxes (paper, section II-A).

        Of its five landmarks, only the pose of the head is kept.

        Args:
            squares: Boxes that O-Net has looked at.
            looks: Its outputs; see `_look_at`.
        """
        boxes, scores = _calibrate(squares, looks[:, _OFFSETS]), looks[:, _PROBABILITY].astype(np.float64)
        confident = scores > self.settings.thresholds[2]
        boxes, scores, landmarks = boxes[confident], scores[confident], looks[confident, _LANDMARKS]
        kept = non_maximum_suppression(boxes, scores, self.settings.nms_onet, metric="IoS")
        return boxes[kept], scores[kept], head_poses(landmarks[kept])

    def _look_once(
        self,
        net: onnxruntime.InferenceSession,
        image: NDArray[np.uint8],
        boxes: Boxes,
        memory: NDArray[np.float32],
        rows: NDArray[np.intp],
    ) -> NDArray[np.float32]:
        """R- or O-Net's outputs for boxes; it runs on those alone that it has not looked at before.

        Args:
            net: R- or O-Net.
            image: RGB image, uint8 (height, width, 3).
            boxes: Boxes, float64 (n, 4).
            memory: Its outputs for all candidates, NaN where it has not looked, float32 (candidates, values). What is
                missing of the rows is filled in.
            rows: Rows of the boxes' candidates, (n,).

        Returns:
            Its outputs for the boxes, float32 (n, values).
        """
        new = np.isnan(memory[rows, 0])
        if new.any():
            memory[rows[new]] = self._look_at(net, image, boxes[new])
        return memory[rows]

    def _look_at(
        self, net: onnxruntime.InferenceSession, image: NDArray[np.uint8], boxes: Boxes
    ) -> NDArray[np.float32]:
        """Run R- or O-Net on boxes (at least one), in batches.

        Returns:
            Its outputs side by side, float32 (n, values): `_OFFSETS`, `_PROBABILITY` and, of O-Net, `_LANDMARKS`.
        """
        exact = self.settings.exact or max(image.shape) > _REMAP_SIDE
        cut = crop_and_resize if exact else crop_and_resize_fast
        outputs, size = (_RNET_OUTPUTS, _RNET_SIZE) if net is self._rnet else (_ONET_OUTPUTS, _ONET_SIZE)

        def look(part: Boxes) -> NDArray[np.float32]:
            return np.concatenate(net.run(outputs, {"image": _normalise(cut(image, part, size))}), axis=1)

        parts = [boxes[start : start + _PATCHES_AT_ONCE] for start in range(0, len(boxes), _PATCHES_AT_ONCE)]
        return look(boxes) if len(parts) == 1 else np.concatenate(list(self._map(look, parts)))


class _Pyramid:
    """The image pyramid, made level by level.

    Attributes:
        scales: Scales of the levels, largest first.
    """

    def __init__(self, image: NDArray[np.uint8], settings: DetectorSettings) -> None:
        """No level yet.

        Args:
            image: RGB image, uint8 (height, width, 3).
            settings: Settings of the cascade.
        """
        self._height, self._width = image.shape[:2]
        self._exact = settings.exact
        self._halved: list[NDArray[Any]] = [_normalise(image) if settings.exact else image]
        self.scales = pyramid_scales(self._width, self._height, settings)

    def levels(self, first: int, end: int) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """Levels from `first` to before `end`: scale, and pixels as P-Net's input."""
        for scale in self.scales[first:end]:
            width, height = int(self._width * scale), int(self._height * scale)
            level = _shrink(self._halved[0] if self._exact else self._source(width, height), width, height)
            yield scale, np.asarray(level, dtype=np.float32) if self._exact else _normalise(level)

    def _source(self, width: int, height: int) -> NDArray[Any]:
        """The image, halved as often as a level of a size can still be averaged from it.

        Halving takes a tenth of the time of averaging by a fractional factor, and leaves fewer pixels to average.
        """
        times = 0
        while True:
            pixels = self._halved[times]
            ratio = min(pixels.shape[0] / height, pixels.shape[1] / width)
            if ratio < (_HALVED_AGAIN_FROM if times else _HALVED_FROM):
                return pixels
            times += 1
            if times == len(self._halved):
                self._halved.append(_shrink(pixels, pixels.shape[1] // 2, pixels.shape[0] // 2))


@dataclass(frozen=True)
class _Candidates:
    """P-Net's candidates in an image, and what the other nets have said of them.

    Attributes:
        boxes: Their boxes, float64 (n, 4).
        scores: P-Net's scores, float64 (n,).
        refined: R-Net's outputs, NaN for candidates that it has not looked at, float32 (n, 6).
        decided: O-Net's, likewise, float32 (n, 16).
    """

    boxes: Boxes
    scores: Scores
    refined: NDArray[np.float32]
    decided: NDArray[np.float32]

    @classmethod
    def none(cls) -> _Candidates:
        """No candidates."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty((0, 6), np.float32), np.empty((0, 16), np.float32))

    def after(self, levels: Iterable[tuple[Boxes, Scores]]) -> _Candidates:
        """These candidates, after those of further levels."""
        boxes, scores = zip(*levels, (self.boxes, self.scores), strict=True)
        count = sum(map(len, scores)) - len(self.scores)
        return _Candidates(
            np.concatenate(boxes),
            np.concatenate(scores),
            np.concatenate([np.full((count, 6), np.nan, np.float32), self.refined]),
            np.concatenate([np.full((count, 16), np.nan, np.float32), self.decided]),
        )


def _is_certain(faces: Sequence[Face], cell: float) -> bool:
    """Whether the largest face stays the largest, whatever smaller cells of P-Net find.

    Args:
        faces: Faces found until now.
        cell: Side of the largest cell that has not been searched, in pixels of the image.
    """
    largest = max(faces, key=lambda face: face.width * face.height, default=None)
    return (
        largest is not None
        and largest.confidence >= _CERTAIN
        and largest.width * largest.height >= (_LARGEST_PER_CELL * cell) ** 2
    )


def pyramid_scales(width: int, height: int, settings: DetectorSettings) -> list[float]:
    """Scales of the image pyramid: the first maps the smallest face to P-Net's cell, the last still holds one cell.

    Args:
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        settings: Settings with the smallest face and the ratio between levels.

    Returns:
        Descending scales; empty if the image is smaller than the smallest face. Unless `settings.exact`, the first
        level has at most 500,000 pixels.
    """
    shorter = min(width, height)
    smallest_face = max(settings.min_face_pixels, settings.min_face_share * shorter)
    if not settings.exact:
        smallest_face = max(smallest_face, _PNET_CELL * math.sqrt(width * height / _LEVEL_PIXELS))
    scales = []
    scale = _PNET_CELL / smallest_face
    while shorter * scale >= _PNET_CELL:
        scales.append(scale)
        scale *= settings.scale_factor
    return scales


def non_maximum_suppression(
    boxes: Boxes, scores: Scores, threshold: float, *, metric: Literal["IoU", "IoS"] = "IoU"
) -> NDArray[np.intp]:
    """Indices of the boxes that no better box overlaps by more than `threshold`, best first.

    Unlike in the greedy algorithm, and as in the `mtcnn` package, a suppressed box still suppresses worse boxes.

    Args:
        boxes: Boxes, float64 (n, 4), rows (x1, y1, x2, y2).
        scores: Scores of the boxes, float64 (n,).
        threshold: Largest overlap tolerated, in [0, 1].
        metric: Overlap metric: intersection over union (IoU), or intersection over the smaller area (IoS).
    """
    order = np.argsort(scores)[::-1]
    if len(order) < 2:
        return order
    # Upper left and lower right corners, each (2, n).
    starts, ends = np.ascontiguousarray(boxes[order].T).reshape(2, 2, -1)
    areas = np.multiply(*(ends - starts))
    suppressed = np.zeros(len(order), dtype=bool)
    for start in range(0, len(order), _SUPPRESSED_AT_ONCE):
        # Each block is compared with itself and with all worse boxes.
        better, others = slice(start, start + _SUPPRESSED_AT_ONCE), slice(start, None)
        sides = np.minimum(ends[:, better, None], ends[:, None, others])
        sides -= np.maximum(starts[:, better, None], starts[:, None, others])
        intersection = np.multiply(*np.maximum(sides, 0.0, out=sides))
        if metric == "IoU":
            denominator = areas[better, None] + areas[None, others] - intersection
        else:
            denominator = np.minimum(areas[better, None], areas[None, others])
        overlapping = intersection > threshold * denominator
        count = len(overlapping)
        overlapping[:, :count] &= _WORSE[:count, :count]
        suppressed[others] |= overlapping.any(axis=0)
    return order[~suppressed]


def crop_and_resize(image: NDArray[np.uint8], boxes: Boxes, size: int) -> NDArray[np.float32]:
    """Crop boxes from an image and scale each to a square by bilinear sampling.

    The corners of a patch sample the corners of its box, with coordinates scaled by (extent - 1) / extent. TensorFlow's
    `crop_and_resize` does the same with boxes normalised by the image's extent, and R- and O-Net expect that sampling.
    Samples outside the image are mid-grey, which is 0 after normalisation.

    Args:
        image: RGB image, uint8 (height, width, 3).
        boxes: Boxes, float64 (n, 4), rows (x1, y1, x2, y2); they may reach outside the image.
        size: Side of the patches, in pixels.

    Returns:
        Patches, float32 (n, size, size, 3), in [0, 255].
    """
    height, width = image.shape[:2]
    steps = np.linspace(0.0, 1.0, size)
    x = (boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * steps) * ((width - 1) / width)
    y = (boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * steps) * ((height - 1) / height)
    left, x_inside, x_weight = _sample_axis(x, width)
    top, y_inside, y_weight = _sample_axis(y, height)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x_weight, y_weight = x_weight[:, None, :, None], y_weight[:, :, None, None]
    rows_above, rows_below = top[:, :, None] * width, bottom[:, :, None] * width
    columns_left, columns_right = left[:, None, :], right[:, None, :]
    pixels = image.reshape(-1, image.shape[2])

    def along_x(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        before, after = pixels.take(rows + columns_left, axis=0), pixels.take(rows + columns_right, axis=0)
        blended: NDArray[np.float32] = before * (1 - x_weight) + after * x_weight
        return blended

    patches = along_x(rows_above) * (1 - y_weight) + along_x(rows_below) * y_weight
    patches[~(y_inside[:, :, None] & x_inside[:, None, :])] = 127.5
    return patches


def crop_and_resize_fast(image: NDArray[np.uint8], boxes: Boxes, size: int) -> NDArray[np.uint8]:
    """As `crop_and_resize`, with OpenCV, which samples at 32nds of a pixel and rounds to whole grey levels.

    Args:
        image: RGB image, uint8 (height, width, 3), with sides of at most 32,766 pixels.
        boxes: Boxes, float64 (n, 4), rows (x1, y1, x2, y2); they may reach outside the image.
        size: Side of the patches, in pixels.

    Returns:
        Patches, uint8 (n, size, size, 3).
    """
    height, width = image.shape[:2]
    steps = np.linspace(0.0, 1.0, size)
    x = (boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * steps) * ((width - 1) / width)
    y = (boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * steps) * ((height - 1) / height)
    shape = (len(boxes), size, size)
    patches = cv2.remap(
        image,
        np.broadcast_to(x[:, None, :], shape).reshape(-1, size).astype(np.float32),
        np.broadcast_to(y[:, :, None], shape).reshape(-1, size).astype(np.float32),
        interpolation=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(127, 127, 127),
    )
    return np.asarray(patches, dtype=np.uint8).reshape(*shape, 3)


def _shrink(pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Pixels, (rows, columns, 3), reduced to a smaller size by averaging areas."""
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def _sample_axis(
    positions: NDArray[np.float64], extent: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float32]]:
    """For sample positions along an axis: the pixel before each, whether it is inside, the weight of the next pixel."""
    inside = (positions >= 0) & (positions <= extent - 1)
    clipped = positions.clip(0, extent - 1)
    before = clipped.astype(np.intp)
    return before, inside, (clipped - before).astype(np.float32)


def _normalise(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels in [0, 255] mapped to about [-1, 1], as the nets were trained, in float32."""
    normalised = pixels.astype(np.float32)
    normalised -= np.float32(127.5)  # in place, so that a large image's memory is allocated only once
    normalised *= np.float32(1 / 128)
    return normalised


def _decode_proposals(cells: NDArray[np.int64], offsets: NDArray[np.float32], scale: float) -> Boxes:
    """Boxes of P-Net's candidates at one pyramid level, in pixels of the image.

    Args:
        cells: Cells of P-Net's output map, int64 (n, 2), rows (row, column).
        offsets: Corrections of x1, y1, x2, y2 in units of the cell, float32 (n, 4).
        scale: Scale of the level.
    """
    start = cells[:, ::-1] * float(_PNET_STRIDE) + 1.0
    corners = np.concatenate([start, start + (_PNET_CELL - 1)], axis=1)
    return (corners + offsets * float(_PNET_CELL - 1)) / scale


def _calibrate(boxes: Boxes, offsets: NDArray[np.float32]) -> Boxes:
    """Boxes corrected by a net's box regression, whose unit is their width and height, counted in whole pixels."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1.0
    return boxes + offsets * np.tile(sides, 2)


def _to_squares(boxes: Boxes) -> Boxes:
    """Boxes widened to squares of their longer side, around the same centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0.0)
    corner = boxes[:, :2] + (sides - longer) * 0.5
    return np.concatenate([corner, corner + longer], axis=1)


def head_poses(landmarks: NDArray[np.float32]) -> Poses:
    """Yaw and roll of heads from five landmarks, as for a head of average proportions seen from afar.

    The eyes' line gives the roll. Turning a head by an angle a moves the tip of its nose, which stands before the
    plane of the eyes, by sin a of that distance, and shortens the distance of the eyes to cos a of it.

    Args:
        landmarks: The x of left eye, right eye, nose and corners of the mouth (left and right in the image), then
            their y, in units of the same length, float32 (n, 10).

    Returns:
        Yaw (positive to the image's right) and roll (positive clockwise) in degrees, float64 (n, 2).
    """
    poses = []
    # They are few, and mostly one: NumPy would take longer.
    for left_x, right_x, nose_x, _, _, left_y, right_y, nose_y, _, _ in landmarks.tolist():
        across, down = right_x - left_x, right_y - left_y
        nose = (nose_x - (left_x + right_x) / 2) * across + (nose_y - (left_y + right_y) / 2) * down
        aside = nose / max(across**2 + down**2, 1e-12)
        poses.append((math.degrees(math.atan2(aside, _NOSE_DEPTH)), math.degrees(math.atan2(down, across))))
    return np.array(poses, np.float64).reshape(-1, 2)


def _to_faces(boxes: Boxes, scores: Scores, poses: Poses, width: int, height: int) -> list[Face]:
    """Faces from boxes, which are clipped to the image and rounded to whole pixels; boxes without area are dropped."""
    limits = np.array([width - 1, height - 1, width - 1, height - 1], dtype=np.float64)
    clipped = np.clip(boxes, 0.0, limits)
    corners = clipped[:, :2].round().astype(int)
    sides = (clipped[:, 2:] - clipped[:, :2]).round().astype(int)
    return [
        Face(int(x), int(y), int(w), int(h), float(score), float(yaw), float(roll))
        for (x, y), (w, h), score, (yaw, roll) in zip(corners, sides, scores, poses, strict=True)
        if w > 0 and h > 0
    ]
