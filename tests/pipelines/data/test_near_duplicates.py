"""Near duplicates: which pictures are the same, by a correlation that is the same on every processor."""

import numpy as np

from pipelines.data import near_duplicates
from tests.support.toys import pictures


def test_a_correlation_is_exact_whatever_the_order_of_the_sum() -> None:
    one = near_duplicates.descriptors(pictures(40, 8))
    forward = one @ one.T
    backward = one[:, ::-1] @ one[:, ::-1].T
    assert (forward == backward).all()


def test_pairs_are_found_across_blocks_and_mirrored() -> None:
    faces = pictures(1500, 8)
    faces[1400], faces[7] = faces[3][:, ::-1], faces[5]
    one, other = near_duplicates.pairs(faces, 0.9)
    assert sorted(zip(one.tolist(), other.tolist(), strict=True)) == [(3, 1400), (5, 7)]


def test_without_images_there_is_no_pair_and_no_duplicate() -> None:
    none, some = pictures(1, 8)[:0], pictures(2, 8)
    assert [len(side) for side in near_duplicates.pairs(none, 0.9)] == [0, 0]
    assert near_duplicates.duplicated_in(none, some, 0.9).shape == (0,)
    np.testing.assert_array_equal(near_duplicates.duplicated_in(some, none, 0.9), [False, False])
