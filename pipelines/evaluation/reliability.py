"""Which answers can be trusted: fits the rule of `service.quality` and measures what it promises.

The rule is fitted on groups of labelled faces: clean ones, and the same under each corruption. A condition (blur, a
covered mouth, ...) is recognised by a measure of the classifier's input; its bound is where most faces of the groups
that stand for it lie. Then the lowest confidences are sought with which in every group at most a given share of the
answers called reliable is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.corruptions import CORRUPTIONS
from pipelines.evaluation.predictions import Predictions, classify
from pipelines.training import corruptions as transforms
from pipelines.training.corruptions import Face
from service.classifier import MoodClassifier
from service.quality import Condition, Measures, Reason, ReliabilityRule

MEASURES: Final = tuple(field.name for field in fields(Measures))

_STEPS: Final = np.arange(0.25, 1.0, 0.005)
"""Confidences that are tried."""

_SHARES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Shares of a condition's faces that are tried for its bound: one that catches more catches more clean faces too."""

_RARE: Final = 0.01
"""Share of clean faces that a bound may catch without further thought."""

_NEVER: Final = 1.01
"""A confidence that no answer has."""

_FEWEST: Final = 30
"""Fewest faces of a group, or of its reliable answers, from which a share of errors can be told."""


@dataclass(frozen=True)
class Sign:
    """How a condition is recognised.

    Attributes:
        reason: Reason that it gives.
        measure: Name of an attribute of `service.quality.Measures`.
        side: Whether low or high values tell it.
        groups: Names of the groups whose faces are all under it.
    """

    reason: Reason
    measure: str
    side: Literal["below", "above"]
    groups: tuple[str, ...]


SIGNS: Final = (
    Sign("dark", "brightness", "below", ("very_dark",)),
    Sign("bright", "brightness", "above", ("very_bright",)),
    Sign("low_contrast", "contrast", "below", ("very_low_contrast",)),
    Sign("blurred", "detail", "below", ("motion_blur", "half_resolution")),
    Sign("small", "pixels", "below", ("small",)),
    Sign("turned", "turn", "above", ("turned",)),
    Sign("turned", "tilt", "above", ("tilted",)),
    Sign("cut_off", "outside", "above", ("cut_off",)),
    Sign("covered", "eyes", "below", ("eyes_covered",)),
    Sign("covered", "mouth", "below", ("mouth_covered",)),
)
"""The conditions in the order of their reasons. Groups that are not corruptions of the evaluation are `EXTREMES`, or
photos chosen by the pose of the head."""


def _cut_off(face: Face, random: np.random.Generator) -> Face:
    """A face of which the image's edge cuts off a quarter; the edge pixels are repeated, as in `service.faces.crop`."""
    side = face.shape[0]
    kept = round(0.75 * side)
    turns = int(random.integers(4))
    turned = np.rot90(face, turns).copy()
    turned[kept:] = turned[kept - 1]
    return np.ascontiguousarray(np.rot90(turned, -turns))


EXTREMES: Final[Mapping[str, Any]] = {
    "very_dark": lambda face, _: transforms.gamma(face, 4.0),
    "very_bright": lambda face, _: transforms.gamma(face, 0.25),
    "very_low_contrast": lambda face, _: transforms.contrast(face, 0.15),
    "small": lambda face, _: transforms.low_resolution(face, 0.375),
    "cut_off": _cut_off,
}
"""Corruptions that are stronger than those of the evaluation, which the model mostly withstands."""

_SMALL_PIXELS: Final = 24
_CUT_OFF: Final = 0.2
"""What `Measures` has for faces of the groups `small` and `cut_off`, which are made from crops."""


