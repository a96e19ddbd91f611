"""Which answers can be trusted: fits the rule of `service.quality` and measures what it promises.

The rule is fitted on groups of labelled faces: clean ones, and the same under each corruption. The share of wrong
answers among those called reliable must keep to a limit, with its upper confidence bound, in all groups at once: a
small group needs fewer errors, and so does each of many. The bound is exact (Clopper and Pearson, "The Use of
Confidence or Fiducial Limits", Biometrika 26, 1934); its level is shared among the groups (Bonferroni). It allows for
chance in the faces, not for a classifier that was chosen on them.

First the confidences are sought that every answer needs, by mood, so that as many answers for clean faces as can be are
reliable. A condition (blur, a covered mouth, ...) is recognised by a measure of the classifier's input; its bound is
where most faces of the groups that stand for it lie, and it asks for as much confidence as these groups need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from pipelines.evaluation.reliability_groups import CLEAN, FEWEST, Group
from service.moods import MOODS
from service.quality import Condition, Reason, ReliabilityRule

_STEPS: Final = np.arange(0.25, 1.0, 0.005)
"""Confidences that are tried for a condition."""

_MOOD_STEPS: Final = np.arange(0.3, 0.96, 0.02)
"""Confidences that are tried for a mood, in all combinations."""

_SHARES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Shares of a condition's faces that are tried for its bound: one that catches more catches more clean faces too."""

_RARE: Final = 0.01
"""Share of clean faces that a bound may catch without further thought."""

_OPEN: Final = ("turn", "tilt")
"""Measures for which there are no faces at the far end: nobody looks away from the camera in the photos."""

_UNSEEN: Final = 0.002
"""Share of clean faces beyond which such a measure is refused."""

_NEVER: Final = 1.01
"""A confidence that no answer has."""

_HOPELESS: Final = 2.0
"""Stands for a condition that catches too few of its faces: the others alone do not keep to the limit."""


