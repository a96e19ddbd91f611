"""Stage `teach`: the teacher's answers for the training faces, from which the recipe `distilled` learns.

The teacher is the mean of several trained networks, its members, each looking at a face and at its mirror image: more
than may be shipped, and better than any of them. It is never shipped; a pupil needs its answers for the training
faces alone (see `pipelines.training.distillation`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from pipelines import paths
from pipelines.data.face_sets import FaceSet
from pipelines.params import AugmentationParams, Params, TeacherParams
from pipelines.train import MODEL_FILE
from pipelines.training import distillation
from pipelines.training.distillation import Lessons
from pipelines.training.networks import EMOTIONS, ORIGINAL
from service.classifier import InputSpec, normalise

_BATCH = 256


def ask(members: Sequence[keras.Model], faces: NDArray[np.float32], head: str) -> NDArray[np.float32]:
    """The mean answer of the members to faces and their mirror images.

    Args:
        members: networks with that head.
        faces: float32 (n, size, size, 1).
        head: `EMOTIONS` or `ORIGINAL`.

    Returns:
        float32 (n, classes), rows summing to 1.
    """
    answers = [
        member.predict(seen, batch_size=_BATCH, verbose=0)[head]
        for member in members
        for seen in (faces, faces[:, :, ::-1])
    ]
    return np.mean(answers, axis=0)


def teach(
    members: Sequence[keras.Model],
    faces: FaceSet,
    params: TeacherParams,
    augmentation: AugmentationParams,
    spec: InputSpec,
) -> Lessons:
    """The teacher's answers for every view of the training faces.

    Args:
        members: trained networks with heads for emotions and original labels.
        faces: n training faces, in the order in which the pupil has them.
        params: how many views, and their seed.
        augmentation: the pupil's.
        spec: what the members take.
    """
    answers: dict[str, list[NDArray[np.uint8]]] = {EMOTIONS: [], ORIGINAL: []}
    for index in track(range(params.views), "Lessons", transient=True):
        seen = normalise(distillation.view(faces.pixels, index, augmentation, params.seed), spec)
        for head, collected in answers.items():
            collected.append(distillation.quantise(ask(members, seen, head)))
    return Lessons(emotions=np.stack(answers[EMOTIONS]), original=np.stack(answers[ORIGINAL]))


def main(faces: Path = paths.FACES, models: Path = paths.MODELS, target: Path = paths.LESSONS) -> None:
    """Let the members answer, write the lessons."""
    params = Params.read().teacher
    members = [keras.models.load_model(models / name / MODEL_FILE, compile=False) for name in params.members]
    augmentation = Params.read().train[params.pupil].augmentation
    written = teach(members, FaceSet.load(faces / "train.npz"), params, augmentation, Params.read().input)
    target.parent.mkdir(parents=True, exist_ok=True)
    written.save(target)
    print(f"{target}: {written.emotions.shape[1]:,} faces in {written.views} views, by {', '.join(params.members)}")


if __name__ == "__main__":
    main()
