"""An instance of the service: the process that starts the workers, and a directory that only they use.

BentoML does two things in ways that others on the machine can abuse or disturb, and that are replaced here:

- Its process manager (circus) takes commands from anybody at two TCP ports of the loopback interface, among them the
  command to run any program. Nobody needs to send it any: its sockets stay inside the process.
- The workers' metrics lie in a directory of BentoML's home, which every further instance empties at its start. Here
  each instance has its own directory in the folder for temporary files. A lock on it tells that the instance runs; the
  next instance removes those of instances that were killed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import ipaddress
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import bentoml.serving
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context

from service import c_library
from service.settings import Settings

# Names that nothing else will have: what looks like an abandoned instance is deleted.
_PREFIX: Final[str] = "meaa-instance-"
_METRICS: Final[str] = "metrics-of-workers"
_WORKER: Final[str] = "worker-"

_PR_SET_PDEATHSIG: Final[int] = 1  # sys/prctl.h

_logger = logging.getLogger(f"bentoml.{__name__}")  # BentoML shows the information of its own loggers only


def enter(settings: Settings) -> None:
    """Prepare this process for its part in the instance: it will start the workers, or it is one of them."""
    if server_context.worker_index is not None:
        _enter_worker()
        return
    from bentoml._internal.utils import circus  # not needed by a worker

    bentoml.serving.ensure_prometheus_dir = _open_directory  # type: ignore[assignment]
    circus.create_standalone_arbiter = functools.partial(_create_arbiter, settings)


def runs(pid: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _open_directory() -> str:
    """Make the instance's directory, which is removed when this process ends.

    Returns:
        The directory in it for the workers' metrics.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_abandoned(path)
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))  # only its owner may enter it
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # a file system without locks: then nobody can remove it too early either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.set_inheritable(descriptor, True)  # a worker that outlives this process keeps the lock
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    # From here on this process and the workers put all temporary files there, so that none is left if they are killed.
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    metrics = directory / _METRICS
    metrics.mkdir()
    return str(metrics)


def _remove_if_abandoned(directory: Path) -> None:
    """Remove the directory of an instance that has ended; nothing happens if it runs, or is another user's."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # One without this subdirectory has just been made and is not locked yet.
            if os.fstat(descriptor).st_uid == os.geteuid() and (directory / _METRICS).is_dir():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(descriptor)


def _enter_worker() -> None:
    """Give this worker a directory for temporary files, and remove those of workers that were killed."""
    parent = Path(tempfile.gettempdir())
    if not parent.name.startswith(_PREFIX):
        return  # started by other means than `bentoml serve`
    _end_with(int(parent.name.removeprefix(_PREFIX).split("-")[0]))
    for path in parent.glob(f"{_WORKER}*"):
        pid = int(path.name.removeprefix(_WORKER))
        if pid == os.getpid() or not runs(pid):
            shutil.rmtree(path, ignore_errors=True)
    own = parent / f"{_WORKER}{os.getpid()}"
    own.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)


def _end_with(manager: int) -> None:
    """Have this worker end with its process manager: nobody else would replace or stop it. Only Linux can tell it.

    Args:
        manager: Process id of the process manager.
    """
    prctl = c_library.function("prctl")
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != manager:  # it has ended already
            sys.exit()


def _create_arbiter(settings: Settings, watchers: list[Any], *, threaded: bool = False, **options: Any) -> Any:
    """BentoML's `create_standalone_arbiter` without TCP ports; it also logs the instance's start line."""
    from bentoml._internal.utils import circus

    _log_start(settings, options["sockets"], sum(watcher.numprocesses for watcher in watchers))
    # `bentoml serve --reload` has a process that watches files and sends a command. It is the one that needs a socket.
    place = f"{'ipc' if options.get('plugins') else 'inproc'}://{tempfile.gettempdir()}"
    arbiter = circus.ThreadedArbiter if threaded else circus.Arbiter
    options.setdefault("check_delay", 10)  # seconds, as in BentoML
    return arbiter(watchers, endpoint=f"{place}/commands", pubsub_endpoint=f"{place}/events", **options)


def _log_start(settings: Settings, sockets: list[Any], workers: int) -> None:
    """Log one line: who may call, and what is kept. It is a warning if anybody on the network may call."""
    host, port = sockets[0].host, sockets[0].port
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    is_open = not settings.token
    callers = f"everybody who reaches {address} (MEAA_TOKEN is not set)" if is_open else "holders of a token"
    metrics = {"on": "everybody", "token": "holders of a token", "off": "nobody"}[settings.metrics]
    _logger.log(
        logging.WARNING if is_open and not _is_local(host) else logging.INFO,
        "Callers: %s. Metrics: %s. API page: %s. Web pages of other origins: %s. Request ids: %s. Prediction log: %s. "
        "Workers: %d.",
        callers,
        metrics,
        settings.docs,
        ", ".join(settings.cors_origins) or "none",
        "random" if settings.request_id == "random" else "chosen by the client",
        _describe_log(settings),
        workers,
    )


def _describe_log(settings: Settings) -> str:
    """Where a row of numbers per image goes, if anywhere."""
    monitoring = BentoMLContainer.config.monitoring
    if not monitoring.enabled.get():
        return "none"
    if settings.prediction_log is None:
        return f"by BentoML's monitor {monitoring.type.get()}"
    return f"{settings.prediction_log} (numbers, no image; daily files are kept {settings.prediction_log_days} days)"


def _is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
