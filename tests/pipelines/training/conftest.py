"""Faces to train on and to validate with."""

import pytest

from pipelines.data.face_sets import FaceSet
from tests.support.toys import face_set, pictures


@pytest.fixture(scope="module")
def train() -> FaceSet:
    """64 pictures with labels."""
    return face_set(pictures(64, seed=1))


@pytest.fixture(scope="module")
def validation() -> FaceSet:
    """32 others."""
    return face_set(pictures(32, seed=2))