@dataclass(frozen=True)
class Group:
    """Labelled faces under one condition.

    Attributes:
        predictions: True moods, and the classifier's probabilities.
        measures: float64 (n,) by name in `MEASURES`.
    """

    predictions: Predictions
    measures: Mapping[str, NDArray[np.float64]]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which answers are wrong, bool (n,)."""
        return np.asarray(self.predictions.predicted != self.predictions.moods)

    def select(self, rows: NDArray[np.bool_]) -> Group:
        """Some of the faces."""
        chosen = Predictions(self.predictions.moods[rows], self.predictions.probabilities[rows])
        return Group(chosen, {name: values[rows] for name, values in self.measures.items()})


def stack(measures: Sequence[Measures]) -> dict[str, NDArray[np.float64]]:
    """Measures of n faces as arrays (n,) by name."""
    return {name: np.array([getattr(one, name) for one in measures], np.float64) for name in MEASURES}


def group_of(
    classifier: MoodClassifier, pixels: NDArray[np.uint8], moods: NDArray[np.int8], known: Mapping[str, float]
) -> Group:
    """A group of faces that are cropped already.

    Args:
        classifier: The classifier.
        pixels: Faces, uint8 (n, size, size).
        moods: Their moods, int8 (n,).
        known: Values of `Measures` that crops do not tell, the same for all faces.
    """
    measures = stack([Measures.of(face) for face in pixels])
    measures |= {name: np.full(len(pixels), value) for name, value in known.items()}
    return Group(Predictions(moods, classify(classifier, pixels)), measures)


def corrupted_groups(
    classifier: MoodClassifier, pixels: NDArray[np.uint8], moods: NDArray[np.int8], seed: int, *, extremes: bool
) -> dict[str, Group]:
    """Faces as they are (`clean`) and under each corruption, by name.

    Args:
        classifier: The classifier.
        pixels: Faces, uint8 (n, size, size).
        moods: Their moods, int8 (n,).
        seed: Seed of the corruptions' draws.
        extremes: Whether `EXTREMES` are among the corruptions.
    """
    known: dict[str, dict[str, float]] = {"small": {"pixels": _SMALL_PIXELS}, "cut_off": {"outside": _CUT_OFF}}
    transformed = {name: one.transform for name, one in CORRUPTIONS.items()} | (dict(EXTREMES) if extremes else {})
    groups = {"clean": group_of(classifier, pixels, moods, {})}
    for name, transform in transformed.items():
        random = np.random.default_rng([seed, len(groups)])
        changed = np.stack([transform(face, random) for face in pixels])
        groups[name] = group_of(classifier, changed, moods, known.get(name, {}))
    return groups


def reliable(rule: ReliabilityRule, group: Group) -> NDArray[np.bool_]:
    """Which answers the rule calls reliable, bool (n,)."""
    needed = np.full(len(group.predictions), rule.confidence)
    for condition in rule.conditions:
        needed[_holds(condition, group)] = np.maximum(needed[_holds(condition, group)], condition.confidence)
    return np.asarray(group.predictions.confidences >= needed)


def _holds(condition: Condition, group: Group) -> NDArray[np.bool_]:
    values = group.measures[condition.measure]
    low = np.zeros(len(values), bool) if condition.below is None else values < condition.below
    return np.asarray(low if condition.above is None else low | (values > condition.above))


def fit(groups: Mapping[str, Mapping[str, Group]], *, max_error: float) -> ReliabilityRule:
    """The rule that calls as many answers reliable as it can.

    Args:
        groups: Groups by name, for each source of faces. Each counts for itself.
        max_error: Largest share of wrong answers among those called reliable, in every group.
    """
    conditional = {name for sign in SIGNS for name in sign.groups}
    plain = [group for source in groups.values() for name, group in source.items() if name not in conditional]
    rule = ReliabilityRule(confidence=max(_lowest(group, max_error) for group in plain))
    conditions: list[Condition] = []
    for sign in SIGNS:
        own = [source[name] for source in groups.values() for name in sign.groups if name in source]
        if not own:
            continue
        clean = [source["clean"] for source in groups.values() if "clean" in source]
        found = [_condition(sign, own, clean, share, rule.confidence, max_error) for share in _SHARES]
        best = max(found, key=lambda one: _coverage(rule, one, [*clean, *own]))
        if best.confidence > rule.confidence:
            conditions.append(best)
    return ReliabilityRule(confidence=rule.confidence, conditions=tuple(conditions))


def _condition(
    sign: Sign, own: Sequence[Group], clean: Sequence[Group], share: float, least: float, max_error: float
) -> Condition:
    """The condition that catches a share of the faces of each of its groups, with the confidence that it asks for.

    Args:
        sign: How the condition is recognised.
        own: Its groups.
        clean: Clean groups.
        share: Share of the faces to catch.
        least: Confidence that is asked for anyway.
        max_error: See `fit`.
    """
    low = sign.side == "below"
    edges = [float(np.quantile(group.measures[sign.measure], share if low else 1 - share)) for group in own]
    edge = max(edges) if low else min(edges)
    # Half way to where clean faces begin, if there is room: many measures of a group are the same, such as 0.
    beyond = [float(np.quantile(group.measures[sign.measure], _RARE if low else 1 - _RARE)) for group in clean]
    other = min(beyond) if low else max(beyond)
    bound = (edge + other) / 2 if (other > edge) == low else edge
    below, above = (bound, None) if low else (None, bound)
    tried = Condition(reason=sign.reason, measure=sign.measure, below=below, above=above, confidence=0.0)
    confidence = max(_needed(tried, group, least, max_error) for group in own)
    return tried.model_copy(update={"confidence": confidence})


def _coverage(rule: ReliabilityRule, condition: Condition, groups: Sequence[Group]) -> float:
    """Mean share of answers that are reliable by a rule with one condition."""
    one = rule.model_copy(update={"conditions": (condition,)})
    return float(np.mean([reliable(one, group).mean() for group in groups]))


def _lowest(group: Group, max_error: float) -> float:
    """The lowest confidence from which on at most a share of the answers is wrong."""
    return _needed(Condition(reason="uncertain", measure=MEASURES[0], above=-1.0, confidence=0), group, 0.0, max_error)


def _needed(condition: Condition, group: Group, least: float, max_error: float) -> float:
    """The lowest confidence to ask for under a condition, so that a group's errors keep to the limit.

    Args:
        condition: The condition.
        group: The group.
        least: Confidence that is asked for anyway.
        max_error: See `fit`.
    """
    if len(group.predictions) < _FEWEST:
        return least
    confidences, wrong, holds = group.predictions.confidences, group.wrong, _holds(condition, group)
    for step in (least, *(float(step) for step in _STEPS if step > least)):
        called = confidences >= np.where(holds, step, least)
        if called.sum() < _FEWEST or wrong[called].mean() <= max_error:
            return round(step, 3) if called.sum() >= _FEWEST else _NEVER
    return _NEVER


def risk_and_coverage(group: Group, rule: ReliabilityRule) -> dict[str, float]:
    """Share of wrong answers among those called reliable, share of answers called reliable, share of wrong answers."""
    called = reliable(rule, group)
    return {
        "faces": len(called),
        "error": float(group.wrong.mean()),
        "reliable_error": float(group.wrong[called].mean()) if called.any() else 0.0,
        "coverage": float(called.mean()),
    }


def risk_coverage_curve(group: Group, points: int = 50) -> list[tuple[float, float]]:
    """Coverage and error of the most confident answers, from few to all."""
    order = np.argsort(-group.predictions.confidences, kind="stable")
    errors = np.cumsum(group.wrong[order])
    counts = np.unique(np.linspace(1, len(order), points).round().astype(int))
    return [(float(count / len(order)), float(errors[count - 1] / count)) for count in counts]
