"""`/metrics`: the metrics for Prometheus, whose number does not depend on what clients send."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from service.estimator import STAGES
from service.moods import MOODS
from service.openapi import outcomes
from tests.conftest import ROOT
from tests.support.server import UPLOAD, Server


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
    assert len([*tmp_path.glob("*.db")]) == 4  # of each type, what has ended and what this process has
