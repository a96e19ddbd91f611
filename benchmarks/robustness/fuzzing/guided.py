"""Coverage-guided fuzzing of a target with Atheris, in a process of its own; `benchmarks.robustness.fuzz` starts it.

    python -m benchmarks.robustness.fuzzing.guided TARGET CPU-SECONDS DIRECTORY

Atheris sees the branches of Python code, not those in C (the codecs, the HTTP parser): there the mutations have to know
the format.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.robustness.fuzzing.recorder import Recorder, cpu_seconds

MODULES: Final = {
    "image": ("service", "PIL"),
    "http": ("service", "uvicorn.protocols", "starlette"),
    "multipart": ("service", "starlette", "python_multipart"),
    "connections": ("service", "uvicorn.protocols"),
    "frames": ("service", "starlette", "python_multipart"),
    "state": ("service",),
    "websocket": ("service", "uvicorn.protocols", "wsproto"),
}
"""Packages whose branches guide the fuzzer, by target."""

RESULT: Final = "result.json"
"""Name of the file with the result."""

FINDINGS: Final = "findings"
"""Name of the directory with the inputs that broke a promise."""

_CORPUS: Final = "corpus"
_SAVE_SECONDS: Final = 5.0
_HANG_SECONDS: Final = 3_600  # of wall time, as the machine may be busy; CPU time has its own limit
_MEMORY_MB: Final = 2_000


def main(name: str, budget: float, directory: Path) -> None:
    """Fuzz until the CPU time is spent; the result is written to the directory every few seconds.

    Args:
        name: Name of the target.
        budget: CPU time in seconds.
        directory: Directory for the result, the corpus, and the files that break a promise.
    """
    import atheris  # only here, so that `MODULES` can be read without it

    with atheris.instrument_imports(include=list(MODULES[name])):
        target = importlib.import_module(f"benchmarks.robustness.fuzzing.{name}_target")
    corpus = directory / _CORPUS
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    recorder = Recorder(name, target, directory / FINDINGS)
    saved = 0.0

    def save() -> None:
        recorder.measure(cpu_seconds() / budget)
        temporary = directory / f"{RESULT}.new"
        temporary.write_text(recorder.result.to_json())
        temporary.rename(directory / RESULT)

    def feed(data: bytes) -> None:
        nonlocal saved
        recorder.feed(data)
        now = cpu_seconds()
        if now > saved + _SAVE_SECONDS:
            saved = now
            save()
        if now > budget:
            save()
            os._exit(0)  # libFuzzer ends its process in no other way

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.1:
            data = atheris.Mutate(data, max_size)
        return target.mutate(bytes(data), chance)[:max_size]

    options = {
        "max_len": target.MAX_BYTES,
        "len_control": 0,
        "timeout": _HANG_SECONDS,
        "rss_limit_mb": _MEMORY_MB,
        "artifact_prefix": f"{directory / FINDINGS}/",
        "seed": int(time.time()) & 0x7FFFFFFF,
    }
    (directory / FINDINGS).mkdir(exist_ok=True)
    arguments = [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(corpus)]
    atheris.Setup(arguments, feed, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
