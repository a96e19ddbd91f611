"""Batches: order, size, weights."""

import numpy as np
import pytest

from pipelines.data.face_sets import FaceSet
from pipelines.training.batches import FaceBatches, sample_weights
from tests.support.toys import face_set, pictures
from tests.support.training import training_config


def test_batches_of_an_epoch_hold_every_face_once_in_another_order_than_the_epoch_before(train: FaceSet) -> None:
    batches = FaceBatches(train, training_config(2).spec, training_config(2).recipe, first_epoch=0)

    def labels() -> np.ndarray:
        return np.concatenate([batches[index][1] for index in range(len(batches))])

    first = labels()
    batches.on_epoch_end()
    second = labels()
    assert first.sum(axis=0).tolist() == second.sum(axis=0).tolist() == train.soft_labels.sum(axis=0).tolist()
    assert not (first == second).all()


def test_every_batch_has_the_same_size_and_no_face_is_left_out_where_the_faces_do_not_fill_the_last(
    train: FaceSet,
) -> None:
    odd = train.select(np.arange(50))  # batches of 16: three, and two faces
    batches = FaceBatches(odd, training_config(2).spec, training_config(2).recipe, first_epoch=0)
    labels = [batches[index][1] for index in range(len(batches))]
    assert [len(batch) for batch in labels] == [16, 16, 16, 16]
    assert (np.concatenate(labels)[:50].sum(axis=0) == odd.soft_labels.sum(axis=0)).all()


def test_photos_of_scarce_moods_count_more_and_photos_as_a_whole_as_before() -> None:
    photos = face_set(pictures(8, 3), source=1)
    photos = photos.select(np.array([0, 4, 0, 4, 0, 4, 0, 1]))  # seven of the first mood, one of the second
    weights = sample_weights(photos, 0.5)
    assert weights[-1] == pytest.approx(weights[0] * 7**0.5)
    assert weights.mean() == pytest.approx(1.0)
    assert (sample_weights(photos, 0.0) == 1).all()
    assert (sample_weights(face_set(pictures(8, 3)), 0.5) == 1).all()
