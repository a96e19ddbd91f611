"""Fuzzing of the service's code: image files, requests as bytes on a connection, and multipart bodies.

    make fuzz MINUTES=30                                            # guided by coverage, CPU minutes of each target
    python -m benchmarks.robustness.fuzz random image --count 20000 # reproducible mutations, without Atheris
    python -m benchmarks.robustness.fuzz replay image FILE          # an input that broke a promise

The targets and what they must hold to are in `benchmarks.robustness.fuzzing`. A finding becomes a named test.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.robustness.fuzzing import guided
from benchmarks.robustness.fuzzing.recorder import Recorder, Result
from benchmarks.server import ROOT

DIRECTORY: Final = ROOT / ".fuzz"
"""Where inputs that broke a promise are kept, and the corpora of guided runs."""

HANG_SECONDS: Final = 60.0
"""CPU time of an input after which the process ends with a traceback."""

_POOL: Final = 300
_MAX_CRASHES: Final = 5
_STATUS: Final = re.compile(rb"cov: (\d+) ft: (\d+) corp: (\d+)")

TargetName = StrEnum("TargetName", {name: name for name in guided.MODULES})

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class GuidedResult:
    """Outcome of fuzzing a target with Atheris.

    Attributes:
        target: Name of the target.
        executions: Number of inputs.
        cpu_seconds: CPU time.
        outcomes: Number of outcomes by kind.
        findings: First file of each kind of broken promise, by a description of the kind.
        slowest_seconds: Longest CPU time of an input.
        resident_mb: Peak resident memory in millions of bytes, the corpus included.
        branches: Number of branches covered.
        features: Number of features covered: branches by how often an input takes them.
        corpus: Number of inputs that were worth keeping.
    """

    target: str
    executions: int = 0
    cpu_seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    resident_mb: float = 0.0
    branches: int = 0
    features: int = 0
    corpus: int = 0

    def add(self, part: dict[str, Any]) -> None:
        """Add the result of one process."""
        self.executions += part["executions"]
        self.cpu_seconds += part["cpu_seconds"]
        self.outcomes.update(part["outcomes"])
        self.findings = {**part["findings"], **self.findings}
        self.slowest_seconds = max(self.slowest_seconds, part["slowest_seconds"])
        self.resident_mb = max(self.resident_mb, part["resident_mb"])


def load(name: str) -> Any:
    """The module of a target."""
    return importlib.import_module(f"benchmarks.robustness.fuzzing.{name}_target")


def mutants(target: Any, count: int, seed: int) -> Iterator[bytes]:
    """Mutated inputs, of which some are mutated again and again; reproducible by the seed."""
    chance, seeds = random.Random(seed), target.seeds()
    pool = list(seeds)
    for _ in range(count):
        # Mostly seeds, since a file or a request that has lost its head is refused at once.
        data = target.mutate(chance.choice(pool if chance.random() < 0.3 else seeds), chance)
        yield data
        if chance.random() < 0.1 and len(data) < target.MAX_BYTES // 4:
            if len(pool) == _POOL:
                del pool[chance.randrange(len(seeds), _POOL)]
            pool.append(data)


def run_random(name: str, count: int, seed: int, directory: Path = DIRECTORY) -> Result:
    """Feed mutated inputs to a target.

    Args:
        name: Name of the target.
        count: Number of inputs.
        seed: Seed of the mutations.
        directory: Directory for the inputs that break a promise.
    """
    target = load(name)
    recorder = Recorder(name, target, directory / name / guided.FINDINGS)
    faulthandler.register(signal.SIGPROF, chain=True)
    for number, data in enumerate(mutants(target, count, seed)):
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        recorder.feed(data)
        if number % 500 == 0:
            recorder.measure(number / count)
    signal.setitimer(signal.ITIMER_PROF, 0)
    faulthandler.unregister(signal.SIGPROF)
    recorder.measure(1.0)
    return recorder.result


def run_guided(name: str, cpu_seconds: float, directory: Path = DIRECTORY) -> GuidedResult:
    """Fuzz a target with Atheris, in processes of which each starts after the crash of the one before.

    Args:
        name: Name of the target.
        cpu_seconds: CPU time.
        directory: Directory for the corpus, which the next run continues, and the inputs that break a promise.
    """
    directory = directory / name
    directory.mkdir(parents=True, exist_ok=True)
    result, log = GuidedResult(name), directory / "log.txt"
    crashes = 0
    while result.cpu_seconds < 0.95 * cpu_seconds and crashes < _MAX_CRASHES:
        (directory / guided.RESULT).unlink(missing_ok=True)
        arguments = [name, str(cpu_seconds - result.cpu_seconds), str(directory)]
        with log.open("wb") as output:
            command = [sys.executable, "-m", guided.__name__, *arguments]
            done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False)
        if (directory / guided.RESULT).exists():
            result.add(json.loads((directory / guided.RESULT).read_text()))
        if done.returncode:
            crashes += 1
            kept = log.rename(directory / guided.FINDINGS / f"crash-{crashes}.txt")
            result.findings[f"the process ended with status {done.returncode} ({crashes})"] = str(kept)
    if log.exists() and (lines := _STATUS.findall(log.read_bytes())):
        result.branches, result.features, result.corpus = map(int, lines[-1])
    return result


@app.command("random")
def random_(
    target: Annotated[TargetName, typer.Argument(help="What is fuzzed.")],
    count: Annotated[int, typer.Option(min=1, help="Number of inputs.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the mutations.")] = 20,
    directory: Annotated[Path, typer.Option(help="Directory for the inputs that break a promise.")] = DIRECTORY,
) -> None:
    """Feed mutated inputs to a target and print the result as JSON."""
    print(run_random(target, count, seed, directory).to_json())


@app.command("guided")
def guided_(
    targets: Annotated[list[TargetName] | None, typer.Argument(help="What is fuzzed; all at once by default.")] = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="CPU minutes of each target.")] = 30.0,
    directory: Annotated[Path, typer.Option(help="Directory for corpora and findings.")] = DIRECTORY,
) -> None:
    """Fuzz targets with Atheris and print the results as JSON; the exit status is 1 if there are findings."""
    if not has_atheris():
        raise typer.BadParameter("Atheris is not installed; there are packages of it for Linux on x86-64 (`make fuzz`)")
    names = targets or list(TargetName)
    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(lambda name: run_guided(name, 60 * minutes, directory), names))
    print(json.dumps([asdict(result) | {"outcomes": dict(result.outcomes)} for result in results], indent=2))
    if any(result.findings for result in results):
        raise typer.Exit(1)


@app.command()
def replay(
    target: Annotated[TargetName, typer.Argument(help="What is fuzzed.")],
    file: Annotated[Path, typer.Argument(help="Input.")],
) -> None:
    """Feed one input to a target, and show what it raises."""
    print(load(target).run(file.read_bytes()))


def has_atheris() -> bool:
    """Whether Atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


if __name__ == "__main__":
    app()
