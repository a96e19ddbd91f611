"""Stage `prepare`: labelled images to the face sets that training, evaluation and the drift reference read.

FER2013 consists of faces. Photos are cropped at the boxes of the stage `detect` with the service's own code. FER2013
keeps its official splits; the photos are split by person. People who are new to the dataset are added to the table of
people, and nobody in it changes the split. A training image that also occurs in validation or test, exactly or as a
near duplicate, is removed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines import paths
from pipelines.data import dataset, near_duplicates, test_sets
from pipelines.data.dataset import EMOTIONS, FER2013_SCHEMA, PHOTOS_SCHEMA, USAGES, VOTE_COLUMNS
from pipelines.data.dealing import Pictures, bonds, deal
from pipelines.data.face_sets import SOURCES, FaceSet
from pipelines.data.labels import emotion_shares, moods_of, moods_of_emotions, one_hot, soft_labels
from pipelines.data.splits import SPLITS, photo_labels, read_people, write_people
from pipelines.params import Params, PrepareParams
from service import faces, images
from service.classifier import InputSpec
from service.detector import Face
from service.moods import MOODS

_SPLIT_OF_USAGE = dict(zip(USAGES, SPLITS, strict=True))
_MONTAGE_COLUMNS, _MONTAGE_ROWS = 12, 4


def load_fer2013(path: Path, params: PrepareParams, spec: InputSpec) -> tuple[FaceSet, NDArray[np.str_]]:
    """Read the faces of FER2013 with their votes and original labels.

    Args:
        path: Parquet file, see `pipelines.data.dataset`.
        params: Source of the labels; with `ferplus`, images without a vote that counts are left out.
        spec: Input of the classifier, for the size of the faces.

    Returns:
        n faces, and the name of each one's split, (n,).

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
        KeyError: `params.moods` lacks an emotion.
    """
    table = dataset.read(path, FER2013_SCHEMA, ["usage", "emotion", *VOTE_COLUMNS]).to_pandas()
    colours = map(images.decode, dataset.iterate_images(path, FER2013_SCHEMA))
    greys = (np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), np.uint8) for colour in colours)
    pixels = np.stack([faces.resize(grey, spec.size) for grey in greys])
    names = [name.removeprefix("votes_") for name in VOTE_COLUMNS]
    votes = table[list(VOTE_COLUMNS)].to_numpy()
    ferplus = soft_labels(votes, names, params)
    original = moods_of_emotions(table["emotion"], params)
    face_set = FaceSet(
        pixels=pixels,
        soft_labels=ferplus if params.label_source == "ferplus" else one_hot(original),
        emotions=emotion_shares(votes[:, [names.index(emotion) for emotion in EMOTIONS]], params.min_votes),
        ferplus_mood=moods_of(ferplus),
        original_mood=original,
        source=np.full(len(table), SOURCES.index("fer2013"), np.uint8),
        row=np.arange(len(table), dtype=np.int32),
    )
    labelled = moods_of(face_set.soft_labels) >= 0
    return face_set.select(labelled), table["usage"].map(_SPLIT_OF_USAGE).to_numpy(dtype=str)[labelled]


def load_photos(path: Path, boxes_path: Path, params: PrepareParams, spec: InputSpec) -> FaceSet:
    """Crop the largest face of every photo that shows one.

    Args:
        path: Parquet file, see `pipelines.data.dataset`.
        boxes_path: Boxes that the stage `detect` found in these photos.
        params: Moods of the emotions.
        spec: Input of the classifier, for the size and margin of the crops.

    Raises:
        DatasetError: The file is absent, is not Parquet, or has another schema.
        KeyError: `params.moods` lacks an emotion.
        ValueError: The number of boxes is not that of the photos.
    """
    emotions = dataset.read(path, PHOTOS_SCHEMA, ["emotion"]).to_pandas()["emotion"].to_numpy()
    boxes = pd.read_csv(boxes_path)
    if len(boxes) != len(emotions):
        raise ValueError(f"{boxes_path} has {len(boxes)} rows, {path} has {len(emotions)}: run the stage `detect`")
    rows = np.flatnonzero(boxes["faces"])
    pixels = []
    for data, box in zip(dataset.iterate_images(path, PHOTOS_SCHEMA, rows), boxes.iloc[rows].itertuples(), strict=True):
        face = Face(x=box.x, y=box.y, width=box.width, height=box.height, confidence=box.confidence)
        pixels.append(faces.crop(images.decode(data), face, size=spec.size, margin=spec.margin))
    moods = moods_of_emotions(emotions[rows], params)
    return FaceSet(
        pixels=np.stack(pixels),
        soft_labels=one_hot(moods),
        emotions=(emotions[rows, None] == np.array(EMOTIONS)).astype(np.float32),
        ferplus_mood=moods,
        original_mood=moods,
        source=np.full(len(rows), SOURCES.index("photos"), np.uint8),
        row=rows.astype(np.int32),
    )


def assign_people(
    path: Path, photos: FaceSet, fer2013: FaceSet, fer2013_splits: NDArray[np.str_], params: PrepareParams
) -> tuple[dict[str, str], NDArray[np.str_]]:
    """Assign the people who are new to the photos, and look up the split of every photo.

    Args:
        path: Parquet file of the photos.
        photos: Faces of the photos.
        fer2013: Faces of FER2013.
        fer2013_splits: The split of each of these.
        params: Moods, shares of the splits, and the correlation of near duplicates.

    Returns:
        The table of people with the new ones, see `pipelines.data.splits`; and the split of each photo, with or without
        a face, (rows of the file,).

    Raises:
        DatasetError: The table of people is wrong.
    """
    persons, moods = photo_labels(path, params)
    assigned = read_people() if paths.PEOPLE.exists() else {}
    bound = bonds(
        Pictures(photos.pixels, persons[photos.row]),
        Pictures(fer2013.pixels, fer2013_splits),
        assigned,
        params.duplicate_correlation,
    )
    people = deal(persons, moods, assigned, params.photo_splits, bound)
    new = Counter(split for person, split in people.items() if person not in assigned)
    if new:
        print(f"{new.total():,} new people: {', '.join(f'{new[split]:,} in {split}' for split in SPLITS)}")
    return people, np.array([people[person] for person in persons])


def measured_sets(
    sets: Mapping[str, FaceSet], persons: NDArray[np.str_], moods: NDArray[np.int8], splits: NDArray[np.str_]
) -> dict[str, dict[str, dict[str, str | int]]]:
    """Versions and sizes of the sets that models are measured on; see `pipelines.data.test_sets`.

    Args:
        sets: Face sets by the names of `SPLITS`.
        persons: The person in each photo, (rows of the file,).
        moods: Index of the mood of each photo, int8 (rows of the file,).
        splits: The split of each photo, (rows of the file,).
    """
    found: dict[str, dict[str, dict[str, str | int]]] = {}
    for split in SPLITS[1:]:
        faces = sets[split].of_source("fer2013")
        labels = (f"{votes} {own}" for votes, own in zip(faces.ferplus_mood, faces.original_mood, strict=True))
        images = dataset.iterate_images(paths.FER2013, FER2013_SCHEMA, faces.row)
        rows = np.flatnonzero(splits == split)
        photos = dataset.iterate_images(paths.PHOTOS, PHOTOS_SCHEMA, rows)
        found[split] = {
            "fer2013": {"version": test_sets.version_of(zip(images, labels, strict=True)), "images": len(faces)},
            "photos": {
                "version": test_sets.version_of(zip(photos, map(str, moods[rows]), strict=True)),
                "images": len(rows),
                "people": len(np.unique(persons[rows])),
            },
        }
    return found


def remove_leaks(sets: dict[str, FaceSet], threshold: float) -> tuple[dict[str, FaceSet], dict[str, object]]:
    """Remove training images that also occur in validation or test.

    Validation and test stay complete, so that metrics on FER2013's official splits compare with published ones. The
    report counts the images that these two share.

    Args:
        sets: Face sets by the names of `SPLITS`.
        threshold: Correlation from which two images are the same picture.

    Returns:
        The face sets, and the report with the counts.
    """
    train, validation, test = (sets[name] for name in SPLITS)
    in_validation = near_duplicates.duplicated_in(train.pixels, validation.pixels, threshold)
    in_test = near_duplicates.duplicated_in(train.pixels, test.pixels, threshold)
    leaked = in_validation | in_test
    report = {
        "correlation_threshold": threshold,
        "training_images_before": len(train),
        "removed_because_in_validation": int(in_validation.sum()),
        "removed_because_in_test": int(in_test.sum()),
        "removed": int(leaked.sum()),
        "removed_by_source": {name: int((leaked & (train.source == code)).sum()) for code, name in enumerate(SOURCES)},
        "training_images_after": int((~leaked).sum()),
        "validation_images_also_in_test": int(
            near_duplicates.duplicated_in(validation.pixels, test.pixels, threshold).sum()
        ),
    }
    return {**sets, "train": train.select(~leaked)}, report


def class_table(sets: dict[str, FaceSet]) -> pd.DataFrame:
    """Count the faces by split, source and mood; the mood is that with the largest label share."""
    rows = []
    for split, face_set in sets.items():
        for source in SOURCES:
            counts = Counter(face_set.of_source(source).soft_labels.argmax(axis=1).tolist())
            by_mood = {mood: counts[index] for index, mood in enumerate(MOODS)}
            rows.append({"split": split, "source": source, **by_mood, "total": counts.total()})
    return pd.DataFrame(rows)


def montage(face_set: FaceSet, mood: int, seed: int) -> NDArray[np.uint8]:
    """Arrange randomly chosen faces of a mood in 4 rows of 12, uint8 (4 * size, 12 * size); empty cells are black."""
    rows = np.flatnonzero(face_set.soft_labels.argmax(axis=1) == mood)
    chosen = face_set.pixels[np.random.default_rng(seed).permutation(rows)[: _MONTAGE_COLUMNS * _MONTAGE_ROWS]]
    size = face_set.pixels.shape[1]
    cells = np.zeros((_MONTAGE_ROWS * _MONTAGE_COLUMNS, size, size), np.uint8)
    cells[: len(chosen)] = chosen
    grid = cells.reshape(_MONTAGE_ROWS, _MONTAGE_COLUMNS, size, size)
    return grid.transpose(0, 2, 1, 3).reshape(_MONTAGE_ROWS * size, _MONTAGE_COLUMNS * size)


def main() -> None:
    """Read both files of the dataset; write the face sets, the table of people, the reports and a montage per mood."""
    settings = Params.read()
    params, spec = settings.prepare, settings.input
    fer2013, fer2013_splits = load_fer2013(paths.FER2013, params, spec)
    photos = load_photos(paths.PHOTOS, paths.PHOTO_BOXES, params, spec)
    people, photo_splits = assign_people(paths.PHOTOS, photos, fer2013, fer2013_splits, params)
    parts = [(fer2013, fer2013_splits), (photos, photo_splits[photos.row])]
    sets = {
        split: FaceSet.concatenate([face_set.select(splits == split) for face_set, splits in parts]) for split in SPLITS
    }
    sets, leaks = remove_leaks(sets, params.duplicate_correlation)
    leaks = {
        "fer2013_images_without_a_vote_that_counts": dataset.count_rows(paths.FER2013, FER2013_SCHEMA) - len(fer2013),
        "photos_without_a_face": len(photo_splits) - len(photos),
        **leaks,
    }
    table = class_table(sets)

    write_people(people)
    paths.FACES.mkdir(parents=True, exist_ok=True)
    for split, face_set in sets.items():
        face_set.save(paths.face_set(split))
    for index, mood in enumerate(MOODS):
        cv2.imwrite(str(paths.FACES / f"montage_{mood}.png"), montage(sets["train"], index, params.seed))
    paths.CLASS_TABLE.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(paths.CLASS_TABLE, index=False, lineterminator="\n")
    paths.LEAKS.write_text(json.dumps(leaks, indent=2) + "\n")
    persons, moods = photo_labels(paths.PHOTOS, params)
    test_sets.write(measured_sets(sets, persons, moods, photo_splits))
    print(table.to_string(index=False))
    print(json.dumps(leaks, indent=2))


if __name__ == "__main__":
    main()
