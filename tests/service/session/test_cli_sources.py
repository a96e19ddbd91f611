"""`service.session.sources`: the frames of a video or of a folder of images, with their times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from service.errors import InvalidImageError, TooLargeError, UnsupportedTypeError
from service.session.sources import SourceError, Still, Thinning, read
from tests.support.pictures import Pixels, encode, oriented
from tests.support.videos import quicktime

Read = Callable[..., list[Still]]


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def read_all(tmp_path: Path, warnings: list[str]) -> Read:
    """Reads a source by its name in the test's folder."""

    def read_by_name(name: str = "", **options: object) -> list[Still]:
        return list(read(tmp_path / name, **{"every": 0.5, "warn": warnings.append, **options}))  # type: ignore[arg-type]

    return read_by_name


def grey(value: int, width: int = 64, height: int = 48) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def level(still: Still) -> int:
    """The grey value of an image, to the next ten."""
    return 10 * round(float(still.load(None).pixels.mean()) / 10)


def taken(time: str, fraction: str | None = None, value: int = 100) -> bytes:
    """A JPEG that tells when it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: time, **({0x9291: fraction} if fraction else {})})
    return encode(grey(value), exif=exif)


def test_a_folder_without_times_is_read_in_the_order_of_its_names(tmp_path: Path, read_all: Read) -> None:
    for number in (10, 2, 1):
        (tmp_path / f"frame_{number}.png").write_bytes(encode(grey(10 * number), "PNG"))
    stills = read_all(every=0.25)
    assert [level(still) for still in stills] == [10, 20, 100]
    assert [still.time for still in stills] == [0.0, 0.25, 0.5]


def test_images_that_tell_when_they_were_taken_have_these_times(tmp_path: Path, read_all: Read) -> None:
    (tmp_path / "a.jpg").write_bytes(taken("2026:11:24 10:00:03", "25", value=60))
    (tmp_path / "b.jpg").write_bytes(taken("2026:11:24 10:00:01", value=30))
    stills = read_all()
    assert [(still.time, level(still)) for still in stills] == [(0.0, 30), (2.25, 60)]
    assert [still.time for still in read_all(times="name")] == [0.0, 0.5]


def test_images_of_one_second_are_spread_over_it(tmp_path: Path, read_all: Read) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(taken("2026:11:24 10:00:01"))
    assert [still.time for still in read_all(every=0.01)] == [0.0, 0.25, 0.5, 0.75]


def test_times_rise_though_only_some_images_tell_the_fraction(tmp_path: Path, read_all: Read) -> None:
    for number, fraction in enumerate([None, None, "25", "75"]):
        (tmp_path / f"{number}.jpg").write_bytes(taken("2026:11:24 10:00:01", fraction))
    assert [still.time for still in read_all(every=0.01)] == [0.0, 0.5, 0.75]


def test_a_burst_is_thinned_by_its_times(tmp_path: Path, read_all: Read) -> None:
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_bytes(taken("2026:11:24 10:00:01", str(number)))
    assert [still.time for still in read_all(every=0.5)] == [0.0, 0.5]


def test_times_that_only_some_images_tell_are_not_mixed_with_names(tmp_path: Path, read_all: Read) -> None:
    (tmp_path / "a.jpg").write_bytes(taken("2026:11:24 10:00:03"))
    (tmp_path / "b.jpg").write_bytes(taken("a nice day"))
    assert [still.time for still in read_all()] == [0.0, 0.5]
    with pytest.raises(SourceError, match="1 of 2 images do not tell when they were taken"):
        read_all(times="exif")


def test_images_are_turned_upright_and_reduced_as_the_service_does(tmp_path: Path, read_all: Read) -> None:
    picture = grey(0, 640, 320)
    picture[:, :320] = 250
    (tmp_path / "a.jpg").write_bytes(oriented(picture, 6))
    (still,) = read_all()
    frame = still.load(160)
    assert (frame.width, frame.height, frame.pixels.shape) == (640, 320, (160, 320, 3))
    assert frame.pixels[:, 20].mean() > 240 > 10 > frame.pixels[:, -20].mean()


def test_a_bad_image_is_one_frame_and_other_files_are_none(tmp_path: Path, read_all: Read, warnings: list[str]) -> None:
    files = {"1.jpg": b"no image", "2.JPEG": encode(grey(90)), "3.png": b"GIF89a", "notes.txt": b"", ".hidden.jpg": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    first, second, third = read_all()
    with pytest.raises(InvalidImageError):
        first.load(None)
    assert level(second) == 90
    with pytest.raises(UnsupportedTypeError):
        third.load(None)
    assert warnings == ["Left out, as their names are not those of images: 1 of 4 entries."]


def test_an_image_with_too_many_pixels_is_refused_as_by_the_service(tmp_path: Path, read_all: Read) -> None:
    (tmp_path / "1.png").write_bytes(encode(grey(90, 101, 100), "PNG"))
    (still,) = read_all(max_pixels=10_000)
    with pytest.raises(TooLargeError):
        still.load(None)


def test_each_frame_of_a_video_has_its_own_time_though_the_rate_varies(tmp_path: Path, read_all: Read) -> None:
    times = [0.0, 0.1, 0.4, 0.5, 1.7, 1.75]
    (tmp_path / "v.mov").write_bytes(quicktime([grey(40 * number) for number in range(6)], times))
    assert [(still.time, level(still)) for still in read_all("v.mov", every=0.01)] == [
        pytest.approx((time, 40 * number)) for number, time in enumerate(times)
    ]
    assert [still.time for still in read_all("v.mov", every=0.5)] == pytest.approx([0.0, 0.5, 1.7])


@pytest.mark.parametrize(("turn", "row", "column"), [(0, 0, 0), (90, 0, -1), (180, -1, -1), (270, -1, 0)])
def test_a_video_is_turned_as_its_player_would(
    tmp_path: Path, read_all: Read, turn: int, row: int, column: int
) -> None:
    picture = grey(0)
    picture[:16, :16] = 255  # at the upper left of what is stored
    (tmp_path / "v.mov").write_bytes(quicktime([picture, picture], [0.0, 0.5], turn=turn))
    frame = read_all("v.mov")[0].load(None)
    assert (frame.width, frame.height) == ((48, 64) if turn % 180 else (64, 48))
    corners = {(r, c): int(frame.pixels[r, c, 0]) for r in (0, -1) for c in (0, -1)}
    assert max(corners, key=lambda place: corners[place]) == (row, column)


def test_the_colours_of_a_video_are_red_green_blue(tmp_path: Path, read_all: Read) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[:, :, 0] = 250
    (tmp_path / "v.mov").write_bytes(quicktime([red], [0.0]))
    pixels = read_all("v.mov")[0].load(None).pixels
    assert pixels[24, 32, 0] > 200 > 50 > pixels[24, 32, 2]


def test_a_video_that_ends_early_is_said_to(tmp_path: Path, read_all: Read, warnings: list[str]) -> None:
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(whole), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 2, (64, 48))
    for frame in np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), np.uint8):
        writer.write(frame)
    writer.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert len(read_all("whole.avi")) == 12
    assert not warnings
    assert 3 <= len(read_all("cut.avi")) <= 7
    assert len(warnings) == 1
    assert "of 12 frames" in warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.mp4", None, "There is no file or folder"),
        ("empty.mp4", b"", "cannot be read as a video"),
        ("text.mp4", b"no video" * 100, "cannot be read as a video"),
        ("single.jpg", encode(grey(90)), "is a single image"),
        ("list.m3u8", b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n", "cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_refused_in_a_sentence(
    tmp_path: Path, read_all: Read, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read_all(name)


def test_a_folder_without_images_is_refused(read_all: Read) -> None:
    with pytest.raises(SourceError, match="holds no image"):
        read_all()


def test_periods_follow_each_other_without_drift() -> None:
    thinning = Thinning(0.5)
    times = [3.0 + number / 30 for number in range(301)]
    taken = [time for time in times if thinning.takes(time)]
    assert taken == pytest.approx([3.0 + number / 2 for number in range(21)])
