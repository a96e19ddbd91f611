"""`python -m pipelines.ingest fer2013` and `folders`: the faces of FER2013 to rows, with or without votes."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

from pipelines.data import dataset
from tests.support.ingesting import pixels_of, rows_of, run, save

FERPLUS_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


@dataclass
class Official:
    """The two official files, as lists of lines that a test may change before it writes them."""

    folder: Path
    faces: list[str]
    votes: list[str]

    def write(self) -> tuple[Path, Path]:
        faces, votes = self.folder / "fer2013.csv", self.folder / "fer2013new.csv"
        faces.write_text("\n".join(self.faces) + "\n")
        votes.write_text("\n".join(self.votes) + "\n")
        return faces, votes

    def ingest(self, *options: str) -> Result:
        return run("fer2013", *self.write(), "--out", self.out, *options)

    @property
    def out(self) -> Path:
        return self.folder / "out" / "fer2013.parquet"


@pytest.fixture
def grey() -> NDArray[np.uint8]:
    """Five faces' worth of noise, (5, 48, 48)."""
    return np.random.default_rng(3).integers(0, 256, (5, 48, 48), dtype=np.uint8)


@pytest.fixture
def official(tmp_path: Path, grey: NDArray[np.uint8]) -> Official:
    """Five rows, of which FER+ removed the third, so that the names' numbers lag behind the rows."""
    words = [" ".join(map(str, face.ravel())) for face in grey]
    return Official(
        tmp_path,
        [
            "emotion,pixels,Usage",
            f"0,{words[0]},Training",
            f"3,{words[1]},Training",
            f"6,{words[2]},Training",
            f"5,{words[3]},PublicTest",
            f"1,{words[4]},PrivateTest",
        ],
        [
            FERPLUS_HEADER,
            "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0",
            "Training,fer0000001.png,0,10,0,0,0,0,0,0,0,0",
            "Training,,0,0,0,0,0,0,0,0,0,10",
            "PublicTest,fer0000002.png,1,0,7,0,0,0,1,0,0,0",
            "PrivateTest,fer0000003.png,1,1,1,1,1,1,1,1,1,1",
        ],
    )


# fer2013.csv and fer2013new.csv


def test_the_two_official_files_are_joined_row_by_row(official: Official, grey: NDArray[np.uint8]) -> None:
    assert official.ingest().exit_code == 0
    rows = rows_of(official.out)
    assert [row["emotion"] for row in rows] == ["angry", "happy", "surprise", "disgust"]
    assert [row["usage"] for row in rows] == ["Training", "Training", "PublicTest", "PrivateTest"]
    for row, face in zip(rows, grey[[0, 1, 3, 4]], strict=True):
        np.testing.assert_array_equal(pixels_of(row), face)
    assert [rows[0][column] for column in dataset.VOTE_COLUMNS] == [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]
    assert [rows[3][column] for column in dataset.VOTE_COLUMNS] == [1] * 10


def test_the_name_of_an_image_is_the_one_that_ferplus_gives_it(official: Official) -> None:
    official.ingest()
    names = [row["image"]["path"] for row in rows_of(official.out)]
    assert names == ["fer0000000.png", "fer0000001.png", "fer0000002.png", "fer0000003.png"]


def test_a_row_that_ferplus_removed_is_left_out_and_counted(official: Official) -> None:
    assert "1 left out: removed by FER+" in official.ingest().output


def test_the_written_file_has_the_schema_of_the_dataset(official: Official) -> None:
    official.ingest()
    assert pq.read_schema(official.out).equals(dataset.FER2013_SCHEMA)


def test_the_summary_counts_each_emotion_by_split(official: Official) -> None:
    lines = [line.replace("│", " ").split() for line in official.ingest().output.splitlines()]
    assert ["angry", "1", "0", "0", "1"] in lines
    assert ["surprise", "0", "1", "0", "1"] in lines
    assert ["all", "2", "1", "1", "4"] in lines


def zipped(path: Path) -> Path:
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.write(path, f"folder/{path.name}")
        opened.writestr("example_submission.csv", "emotion\n")
    return archive


