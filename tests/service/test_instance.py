"""`service.instance`: what a running service opens to others, what it keeps apart, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.server import HOST, RunningServer, get
from benchmarks.server import serve as start
from tests.conftest import ROOT
from tests.support.server import UPLOAD, Server, reachable_at


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What two instances from one checkout have in common: BentoML's home and the folder for temporary files."""
    directory = tmp_path_factory.mktemp("shared")
    (directory / "tmp").mkdir()
    return {"BENTOML_HOME": str(directory / "home"), "TMPDIR": str(directory / "tmp"), "MEAA_WORKERS": "2"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, shared: dict[str, str]) -> Iterator[RunningServer]:
    """An instance with two workers, both ready."""
    with start(tmp_path_factory.mktemp("running"), environment=shared) as server:
        wait_until(lambda: server.log.read_text().count("initialized") == 2)
        yield server


def wait_until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def upload(server: RunningServer, image: bytes) -> None:
    assert httpx.post(server.url + UPLOAD, files={"image": image}, timeout=60).status_code == 200


def answered(server: RunningServer) -> float:
    """Answers that `/metrics` counts, of all workers."""
    _, text = get(server.port, "/metrics")
    (value,) = re.findall(r'^meaa_requests_total{code="ok",status="200"} (\S+)', text, re.MULTILINE)
    return float(value)


def kept(shared: dict[str, str]) -> list[str]:
    """What is in the folder for temporary files, without the parts of names that differ by process."""
    root = Path(shared["TMPDIR"])
    names = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return sorted(re.sub(r"(?<=[a-z]-)\w{8}(?=/|$)|(?<=[-_])\d+", "#", name) for name in names)


@pytest.mark.slow
def test_the_service_listens_at_its_own_port_and_nowhere_else(running: RunningServer) -> None:
    assert reachable_at(running) == {f"SOCK_STREAM {HOST}:{running.port}"}


@pytest.mark.slow
def test_only_its_user_may_enter_the_directory_of_an_instance(running: RunningServer, shared: dict[str, str]) -> None:
    found = [*Path(shared["TMPDIR"]).iterdir()]
    assert found
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in found)


@pytest.mark.slow
def test_a_second_instance_from_the_same_checkout_leaves_the_metrics_of_the_first_alone(
    running: RunningServer, shared: dict[str, str], photo: bytes, tmp_path: Path
) -> None:
    before, files = answered(running), kept(shared)
    for _ in range(3):
        upload(running, photo)
    with start(tmp_path, environment=shared) as second:
        upload(second, photo)
        assert answered(second) == 1
        assert answered(running) == before + 3
    assert answered(running) == before + 3
    assert kept(shared) == files


@pytest.mark.slow
def test_killed_workers_are_replaced_and_leave_neither_files_nor_gaps_in_the_metrics(
    running: RunningServer, shared: dict[str, str], photo: bytes
) -> None:
    def replace_all() -> None:
        log, ended = running.log.read_text().count("initialized"), running.workers()
        for worker in ended:
            worker.send_signal(signal.SIGKILL)
        wait_until(lambda: running.log.read_text().count("initialized") == log + len(ended))

    for _ in range(4):
        upload(running, photo)
    counted = answered(running)
    replace_all()
    files = kept(shared)
    assert answered(running) == counted
    upload(running, photo)
    replace_all()
    assert answered(running) == counted + 1
    assert kept(shared) == files


def test_a_line_at_the_start_says_who_may_call_and_what_is_logged(server: Server, guarded_server: Server) -> None:
    (line,) = re.findall(r"Callers: .*", server.log.read_text())
    assert f"everybody who reaches {HOST}:{server.port} (MEAA_TOKEN is not set). Metrics: everybody." in line
    assert f"Prediction log: {server.prediction_log} " in line
    (line,) = re.findall(r"Callers: .*", guarded_server.log.read_text())
    assert "holders of a token. Metrics: holders of a token. API page: off." in line
    assert "https://clinic.example" in line
    assert "sesame" not in guarded_server.log.read_text()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [("MEAA_TOKEN", ",", "MEAA_TOKEN is set and holds no token"), ("MEAA_TOKENS", "t", "did you mean MEAA_TOKEN?")],
)
def test_a_service_that_would_be_open_by_mistake_does_not_start(
    tmp_path: Path, variable: str, value: str, message: str
) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)), start(tmp_path, environment={variable: value}):
        pass


class TestAbandonedDirectories:
    """An instance that is killed cannot clean up; the next one does."""

    OPEN = "from service import instance; print(instance._open_directory(), flush=True)"

    def begin(self, tmp_path: Path, then: str) -> tuple[subprocess.Popen[str], Path]:
        """A process that opens a directory, and the directory."""
        process = subprocess.Popen(
            [sys.executable, "-c", f"{self.OPEN}; import os, subprocess, sys; {then}"],
            cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip()).parent

    def end(self, process: subprocess.Popen[str]) -> None:
        process.communicate("\n")

    def test_an_orderly_end_leaves_nothing(self, tmp_path: Path) -> None:
        process, directory = self.begin(tmp_path, "input()")
        assert directory.is_dir()
        self.end(process)
        assert not [*tmp_path.iterdir()]

    def test_the_next_instance_removes_that_of_a_killed_one_and_none_that_is_in_use(self, tmp_path: Path) -> None:
        runs, used = self.begin(tmp_path, "input()")
        killed, abandoned = self.begin(tmp_path, "input()")
        killed.kill()
        killed.communicate()
        for name in ("meaa-instance-of-mine", "notes"):
            (tmp_path / name).mkdir()
        (tmp_path / "meaa-instance-link").symlink_to(used)
        assert abandoned.is_dir()
        self.end(self.begin(tmp_path, "input()")[0])
        assert {path.name for path in tmp_path.iterdir()} == {
            used.name, "meaa-instance-of-mine", "meaa-instance-link", "notes"
        }  # fmt: skip
        self.end(runs)

    def test_workers_that_outlive_the_process_that_started_them_keep_the_directory(self, tmp_path: Path) -> None:
        first = "print(subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL).pid, flush=True)"
        process, directory = self.begin(tmp_path, f"{first}; input()")
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
        process.communicate()
        self.end(self.begin(tmp_path, "input()")[0])
        assert directory.is_dir()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(worker))
        self.end(self.begin(tmp_path, "input()")[0])
        assert not directory.is_dir()
