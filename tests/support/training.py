"""What the tests of training share: a small training and a teacher that is always wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.callbacks.checkpoints import Checkpoints
from pipelines.data.dataset import EMOTIONS
from pipelines.data.face_sets import FaceSet
from pipelines.params import Params
from pipelines.training.config import TrainingConfig
from pipelines.training.distillation import TeacherPredictions
from service.moods import MOODS

SMALL = {"filters": [4, 4], "block_filters": [4, 8]}
"""Hyper-parameters of a mini-Xception whose epoch takes seconds."""


def training_config(epochs: int, recipe: str = "plateau", **changes: object) -> TrainingConfig:
    """A small mini-Xception and one of the recipes, with some of its settings changed."""
    params = Params.read()
    model = replace(params.model("mini_xception"), recipe=recipe, hyper_parameters=SMALL)
    config = TrainingConfig.of(params, model)
    return replace(config, recipe=config.recipe.model_copy(update={"epochs": epochs, "batch_size": 16, **changes}))


def teacher_predictions(faces: FaceSet, views: int = 2) -> TeacherPredictions:
    """A teacher that is certain of the same wrong answer everywhere: happiness, and the original mood `other`."""
    emotions = np.zeros((views, len(faces), len(EMOTIONS)), np.uint8)
    emotions[:, :, EMOTIONS.index("happiness")] = 255
    original = np.zeros((views, len(faces), len(MOODS)), np.uint8)
    original[:, :, MOODS.index("other")] = 255
    return TeacherPredictions(emotions, original)


def open_checkpoints(directory: Path, digest: str = "same") -> Checkpoints:
    """Checkpoints that belong to some run."""
    checkpoints = Checkpoints(directory, digest)
    checkpoints.run_id = checkpoints.run_id or "run"
    return checkpoints
