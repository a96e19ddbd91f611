"""What a session is worth, on held-out people: as JSON, as a page and as two pictures in `reports/session`.

    make bench-sessions                              # some minutes
    python -m benchmarks.sessions.bench --quick      # see that it runs
    python -m benchmarks.sessions.bench --markdown   # quote the other reports anew, render page and pictures

Parameters of the filters are chosen on people of the validation split, and everything in the tables is measured on
people of the test split. Times are left to `make bench`: nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from benchmarks.sessions import comparison, figures, filters, hints, report, simulation, stills, video
from benchmarks.sessions.camera import Jitter
from benchmarks.sessions.comparison import TODAY, Sequences
from benchmarks.sessions.filters import Choice
from benchmarks.sessions.measures import Played, episodes, shown
from benchmarks.sessions.people import Photo, photos_of
from benchmarks.sessions.sequences import Script, play
from pipelines import paths
from pipelines.evaluation import plots
from pipelines.params import Params
from service.detector import FaceDetector
from service.estimator import MoodEstimator
from service.session.mood_filter import FilterSettings

OUTPUT: Final = Path("reports/session")
JITTER: Final = Jitter()
SEED: Final = 20

# Seeds of the draws, beside `SEED`.
_VALIDATION, _TEST, _HINTS = 1, 2, 3


@dataclass(frozen=True)
class Effort:
    """How much is measured; the defaults are those of a full run.

    Attributes:
        photos: Most photos that are sent with a hint; None for all.
        people: People whose stills both the session and the cascade look at.
        more_people: Further people of a split whose stills only the session looks at, to count flips.
        frames: Frames of a still.
        sessions: Regular sessions of a split.
        irregular: Irregular sessions of a split.
        seconds: Length of a session.
    """

    photos: int | None = None
    people: int = 50
    more_people: int = 50
    frames: int = 40
    sessions: int = 40
    irregular: int = 20
    seconds: float = 30.0


FULL: Final = Effort()
QUICK: Final = Effort(photos=10, people=3, more_people=2, frames=8, sessions=2, irregular=2, seconds=12.0)
"""Enough to see that everything runs."""


@dataclass(frozen=True)
class Bench:
    """What measures.

    Attributes:
        estimator: The service's estimator, on one thread.
        settings: The service's parameters of the mood filter.
        params: Parameters of the stages.
        effort: How much is measured.
    """

    estimator: MoodEstimator
    settings: FilterSettings
    params: Params
    effort: Effort

    @classmethod
    def load(cls, bundle: Path, effort: Effort) -> Bench:
        """A bench for a model bundle."""
        found = MoodEstimator.load(bundle)
        estimator = MoodEstimator(FaceDetector(bundle / "detector", threads=1), found.classifier, found.rule)
        return cls(estimator, FilterSettings.read(bundle), Params.read(), effort)

    def run(self) -> dict[str, Any]:
        """Measure everything; the content of the report."""
        started, metadata = time.perf_counter(), self.estimator.classifier.metadata
        validation, test = (photos_of(split, self.params.prepare) for split in ("validation", "test"))
        scripts = self._stills(test, _TEST)
        both, further = scripts[: self.effort.people], scripts[self.effort.people :]
        path, looked_at = stills.measure(self.estimator, self.settings, list(_told(both, "session, cascade")), JITTER)
        sequences = self._sequences(test, _TEST, [*looked_at, *self._play(further, "stills")])
        chosen, rated = self._choose(validation)
        return {
            "quick": self.effort == QUICK,
            "date": datetime.now(UTC).date().isoformat(),
            "model": {"name": metadata.name, "version": metadata.version, "digest": metadata.digest},
            "settings": asdict(self.settings),
            "jitter": asdict(JITTER),
            "hint": {"shift": hints.SHIFT, "size": hints.SIZE, "strengths": hints.STRENGTHS},
            "sizes": {
                **asdict(self.effort),
                "rate": simulation.RATE,
                "least_stay": simulation.LEAST_STAY,
                "mean_stay": simulation.MEAN_STAY,
            },
            "hints": hints.measure(self.estimator, test[: self.effort.photos], [SEED, _HINTS]),
            "stills": path,
            "filters": {
                "validation": rated,
                "test": comparison.measure({TODAY: filters.markov(self.settings), **chosen}, sequences),
                "curves": comparison.curves(chosen, self.settings, sequences),
                "example": self._example(sequences.regular[0], chosen),
            },
            "video": self._video(chosen),
            "minutes": round((time.perf_counter() - started) / 60, 1),
        }

    def _choose(self, photos: Sequence[Photo]) -> tuple[dict[str, Choice], dict[str, Any]]:
        """Filters by kind with the parameters that are best on validation photos, and how they did there."""
        sequences = self._sequences(photos, _VALIDATION, self._play(self._stills(photos, _VALIDATION), "stills"))
        found = comparison.choose(filters.choices(self.settings), sequences, self.settings.prior)
        return {kind: one for kind, (one, _) in found.items()}, {kind: worth for kind, (_, worth) in found.items()}

    def _stills(self, photos: Sequence[Photo], split: int) -> list[Script]:
        people = self.effort.people + self.effort.more_people
        return simulation.stills(photos, people, self.effort.frames, [SEED, split])

    def _sequences(self, photos: Sequence[Photo], split: int, stills: list[Played]) -> Sequences:
        """Stills with sessions of the same split."""
        effort, prior = self.effort, self.settings.prior
        regular = simulation.sessions(photos, prior, effort.sessions, effort.seconds, [SEED, split, 0])
        irregular = simulation.sessions(
            photos, prior, effort.irregular, effort.seconds, [SEED, split, 1], irregular=True
        )
        return Sequences(stills, self._play(regular, "sessions"), self._play(irregular, "irregular sessions"))

    def _play(self, scripts: Sequence[Script], name: str) -> list[Played]:
        return [
            Played(script, play(self.estimator, self.settings, script.frames(JITTER), script.times))
            for script in _told(scripts, name)
        ]

    def _filters(self, chosen: Mapping[str, Choice]) -> dict[str, Choice]:
        """Filters by name, for the pictures and the film; the service's as it is now."""
        others = {kind: chosen[kind] for kind in (filters.MAJORITY, filters.SMOOTHING)}
        return {
            "each frame alone": chosen[filters.NONE],
            "the service's filter": filters.markov(self.settings),
            **others,
        }

    def _example(self, one: Played, chosen: Mapping[str, Choice]) -> dict[str, Any]:
        """A session as the filters show it."""
        times = one.answers.times
        lanes = {"label": episodes(one.script.moods, times)} | {
            name: episodes(shown(choice.apply(one.answers), one.answers), times)
            for name, choice in self._filters(chosen).items()
        }
        return {"end": self.effort.seconds, "lanes": lanes}

    def _video(self, chosen: Mapping[str, Choice]) -> list[dict[str, Any]] | None:
        """What came out of the film; None if the package with it is not there."""
        path = video.find()
        return video.measure(self.estimator, self.settings, path, self._filters(chosen)) if path else None


