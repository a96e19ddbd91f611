"""What a candidate costs to serve, as the gate bounds it: multiply-adds, and latency beside the fixed network.

`evaluate` writes both into the metrics. Models that were released before it did so are counted and timed here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from pipelines.evaluation import multiply_adds
from pipelines.evaluation.latency import measure_latency
from pipelines.evaluation.predictions import open_classifier
from pipelines.registry.candidates import Candidate, sha256
from service.classifier import GRAPH_FILE, InputSpec

_PREDICTIONS: Final = 200


class Costs(NamedTuple):
    """The costs of one face.

    Attributes:
        multiply_adds: See `pipelines.evaluation.multiply_adds`.
        latency_ratio: See `pipelines.evaluation.latency.Latency`.
    """

    multiply_adds: int
    latency_ratio: float


def costs(candidate: Candidate) -> Costs:
    """The costs of a candidate.

    Raises:
        ValueError: its metrics lack them, and its graph cannot be counted.
    """
    found = candidate.metrics
    if "multiply_adds" in found and "latency_ratio" in found:
        return Costs(found["multiply_adds"], found["latency_ratio"])
    graph = candidate.model / GRAPH_FILE
    return _measure(graph, sha256(graph), candidate.input)


@cache
def _measure(graph: Path, _digest: str, spec: InputSpec) -> Costs:
    """Count and time a graph; `_digest` tells apart the graphs that stood in one file."""
    face = np.random.default_rng(0).integers(0, 256, (spec.size, spec.size)).astype(np.uint8)
    latency = measure_latency(open_classifier(graph, "candidate", spec, 1.0), face, _PREDICTIONS)
    return Costs(multiply_adds.count(graph), round(latency.ratio, 4))
