"""The champion as git keeps it, in `models/champion`: its model, its metrics and why it is the champion.

The registry of an MLflow store says who is champion there, and a fresh clone has an empty one. This copy lets
`register` fill that registry again, and tells `package` what to pack.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from pipelines import paths
from pipelines.registry.candidates import MODEL_FILES, Candidate
from service.classifier import GRAPH_FILE, ClassifierMetadata, InputSpec
from service.moods import MOODS

RECORD_FILE: Final = "champion.json"
_EVALUATION: Final = "evaluation"


class ChampionRecord(BaseModel):
    """The content of `champion.json`.

    Attributes:
        architecture: Name of the model in `params.yaml`.
        version: Number of the release; see `pipelines.releases.ledger`. A registry numbers its versions itself.
        digest: Digest of the trained model; see `pipelines.registry.candidates.identity`.
        run_id: Id of the MLflow run that trained it, in the store where it was trained.
        reason: The reason for its promotion in one sentence: the gate's, or a maintainer's.
        decision: The whole decision, `pipelines.registry.gate.Decision` as a dictionary; None if it is not known.
        temperature: Temperature of `service.classifier.ClassifierMetadata`.
        input: The graph's input.
        mirror_averaging: See `Candidate.mirror_averaging`.
        validation_faces: See `Candidate.validation_faces`.
        training_parameters: Parameters of its MLflow run.
        metrics: Metrics as `evaluate` wrote them.
    """

    model_config = ConfigDict(frozen=True)

    architecture: str
    version: str
    digest: str
    run_id: str
    reason: str
    decision: dict[str, Any] | None = None
    temperature: float
    input: InputSpec
    mirror_averaging: bool
    validation_faces: str
    training_parameters: dict[str, str]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Champion:
    """The record and the files that it describes."""

    record: ChampionRecord
    candidate: Candidate

    @classmethod
    def read(cls, directory: Path = paths.CHAMPION) -> Champion | None:
        """The champion in a directory; None if there is none."""
        record = directory / RECORD_FILE
        if not record.exists():
            return None
        return cls(
            ChampionRecord.model_validate_json(record.read_bytes()), Candidate.read(directory, directory / _EVALUATION)
        )

    @property
    def metadata(self) -> ClassifierMetadata:
        """What the bundle says of it."""
        record = self.record
        return ClassifierMetadata.of(
            self.candidate.model / GRAPH_FILE,
            name=record.architecture,
            version=record.version,
            moods=MOODS,
            input=record.input,
            temperature=record.temperature,
        )

    @property
    def served_digest(self) -> str:
        """Digest of what is served, computed from the graph's file; see `service.classifier.digest_of`."""
        return self.metadata.digest

    def write(self, directory: Path = paths.CHAMPION, graph: Path | None = None) -> Champion:
        """Copy everything into a directory, which is replaced.

        Args:
            directory: Directory of the champion.
            graph: ONNX file to keep instead of the candidate's.

        Returns:
            The champion in that directory.
        """
        partial = directory.with_name(f".{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in MODEL_FILES:
            shutil.copy(self.candidate.model / name, partial)
        if graph is not None:
            shutil.copy(graph, partial / GRAPH_FILE)
        shutil.copytree(self.candidate.evaluation, partial / _EVALUATION)
        (partial / RECORD_FILE).write_text(self.record.model_dump_json(indent=2) + "\n")
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)
        return Champion(self.record, Candidate.read(directory, directory / _EVALUATION))
