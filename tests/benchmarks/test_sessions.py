"""The report about sessions: its camera, its filters, its measures, and the page."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.sessions import comparison, filters, hints, measures, report, simulation
from benchmarks.sessions.camera import HEIGHT, WIDTH, Jitter, Motion, Scene, wander
from benchmarks.sessions.filters import MAJORITY, SMOOTHING, Choice
from benchmarks.sessions.measures import Played
from benchmarks.sessions.people import Photo, one_of_each
from benchmarks.sessions.sequences import Answers, Part, Script, play, search
from pipelines import paths
from service.detector import Face
from service.estimator import MoodEstimator
from service.faces import overlap
from service.moods import MOODS
from service.session.mood_filter import FilterSettings
from tests.conftest import ROOT
from tests.support.pictures import encode

PRIOR = (0.25, 0.25, 0.25, 0.25)
FACE = Face(220, 80, 100, 120, 1.0)
POSITIVE, NEGATIVE = MOODS.index("positive"), MOODS.index("negative")
STEADY = Jitter(shift=0, tremor=0, scale=0, light=0, noise=0)


def photo(person: str, mood: int) -> Photo:
    return Photo(person, mood, b"", FACE)


def script(moods: Sequence[int], seconds: float = 3.0) -> Script:
    """One photo after the other, each for some seconds at four frames a second."""
    parts = tuple(Part(photo(str(index), mood), index * seconds) for index, mood in enumerate(moods))
    return Script(parts, tuple(index / 4 for index in range(round(4 * seconds * len(moods)))), 1)


def answers(moods: Sequence[int], *, times: Sequence[float] | None = None, unreliable: Sequence[int] = ()) -> Answers:
    """Each frame is 85 % sure of its mood; -1 stands for a frame without an answer."""
    chosen = np.array(moods, np.int64)
    own = np.full((len(moods), len(MOODS)), 0.05)
    own[np.arange(len(moods)), chosen] = 0.85
    own[chosen < 0] = np.nan
    when = np.arange(len(moods)) / 4 if times is None else np.array(times, np.float64)
    reliable = ~np.isin(np.arange(len(moods)), unreliable)
    return Answers(when, own, chosen, reliable, (None,) * len(moods), np.sign(chosen + 1))


def frame_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def still(x: float, y: float, scale: float, light: float) -> Motion:
    return Motion(*(np.array([value]) for value in (x, y, scale, light)))


# The camera.


def test_the_light_wanders_as_far_as_it_should_and_forgets_in_the_time_it_should() -> None:
    values = wander(np.arange(40_000) * 0.25, 0.5, np.random.default_rng(1))
    assert np.std(values) == pytest.approx(1, abs=0.05)
    assert np.corrcoef(values[1:], values[:-1])[0, 1] == pytest.approx(math.exp(-0.5), abs=0.02)


def test_the_longer_the_gap_the_less_a_frame_is_like_the_one_before() -> None:
    random = np.random.default_rng(1)
    pairs = {gap: np.array([wander((0.0, gap), 0.5, random) for _ in range(4000)]) for gap in (0.05, 5.0)}
    near, far = (np.corrcoef(values.T)[0, 1] for values in pairs.values())
    assert near > 0.85
    assert abs(far) < 0.1


@pytest.mark.parametrize(("x", "y", "scale"), [(0.0, 0.0, 1.0), (0.5, -0.25, 1.0), (0.0, 0.0, 1.5)])
def test_the_face_is_where_and_as_large_as_the_motion_says(x: float, y: float, scale: float) -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[50:130, 60:140] = 255
    scene = Scene(encode(pixels, "PNG"), Face(60, 50, 80, 80, 1.0))
    (data,) = scene.frames(still(x, y, scale, 1.0), STEADY, np.random.default_rng(1))
    frame = frame_of(data)
    assert frame.shape == (HEIGHT, WIDTH)
    side = scale * HEIGHT / 3
    rows, columns = np.nonzero(frame > 127)
    assert columns.mean() == pytest.approx(WIDTH / 2 + x * side, abs=1.5)
    assert rows.mean() == pytest.approx(HEIGHT / 2 + y * side, abs=1.5)
    assert np.sqrt(len(rows)) == pytest.approx(side, rel=0.02)


def test_more_light_makes_a_brighter_frame_that_stays_within_what_a_pixel_holds() -> None:
    scene = Scene(encode(np.full((100, 100, 3), 150, np.uint8), "PNG"), Face(20, 20, 60, 60, 1.0))
    levels = [
        frame_of(scene.frames(still(0, 0, 1, light), STEADY, np.random.default_rng(1))[0]).mean()
        for light in (0.5, 1.0, 3.0)
    ]
    assert levels == pytest.approx([75, 150, 255], abs=2)


def test_a_script_shows_the_same_frames_at_every_call(astronaut: NDArray[np.uint8]) -> None:
    shown = Photo("a", POSITIVE, encode(astronaut), FACE)
    one = Script((Part(shown, 0.0), Part(shown, 0.4)), (0.0, 0.25, 0.5), 7)
    first = list(one.frames(Jitter()))
    assert len(first) == 3
    assert first == list(one.frames(Jitter()))
    assert first[0] != first[1]


# People and scripts.


def test_each_person_is_drawn_once() -> None:
    photos = [photo(person, mood) for person in "abcdef" for mood in range(3)]
    drawn = one_of_each(photos, 4, np.random.default_rng(1))
    assert len({one.person for one in drawn}) == len(drawn) == 4


@pytest.mark.parametrize("irregular", [False, True])
def test_in_a_session_each_photo_has_another_mood_than_the_one_before(irregular: bool) -> None:
    photos = [photo(person, mood) for person in "abcdef" for mood in range(4)]
    scripts = simulation.sessions(photos, PRIOR, 10, 40.0, [1], irregular=irregular)
    changes = [pair for one in scripts for pair in pairwise(one.parts)]
    assert len(changes) > 20
    for earlier, later in changes:
        assert earlier.photo.mood != later.photo.mood
        assert later.start - earlier.start >= simulation.LEAST_STAY


def test_every_other_session_is_of_one_person() -> None:
    photos = [photo(str(person), mood) for person in range(50) for mood in range(2)]
    for number, one in enumerate(simulation.sessions(photos, PRIOR, 10, 60.0, [1])):
        people = len({part.photo.person for part in one.parts})
        assert (people == 1) is bool(number % 2)


def test_irregular_frames_come_in_order_as_often_as_regular_ones_and_with_gaps() -> None:
    photos = [photo(person, mood) for person in "ab" for mood in range(2)]
    (one,) = simulation.sessions(photos, PRIOR, 1, 600.0, [1], irregular=True)
    steps = np.diff(one.times)
    assert steps.min() > 0
    assert np.median(steps) < 1 / simulation.RATE < steps[steps < 2].mean() * 1.2
    assert steps.max() > simulation.GAP_SECONDS[0]


def test_a_frame_shows_the_photo_whose_time_it_is() -> None:
    one = Script((Part(photo("a", 0), 0.0), Part(photo("b", 2), 1.0)), (0.0, 0.9, 1.0, 1.5), 1)
    assert one.moods.tolist() == [0, 0, 2, 2]


# Measures.


def test_a_frame_without_an_answer_is_no_flip() -> None:
    assert measures.flips(np.array([0, 0, -1, 0, 2, -1, 2, 1])) == 2


def test_the_delay_runs_from_the_change_to_the_first_frame_that_shows_it() -> None:
    one = script([0, 2])
    moods = one.moods.copy()
    moods[12:15] = 0
    assert measures.delay(moods, one, 1) == 0.75
    moods[12:] = 0
    assert measures.delay(moods, one, 1) == math.inf


def test_a_change_counts_if_the_classifier_sees_both_moods() -> None:
    one = script([0, 2, 1])
    own = one.moods.copy()
    own[30:] = 3  # most frames of the last photo are taken for another mood
    assert measures.visible_changes(Played(one, answers(own.tolist()))) == [1]


def test_episodes_begin_where_another_mood_is_shown() -> None:
    found = measures.episodes(np.array([-1, 0, 0, -1, 2]), np.arange(5) / 2)
    assert found == [(0.5, "positive"), (2.0, "neutral")]


def test_the_longest_gap_counts_from_the_first_frame_and_to_the_last() -> None:
    assert answers([-1, -1, 0, 0, 0]).longest_gap() == 0.5
    assert answers([0, 0, -1, -1, -1]).longest_gap() == 0.75
    assert answers([0, 0, 0]).longest_gap() == 0.25


# Filters.


def test_the_filter_of_the_comparison_shows_what_the_session_shows(astronaut: NDArray[np.uint8]) -> None:
    estimator, settings = MoodEstimator.load(ROOT / paths.BUNDLE), FilterSettings.read(ROOT / paths.BUNDLE)
    shown = Photo("a", POSITIVE, encode(astronaut), FACE)
    one = Script((Part(shown, 0.0),), (0.0, 0.25, 0.5, 3.0), 7)
    frames = [*one.frames(Jitter()), encode(np.zeros((480, 640, 3), np.uint8))]
    found = play(estimator, settings, frames, (*one.times, 3.5))
    assert found.answered.tolist() == [True, True, True, True, False]
    filtered = filters.markov(settings).apply(found)
    assert measures.shown(filtered, found).tolist() == found.shown.tolist()
    assert filtered[-1].tolist() == filtered[-2].tolist()
    for face, alone in zip(found.faces[:4], search(estimator, frames[:4]), strict=True):
        assert face is not None
        assert alone is not None
        assert overlap(face, alone.face) > 0.7


def test_the_majority_forgets_what_is_older_than_its_window() -> None:
    apply = filters.majority(1.0, 1.0, PRIOR).apply
    moods = apply(answers([0, 0, 0, 0, 0, 2, 2, 2, 2])).argmax(axis=1)
    assert moods.tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 2]  # of four votes three are needed, as the first wins a tie


def test_a_vote_that_is_not_reliable_counts_less() -> None:
    apply = filters.majority(1.0, 0.3, PRIOR).apply
    assert apply(answers([0, 2, 2], unreliable=[1, 2])).argmax(axis=1).tolist() == [0, 0, 0]
    assert apply(answers([0, 2, 2])).argmax(axis=1).tolist() == [0, 0, 2]


def test_smoothing_forgets_by_time_whatever_the_number_of_frames() -> None:
    apply = filters.smoothing(1.0, 1.0, PRIOR).apply
    many = apply(answers([0, *[2] * 20], times=[0.0, *(np.arange(1, 21) / 20)]))[-1]
    few = apply(answers([0, 2], times=[0.0, 1.0]))[-1]
    assert many == pytest.approx(few)
    assert few[0] == pytest.approx(0.05 + 0.8 / math.e)


@pytest.mark.parametrize(
    "choice", filters.choices(FilterSettings(5.0, 1.0, 0.3, PRIOR))[::20], ids=lambda one: one.kind
)
def test_every_filter_gives_probabilities(choice: Choice) -> None:
    found = choice.apply(answers([-1, 0, 2, -1, 1, 3], times=[0, 0.1, 0.2, 5, 5.1, 9], unreliable=[2]))
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found > 0).all()
    assert found[0] == pytest.approx(PRIOR)


# The comparison.


def flickering() -> comparison.Sequences:
    """Stills in which every fourth frame flips, and a session of two photos."""
    stills = [Played(script([0], 10.0), answers([0, 0, 0, 1] * 10))]
    return comparison.Sequences(stills, [Played(script([0, 2]), answers(script([0, 2]).moods.tolist()))], [])


def test_flips_are_shares_of_those_without_a_filter() -> None:
    sequences = flickering()
    alone = measures.worth(filters.none(PRIOR).apply, sequences.stills, sequences.regular)
    voted = measures.worth(filters.majority(1.0, 1.0, PRIOR).apply, sequences.stills, sequences.regular)
    assert (alone.flips, alone.flip_ratio, alone.median_delay, alone.accuracy) == (19, 1.0, 0.0, 1.0)
    assert (voted.flips, voted.median_delay) == (0, 0.5)
    assert voted.accuracy == pytest.approx(22 / 24)


def test_a_filter_that_keeps_both_targets_is_chosen_before_one_with_less_log_loss() -> None:
    # The first is right at once, and flips; the second is steady and later; the third is too late.
    tried = [filters.smoothing(seconds, 1.0, PRIOR) for seconds in (0.05, 1.0, 20.0)]
    sequences = flickering()
    losses = [measures.worth(one.apply, [], sequences.regular).log_loss for one in tried]
    assert losses[0] == min(losses)
    chosen, found = comparison.choose(tried, sequences, PRIOR)[SMOOTHING]
    assert chosen is tried[1]
    assert found["reaches_both"]


def test_if_no_filter_keeps_both_targets_the_report_says_so() -> None:
    _, found = comparison.choose([filters.majority(0.25, 1.0, PRIOR)], flickering(), PRIOR)[MAJORITY]
    assert not found["reaches_both"]


# Hints.


def test_a_phones_box_is_a_square_about_where_the_face_is() -> None:
    random = np.random.default_rng(1)
    boxes = [hints.phone_box(FACE, 1.0, random) for _ in range(500)]
    assert all(box.width == box.height for box in boxes)
    centres = np.array([(box.x + box.width / 2, box.y + box.height / 2) for box in boxes])
    assert centres.mean(axis=0) == pytest.approx((270, 140), abs=2)
    assert centres.std(axis=0) == pytest.approx(hints.SHIFT * 120, rel=0.15)
    assert np.median([box.width for box in boxes]) == pytest.approx(120, rel=0.05)
    worse = [hints.phone_box(FACE, hints.STRENGTHS["worse"], random) for _ in range(500)]
    assert np.median([overlap(box, FACE) for box in worse]) < np.median([overlap(box, FACE) for box in boxes])


# The report.


@pytest.mark.parametrize(
    ("bound", "target", "measured", "kept"),
    [
        (report.AT_LEAST, 0.98, 0.98, True),
        (report.AT_LEAST, 0.98, 0.9799, False),
        (report.AT_MOST, 1.5, 1.5, True),
        (report.AT_MOST, 1.5, 1.51, False),
        (report.AT_MOST, 1.5, None, None),
    ],
)
def test_a_target_is_kept_missed_or_not_measured(
    bound: str, target: float, measured: float | None, kept: bool | None
) -> None:
    assert report.Row("delay", bound, target, measured, "seconds", "The filter").kept is kept


def test_what_is_reliable_is_quoted_and_the_worst_group_counts(tmp_path: Path) -> None:
    def group(error: float) -> dict[str, float]:
        return {"faces": 100, "error": 0.2, "reliable_error": error, "coverage": 0.8}

    groups = {"fer2013": {"clean": group(0.05), "dark": group(0.125)}}
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"max_error": 0.1, "groups": {"validation": groups, "test": groups}}))
    found = report.reliability(file)
    assert found["measured"] is None  # git does not know the file
    source = found["sources"]["fer2013"]
    assert source["worst"] == {"group": "dark", "error": 0.125}
    assert source["clean_coverage"] == 0.8
    low, high = source["groups"]["dark"]["error_interval"]
    assert low < 10 / 80 < high


def test_rows_of_speed_are_those_of_the_benchmark_that_are_about_sessions(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert report.speed(file) == []
    targets = [{"metric": "session frame, 640x480, of a snapshot"}, {"metric": "start"}]
    file.write_text(json.dumps({"targets": targets}))
    assert report.speed(file) == targets[:1]


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads((ROOT / "reports/session/report.json").read_text())


def test_the_committed_page_is_the_committed_json_rendered(committed: dict[str, Any]) -> None:
    assert not committed["quick"]
    assert report.rows(committed) == committed["rows"]
    assert report.page(committed) == (ROOT / "reports/session/report.md").read_text()


def test_the_page_says_of_every_row_whether_it_is_kept(committed: dict[str, Any]) -> None:
    page = report.page(committed)
    for row in committed["rows"]:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {row['measure']} (")]
        assert line.endswith("| kept |" if row["kept"] else "| **missed** |")
        assert f"\n## {row['section']}\n" in page


def test_the_report_is_about_the_filter_of_the_bundle(committed: dict[str, Any]) -> None:
    now = FilterSettings.read(ROOT / paths.BUNDLE)
    assert committed["settings"]["stay_seconds"] == now.stay_seconds
    assert committed["settings"]["correlation_seconds"] == now.correlation_seconds
    assert committed["settings"]["unreliable_weight"] == now.unreliable_weight


@pytest.mark.slow
@pytest.mark.usefixtures("photos")
def test_a_quick_run_writes_a_report_that_can_be_rendered_again(tmp_path: Path) -> None:
    for option in ("--quick", "--markdown"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.sessions.bench", option, "--output", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        content = json.loads((tmp_path / "report.json").read_text())
        assert content["quick"]
        assert (tmp_path / "report.md").read_text() == report.page(content)
        for name in ("trade_off.png", "timelines.png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert content["stills"]["frames"] == 24
    assert content["hints"]["phone"]["photos"] == 10