@dataclass(frozen=True)
class Limit:
    """How many answers called reliable may be wrong.

    Attributes:
        max_error: Largest share of them.
        level: Confidence level of the upper bound that must keep to it.
    """

    max_error: float
    level: float

    def for_each_of(self, groups: int) -> Limit:
        """The limit for each of some groups, with which it holds at the level for all of them at once."""
        return replace(self, level=1 - (1 - self.level) / max(1, groups))

    def kept(self, wrong: NDArray[Any], called: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether a number of wrong answers out of a number of reliable ones keeps to it; arrays of one shape."""
        # The bound keeps to it if so few errors are unlikely for answers that are wrong as often as is allowed.
        fewer = binom.ppf(1 - self.level, np.arange(int(called.max()) + 1), self.max_error)
        return np.asarray(wrong < fewer[called.astype(int)])


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
    Sign("blurred", "blocks", "above", ("jpeg_20",)),
    Sign("small", "pixels", "below", ("small",)),
    Sign("turned", "turn", "above", ("turned",)),
    Sign("turned", "tilt", "above", ("tilted",)),
    Sign("cut_off", "outside", "above", ("cut_off",)),
    Sign("covered", "eyes", "below", ("eyes_covered",)),
    Sign("covered", "mouth", "below", ("mouth_covered",)),
)
"""The conditions in the order of their reasons. Groups that are not corruptions of the evaluation are `EXTREMES`, or
photos chosen by where the head is turned to (`POSES`)."""


def reliable(rule: ReliabilityRule, group: Group) -> NDArray[np.bool_]:
    """Which answers the rule calls reliable, bool (n,)."""
    needed = _least(rule, group)
    for condition in rule.conditions:
        needed = np.where(_holds(condition, group), np.maximum(needed, condition.confidence), needed)
    return np.asarray(group.predictions.confidences >= needed)


def _least(rule: ReliabilityRule, group: Group) -> NDArray[np.float64]:
    """Confidence that each answer needs without a condition, (n,)."""
    return np.array([rule.confidences[mood] for mood in MOODS])[group.predictions.predicted]


def _holds(condition: Condition, group: Group) -> NDArray[np.bool_]:
    values = group.measures[condition.measure]
    low = np.zeros(len(values), bool) if condition.below is None else values < condition.below
    return np.asarray(low if condition.above is None else low | (values > condition.above))


def fit(groups: Mapping[str, Mapping[str, Group]], limit: Limit) -> ReliabilityRule:
    """The rule that calls as many answers reliable as it can.

    Args:
        groups: Groups by name, for each source of faces. Each counts for itself; those with fewer than `FEWEST` faces
            do not count.
        limit: What must hold in all groups at once.
    """
    enough = {
        source: {name: group for name, group in named.items() if len(group.predictions) >= FEWEST}
        for source, named in groups.items()
    }
    limit = limit.for_each_of(sum(map(len, enough.values())))
    conditional = {name for sign in SIGNS for name in sign.groups}
    plain = [group for source in enough.values() for name, group in source.items() if name not in conditional]
    clean = [source[CLEAN] for source in enough.values() if CLEAN in source]
    rule = ReliabilityRule(confidences=_by_mood(plain, clean, limit))
    conditions: list[Condition] = []
    for sign in SIGNS:
        own = [source[name] for source in enough.values() for name in sign.groups if name in source]
        if not own:
            continue
        found = [_condition(sign, own, clean, share, rule, limit) for share in _SHARES]
        enough_caught = [one for one in found if one.confidence < _HOPELESS]
        best = max(
            enough_caught or [found[-1].model_copy(update={"confidence": _NEVER})],
            key=lambda one: _coverage(rule, one, [*clean, *own]),
        )
        if best.confidence > min(rule.confidences.values()):
            conditions.append(best)
    conditions += [_unseen(sign, clean) for sign in SIGNS if sign.measure in _OPEN and clean]
    return rule.model_copy(update={"conditions": tuple(conditions)})


def _unseen(sign: Sign, clean: Sequence[Group]) -> Condition:
    """The condition that refuses what hardly any clean face shows, so that nobody knows how often it is wrong."""
    seen = max(float(np.quantile(group.measures[sign.measure], 1 - _UNSEEN)) for group in clean)
    return Condition(reason=sign.reason, measure=sign.measure, above=round(max(seen, 1.0), 1), confidence=_NEVER)


def _by_mood(plain: Sequence[Group], clean: Sequence[Group], limit: Limit) -> dict[str, float]:
    """The confidences, by mood, with which all groups keep to the limit and most clean answers are reliable.

    All combinations of `_MOOD_STEPS` are tried at once: arrays have an axis for each mood.
    """
    shape = (len(_MOOD_STEPS),) * len(MOODS)
    kept, covered = np.ones(shape, bool), np.zeros(shape, np.float32)
    for group in plain:
        called, wrong = (np.zeros(shape, np.float32) for _ in range(2))
        for mood in range(len(MOODS)):
            own = group.predictions.predicted == mood
            for total, chosen in ((called, own), (wrong, own & group.wrong)):
                confidences = np.sort(group.predictions.confidences[chosen])
                counts = len(confidences) - np.searchsorted(confidences, _MOOD_STEPS)
                total += np.expand_dims(counts, [axis for axis in range(len(MOODS)) if axis != mood])
        kept &= limit.kept(wrong, called)
        if any(group is one for one in clean):
            covered += called / len(group.predictions)
    if not plain or not kept.any():
        return dict.fromkeys(MOODS, _NEVER)
    best = np.unravel_index(np.where(kept, covered, -1).argmax(), shape)
    return {mood: round(float(_MOOD_STEPS[step]), 3) for mood, step in zip(MOODS, best, strict=True)}


def _condition(
    sign: Sign, own: Sequence[Group], clean: Sequence[Group], share: float, rule: ReliabilityRule, limit: Limit
) -> Condition:
    """The condition that catches a share of the faces of each of its groups, with the confidence that it asks for.

    Args:
        sign: How the condition is recognised.
        own: Its groups.
        clean: Clean groups.
        share: Share of the faces to catch.
        rule: Rule without conditions.
        limit: See `fit`.
    """
    low = sign.side == "below"
    edges = [float(np.quantile(group.measures[sign.measure], share if low else 1 - share)) for group in own]
    edge = max(edges) if low else min(edges)
    # Half way to where clean faces begin, if there is room: many measures of a group are the same, such as 0.
    beyond = [float(np.quantile(group.measures[sign.measure], _RARE if low else 1 - _RARE)) for group in clean]
    other = (min(beyond) if low else max(beyond)) if beyond else edge
    bound = round((edge + other) / 2 if (other > edge) == low else edge, 4)
    below, above = (bound, None) if low else (None, bound)
    tried = Condition(reason=sign.reason, measure=sign.measure, below=below, above=above, confidence=0.0)
    return tried.model_copy(update={"confidence": max(_needed(tried, group, rule, limit) for group in own)})


def _coverage(rule: ReliabilityRule, condition: Condition, groups: Sequence[Group]) -> float:
    """Mean share of answers that are reliable by a rule with one condition."""
    one = rule.model_copy(update={"conditions": (condition,)})
    return float(np.mean([reliable(one, group).mean() for group in groups]))


def _needed(condition: Condition, group: Group, rule: ReliabilityRule, limit: Limit) -> float:
    """The lowest confidence to ask for under a condition, so that a group keeps to the limit; `_HOPELESS` if none does.

    Args:
        condition: The condition.
        group: The group.
        rule: Rule without conditions.
        limit: See `fit`.
    """
    least, holds = _least(rule, group), _holds(condition, group)
    steps = np.append(_STEPS, _NEVER)
    needed = np.where(holds, np.maximum(least, steps[:, None]), least)  # a row for each step
    called = group.predictions.confidences >= needed
    kept = limit.kept((called & group.wrong).sum(axis=1), called.sum(axis=1)) | ~called.any(axis=1)
    return round(float(steps[kept.argmax()]), 3) if kept.any() else _HOPELESS


def risk_and_coverage(group: Group, rule: ReliabilityRule) -> dict[str, float]:
    """What a rule does to a group.

    Returns:
        `faces`; `error`, the share of wrong answers; `reliable_error`, the same among those called reliable; and
        `coverage`, the share of answers called reliable.
    """
    called = reliable(rule, group)
    return {
        "faces": len(called),
        "error": float(group.wrong.mean()),
        "reliable_error": float(group.wrong[called].mean()) if called.any() else 0.0,
        "coverage": float(called.mean()),
    }


def risk_by_mood(group: Group, rule: ReliabilityRule) -> dict[str, dict[str, float]]:
    """`risk_and_coverage` of the answers of each mood that is answered."""
    moods = {mood: group.predictions.predicted == index for index, mood in enumerate(MOODS)}
    return {mood: risk_and_coverage(group.select(rows), rule) for mood, rows in moods.items() if rows.any()}


def risk_coverage_curve(group: Group, points: int = 50) -> list[tuple[float, float]]:
    """Coverage and error of the most confident answers, from few to all."""
    order = np.argsort(-group.predictions.confidences, kind="stable")
    errors = np.cumsum(group.wrong[order])
    counts = np.unique(np.linspace(1, len(order), points).round().astype(int))
    return [(float(count / len(order)), float(errors[count - 1] / count)) for count in counts]
