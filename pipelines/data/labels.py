"""From annotators' votes to mood labels.

FER+ (Barsoum, Zhang, Canton Ferrer and Zhang, "Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution", ICMI 2016) gives ten votes an image; training on their distribution rather than
on the majority alone is its authors' advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.params import PrepareParams
from service.moods import MOODS


def soft_labels(votes: NDArray[np.integer], emotions: Sequence[str], params: PrepareParams) -> NDArray[np.float32]:
    """Share of each mood among the votes that count.

    An emotion with fewer than `params.min_votes` votes counts as none: it is more often a slip than an opinion.

    Args:
        votes: integers (n, emotions), how many annotators chose each emotion.
        emotions: names of the columns; one that `params.moods` does not name (`not_a_face`) is ignored.
        params: the map from emotions to moods and the least number of votes.

    Returns:
        float32 (n, 4), rows summing to 1; a row of zeros where no vote counts.
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
        votes: integers (n, emotions), how many annotators chose each emotion.
        min_votes: see `soft_labels`.

    Returns:
        float32 (n, emotions), rows summing to 1; a row of zeros where no vote counts.
    """
    return _shares(counted_votes(votes, min_votes))


def counted_votes(votes: NDArray[np.integer], min_votes: int) -> NDArray[np.integer]:
    """The votes without those that stand alone, or nearly: an emotion with fewer than `min_votes` has none."""
    return np.where(votes >= min_votes, votes, 0)


def _shares(votes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Rows that sum to 1, float32; rows of zeros stay as they are."""
    return (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def moods_of(labels: NDArray[np.float32]) -> NDArray[np.int8]:
    """The mood with the largest share, the first of `MOODS` among equals; -1 where all shares are zero."""
    return np.where(labels.any(axis=1), labels.argmax(axis=1), -1).astype(np.int8)


def moods_of_emotions(emotions: Iterable[str], params: PrepareParams) -> NDArray[np.int8]:
    """Indices in `MOODS` of the moods of emotions, int8 (n,).

    Raises:
        KeyError: `params.moods` lacks an emotion.
    """
    return np.array([params.mood_of(emotion) for emotion in emotions], dtype=np.int8)


def one_hot(moods: NDArray[np.int8]) -> NDArray[np.float32]:
    """Soft labels, float32 (n, 4), that are sure of one mood each."""
    return np.eye(len(MOODS), dtype=np.float32)[moods]
