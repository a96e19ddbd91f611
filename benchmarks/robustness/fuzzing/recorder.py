"""What becomes of the inputs of a fuzzer: how many, with which outcomes, what they broke, and at which cost."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import re
import resource
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

_PACKAGES: Final = ("service", "PIL", "starlette", "uvicorn", "python_multipart", "fuzzing")
_PLACES: Final = 3
"""How many of the innermost places in these packages tell kinds of exceptions apart."""


class Target(Protocol):
    """What is fuzzed: a module with these names.

    Attributes:
        CPU_SECONDS: Most CPU time of an input in this process, in seconds.
    """

    CPU_SECONDS: float

    def run(self, data: bytes) -> list[str]:
        """Feed an input to the service's code.

        Returns:
            The outcome in a word, or several if the input has several.

        Raises:
            Exception: What must hold does not.
        """


@dataclass
class Result:
    """What a fuzzer has seen so far.

    Attributes:
        target: Name of the target.
        executions: Number of inputs.
        cpu_seconds: CPU time of the process and its children.
        outcomes: Number of outcomes by kind.
        findings: First file of each kind of broken promise, by a description of the kind.
        slowest_seconds: Longest CPU time of an input in this process.
        resident_mb: Peak resident memory of the process, in millions of bytes.
        growth_mb: Resident memory now minus that after the first fifth, in millions of bytes.
    """

    target: str
    executions: int = 0
    cpu_seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    resident_mb: float = 0.0
    growth_mb: float = 0.0

    def to_json(self) -> str:
        """The result as JSON."""
        return json.dumps(vars(self))


class Recorder:
    """Feeds inputs to a target and keeps the result."""

    def __init__(self, name: str, target: Target, directory: Path) -> None:
        """A recorder that has seen nothing.

        Args:
            name: Name of the target.
            target: Target.
            directory: Directory for the files that break a promise.
        """
        self.result = Result(name)
        self._target = target
        self._directory = directory
        self._early_mb = 0.0

    def feed(self, data: bytes) -> None:
        """Feed an input to the target; an exception is a finding."""
        # Not the time of children: that of a decoder process counts as a whole when it ends, whichever input is next.
        begun = time.process_time()
        try:
            self.result.outcomes.update(self._target.run(data))
        except Exception as error:
            self._note(_describe(error), data)
        spent = time.process_time() - begun
        if spent > self._target.CPU_SECONDS:
            self._note(f"more than {self._target.CPU_SECONDS:g} seconds of CPU time", data)
        self.result.slowest_seconds = max(self.result.slowest_seconds, round(spent, 3))
        self.result.executions += 1

    def measure(self, progress: float) -> None:
        """Measure time and memory.

        Args:
            progress: Share of the work that has been done.
        """
        self.result.cpu_seconds = round(cpu_seconds(), 1)
        self.result.resident_mb = round(memory_megabytes("VmHWM"), 1)
        gc.collect()
        with contextlib.suppress(AttributeError):  # what glibc keeps for later says nothing about a leak
            ctypes.CDLL(None).malloc_trim(0)
        now = memory_megabytes("VmRSS")
        if progress < 0.2 or not self._early_mb:
            self._early_mb = now
        self.result.growth_mb = round(now - self._early_mb, 1)

    def _note(self, kind: str, data: bytes) -> None:
        self.result.outcomes["broken"] += 1
        if kind in self.result.findings:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / hashlib.sha256(data).hexdigest()[:16]
        file.write_bytes(data)
        self.result.findings[kind] = str(file)


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def memory_megabytes(what: str, process: int | str = "self") -> float:
    """A figure of a process's memory in millions of bytes, as Linux records it.

    Args:
        what: `VmRSS`, or `VmHWM` for the peak.
        process: Its number, or `self`.
    """
    status = Path(f"/proc/{process}/status").read_text()  # `getrusage` would include the parent's peak
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what)) * 1024 / 1e6


def _describe(error: BaseException) -> str:
    """The kind of an exception: its type, its message without long numbers, and where it was raised."""
    message = re.sub(r"[0-9]{4,}", "N", str(error))[:200]
    if isinstance(error, AssertionError) and message:
        return message  # a target's own, which says all
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if any(f"/{package}/" in frame.filename for package in _PACKAGES)
    ]
    return f"{type(error).__name__} at {' > '.join(places[-_PLACES:])}: {message}"
