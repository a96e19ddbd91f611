"""Two pictures: what each filter trades for steadiness, and one session as the filters show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.sessions.comparison import MAX_DELAY, MAX_FLIP_RATIO
from benchmarks.sessions.filters import MAJORITY, MARKOV, SMOOTHING
from service.moods import MOODS
from service.session.timeline import COLOURS

_LINES: Final = {MARKOV: ("#0072b2", "o"), MAJORITY: ("#d55e00", "s"), SMOOTHING: ("#009e73", "^")}
"""Colour and marker of each kind of filter, told apart by people who do not tell red from green."""

_LANE: Final = 0.8  # height of a lane, of 1
_LEAST_LABELLED: Final = 0.25
"""Markers that are closer to the one before, in seconds of delay and tenths of flips, get no label."""


def trade_off(curves: Mapping[str, Any], today: Mapping[str, Any], chosen: Mapping[str, Any]) -> Figure:
    """Flips against delay, a curve for each kind of filter.

    Args:
        curves: Result of `benchmarks.sessions.comparison.curves`.
        today: What the service's filter is worth, as in `reports/session/report.json`.
        chosen: The same of the filters with their best parameters, by kind.
    """
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.fill_between([0, MAX_DELAY], 0, 100 * MAX_FLIP_RATIO, color="#cfe8cf", zorder=0.5, label="to be reached")
    for kind, (colour, marker) in _LINES.items():
        points = [
            (point["median_delay"], 100 * point["flip_ratio"], point["value"])
            for point in curves[kind]["points"]
            if point["median_delay"] is not None and point["flip_ratio"] is not None
        ]
        delays, flips = [point[0] for point in points], [point[1] for point in points]
        axes.plot(delays, flips, color=colour, marker=marker, markersize=5, label=kind)
        before = None
        for delay, flip, value in points:
            if before is None or abs(delay - before[0]) + abs(flip - before[1]) / 10 > _LEAST_LABELLED:
                axes.annotate(
                    f"{value:g} s", (delay, flip), (4, 5), textcoords="offset points", fontsize=8, color=colour
                )
                before = delay, flip
    for kind, (colour, _) in _LINES.items():
        _mark(axes, chosen[kind], colour, "best by validation" if kind == MARKOV else None)
    _mark(axes, today, "black", "the service today", marker="*", size=220)
    axes.set(
        xlabel="delay: median seconds until a change of mood is shown, 4 frames a second",
        ylabel="flips: changes of mood shown in stills,\n% of those without a filter",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.set_title("Steadier is slower: lower left is better", fontsize="medium")
    axes.legend(frameon=False)
    return figure


def _mark(
    axes: Axes, worth: Mapping[str, Any], colour: str, label: str | None, *, marker: str = "o", size: int = 150
) -> None:
    regular = worth["regular"]
    if regular["median_delay"] is not None and regular["flip_ratio"] is not None:
        filled = colour if marker == "*" else "none"
        axes.scatter(
            [regular["median_delay"]], [100 * regular["flip_ratio"]], s=size, marker=marker, facecolor=filled,
            edgecolor=colour, linewidth=1.5, zorder=4, label=label,
        )  # fmt: skip


def timelines(sessions: Sequence[Mapping[str, Any]]) -> Figure:
    """Which mood is shown when: a panel for each session, a lane for each filter.

    Args:
        sessions: Title, end in seconds, and lanes: by name, the times from which on each mood is shown.
    """
    heights = [len(session["lanes"]) + 1.2 for session in sessions]
    figure = Figure(figsize=(9, 0.42 * sum(heights) + 0.8), layout="constrained")
    panels = figure.subplots(len(sessions), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, session in zip(panels, sessions, strict=True):
        for lane, episodes in enumerate(session["lanes"].values()):
            ends = [*(start for start, _ in episodes[1:]), session["end"]]
            for (start, mood), end in zip(episodes, ends, strict=True):
                axes.barh(lane, end - start, _LANE, left=start, color=COLOURS[mood], edgecolor="white", linewidth=0.6)
        axes.set_yticks(range(len(session["lanes"])), list(session["lanes"]))
        axes.set(xlim=(0, session["end"]), xlabel="seconds")
        axes.invert_yaxis()
        axes.set_title(session["title"], fontsize="medium", loc="left")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.legend(
        handles=[Patch(color=COLOURS[mood], label=mood) for mood in MOODS],
        loc="outside lower center", ncols=len(MOODS), frameon=False,
    )  # fmt: skip
    return figure