def tarred(path: Path) -> Path:
    archive = path.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as opened:
        readme = tarfile.TarInfo("fer2013/README")
        opened.addfile(readme, io.BytesIO())
        opened.add(path, f"fer2013/{path.name}")
    return archive


def tarred_and_zipped(path: Path) -> Path:
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(tarred(path), "fer2013.tar.gz")
    return archive


@pytest.mark.parametrize("pack", [zipped, tarred, tarred_and_zipped])
def test_the_official_file_is_found_in_its_archive(pack: Callable[[Path], Path], official: Official) -> None:
    faces, votes = official.write()
    assert run("fer2013", pack(faces), votes, "--out", official.out).exit_code == 0
    assert len(rows_of(official.out)) == 4


def test_an_archive_that_breaks_off_is_called_damaged(official: Official) -> None:
    faces, votes = official.write()
    archive = tarred(faces)
    archive.write_bytes(archive.read_bytes()[:-9000])
    result = run("fer2013", archive, votes, "--out", official.out)
    assert result.exit_code == 1
    assert f"{archive} is damaged or incomplete" in result.output
    assert not official.out.exists()


def test_an_archive_without_the_official_file_says_what_it_has(official: Official) -> None:
    faces, votes = official.write()
    archive = zipped(faces.rename(faces.with_name("other.csv")))
    result = run("fer2013", archive, votes, "--out", official.out)
    assert result.exit_code == 1
    assert "no fer2013.csv; it has example_submission.csv, other.csv" in result.output


def test_columns_in_another_order_and_with_spaces_before_their_names_are_read_as_well(official: Official) -> None:
    """As in `icml_face_data.csv`, Kaggle's later version of the file."""
    swapped = [line.split(",") for line in official.faces]
    official.faces = [f"{emotion}, {usage}, {pixels}" for emotion, pixels, usage in swapped]
    assert official.ingest().exit_code == 0
    assert len(rows_of(official.out)) == 4


def changed(lines: list[str], line: int, column: int, value: str) -> None:
    """Put a value into a file; lines count from 1, columns from 0."""
    fields = lines[line - 1].split(",")
    fields[column] = value
    lines[line - 1] = ",".join(fields)


@pytest.mark.parametrize(
    ("file", "line", "column", "value", "reason"),
    [
        ("faces", 3, 0, "7", "the emotion '7' is not a code from 0 to 6"),
        ("faces", 3, 0, "", "the emotion '' is not a code"),
        ("faces", 3, 1, "1 2 3", "the image has 3 pixels, not 2,304"),
        ("faces", 3, 1, " ".join(["256"] * 2304), "the pixel '256' is not a number from 0 to 255"),
        ("faces", 3, 1, " ".join(["x"] * 2304), "the pixel 'x' is not"),
        ("faces", 3, 2, "Test", "the usage 'Test' is none of Training"),
        ("faces", 3, 2, "PublicTest", "the row's usage is PublicTest, but FER+ has Training for fer0000001.png"),
        ("votes", 3, 0, "Test", "the usage 'Test' is none of"),
        ("votes", 3, 1, "face.png", "the image name 'face.png' is not of the form"),
        ("votes", 3, 1, "fer0000000.png", "line 2 has the image fer0000000.png already"),
        ("votes", 3, 3, "11", "the votes for 'happiness' are '11', not a number from 0 to 10"),
        ("votes", 3, 3, "-1", "the votes for 'happiness' are '-1'"),
        ("votes", 3, 3, "0", "the row has 0 votes"),
        ("votes", 3, 2, "5", "the row has 15 votes"),
    ],
)
def test_a_wrong_row_is_reported_with_its_file_and_line_and_nothing_is_written(
    official: Official, file: str, line: int, column: int, value: str, reason: str
) -> None:
    changed(getattr(official, file), line, column, value)
    result = official.ingest()
    name = {"faces": "fer2013.csv", "votes": "fer2013new.csv"}[file]
    assert result.exit_code == 1
    assert f"{official.folder / name}:{line}: {reason}" in result.output
    assert not official.out.exists()


