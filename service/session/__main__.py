"""The mood of a person in a video, or in a folder of images, over time: the same answers as the service gives.

    python -m service.session visit.mp4 --csv visit.csv --json visit.json --plot visit.svg

Nothing leaves the machine. What is written holds neither images nor names or paths of files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from service import bundle, estimator
from service.session import baseline, exports, fhir, report, sources, timeline
from service.session.comparison import Comparison, compare
from service.session.engine import Session
from service.session.mood_filter import FilterSettings
from service.session.recording import Recording, play
from service.settings import Settings

DONE: Final[int] = 0
NO_FACE: Final[int] = 1
"""No frame shows a face; what was asked for is written all the same."""
WRONG_OPTIONS: Final[int] = 2
UNREADABLE: Final[int] = 3
"""A file or folder cannot be read or written."""
STOPPED: Final[int] = 130
"""By Ctrl+C, as shells have it."""

LEAST_EVERY: Final[float] = 0.01
MOST_EVERY: Final[float] = 60.0
"""Bounds of the time between two frames, in seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line; that of the process by default.

    Returns:
        The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    outputs = [path for path in (options.csv, options.json, options.plot, options.fhir) if path is not None]
    if problem := _wrong(options, outputs):
        parser.error(problem)
    try:
        return _run(options)
    except (sources.SourceError, baseline.BaselineError) as error:
        return _complain(str(error))
    except BrokenPipeError:  # whoever read the summary has gone; all files are written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains as it ends
        return DONE
    except OSError as error:
        reason = error.strerror
        return _complain(f"{error.filename or 'A file'} cannot be read or written: {reason}." if reason else str(error))
    except KeyboardInterrupt:
        return _complain("Stopped.", STOPPED)


def _run(options: argparse.Namespace) -> int:
    try:
        settings = Settings()
    except ValueError as error:
        return _complain(f"{error}.", WRONG_OPTIONS)
    other = None if options.baseline is None else baseline.read(options.baseline)
    stills = sources.read(
        options.source, every=options.every, times=options.times, max_pixels=settings.max_pixels, warn=_warn
    )
    directory = bundle.find(bundle.own_bento(), settings.bundle)
    mood_estimator, parameters = estimator.MoodEstimator.load(directory), FilterSettings.read(directory)
    model = mood_estimator.classifier.metadata
    recording = play(
        Session(mood_estimator, parameters), stills, model, _tell if sys.stderr.isatty() else lambda _: None
    )
    comparison = None
    if other is not None:
        comparison = compare(recording.summary, other.summary, stay_seconds=parameters.stay_seconds)
        if other.digest is not None and other.digest != model.digest:
            _warn("The baseline was made with another classifier: a part of the difference may be its.")
    _write(options, recording, comparison, parameters)
    print(report.text(recording, comparison), flush=True)
    if recording.summary.answered == 0:
        print("No frame shows a face.", file=sys.stderr)
        return NO_FACE
    return DONE


def _write(
    options: argparse.Namespace, recording: Recording, comparison: Comparison | None, parameters: FilterSettings
) -> None:
    """Write what was asked for.

    Raises:
        OSError: A file cannot be written.
    """
    if options.csv is not None:
        options.csv.write_text(exports.table(recording), encoding="utf-8", newline="")
    if options.json is not None:
        _write_json(options.json, exports.document(recording, comparison))
    if options.plot is not None:
        options.plot.write_text(timeline.draw(recording, parameters, comparison), encoding="utf-8")
    if options.fhir is not None:
        context = fhir.Context(recording.session, recording.model, options.subject, options.start)
        _write_json(options.fhir, fhir.transaction(recording.summary, context))


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m service.session",
        description="The mood of a person in a video, or in a folder of images, over time.",
        epilog="Exit status: 0 done; 1 no frame shows a face; 2 wrong options; 3 a file cannot be read or written.",
    )
    parser.add_argument("source", type=Path, metavar="VIDEO_OR_FOLDER")
    parser.add_argument(
        "--every",
        type=_seconds,
        default=0.5,
        metavar="SECONDS",
        help="time from one frame to the next; between images of a folder that tell no times, their distance "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--times",
        choices=("auto", "exif", "name"),
        default="auto",
        help="order of a folder's images: by the time at which they were taken (exif), or by name; auto takes the "
        "first if all images tell it",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each frame")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write frames and summary as the service does")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the session as an SVG file")
    parser.add_argument("--fhir", type=Path, metavar="FILE", help="write the summary as HL7 FHIR R5 Observations")
    parser.add_argument("--subject", type=_subject, metavar="REFERENCE", help="person in --fhir, such as Patient/17")
    parser.add_argument(
        "--start",
        type=_start,
        metavar="TIME",
        help="time of the first frame in --fhir, with its offset from UTC: 2026-11-24T10:00:00+01:00",
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="SESSION.json", help="compare with an earlier --json of this person"
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are a sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_OPTIONS, f"{message[0].upper()}{message[1:]}. See --help.\n".replace("..", "."))


def _wrong(options: argparse.Namespace, outputs: Sequence[Path]) -> str | None:
    """What is wrong with options that are right each by itself; None if nothing is."""
    inputs = {path.resolve() for path in (options.source, options.baseline) if path is not None}
    places = [path.resolve() for path in outputs]
    if len(set(places)) < len(places):
        return "two outputs have the same name"
    for path, place in zip(outputs, places, strict=True):
        if place in inputs:
            return f"{path} would be overwritten"
        if path.is_dir() or not place.parent.is_dir():
            return f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'its folder does not exist'}"
    if options.plot is not None and options.plot.suffix.lower() != ".svg":
        return f"the plot is an SVG file: call it {options.plot.with_suffix('.svg').name}"
    if options.fhir is None and (options.subject is not None or options.start is not None):
        return "--subject and --start need --fhir"
    return None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not LEAST_EVERY <= value <= MOST_EVERY:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {LEAST_EVERY:g} to {MOST_EVERY:g}")
    return value


def _subject(text: str) -> str:
    if fhir.SUBJECT.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no FHIR reference such as Patient/17")
    return text


def _start(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = datetime.min
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time with an offset, such as 2026-11-24T10:00:00+01:00")
    return time


def _tell(time: float) -> None:
    """Show the time of the latest frame to somebody who watches; whatever is printed next overwrites it."""
    print(f"{timeline.clock(time)} ", end="\r", file=sys.stderr, flush=True)


def _warn(message: str) -> None:
    print(message, file=sys.stderr)


def _complain(message: str, status: int = UNREADABLE) -> int:
    print(message, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
