"""Latency: milliseconds for information, and a ratio that load does not move."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest

from pipelines.evaluation import latency, multiply_adds
from pipelines.evaluation.latency import Latency, measure_latency
from service.classifier import MoodClassifier

FIXED_MS, FACE_MS = 0.3, 0.9
FACE = np.zeros((48, 48), np.uint8)


class SimulatedMachine:
    """A clock that only predictions move on; a busy machine takes longer, now more and now less."""

    def __init__(self, busy: bool) -> None:
        self._now, self._busy, self._random = 0.0, busy, random.Random(20)

    def work(self, milliseconds: float) -> None:
        """Take the time of a prediction, and that of whoever else has the core."""
        self._now += milliseconds / 1000
        if self._busy:
            self._now += milliseconds / 1000 * self._random.uniform(1.5, 2.5)
            if self._random.random() < 0.05:
                self._now += 0.01  # the core was taken away for a time slice

    def perf_counter(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


def measured(monkeypatch: pytest.MonkeyPatch, *, busy: bool) -> Latency:
    """What is measured on a simulated machine."""
    machine = SimulatedMachine(busy)
    monkeypatch.setattr(latency, "time", machine)
    monkeypatch.setattr(latency, "fixed_network", lambda: lambda: machine.work(FIXED_MS))
    classifier = SimpleNamespace(predict=lambda batch: machine.work(FACE_MS))
    return measure_latency(cast(MoodClassifier, classifier), FACE, 1000)


def test_a_busy_machine_changes_the_milliseconds_and_hardly_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, busy = measured(monkeypatch, busy=False), measured(monkeypatch, busy=True)
    assert quiet.median_ms == pytest.approx(FACE_MS)
    assert quiet.ratio == pytest.approx(FACE_MS / FIXED_MS)
    assert busy.median_ms > 2 * quiet.median_ms
    assert busy.ratio == pytest.approx(quiet.ratio, rel=0.05)


def test_the_fixed_network_is_the_same_at_every_call_and_answers() -> None:
    graph = latency._graph()
    assert graph.SerializeToString(deterministic=True) == latency._graph().SerializeToString(deterministic=True)
    onnx.checker.check_model(graph, full_check=True)
    (output,) = latency.fixed_network()()
    assert output.shape == (1, 4, 1, 1)
    assert np.isfinite(output).all()
    assert output.std() > 0


def test_the_fixed_network_has_the_multiply_adds_that_the_guide_says(tmp_path: Path) -> None:
    onnx.save(latency._graph(), tmp_path / "fixed.onnx")
    assert multiply_adds.count(tmp_path / "fixed.onnx") == 11_322_240  # docs/improve/gate.md: 11.3 million