def test_wrong_rows_are_left_out_and_counted_if_that_is_asked_for(official: Official) -> None:
    changed(official.faces, 3, 0, "9")
    changed(official.votes, 6, 1, "x")
    result = official.ingest("--skip-invalid")
    assert result.exit_code == 0
    assert "2 left out: invalid" in result.output
    assert [row["emotion"] for row in rows_of(official.out)] == ["angry", "surprise"]


def test_a_row_that_ends_early_is_reported_with_its_line(official: Official) -> None:
    official.faces[1] = "0"
    assert f"{official.folder / 'fer2013.csv'}:2: " in official.ingest().output


def test_of_many_wrong_rows_the_first_are_printed_and_all_are_counted(official: Official) -> None:
    for line in (2, 3, 5):
        changed(official.faces, line, 0, "9")
    output = official.ingest("--show", "1").output
    assert "fer2013.csv:2:" in output
    assert "fer2013.csv:3:" not in output
    assert "and 2 more of 3" in output


@pytest.mark.parametrize("shorter", ["faces", "votes"])
def test_files_with_different_numbers_of_rows_are_not_joined(official: Official, shorter: str) -> None:
    getattr(official, shorter).pop()
    result = official.ingest("--skip-invalid")
    name = {"faces": "fer2013.csv", "votes": "fer2013new.csv"}[shorter]
    assert result.exit_code == 1
    assert f"{official.folder / name} ends after 4 rows" in result.output
    assert not official.out.exists()


def test_a_file_without_a_needed_column_says_which(official: Official) -> None:
    official.faces[0] = "emotion,pixel,Usage"
    assert "has no column 'pixels'; its first line has: emotion, pixel, Usage" in official.ingest().output


def test_an_existing_file_is_replaced_only_if_that_is_asked_for(official: Official) -> None:
    official.ingest()
    before = official.out.read_bytes()
    changed(official.faces, 2, 0, "4")
    refused = official.ingest()
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    assert official.out.read_bytes() == before
    assert official.ingest("--overwrite").exit_code == 0
    assert rows_of(official.out)[0]["emotion"] == "sad"


def test_a_build_that_fails_leaves_the_existing_file_and_nothing_half_written(official: Official) -> None:
    official.ingest()
    before = official.out.read_bytes()
    changed(official.faces, 6, 0, "9")
    assert official.ingest("--overwrite").exit_code == 1
    assert official.out.read_bytes() == before
    assert list(official.out.parent.iterdir()) == [official.out]


@pytest.mark.slow
def test_official_files_of_the_published_images_give_the_published_rows(tmp_path: Path, fer2013: Path) -> None:
    published = dataset.read(fer2013, dataset.FER2013_SCHEMA)
    faces, votes, out = tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv", tmp_path / "fer2013.parquet"
    removed, words = 0, [str(level) for level in range(256)]
    with faces.open("w") as faces_csv, votes.open("w") as votes_csv:
        faces_csv.write("emotion,pixels,Usage\n")
        votes_csv.write(f"{FERPLUS_HEADER}\n")
        for number, row in enumerate(published.to_pylist()):
            if number % 200 == 17:  # about as many as in the real file
                removed += 1
                faces_csv.write(f"6,{'0 ' * 2304},{row['usage']}\n")
                votes_csv.write(f"{row['usage']},,0,0,0,0,0,0,0,0,0,10\n")
            pixels = " ".join(map(words.__getitem__, pixels_of(row).tobytes()))
            faces_csv.write(f"{dataset.FER2013_EMOTIONS.index(row['emotion'])},{pixels},{row['usage']}\n")
            counts = ",".join(str(row[column]) for column in dataset.VOTE_COLUMNS)
            votes_csv.write(f"{row['usage']},{row['image']['path']},{counts}\n")

    result = run("fer2013", faces, votes, "--out", out)
    faces.unlink()  # 300 MB, which pytest would keep

    assert f"{removed} left out: removed by FER+" in result.output
    built = dataset.read(out, dataset.FER2013_SCHEMA)
    assert built.drop(["image"]).equals(published.drop(["image"]))
    for ours, theirs in zip(built["image"].to_pylist(), published["image"].to_pylist(), strict=True):
        assert ours["path"] == theirs["path"]
        if ours["bytes"] != theirs["bytes"]:  # another encoder may make another file of the same pixels
            np.testing.assert_array_equal(pixels_of({"image": ours}), pixels_of({"image": theirs}))