def _told(scripts: Sequence[Script], name: str) -> Iterable[Script]:
    """The scripts, with a bar that tells how many are left."""
    return track(scripts, name, disable=not sys.stderr.isatty())


def draw(content: Mapping[str, Any], output: Path) -> None:
    """Draw the pictures of a report."""
    found = content["filters"]
    figure = figures.trade_off(found["curves"], found["test"][TODAY], found["test"])
    plots.save(figure, output / "trade_off.png")
    sessions = [{"title": "A simulated session of test people, 4 frames a second", **found["example"]}]
    if content["video"]:
        film = content["video"][0]
        title = f"The film, {film['rate']:g} frames a second; nobody knows his true mood"
        sessions.append({"title": title, "end": film["end"], "lanes": film["lanes"]})
    plots.save(figures.timelines(sessions), output / "timelines.png")


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Check that it runs, with a few sequences.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Quote the other reports anew, render page and pictures.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Directory of the report.")] = OUTPUT,
) -> None:
    """Measure what a session is worth; write `report.json`, `report.md` and two pictures."""
    cv2.setNumThreads(1)
    file = output / "report.json"
    content = json.loads(file.read_text()) if markdown else Bench.load(paths.BUNDLE, QUICK if quick else FULL).run()
    content |= {"reliability": report.reliability(), "speed": report.speed()}  # which others have measured
    content["rows"] = report.rows(content)
    page = report.page(content)
    output.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")
    file.with_suffix(".md").write_text(page)
    draw(content, output)
    Console(width=None if sys.stdout.isatty() else 120).print(Markdown(page))


if __name__ == "__main__":
    typer.run(main)
