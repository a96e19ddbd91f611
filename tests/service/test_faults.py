"""Faults that the server survives: overload, a killed worker, shutdown, a full disk. `make soak` tests them longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks import load
from benchmarks.robustness.faults import drain, kill_a_worker, lines, log_failures, overload
from benchmarks.server import serve
from service.prediction_log import PredictionLog
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode
from tests.support.server import UPLOAD, Server


@pytest.mark.slow
def test_overload_is_answered_with_503_and_nothing_else_goes_wrong(server: Server, photo: bytes) -> None:
    result = overload(server.port, load.upload_request(photo), clients=64, seconds=3)
    assert set(result.statuses) <= {200, 503}
    assert result.statuses[200]
    assert not result.without_retry_after


@pytest.mark.slow
def test_a_killed_worker_and_an_orderly_end_lose_no_request_of_others_and_no_line(
    photo: bytes, astronaut: Pixels, tmp_path: Path
) -> None:
    log = tmp_path / "predictions.jsonl"
    environment = {"MEAA_PREDICTION_LOG": str(log), "MEAA_WORKERS": "2", "MEAA_MAX_WAIT": "60"}
    request = load.upload_request(photo)
    with serve(tmp_path, environment={**environment, "BENTOML_CONTAINERIZED": "true"}) as server:
        killed = kill_a_worker(server, request, clients=6, seconds=3)
        assert killed.statuses.keys() == {200}
        assert killed.lost <= killed.connections
        answered = killed.statuses[200]
        assert answered <= lines(log) <= answered + killed.lost

        before = lines(log)
        large = load.upload_request(encode(astronaut.repeat(5, axis=0).repeat(5, axis=1)))
        drained, answers = drain(server, large, clients=16)
        assert drained.in_flight
        assert drained.lost == 0
        assert drained.exit_code == 0
        assert {answer.status for answer in answers} <= {200, 422}
        assert lines(log) >= before + sum(answer.status == 200 for answer in answers)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent has ended")
def test_workers_end_with_their_process_manager(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        workers = server.workers()
        assert workers
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive


def test_a_full_disk_costs_no_request_and_one_warning(guarded_server: Server, photo: bytes) -> None:
    """The guarded server logs its predictions to /dev/full."""
    before = log_failures(guarded_server.port, "open sesame")
    for _ in range(3):
        headers = {"authorization": "Bearer open sesame"}
        assert guarded_server.client.post(UPLOAD, files={"image": photo}, headers=headers).status_code == 200
    assert log_failures(guarded_server.port, "open sesame") - before == 3
    assert guarded_server.log.read_text().count("cannot be written") == 1


def test_a_line_that_only_half_fits_is_not_written_at_all(tmp_path: Path) -> None:
    """A limit on file size simulates a disk that fills up."""
    path = tmp_path / "log.jsonl"
    program = f"""
import resource, signal
from pathlib import Path
from service.prediction_log import PredictionLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = PredictionLog("log", {str(path)!r})
for _ in range(9):
    try:
        log._append(b"x" * 299 + b"\\n")
    except OSError:
        print("failed")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("failed") == 6
    assert path.read_bytes() == (b"x" * 299 + b"\n") * 3


def test_a_pipe_that_nobody_reads_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        PredictionLog("log", str(tmp_path / "pipe"))._append(b"line\n")


def test_a_worker_leaves_no_core_dump_behind() -> None:
    program = "import resource, service.worker as w; w.harden(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(0, 0)"