# Folders of faces


@pytest.fixture
def faces_folder(tmp_path: Path) -> Path:
    """Twenty training faces of each of two emotions, and a test face."""
    random = np.random.default_rng(4)
    root = tmp_path / "archive"
    for emotion in ("angry", "happy"):
        for number in range(20):
            save(root / "train" / emotion / f"{number:02}.png", random.integers(0, 256, (48, 48), dtype=np.uint8))
    save(root / "test" / "sad" / "x.jpg", random.integers(0, 256, (48, 48), dtype=np.uint8))
    return root


def ingest_folders(root: Path, *options: object) -> Result:
    return run("folders", root, "--out", root.parent / "fer2013.parquet", *options)


def test_folders_of_faces_become_rows_without_votes(faces_folder: Path) -> None:
    assert ingest_folders(faces_folder).exit_code == 0
    rows = rows_of(faces_folder.parent / "fer2013.parquet")
    assert len(rows) == 41
    assert {row[column] for row in rows for column in dataset.VOTE_COLUMNS} == {0}
    face = next(row for row in rows if row["image"]["path"] == "train/happy/07.png")
    assert face["emotion"] == "happy"
    np.testing.assert_array_equal(pixels_of(face), np.asarray(Image.open(faces_folder / "train" / "happy" / "07.png")))


def test_the_test_folder_is_the_private_test_and_a_share_of_each_emotion_validates(faces_folder: Path) -> None:
    ingest_folders(faces_folder, "--validation-share", 0.1)
    usages = [(row["usage"], row["emotion"]) for row in rows_of(faces_folder.parent / "fer2013.parquet")]
    assert usages.count(("PrivateTest", "sad")) == 1
    assert usages.count(("PublicTest", "angry")) == usages.count(("PublicTest", "happy")) == 2
    assert usages.count(("Training", "angry")) == 18


def test_the_same_seed_draws_the_same_validation_faces_and_another_seed_others(faces_folder: Path) -> None:
    files = []
    for seed in (1, 1, 2):
        ingest_folders(faces_folder, "--seed", seed, "--overwrite")
        files.append((faces_folder.parent / "fer2013.parquet").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_validation_folder_is_used_as_it_is(faces_folder: Path) -> None:
    save(faces_folder / "Validation" / "Fearful" / "x.png", np.zeros((48, 48), np.uint8))
    ingest_folders(faces_folder)
    validation = [row for row in rows_of(faces_folder.parent / "fer2013.parquet") if row["usage"] == "PublicTest"]
    assert [row["emotion"] for row in validation] == ["fear"]


def test_whatever_is_not_a_labelled_face_in_a_split_is_reported_with_its_path(faces_folder: Path) -> None:
    save(faces_folder / "train" / "angry" / "large.png", np.zeros((60, 50), np.uint8))
    (faces_folder / "train" / "angry" / "notes.txt").write_text("hello")
    save(faces_folder / "train" / "bored" / "x.png", np.zeros((48, 48), np.uint8))
    save(faces_folder / "extra" / "x.png", np.zeros((48, 48), np.uint8))
    (faces_folder / "train" / "angry" / ".DS_Store").write_text("left by a desktop, and no problem")
    output = ingest_folders(faces_folder).output
    assert f"{faces_folder / 'train/angry/large.png'}: it has 50 x 60 pixels" in output
    assert f"{faces_folder / 'train/angry/notes.txt'}: The data is not an image" in output
    assert f"{faces_folder / 'train/bored'}: the emotion 'bored' is none of" in output
    assert f"{faces_folder / 'extra'}: it is not a folder named as a split" in output
    assert "Error: 4 rows or files are invalid" in output


def test_a_folder_without_splits_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "angry").mkdir()
    result = ingest_folders(tmp_path)
    assert result.exit_code == 1
    assert f"expected is {tmp_path}/train/angry/" in result.output
