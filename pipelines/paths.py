"""Where the stages read and write, relative to the project's root, from which every stage is run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PARAMS: Final = Path("params.yaml")
DVC_LOCK: Final = Path("dvc.lock")
FER2013: Final = Path("data/fer2013.parquet")
PHOTOS: Final = Path("data/photos.parquet")

BUNDLE: Final = Path("bundle")
"""The released model: `detector/` from the stage `convert_detector`, `classifier/` from `package`."""

DETECTOR_AGREEMENT: Final = Path("reports/convert_detector/agreement.json")
DETECTOR_EQUIVALENCE: Final = Path("reports/detector_equivalence")
PHOTO_BOXES: Final = Path("reports/detect/photo_boxes.csv")
FACES: Final = Path("faces")
CLASS_TABLE: Final = Path("reports/prepare/class_table.csv")
LEAKS: Final = Path("reports/prepare/leaks.json")
TEST_SETS: Final = Path("reports/prepare/test_sets.json")
"""Versions of the sets that models are measured on; see `pipelines.data.test_sets`."""

PEOPLE: Final = Path("splits/people.csv")
"""Who is in which split of the photos; see `pipelines.data.splits`."""

MODELS: Final = Path("models")
CHAMPION: Final = MODELS / "champion"
"""The released model with its metrics: git's copy of what the registry calls `champion`."""

RELEASES: Final = MODELS / "releases.json"
"""The ledger of all releases; see `pipelines.releases.ledger`."""

TRANSACTION: Final = Path(".release")
"""What a promotion or rollback needs while it runs; see `pipelines.releases.transaction`."""

TEACHER_PREDICTIONS: Final = MODELS / "teacher" / "predictions.npz"
"""The teacher's predictions for the training faces: all that is kept of a teacher."""

LITERT_REPORT: Final = Path("reports/package/litert.json")
"""How close the files for phones come to the service; written by `package`."""

TRIALS: Final = Path("trials")
IDEAS: Final = Path("reports/ideas.csv")
"""Ideas for a better model and their validation metrics; see `pipelines.try_idea`."""

CHECKPOINTS: Final = Path("checkpoints")
EVALUATION: Final = Path("reports/evaluate")
"""Evaluations of the candidates."""
COMPARISON: Final = Path("reports/compare")
"""Evaluations of the models that are only compared, and the table of all."""
REGISTRATION: Final = Path("reports/register")


def face_set(split: str) -> Path:
    """The face set of `train`, `validation` or `test`, written by the stage `prepare`."""
    return FACES / f"{split}.npz"
