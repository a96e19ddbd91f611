"""From labelled images to the released model. The modules of this folder are stages, in this order:

convert_detector, detect, prepare, train, teach, evaluate, register, package, detector_equivalence (`dvc.yaml`; train to
evaluate: `models/dvc.yaml`); `reference` stands in `monitoring.make_reference`. By hand: try_idea, and
commands in rooms (`docs/reference/commands.md`). The folders are the rooms that they use: nothing imports a stage, and
a room imports only rooms below it (`tests/test_rooms.py`).
"""

import os

# Before Keras is imported anywhere: Keras reads its backend at import. KERAS_BACKEND=jax or torch trains elsewhere.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings and errors
