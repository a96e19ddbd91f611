"""A session as a few lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from service.session.comparison import Comparison, Difference
from service.session.recording import Recording
from service.session.timeline import clock


def text(recording: Recording, comparison: Comparison | None = None) -> str:
    """The summary, and how it differs from the baseline.

    Args:
        recording: Session.
        comparison: How it differs from the baseline.
    """
    lines = [*_summary(recording)]
    if comparison is not None:
        lines += ["", *_comparison(comparison)]
    return "\n".join(lines)


def _summary(recording: Recording) -> Iterator[str]:
    one = recording.summary
    answered = f"{one.answered} with an answer, {100 * one.reliable_share:.0f} % reliable"
    yield f"{clock(one.seconds)} min, {one.frames} frames, {answered}"
    for mood, share in one.moods.items():
        yield f"  {mood:<9}{100 * share.share:>4.0f} %  {clock(share.seconds)} min"
    yield f"{one.changes_per_minute:.1f} changes a minute"
    if one.balance is not None:
        yield f"balance {one.balance.mean:+z.2f} (95 % interval {one.balance.low:+z.2f} to {one.balance.high:+z.2f})"


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield "Beside the baseline, with 95 % intervals:"
    if comparison.balance is not None:
        yield _line("balance", comparison.balance)
    for mood, difference in comparison.moods.items():
        yield _line(mood, difference)


def _line(name: str, one: Difference) -> str:
    by, said = one.difference, "differs" if one.clear else "may be chance"
    interval = f"{by.mean:+z.2f} ({by.low:+z.2f} to {by.high:+z.2f})"
    return f"  {name:<9}{one.baseline:>6.2f} -> {one.session:>5.2f}  {interval}  {said}"
