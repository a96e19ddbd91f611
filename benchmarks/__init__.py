"""Speed of the service beside baselines and targets (`speed`), and its robustness (`robustness`).

`make bench` and `make soak` run the two rooms; `compare_baselines` and `compare_runtimes` are run by hand. Nothing but
tests imports this package.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # the packages mtcnn and fer, and the LiteRT converter, are TensorFlow's
