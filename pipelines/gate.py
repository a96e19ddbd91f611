"""The gate: the rule by which a challenger takes the champion's place.

Pure: it knows figures, not files, registries or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.params import GateParams


@dataclass(frozen=True)
class Contender:
    """What the gate knows of a model.

    Attributes:
        name: for messages; the architecture.
        digest: the same for the same model.
        score: the figure that decides, higher is better, measured on the same images for all.
        size_bytes: of the served graph.
        latency_ms: median time for one face on one thread.
    """

    name: str
    digest: str
    score: float
    size_bytes: int
    latency_ms: float


@dataclass(frozen=True)
class Decision:
    """What the gate decided, and why.

    Attributes:
        promoted: whether the challenger becomes the champion.
        challenger: the best candidate inside the bounds; None where there is none.
        champion: who was champion before; None where nobody was.
        out_of_bounds: why a candidate did not become the challenger, by name; only those that broke a bound.
        reason: the decision in one sentence.
    """

    promoted: bool
    challenger: Contender | None
    champion: Contender | None
    out_of_bounds: dict[str, list[str]]
    reason: str


def figure(metrics: Mapping[str, Any], name: str) -> float:
    """A figure out of nested metrics by its dotted name: `validation.ferplus.weighted_f1`.

    Raises:
        KeyError: the metrics hold no such figure.
    """
    value: Any = metrics
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise KeyError(f"the metrics hold no figure {name!r} (gate.metric in params.yaml)")
        value = value[key]
    return float(value)


def contender(name: str, digest: str, metrics: Mapping[str, Any], params: GateParams) -> Contender:
    """What the gate knows of a model, out of its metrics.

    Raises:
        KeyError: the metrics lack a figure that the rule needs.
    """
    return Contender(
        name,
        digest,
        figure(metrics, params.metric),
        int(figure(metrics, "size_bytes")),
        figure(metrics, "latency_ms"),
    )


def broken_bounds(candidate: Contender, params: GateParams) -> list[str]:
    """The bounds that a candidate breaks, in words; none for one that may become champion."""
    broken = []
    if candidate.size_bytes > params.max_bytes:
        broken.append(f"{candidate.size_bytes:,} bytes are more than {params.max_bytes:,}")
    if candidate.latency_ms > params.max_latency_ms:
        broken.append(f"{candidate.latency_ms:g} ms a face are more than {params.max_latency_ms:g}")
    return broken


def decide(candidates: Sequence[Contender], champion: Contender | None, params: GateParams) -> Decision:
    """Whether the best candidate inside the bounds takes the champion's place.

    Args:
        candidates: at least one.
        champion: who holds the place; its score must have been measured on the candidates' images.
        params: the rule.
    """
    broken = {candidate.name: broken_bounds(candidate, params) for candidate in candidates}
    out_of_bounds = {name: bounds for name, bounds in broken.items() if bounds}
    inside = [candidate for candidate in candidates if not broken[candidate.name]]
    # The smaller one among equals.
    challenger = max(inside, key=lambda one: (one.score, -one.size_bytes), default=None)

    def decision(promoted: bool, reason: str) -> Decision:
        return Decision(promoted, challenger, champion, out_of_bounds, reason)

    if challenger is None:
        return decision(False, "No candidate is inside the bounds of size and latency.")
    score = f"{params.metric} {challenger.score:.4f}"
    if champion is None:
        return decision(True, f"{challenger.name} is the first champion: {score}, inside the bounds.")
    if challenger.digest == champion.digest:
        return decision(False, f"The champion stays: the best candidate, {challenger.name}, is the champion itself.")
    # Rounded as the metrics are: the difference of two decimal fractions is not one in binary.
    improvement = round(challenger.score - champion.score, 9)
    if improvement <= 0:
        return decision(False, f"The champion stays: {challenger.name} has {score}, it has {champion.score:.4f}.")
    if improvement < params.min_improvement:
        return decision(
            False,
            f"The champion stays: {challenger.name} has {score}, {improvement:.4f} more than the champion; "
            f"{params.min_improvement:g} are asked for.",
        )
    return decision(
        True,
        f"{challenger.name} replaces the champion, {champion.name}: {score} against {champion.score:.4f}, "
        "inside the bounds.",
    )
