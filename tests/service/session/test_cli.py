"""`python -m service.session`: a video or a folder of images on the command line."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from service.session.__main__ import DONE, NO_FACE, UNREADABLE, WRONG_OPTIONS, main
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode
from tests.support.server import Server
from tests.support.videos import quicktime

SERVING_PYTHON = ROOT / ".venv" / "bin" / "python"


def jittered(picture: Pixels, count: int) -> list[Pixels]:
    """A picture that shakes, in frames of 480x480."""
    shifts = np.random.default_rng(0).integers(0, 12, (count, 2))
    return [np.ascontiguousarray(picture[row : row + 480, column : column + 480]) for row, column in shifts]


@pytest.fixture
def video(tmp_path: Path, astronaut: Pixels) -> Path:
    """Five frames of a smiling astronaut, two without anybody, and two more of her."""
    frames = jittered(astronaut, 9)
    frames[5] = frames[6] = np.full((480, 480, 3), 90, np.uint8)
    path = tmp_path / "visit_of_Anna.mov"
    path.write_bytes(quicktime(frames, [0.0, 0.4, 1.0, 1.5, 2.1, 2.6, 3.0, 3.5, 4.0]))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_video_becomes_all_that_is_asked_for(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv_file, json_file, plot, fhir = (tmp_path / name for name in ("s.csv", "s.json", "s.svg", "s.fhir.json"))
    outputs = ["--csv", csv_file, "--json", json_file, "--plot", plot, "--fhir", fhir]
    options = ["--every", "0.3", "--subject", "Patient/17", "--start", "2026-11-24T10:00:00Z"]
    assert main(list(map(str, [video, *outputs, *options]))) == DONE
    assert [row["code"] for row in rows(csv_file)] == ["ok"] * 5 + ["no_face"] * 2 + ["ok"] * 2
    assert [float(row["time"]) for row in rows(csv_file)] == [0.0, 0.4, 1.0, 1.5, 2.1, 2.6, 3.0, 3.5, 4.0]
    summary = document(json_file)["summary"]
    assert (summary["frames"], summary["answered"]) == (9, 7)
    assert summary["moods"]["positive"]["share"] == 1.0
    assert plot.read_text().startswith("<svg")
    (start,) = {entry["resource"]["effectivePeriod"]["start"] for entry in document(fhir)["entry"]}
    assert start == "2026-11-24T10:00:00.000+00:00"
    out, err = capsys.readouterr()
    assert out.startswith("0:04 min, 9 frames, 7 with an answer")
    assert err == ""


def test_frames_of_a_video_and_the_same_images_in_a_folder_have_the_same_answers(
    tmp_path: Path, astronaut: Pixels
) -> None:
    pictures = jittered(astronaut, 4)
    video, folder = tmp_path / "video.mov", tmp_path / "folder"
    video.write_bytes(quicktime(pictures, [0.0, 0.5, 1.0, 1.5]))
    folder.mkdir()
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    for number in range(4):
        done, pixels = capture.read()
        assert done
        (folder / f"{number}.png").write_bytes(encode(np.asarray(pixels[:, :, ::-1], np.uint8), "PNG"))
    for source in (video, folder):
        assert main([str(source), "--json", str(tmp_path / f"{source.stem}.json")]) == DONE
    assert document(tmp_path / "video.json")["frames"] == document(tmp_path / "folder.json")["frames"]


@pytest.mark.slow
def test_the_answers_are_those_of_the_endpoint(video: Path, tmp_path: Path, server: Server) -> None:
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    images, times = [], []
    while capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        images.append(encode(np.asarray(capture.retrieve()[1][:, :, ::-1], np.uint8), "PNG"))
    response = server.client.post(
        "/upload-meaa-frames",
        files=[("image", image) for image in images],
        data={"times": ",".join(map(str, times))},
    )
    assert main([str(video), "--every", "0.3", "--json", str(tmp_path / "s.json")]) == DONE
    expected, found = response.json(), document(tmp_path / "s.json")
    for frame in expected["frames"]:
        frame.get("estimate", frame.get("problem")).pop("request")
    assert found["frames"] == expected["frames"]
    assert found["summary"] == expected["summary"]


def test_nothing_that_is_written_names_a_file(video: Path, tmp_path: Path) -> None:
    outputs = {option: tmp_path / f"out{option}.svg" for option in ("--csv", "--json", "--plot", "--fhir")}
    main([str(video), *(str(part) for pair in outputs.items() for part in pair)])
    for path in outputs.values():
        text = path.read_text()
        assert text
        assert "Anna" not in text
        assert str(tmp_path) not in text


def test_a_session_is_compared_with_the_persons_own_baseline(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, plot = tmp_path / "first.json", tmp_path / "second.json", tmp_path / "s.svg"
    assert main([str(video), "--json", str(first)]) == DONE
    assert "comparison" not in document(first)
    capsys.readouterr()
    assert main([str(video), "--json", str(second), "--baseline", str(first), "--plot", str(plot)]) == DONE
    comparison = document(second)["comparison"]
    assert comparison["balance"]["difference"]["mean"] == pytest.approx(0.0)
    assert (
        comparison["moods"]["positive"]["difference"]["low"] < 0 < comparison["moods"]["positive"]["difference"]["high"]
    )
    assert "the baseline's mean" in plot.read_text()
    out, err = capsys.readouterr()
    assert out.count("may be chance") == 5
    assert err == ""


def test_a_baseline_of_another_classifier_is_said_to_be_one(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first.json"
    main([str(video), "--json", str(first)])
    content = document(first)
    content["frames"][0]["estimate"]["model"]["digest"] = "0" * 64
    first.write_text(json.dumps(content))
    assert main([str(video), "--baseline", str(first)]) == DONE
    assert "another classifier" in capsys.readouterr().err


def test_without_a_face_the_exit_status_says_so_and_the_files_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wall.png").write_bytes(encode(np.full((240, 320, 3), 90, np.uint8), "PNG"))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    out.mkdir()
    names = ["--csv", out / "s.csv", "--json", out / "s.json", "--plot", out / "s.svg", "--fhir", out / "s.fhir"]
    assert main(list(map(str, [tmp_path, *names]))) == NO_FACE
    assert {row["code"] for row in rows(out / "s.csv")} == {"no_face", "invalid_image"}
    assert document(out / "s.json")["summary"]["balance"] is None
    assert len(list(out.iterdir())) == 4
    assert "No frame shows a face." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: VIDEO_OR_FOLDER"),
        (["{video}", "--every", "0"], "'0' is no number of seconds from 0.01 to 60"),
        (["{video}", "--every", "soon"], "'soon' is no number of seconds"),
        (["{video}", "--every", "nan"], "'nan' is no number of seconds"),
        (["{video}", "--plot", "{here}/s.png"], "the plot is an SVG file: call it s.svg"),
        (["{video}", "--json", "{here}/no/s.json"], "its folder does not exist"),
        (["{video}", "--json", "{here}"], "it is a folder"),
        (["{video}", "--csv", "{video}"], "would be overwritten"),
        (["{video}", "--json", "{here}/b.json", "--baseline", "{here}/b.json"], "b.json would be overwritten"),
        (["{video}", "--csv", "{here}/s", "--json", "{here}/s"], "two outputs have the same name"),
        (["{video}", "--subject", "Patient/17"], "--subject and --start need --fhir"),
        (["{video}", "--fhir", "{here}/s", "--subject", "Anna"], "'Anna' is no FHIR reference"),
        (["{video}", "--fhir", "{here}/s", "--start", "2026-11-24T10:00:00"], "no time with an offset"),
        (["{video}", "--fhir", "{here}/s", "--start", "today"], "no time with an offset"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = video.read_bytes()
    with pytest.raises(SystemExit) as raised:
        main([argument.format(video=video, here=tmp_path) for argument in arguments])
    err = capsys.readouterr().err
    assert raised.value.code == WRONG_OPTIONS
    assert message.lower() in err.lower()
    assert err.count("\n") == 1
    assert video.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{here}/nothing.mp4"], "There is no file or folder"),
        (["{here}/empty"], "holds no image"),
        (["{here}/text.mp4"], "cannot be read as a video"),
        (["{video}", "--times", "exif"], "--times is for a folder"),
        (["{video}", "--baseline", "{here}/nothing.json"], "nothing.json cannot be read or written: No such file"),
        (["{video}", "--baseline", "{here}/text.mp4"], "is no session"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    assert main([argument.format(video=video, here=tmp_path) for argument in arguments]) == UNREADABLE
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_settings_of_the_service_count_and_are_checked(
    video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEAA_MAX_PIXELS", "many")
    assert main([str(video)]) == WRONG_OPTIONS
    assert "MEAA_MAX_PIXELS is 'many'" in capsys.readouterr().err
    monkeypatch.setenv("MEAA_MAX_PIXELS", "1000")
    monkeypatch.setenv("MEAA_BUNDLE", "/nowhere")
    assert main([str(video)]) == UNREADABLE
    assert "There is no model bundle in /nowhere" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not SERVING_PYTHON.exists(), reason="needs the serving environment: `make .venv/.installed`")
def test_the_serving_environment_has_all_that_it_needs(video: Path, tmp_path: Path) -> None:
    plot, fhir = tmp_path / "s.svg", tmp_path / "s.fhir.json"
    command = [SERVING_PYTHON, "-m", "service.session", video, "--plot", plot, "--fhir", fhir]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (DONE, "")
    assert plot.exists()
    assert document(fhir)["resourceType"] == "Bundle"


@pytest.mark.slow
def test_a_reader_that_has_gone_is_no_error(video: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "service.session", video, "--json", tmp_path / "s.json"]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (DONE, "")
    assert document(tmp_path / "s.json")["summary"]["frames"] > 0


def test_the_guide_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    guide = (ROOT / "docs" / "integrate" / "recordings.md").read_text()
    assert set(re.findall(r"^\| `(--[a-z]+)` \|", guide, re.MULTILINE)) == options
