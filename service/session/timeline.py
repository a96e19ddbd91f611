"""A session as a picture: an SVG file that a browser opens and that needs no drawing library.

Four lanes show which mood it was and when, so that it reads without colours too; times without an answer are grey, and
unreliable ones hatched. Below, the balance: a dot for each frame, its mean over a window that moves along, and the 95 %
interval of that mean.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from itertools import groupby
from typing import Final, TypeVar
from xml.sax.saxutils import escape

from service.moods import MOODS
from service.session.comparison import Comparison
from service.session.engine import SessionEstimate
from service.session.mood_filter import FilterSettings
from service.session.recording import Recording
from service.session.summary import Balances, Interval

COLOURS: Final[dict[str, str]] = dict(zip(MOODS, ("#009e73", "#d55e00", "#7a869a", "#b07aa1"), strict=True))
"""Colours of the moods, told apart by people who do not tell red from green (after Okabe and Ito)."""

WINDOWS: Final[float] = 20.0
"""Part of the session that a window of the balance covers: one in so many."""

LEAST_WINDOW: Final[float] = 10.0
"""Shortest window, in seconds."""

_WIDTH: Final[float] = 1000.0
_LEFT, _RIGHT = 90.0, 890.0
_LANES_TOP, _LANE = 64.0, 30.0
_LANES_BOTTOM: Final[float] = _LANES_TOP + _LANE * len(MOODS)
_CURVE_TOP, _CURVE_BOTTOM = _LANES_BOTTOM + 40.0, _LANES_BOTTOM + 220.0
_LEGEND: Final[float] = _CURVE_BOTTOM + 52.0
_HEIGHT: Final[float] = _LEGEND + 24.0

_POINTS: Final[int] = 400
"""Points of the curve; more would not be seen."""

_STEPS: Final[tuple[float, ...]] = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
"""Distances between two marks of the time axis, in seconds."""

_STYLE: Final[str] = """
  text { font: 13px system-ui, sans-serif; fill: #222 }
  .small { font-size: 11px; fill: #555 } .end { text-anchor: end } .middle { text-anchor: middle }
  .line { stroke: #ccc; stroke-width: 1 } .zero { stroke: #888; stroke-width: 1 }
  .gap { fill: #e6e6e6 } .hatched { fill: url(#hatch) } .dot { fill: #335; opacity: .35 }
  .curve { fill: none; stroke: #123a7a; stroke-width: 2 } .interval { fill: #123a7a; opacity: .18 }
  .baseline { stroke: #a33; stroke-width: 1.5; stroke-dasharray: 6 4 }
"""

_HATCH: Final[str] = (
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#fff" opacity=".35"/><rect width="1.6" height="6" fill="#222" opacity=".75"/>'
    "</pattern>"
)


def draw(recording: Recording, settings: FilterSettings, comparison: Comparison | None = None) -> str:
    """The session as an SVG document.

    Args:
        recording: Session with at least one frame.
        settings: Parameters of the session's filter.
        comparison: How it differs from the baseline, whose mean balance is drawn too.
    """
    spans = list(recording.spans())
    axis = _Axis(spans[0][0], spans[-1][1])
    parts = [
        *_heading(recording),
        *_lanes(recording, spans, axis),
        *_time_axis(axis),
        *_balance_axis(),
        *_curve(spans, axis, settings),
        *_baseline(comparison),
        *_legend(comparison is not None, _window(axis.end - axis.start)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img">\n'
        f"<title>Mood over time</title>\n<style>{_STYLE}</style>\n<defs>{_HATCH}</defs>\n"
        f'<rect width="{_WIDTH:g}" height="{_HEIGHT:g}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def clock(seconds: float) -> str:
    """A time as minutes and seconds, or as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def signed(value: float) -> str:
    """A number with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


_T = TypeVar("_T")
Span = tuple[float, float, SessionEstimate | None]


class _Axis:
    """The time axis, from seconds to the picture's units."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, max(end, start + 1e-3)

    def x(self, time: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (time - self.start) / (self.end - self.start)

    def bar(self, start: float, end: float, top: float, height: float, style: str) -> str:
        left, right = self.x(start), self.x(end)
        return f'<rect x="{left:.2f}" y="{top:.1f}" width="{right - left:.2f}" height="{height:.1f}" {style}/>'


def _heading(recording: Recording) -> Iterator[str]:
    one = recording.summary
    answered = one.answered / max(1, one.frames)
    frames = "1 frame" if one.frames == 1 else f"{one.frames} frames"
    shares = f"{100 * answered:.0f} % with an answer, {100 * one.reliable_share:.0f} % reliable"
    text = f"{clock(one.seconds)} min, {frames}: {shares}, {one.changes_per_minute:.1f} changes a minute"
    yield _text(_LEFT, 24, text)
    if one.balance is not None:
        mean, low, high = map(signed, (one.balance.mean, one.balance.low, one.balance.high))
        yield _text(_LEFT, 44, f"Balance {mean} (95 % interval {low} to {high})", "small")


def _lanes(recording: Recording, spans: list[Span], axis: _Axis) -> Iterator[str]:
    """A lane for each mood, with its share at the right."""
    height = _LANES_BOTTOM - _LANES_TOP
    for start, end, _ in _merged((start, end, one is None) for start, end, one in spans):
        yield axis.bar(start, end, _LANES_TOP, height, 'class="gap"')
    for start, end, mood in _merged((start, end, one.mood if one else None) for start, end, one in spans):
        top = _LANES_TOP + _LANE * MOODS.index(mood) + 3
        yield axis.bar(start, end, top, _LANE - 6, f'fill="{COLOURS[mood]}"')
    doubtful = ((start, end, one is not None and not one.estimate.quality.reliable) for start, end, one in spans)
    for start, end, _ in _merged(doubtful):
        yield axis.bar(start, end, _LANES_TOP, height, 'class="hatched"')
    for place, mood in enumerate(MOODS):
        line, middle = _LANES_TOP + _LANE * place, _LANES_TOP + _LANE * (place + 0.5) + 4
        share = recording.summary.moods[mood]
        yield _line(_LEFT, line, _RIGHT, line)
        yield _text(_LEFT - 8, middle, mood, "end")
        yield _text(_RIGHT + 8, middle, f"{100 * share.share:.0f} %  {clock(share.seconds)}", "small")
    yield _line(_LEFT, _LANES_BOTTOM, _RIGHT, _LANES_BOTTOM)


def _merged(spans: Iterator[tuple[float, float, _T | None]]) -> Iterator[tuple[float, float, _T]]:
    """Neighbouring spans that say the same as one; those that say nothing are left out."""
    for value, group in groupby(spans, key=lambda span: span[2]):
        same = list(group)
        if value:
            yield same[0][0], same[-1][1], value


def _time_axis(axis: _Axis) -> Iterator[str]:
    seconds = axis.end - axis.start
    step = next((step for step in _STEPS if seconds / step <= 10), _STEPS[-1])
    first = math.ceil(axis.start / step)
    for place in range(first, math.floor(axis.end / step) + 1):
        x = axis.x(place * step)
        yield _line(x, _LANES_BOTTOM, x, _LANES_BOTTOM + 5)
        yield _line(x, _CURVE_TOP, x, _CURVE_BOTTOM)
        yield _text(x, _LANES_BOTTOM + 19, clock(place * step), "small middle")
        yield _text(x, _CURVE_BOTTOM + 16, clock(place * step), "small middle")


def _balance_axis() -> Iterator[str]:
    for value, name in ((1.0, "positive +1"), (0.0, "balance 0"), (-1.0, "negative −1")):
        yield _line(_LEFT, _y(value), _RIGHT, _y(value), "line" if value else "zero")
        yield _text(_LEFT - 8, _y(value) + 4, name, "small end")


def _y(balance: float) -> float:
    return _CURVE_BOTTOM - (_CURVE_BOTTOM - _CURVE_TOP) * (balance + 1) / 2


def _curve(spans: list[Span], axis: _Axis, settings: FilterSettings) -> Iterator[str]:
    for start, _, one in spans:
        if one is not None:
            yield f'<circle cx="{axis.x(start):.2f}" cy="{_y(_balance(one)):.2f}" r="2" class="dot"/>'
    for piece in moving_balance(spans, settings):
        highs = [f"{axis.x(time):.2f},{_y(one.high):.2f}" for time, one in piece]
        lows = [f"{axis.x(time):.2f},{_y(one.low):.2f}" for time, one in reversed(piece)]
        means = [f"{axis.x(time):.2f},{_y(one.mean):.2f}" for time, one in piece]
        yield f'<polygon points="{" ".join(highs + lows)}" class="interval"/>'
        yield f'<polyline points="{" ".join(means)}" class="curve"/>'


def moving_balance(spans: list[Span], settings: FilterSettings) -> Iterator[list[tuple[float, Interval]]]:
    """The mean balance over a window that moves along, with its 95 % interval; in pieces if it is not known between.

    Args:
        spans: See `Recording.spans`.
        settings: Parameters of the session's filter.

    Yields:
        Times in seconds, and the mean over the window around each.
    """
    start, end = spans[0][0], spans[-1][1]
    half = _window(end - start) / 2
    starts = [span[0] for span in spans]
    piece: list[tuple[float, Interval]] = []
    for point in range(_POINTS + 1):
        time = start + (end - start) * point / _POINTS
        here = bisect.bisect_right(starts, time) - 1
        if spans[here][2] is None:
            if piece:
                yield piece
            piece = []
            continue
        first, last = bisect.bisect_left(starts, time - half), bisect.bisect_right(starts, time + half)
        if (interval := _mean(spans[min(first, here) : last], settings)) is not None:
            piece.append((time, interval))
    if piece:
        yield piece


def _window(seconds: float) -> float:
    return max(LEAST_WINDOW, seconds / WINDOWS)


def _mean(spans: list[Span], settings: FilterSettings) -> Interval | None:
    balances = Balances()
    for start, end, one in spans:
        if one is None:
            balances.interrupt()
        else:
            balances.begin(_balance(one), 1.0 if one.estimate.quality.reliable else settings.unreliable_weight)
            balances.hold(end - start)
    return balances.interval(settings.correlation_seconds)


def _balance(one: SessionEstimate) -> float:
    own = one.estimate.probabilities
    return own["positive"] - own["negative"]


def _baseline(comparison: Comparison | None) -> Iterator[str]:
    if comparison is not None and comparison.balance is not None:
        y = _y(comparison.balance.baseline)
        yield _line(_LEFT, y, _RIGHT, y, "baseline")
        yield _text(_RIGHT + 8, y + 4, f"baseline {signed(comparison.balance.baseline)}", "small")


def _legend(baseline: bool, window: float) -> Iterator[str]:
    entries = [
        ('<rect width="22" height="12" class="gap"/>', "no answer"),
        ('<rect width="22" height="12" class="hatched" stroke="#222" stroke-width=".5"/>', "not reliable"),
        ('<circle cx="11" cy="6" r="2.5" class="dot"/>', "a frame"),
        (
            '<rect width="22" height="12" class="interval"/><path d="M0 6h22" class="curve"/>',
            f"mean of {window:.0f} seconds, 95 % interval",
        ),
    ]
    if baseline:
        entries.append(('<path d="M0 6h22" class="baseline"/>', "the baseline's mean"))
    x = _LEFT
    for picture, text in entries:
        yield f'<g transform="translate({x:.0f} {_LEGEND - 10:.0f})">{picture}</g>'
        yield _text(x + 28, _LEGEND, text, "small")
        x += 28 + 6.2 * len(text) + 24


def _line(left: float, top: float, right: float, bottom: float, style: str = "line") -> str:
    return f'<line x1="{left:.2f}" y1="{top:.2f}" x2="{right:.2f}" y2="{bottom:.2f}" class="{style}"/>'


def _text(x: float, y: float, text: str, style: str = "") -> str:
    attribute = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attribute}>{escape(text)}</text>'
