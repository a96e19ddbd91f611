"""Stage `reference`: the champion's predictions on labelled validation images, the reference of drift monitoring.

The reference lies in the champion's bundle, so that live predictions are never compared with another model's. The
column `source` tells its two kinds of rows apart:

- `photos`: The validation photos, processed end to end. They have a value in every column.
- `fer2013`: FER2013's validation faces, processed by the classifier alone: crops of 48 grey pixels are no camera
  frames. They show the accuracy by confidence for moods that are rare among the photos.

Every row has the true mood (`label`). Time, request and latency are left out.
"""

from __future__ import annotations

import pandas as pd

from monitoring.labelled_predictions import observe_faces, observe_photos
from monitoring.reference import DIRECTORY, REFERENCE_FILE, write
from pipelines import paths
from pipelines.data.face_sets import FaceSet
from service.estimator import MoodEstimator


def main() -> None:
    """Write the reference of the released champion."""
    estimator = MoodEstimator.load(paths.BUNDLE)
    faces = FaceSet.load(paths.FACES / "validation.npz").of_source("fer2013")
    photos, path = observe_photos(estimator, "validation"), DIRECTORY / REFERENCE_FILE
    write(pd.concat([photos, observe_faces(estimator, faces)], ignore_index=True), path)
    print(
        f"{path}: {len(photos):,} photos, {(photos['outcome'] == 'no_face').sum()} of them without a face, and "
        f"{len(faces):,} faces of FER2013; {path.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
