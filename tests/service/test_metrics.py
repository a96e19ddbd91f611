"""`/metrics`: the metrics for Prometheus, whose number does not depend on what clients send."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from service.estimator import STAGES
from service.moods import MOODS
from service.observation import RELIABLE
from service.openapi import outcomes
from service.schema import Reason
from tests.conftest import ROOT
from tests.support.pictures import encode
from tests.support.server import UPLOAD, Server
from tests.support.websockets import END, ask, connect


def samples(server: Server) -> dict[str, float]:
    """The value of each series, by name and labels."""
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
    }


def increase(before: dict[str, float], after: dict[str, float], name: str) -> float:
    """The total increase of the series of this name."""
    return sum(value - before.get(series, 0) for series, value in after.items() if series.startswith(name))


def run_worker(directory: Path, program: str) -> str:
    """What a process prints that has its metrics in a directory, and has ended."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    command = [sys.executable, "-c", f"from service import metrics; {program}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_answers_moods_faces_and_stages_are_counted(server: Server, photo: bytes) -> None:
    before = samples(server)
    mood = server.upload(photo).json()["mood"]
    server.upload(b"no image")
    after = samples(server)
    assert increase(before, after, "meaa_requests_total[('code', 'ok'), ('status', '200')]") == 1
    assert increase(before, after, "meaa_requests_total[('code', 'invalid_image'), ('status', '400')]") == 1
    assert increase(before, after, "meaa_requests_total") == 2
    predictions = {name: value for name, value in after.items() if f"('mood', '{mood}')" in name}
    assert increase(before, predictions, "meaa_predictions_total[('model_version'") == 1
    assert increase(before, after, "meaa_faces_total") == 1
    assert increase(before, after, "meaa_request_duration_seconds_count") == 2
    for stage in STAGES:
        assert increase(before, after, f"meaa_stage_duration_seconds_count[('stage', '{stage}')]") == 1
        assert increase(before, after, f"meaa_stage_duration_seconds_sum[('stage', '{stage}')]") > 0


def test_answers_are_counted_by_whether_they_can_be_trusted(server: Server, photo: bytes) -> None:
    before = samples(server)
    quality = server.upload(photo).json()["quality"]
    after = samples(server)
    assert quality["reliable"], "the photo is a clear one"
    assert increase(before, after, "meaa_answers_total[('reliability', 'reliable')]") == 1
    assert increase(before, after, "meaa_answers_total") == 1


def test_frames_of_uploaded_sessions_are_counted_by_what_came_of_them(server: Server, photo: bytes) -> None:
    before = samples(server)
    empty = encode(np.zeros((100, 120, 3), np.uint8))
    parts = [("image", image) for image in (photo, empty, b"no image", photo)]
    assert server.client.post("/upload-meaa-frames", files=parts).status_code == 200
    after = samples(server)
    for result, count in (("answered", 2), ("lost", 1), ("failed", 1)):
        assert increase(before, after, f"meaa_session_frames_total[('result', '{result}')]") == count
    assert increase(before, after, "meaa_session_ends_total") == 0


def test_live_sessions_are_counted_while_they_are_open_and_by_how_they_end(server: Server, photo: bytes) -> None:
    before = samples(server)
    first, second, third = (connect(server.port) for _ in range(3))
    ask(first, photo)
    during = samples(server)
    assert during["meaa_sessions_open[]"] == before["meaa_sessions_open[]"] + 3
    first.send(END)
    first.recv()
    second.send("nothing that is known")
    with pytest.raises(ConnectionClosed):
        first.recv()
    with pytest.raises(ConnectionClosed):
        second.recv()
    third.close()
    for _ in range(100):
        after = samples(server)
        if increase(before, after, "meaa_session_ends_total") == 3:
            break
        time.sleep(0.05)
    assert after["meaa_sessions_open[]"] == before["meaa_sessions_open[]"]
    for code in (1000, 1008, 1005):
        assert increase(before, after, f"meaa_session_ends_total[('code', '{code}')]") == 1
    assert increase(before, after, "meaa_session_frames_total[('result', 'answered')]") == 1
    assert set(after) == set(before), "no session adds a series"


def test_the_model_that_is_served_is_one_series_whatever_the_number_of_workers(server: Server, photo: bytes) -> None:
    model = server.upload(photo).json()["model"]
    found = {name: value for name, value in samples(server).items() if name.startswith("meaa_model_info")}
    assert found == {f"meaa_model_info{sorted(model.items())}": 1}


def test_every_series_is_there_before_anything_happens(server: Server) -> None:
    present = samples(server)
    for status, code in outcomes():
        assert f"meaa_requests_total[('code', '{code}'), ('status', '{status}')]" in present
    for mood in MOODS:
        assert [series for series in present if series.startswith("meaa_predictions_total") and f"'{mood}'" in series]
    for reliability in (RELIABLE, *get_args(Reason.__value__)):
        assert f"meaa_answers_total[('reliability', '{reliability}')]" in present
    for code in (1000, 1001, 1002, 1005, 1007, 1008, 1009, 1011, 1012, 1013):
        assert f"meaa_session_ends_total[('code', '{code}')]" in present
    for result in ("answered", "lost", "failed"):
        assert f"meaa_session_frames_total[('result', '{result}')]" in present
    assert "meaa_sessions_open[]" in present
    assert "meaa_prediction_log_failures_total[]" in present


def test_names_follow_prometheus_conventions(server: Server) -> None:
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        assert re.fullmatch(r"meaa_[a-z_]+", family.name)
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_odd_addresses_types_and_methods_add_no_series(server: Server) -> None:
    before = set(samples(server))
    for number in range(100):
        server.client.get(f"/try-{number}.php")
        server.client.post(UPLOAD, content=b"x", headers={"content-type": f"odd/{number}"})
        server.client.request(f"METHOD{number}", UPLOAD)
    assert set(samples(server)) == before


def test_a_model_that_only_ended_workers_served_is_not_shown(tmp_path: Path) -> None:
    for version in ("1", "2"):
        run_worker(tmp_path, f"metrics.MODEL_INFO.labels(name='x', version='{version}', digest='d').set(1)")
    text = run_worker(
        tmp_path,
        "metrics.merge_ended(); metrics.MODEL_INFO.labels(name='x', version='2', digest='d').set(1); "
        "print(metrics.exposition()[0].decode())",
    )
    assert re.findall(r"^meaa_model_info{.*", text, re.MULTILINE) == [
        'meaa_model_info{digest="d",name="x",version="2"} 1.0'
    ]


def test_workers_that_have_ended_are_counted_on_in_one_file_for_each_type(tmp_path: Path) -> None:
    for faces in (1, 2, 3):
        run_worker(tmp_path, f"metrics.FACES.inc({faces}); metrics.DURATION.observe(0.{faces})")
    (tmp_path / "counter_999999.db").touch()  # its worker was killed at once
    text = run_worker(tmp_path, "metrics.merge_ended(); print(metrics.exposition()[0].decode())")
    assert "\nmeaa_faces_total 6.0" in text
    assert '\nmeaa_request_duration_seconds_bucket{le="0.25"} 2.0' in text
    assert "\nmeaa_request_duration_seconds_count 3.0" in text
    # Of counters and histograms what has ended and what this process has; of gauges, which end with it, the latter.
    assert len([*tmp_path.glob("*.db")]) == 5
