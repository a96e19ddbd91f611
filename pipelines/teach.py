"""Stage `teach`: the teacher's predictions for the training faces, targets of the stage `distil`.

The teacher is the mean of several trained networks, each applied to a face and to its horizontal flip. It is larger
than what may be shipped and better than any of its members. Only its predictions for the training faces are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from rich.progress import track

from pipelines import paths
from pipelines.data.face_sets import FaceSet
from pipelines.params import AugmentationParams, Params, TeacherParams
from pipelines.registry.candidates import MODEL_FILE
from pipelines.training.distillation import TeacherPredictions, make_view, predict_heads, quantise
from pipelines.training.networks import EMOTIONS, ORIGINAL
from service.classifier import InputSpec, normalise


def teach(
    members: Sequence[keras.Model],
    faces: FaceSet,
    params: TeacherParams,
    augmentation: AugmentationParams,
    spec: InputSpec,
) -> TeacherPredictions:
    """The teacher's predictions for every view of the training faces.

    Args:
        members: Trained networks with heads for emotions and original labels.
        faces: n training faces, in the student's order.
        params: Number of views and their seed.
        augmentation: The student's augmentation.
        spec: The members' input.
    """
    views = []
    for index in track(range(params.views), "Views", transient=True):
        seen = normalise(make_view(faces.pixels, index, augmentation, params.seed), spec)
        views.append({head: quantise(values) for head, values in predict_heads(members, seen).items()})
    emotions, original = (np.stack([view[head] for view in views]) for head in (EMOTIONS, ORIGINAL))
    return TeacherPredictions(emotions, original)


def main() -> None:
    """Load the members, predict, write the predictions."""
    params = Params.read()
    members = [
        keras.models.load_model(paths.MODELS / name / MODEL_FILE, compile=False) for name in params.teacher.members
    ]
    augmentation = params.train[params.teacher.student_recipe].augmentation
    faces = FaceSet.load(paths.face_set("train"))
    predictions = teach(members, faces, params.teacher, augmentation, params.input)
    target = paths.TEACHER_PREDICTIONS
    target.parent.mkdir(parents=True, exist_ok=True)
    predictions.save(target)
    print(f"{target}: {len(faces):,} faces in {predictions.views} views, by {', '.join(params.teacher.members)}")


if __name__ == "__main__":
    main()
