"""`python -m pipelines.ingest photos`: labelled photos to rows, as they are stored, without duplicates."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from typer.testing import Result

from pipelines.data import dataset
from pipelines.ingest.photos import identity_of
from service import images
from tests.support.ingesting import rows_of, run, save


@pytest.fixture
def portrait() -> NDArray[np.uint8]:
    """A photo of a person with her face well in it: uint8 (300, 260, 3), RGB."""
    return np.ascontiguousarray(astronaut()[0:300, 90:350])


def ingest_photos(folder: Path, *options: object) -> Result:
    return run("photos", folder, "--out", photos_file(folder), *options)


def photos_file(folder: Path) -> Path:
    return folder.parent / "out" / "photos.parquet"


def write_csv(path: Path, *lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    return path


def test_photos_are_labelled_by_their_folder(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "Happy" / "Eileen_Collins_0001.jpg", portrait)
    save(tmp_path / "mine" / "neutral" / "Eileen_Collins_0002.png", portrait[:, ::-1])
    assert ingest_photos(tmp_path / "mine").exit_code == 0
    rows = rows_of(photos_file(tmp_path / "mine"))
    assert [(row["image"]["path"], row["emotion"], row["identity"]) for row in rows] == [
        ("Happy/Eileen_Collins_0001.jpg", "happiness", "Eileen_Collins"),
        ("neutral/Eileen_Collins_0002.png", "neutral", "Eileen_Collins"),
    ]
    assert pq.read_schema(photos_file(tmp_path / "mine")).equals(dataset.PHOTOS_SCHEMA)


def test_photos_are_labelled_by_a_csv_file(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "b.png", portrait)
    save(tmp_path / "mine" / "a.png", portrait[:, ::-1])
    labels = write_csv(
        tmp_path / "labels.csv", ("image", "emotion", "identity"), ("b.png", "SAD", "Eileen"), ("a.png", "anger", "")
    )
    assert ingest_photos(tmp_path / "mine", "--labels", labels).exit_code == 0
    rows = rows_of(photos_file(tmp_path / "mine"))
    assert [(row["image"]["path"], row["emotion"], row["identity"]) for row in rows] == [
        ("a.png", "anger", "a"),
        ("b.png", "sadness", "Eileen"),
    ]


def test_a_checkout_of_facial_expressions_is_read_by_its_legend(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    root = tmp_path / "facial_expressions"
    save(root / "images" / "Eileen_Collins_0001.jpg", portrait)
    save(root / "images" / "Somebody_Else_0001.jpg", portrait[:, ::-1])
    write_csv(
        root / "data" / "legend.csv",
        ("user.id", "image", "emotion"),
        ("302", "Eileen_Collins_0001.jpg", "HAPPINESS"),
        ("302", "Somebody_Else_0001.jpg", "neutral"),
    )
    assert ingest_photos(root).exit_code == 0
    # Who labelled the pictures (user.id) is not who is in them.
    assert [row["identity"] for row in rows_of(photos_file(root))] == ["Eileen_Collins", "Somebody_Else"]


def test_a_large_photo_is_scaled_to_a_jpeg_of_224_pixels(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.png", portrait)
    ingest_photos(tmp_path / "mine")
    stored = rows_of(photos_file(tmp_path / "mine"))[0]["image"]["bytes"]
    picture = Image.open(io.BytesIO(stored))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (194, 224))
    expected = cv2.resize(portrait, (194, 224), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(images.decode(stored) - expected).mean() < 5


def test_a_photo_without_colour_is_stored_grey(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.png", cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY))
    ingest_photos(tmp_path / "mine")
    assert Image.open(io.BytesIO(rows_of(photos_file(tmp_path / "mine"))[0]["image"]["bytes"])).mode == "L"


def test_a_photo_that_lies_on_its_side_is_stored_upright(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    save(tmp_path / "mine" / "happy" / "x.jpg", np.ascontiguousarray(np.rot90(portrait)), exif=exif)
    ingest_photos(tmp_path / "mine")
    picture = Image.open(io.BytesIO(rows_of(photos_file(tmp_path / "mine"))[0]["image"]["bytes"]))
    assert picture.size == (194, 224)
    assert picture.getexif().get(0x0112, 1) == 1


def test_a_small_jpeg_stays_as_it_is(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    file = save(tmp_path / "mine" / "happy" / "x.jpg", np.ascontiguousarray(portrait[:200, :200]), quality=50)
    ingest_photos(tmp_path / "mine")
    assert rows_of(photos_file(tmp_path / "mine"))[0]["image"]["bytes"] == file.read_bytes()


def test_photos_are_added_to_an_existing_file(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.jpg", portrait)
    ingest_photos(tmp_path / "mine")
    (before,) = rows_of(photos_file(tmp_path / "mine"))
    save(tmp_path / "mine" / "fear" / "a.jpg", portrait[::-1])
    result = ingest_photos(tmp_path / "mine", "--append")
    assert "2 came, 1 of them new, 2 in all" in result.output
    assert "1 left out: there already" in result.output
    after = rows_of(photos_file(tmp_path / "mine"))
    assert after[0] == before
    assert [row["emotion"] for row in after] == ["happiness", "fear"]


def test_the_table_of_emotions_says_what_was_there_and_what_is_new(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.jpg", portrait)
    ingest_photos(tmp_path / "mine")
    for name, shift in (("a", 1), ("b", 2)):
        save(tmp_path / "mine" / "fear" / f"{name}.jpg", np.roll(portrait, shift, axis=0))
    cells = [line.strip("│ ").split("│") for line in ingest_photos(tmp_path / "mine", "--append").output.splitlines()]
    rows = {one[0].strip(): [cell.strip() for cell in one[1:]] for one in cells if len(one) > 1}
    assert rows["fear"] == ["0", "2", "2"]  # before, new, all
    assert rows["happiness"] == ["1", "0", "1"]
    assert rows["all"] == ["1", "2", "3"]


def test_adding_the_same_photos_again_changes_nothing(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.png", portrait)
    save(tmp_path / "mine" / "sad" / "y.jpg", portrait[::-1])
    ingest_photos(tmp_path / "mine")
    before = photos_file(tmp_path / "mine").read_bytes()
    result = ingest_photos(tmp_path / "mine", "--append")
    assert result.exit_code == 0
    assert "2 came, 0 of them new, 2 in all" in result.output
    assert "2 left out: there already" in result.output
    assert photos_file(tmp_path / "mine").read_bytes() == before


def test_a_photo_that_stands_there_with_another_emotion_is_a_problem(
    tmp_path: Path, portrait: NDArray[np.uint8]
) -> None:
    save(tmp_path / "mine" / "happy" / "x.jpg", portrait)
    save(tmp_path / "mine" / "sad" / "y.jpg", portrait)
    result = ingest_photos(tmp_path / "mine")
    assert result.exit_code == 1
    assert (
        f"{tmp_path / 'mine/sad/y.jpg'}: the same picture as happy/x.jpg, which is labelled happiness" in result.output
    )


def test_two_photos_of_one_name_are_a_problem(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.jpg", portrait)
    ingest_photos(tmp_path / "mine")
    save(tmp_path / "mine" / "happy" / "x.jpg", portrait[::-1])
    assert "another picture is named happy/x.jpg already" in ingest_photos(tmp_path / "mine", "--append").output


def test_wrong_lines_of_a_csv_file_are_reported_with_their_numbers(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    file = save(tmp_path / "mine" / "whole.jpg", portrait)
    (tmp_path / "mine" / "half.jpg").write_bytes(file.read_bytes()[:3000])
    (tmp_path / "mine" / "moving.gif").write_bytes(b"GIF89a")
    labels = write_csv(
        tmp_path / "labels.csv",
        ("image", "emotion"),
        ("whole.jpg", "happy"),
        ("half.jpg", "happy"),
        ("absent.jpg", "happy"),
        ("moving.gif", "happy"),
        ("whole.jpg", "bored"),
        ("", "happy"),
    )
    result = ingest_photos(tmp_path / "mine", "--labels", labels)
    assert result.exit_code == 1
    assert f"{labels}:3: half.jpg: The image is damaged" in result.output
    assert f"{labels}:4: absent.jpg: the file cannot be read: No such file" in result.output
    assert f"{labels}:5: moving.gif: The data looks like GIF" in result.output
    assert f"{labels}:6: whole.jpg: the emotion 'bored' is none of neutral" in result.output
    assert f"{labels}:7: : no image is named" in result.output
    skipped = ingest_photos(tmp_path / "mine", "--labels", labels, "--skip-invalid")
    assert "6 came, 1 of them new, 1 in all" in skipped.output
    assert "5 left out: invalid" in skipped.output
    assert len(rows_of(photos_file(tmp_path / "mine"))) == 1


def test_a_folder_without_labels_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "mine" / "holidays").mkdir(parents=True)
    result = ingest_photos(tmp_path / "mine")
    assert result.exit_code == 1
    assert "--labels" in result.output


def test_adding_to_a_file_that_is_not_there_is_an_error(tmp_path: Path, portrait: NDArray[np.uint8]) -> None:
    save(tmp_path / "mine" / "happy" / "x.jpg", portrait)
    result = ingest_photos(tmp_path / "mine", "--append")
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_adding_to_a_file_with_other_columns_is_an_error_that_shows_them(tmp_path: Path) -> None:
    save(tmp_path / "mine" / "happy" / "x.jpg", np.zeros((60, 60), np.uint8))
    pq.write_table(pa.table({"emotion": ["happiness"]}), tmp_path / "other.parquet")
    result = run("photos", tmp_path / "mine", "--out", tmp_path / "other.parquet", "--append")
    assert result.exit_code == 1
    assert "has other columns than it should" in result.output


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("George_W_Bush_0330.jpg", "George_W_Bush"),
        ("happiness/Inam-ul-Haq_Khan_0002.png", "Inam-ul-Haq_Khan"),
        ("Abdullah_0001.jpg", "abdullah"),
        ("Avinash_10.jpg", "avinash"),
        ("20240131.jpg", "20240131"),
    ],
)
def test_the_identity_is_read_off_the_file_name(name: str, identity: str) -> None:
    assert identity_of(name) == identity


def test_the_identity_of_every_published_photo_is_that_of_its_file_name(photos: Path) -> None:
    for row in dataset.read(photos, dataset.PHOTOS_SCHEMA, ["image.path", "identity"]).to_pylist():
        assert identity_of(row["image"]["path"]) == row["identity"]
