"""A candidate for champion: a trained and evaluated model, and the names of all its files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines import paths
from pipelines.data.test_sets import FIRST, Versions
from pipelines.params import Params
from service.classifier import GRAPH_FILE, InputSpec

MODEL_FILE: Final = "model.keras"
HISTORY_FILE: Final = "history.csv"
SUMMARY_FILE: Final = "training.json"
MODEL_FILES: Final = (MODEL_FILE, GRAPH_FILE, HISTORY_FILE, SUMMARY_FILE)
"""The files of a model: those that `train` writes, and the graph that `evaluate` makes of it."""

METRICS_FILE: Final = "metrics.json"
HEADLINE_FILE: Final = "headline.json"
"""The few metrics that `dvc metrics show` prints."""
PROVENANCE_FILE: Final = "provenance.json"
MOODS_FILE: Final = "moods.csv"
CONFUSION_FILE: Final = "confusion.csv"
RELIABILITY_FILE: Final = "reliability.csv"
SLICES_FILE: Final = "slices.csv"
VALIDATION_FILE: Final = "validation.npz"
"""A `pipelines.evaluation.predictions.ValidationPredictions`."""
CONFUSION_PICTURE: Final = "confusion.png"
RELIABILITY_PICTURE: Final = "reliability.png"
SLICES_PICTURE: Final = "slices.png"


@dataclass(frozen=True)
class Candidate:
    """A model with the metrics by which the gate judges it.

    Attributes:
        architecture: Name of the model in `params.yaml`.
        model: Directory of `MODEL_FILES`.
        evaluation: Directory of the files that `evaluate` wrote.
        run_id: Id of the MLflow run that trained it, in the store where it was trained.
        digest: Digest of the model, the same in every clone and every store; see `identity`.
        metrics: Content of `METRICS_FILE`.
        input: The graph's input.
        mirror_averaging: Whether the graph averages over horizontal flips; see `pipelines.export.serving_model`.
        validation_faces: SHA-256 of the validation faces that it was measured on. Metrics of two candidates can be
            compared if it is the same.
        test_sets: Versions of the sets that it was measured on; see `pipelines.data.test_sets`.
    """

    architecture: str
    model: Path
    evaluation: Path
    run_id: str
    digest: str
    metrics: dict[str, Any]
    input: InputSpec
    mirror_averaging: bool
    validation_faces: str
    test_sets: Versions

    @classmethod
    def read(cls, model: Path, evaluation: Path) -> Candidate:
        """The candidate in two directories.

        Raises:
            FileNotFoundError: a file is missing; the message says which stage writes it.
        """
        for path, stage in [
            (model / SUMMARY_FILE, "train"),
            (model / GRAPH_FILE, "evaluate"),
            (evaluation / METRICS_FILE, "evaluate"),
            (evaluation / PROVENANCE_FILE, "evaluate"),
        ]:
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist: run the stage `{stage}` (`dvc repro`)")
        summary = json.loads((model / SUMMARY_FILE).read_text())
        provenance = json.loads((evaluation / PROVENANCE_FILE).read_text())
        return cls(
            architecture=summary["architecture"],
            model=model,
            evaluation=evaluation,
            run_id=summary["run_id"],
            digest=identity(summary["run_id"], mirror_averaging=provenance["mirror_averaging"]),
            metrics=json.loads((evaluation / METRICS_FILE).read_text()),
            input=InputSpec.model_validate(provenance["input"]),
            mirror_averaging=provenance["mirror_averaging"],
            validation_faces=provenance["faces"]["validation"],
            test_sets=provenance.get("test_sets", FIRST),
        )

    @classmethod
    def of(cls, architecture: str) -> Candidate:
        """The candidate that the stages wrote for one model of `params.yaml`.

        Raises:
            FileNotFoundError: see `read`.
        """
        return cls.read(paths.MODELS / architecture, Params.read().evaluation(architecture))

    @classmethod
    def all_evaluated(cls) -> list[Candidate]:
        """The models of `params.yaml` that are trained and evaluated."""
        found = []
        for name in Params.read().evaluated:
            with contextlib.suppress(FileNotFoundError):
                found.append(cls.of(name))
        return found


def identity(run_id: str, *, mirror_averaging: bool) -> str:
    """A model's digest: that of the run that trained it and of how it is served.

    Its files would not do: Keras writes the time into them, and names a graph's constants anew at every export.
    """
    return hashlib.sha256(f"{run_id} mirror_averaging={mirror_averaging}".encode()).hexdigest()


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
