"""Mood labels from the votes of annotators.

FER+ (Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution", ICMI 2016) collected ten votes per image. Its authors recommend training on the
distribution of the votes instead of the majority.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.params import PrepareParams
from service.moods import MOODS


def soft_labels(votes: NDArray[np.integer], emotions: Sequence[str], params: PrepareParams) -> NDArray[np.float32]:
    """Share of each mood among the votes that count.

    An emotion with fewer than `params.min_votes` votes is ignored, because so few votes are mostly slips.

    Args:
        votes: Votes for each emotion, integers (n, emotions).
        emotions: Names of the columns. A name that `params.moods` lacks (`not_a_face`) is ignored.
        params: Map from emotions to moods, and the minimum number of votes.

    Returns:
        Shares in the order of `MOODS`, float32 (n, 4). A row sums to 1, or is zero if no vote counts.
    """
    counted = counted_votes(votes, params.min_votes)
    return _shares(
        np.stack(
            [counted[:, [emotion in params.moods[mood] for emotion in emotions]].sum(axis=1) for mood in MOODS], axis=1
        )
    )


def emotion_shares(votes: NDArray[np.integer], min_votes: int) -> NDArray[np.float32]:
    """Share of each emotion among the votes that count.

    Args:
        votes: Votes for each emotion, integers (n, emotions).
        min_votes: Votes that an emotion needs in order to count.

    Returns:
        Shares, float32 (n, emotions). A row sums to 1, or is zero if no vote counts.
    """
    return _shares(counted_votes(votes, min_votes))


def counted_votes(votes: NDArray[np.integer], min_votes: int) -> NDArray[np.integer]:
    """The votes, with zeros for emotions that have fewer than `min_votes`."""
    return np.where(votes >= min_votes, votes, 0)


def _shares(votes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Rows divided by their sums, float32; rows of zeros stay as they are."""
    return (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def moods_of(labels: NDArray[np.float32]) -> NDArray[np.int8]:
    """Index of the mood with the largest share, int8 (n,): the first among equals, -1 if all shares are zero."""
    return np.where(labels.any(axis=1), labels.argmax(axis=1), -1).astype(np.int8)


def moods_of_emotions(emotions: Iterable[str], params: PrepareParams) -> NDArray[np.int8]:
    """Indices of the moods to which emotions belong, int8 (n,).

    Raises:
        KeyError: `params.moods` lacks an emotion.
    """
    return np.array([params.mood_of(emotion) for emotion in emotions], dtype=np.int8)


def one_hot(moods: NDArray[np.int8]) -> NDArray[np.float32]:
    """Soft labels with the whole share on one mood, float32 (n, 4)."""
    return np.eye(len(MOODS), dtype=np.float32)[moods]
