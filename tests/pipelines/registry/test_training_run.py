"""A training as an MLflow run."""

import numpy as np

from pipelines.params import Params
from pipelines.registry.training_run import mean_face
from tests.support.toys import face_set, pictures


def test_the_input_example_is_the_mean_of_all_faces_and_so_shows_nobody() -> None:
    faces, spec = face_set(pictures(64, seed=1)), Params.read().input
    pixels = (mean_face(faces, spec)[0, :, :, 0] - spec.offset) / spec.scale
    np.testing.assert_allclose(pixels, faces.pixels.mean(axis=0), atol=0.51)
