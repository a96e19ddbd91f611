"""Mood labels out of FER+ votes, by the rules of `params.yaml`."""

import numpy as np
import pytest

from pipelines.data.dataset import VOTE_COLUMNS
from pipelines.data.labels import moods_of, one_hot, soft_labels
from pipelines.params import Params, PrepareParams
from service.moods import MOODS

EMOTIONS = tuple(column.removeprefix("votes_") for column in VOTE_COLUMNS)


@pytest.fixture(scope="module")
def params() -> PrepareParams:
    return Params.read().prepare


def label(params: PrepareParams, **votes: int) -> dict[str, float]:
    """The soft label of one image, by mood."""
    counts = np.array([[votes.get(emotion, 0) for emotion in EMOTIONS]])
    return dict(zip(MOODS, soft_labels(counts, EMOTIONS, params)[0].tolist(), strict=True))


def test_votes_of_one_mood_add_up(params: PrepareParams) -> None:
    assert label(params, sadness=3, anger=3, happiness=4) == pytest.approx(
        {"positive": 0.4, "negative": 0.6, "neutral": 0.0, "other": 0.0}
    )


def test_a_single_vote_for_an_emotion_counts_as_none(params: PrepareParams) -> None:
    # Three emotions of the same mood, one vote each: none of them counts.
    assert label(params, happiness=7, sadness=1, anger=1, fear=1)["positive"] == 1.0


def test_votes_for_not_a_face_are_ignored(params: PrepareParams) -> None:
    assert label(params, neutral=4, not_a_face=6)["neutral"] == 1.0


def test_surprise_and_unknown_are_other(params: PrepareParams) -> None:
    assert label(params, surprise=5, unknown=5)["other"] == 1.0


def test_an_image_without_a_vote_that_counts_has_no_mood(params: PrepareParams) -> None:
    labels = soft_labels(np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]), EMOTIONS, params)
    assert labels.tolist() == [[0.0, 0.0, 0.0, 0.0]]
    assert moods_of(labels).tolist() == [-1]


def test_of_two_moods_with_equal_shares_the_first_is_the_mood(params: PrepareParams) -> None:
    labels = soft_labels(
        np.array([[5 * (emotion in ("neutral", "sadness")) for emotion in EMOTIONS]]), EMOTIONS, params
    )
    assert MOODS[moods_of(labels)[0]] == "negative"


def test_one_hot_is_sure_of_the_mood() -> None:
    assert one_hot(np.array([2, 0], dtype=np.int8)).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_an_emotion_that_no_mood_names_is_an_error_that_names_it(params: PrepareParams) -> None:
    with pytest.raises(KeyError, match="bored"):
        params.mood_of("bored")


def test_an_emotion_under_two_moods_is_refused(params: PrepareParams) -> None:
    values = params.model_dump()
    values["moods"]["other"].append("happiness")
    with pytest.raises(ValueError, match="two moods"):
        PrepareParams.model_validate(values)
