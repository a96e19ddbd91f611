"""Photos of held-out people, with their faces and moods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines import paths
from pipelines.data.dataset import PHOTOS_SCHEMA, iterate_images
from pipelines.data.splits import photo_labels, photos_of_split
from pipelines.params import PrepareParams
from service.detector import Face


@dataclass(frozen=True)
class Photo:
    """A photo in which the cascade finds a face.

    Attributes:
        person: Who is in it; see `pipelines.data.splits.person_of`.
        mood: Index of the labelled mood in `service.moods.MOODS`.
        data: Content of the JPEG file.
        face: Largest face, in pixels of the photo.
    """

    person: str
    mood: int
    data: bytes
    face: Face


def photos_of(split: str, params: PrepareParams) -> list[Photo]:
    """The photos of a split in which a face was found, in the order of the file.

    Raises:
        DatasetError: The photos or the table of people are missing or wrong.
        FileNotFoundError: The boxes, which the stage `detect` writes, are missing.
    """
    chosen = photos_of_split(paths.PHOTOS, params, split)
    persons, moods = photo_labels(paths.PHOTOS, params)
    boxes = pd.read_csv(paths.PHOTO_BOXES)
    rows = chosen.rows[boxes["faces"].to_numpy()[chosen.rows] > 0]
    images = iterate_images(paths.PHOTOS, PHOTOS_SCHEMA, rows)
    return [
        Photo(
            str(persons[row]),
            int(moods[row]),
            data,
            Face(int(box.x), int(box.y), int(box.width), int(box.height), float(box.confidence)),
        )
        for row, box, data in zip(rows, boxes.iloc[rows].itertuples(), images, strict=True)
    ]


def one_of_each(photos: list[Photo], count: int, random: np.random.Generator) -> list[Photo]:
    """One photo of each of some people, drawn at random.

    Args:
        photos: Photos to choose from, of at least `count` people.
        count: Number of people.
        random: Source of the draws.
    """
    order = [photos[index] for index in random.permutation(len(photos))]
    first = {photo.person: photo for photo in reversed(order)}
    return [first[person] for person in random.permutation(sorted(first))[:count]]
