"""The mood classifier: a champion's ONNX graph with the metadata that describes its input and calibration.

Architecture, input size, normalisation and calibration all come from the model bundle, so that a new champion needs no
change here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from service.moods import MOODS
from service.runtime import open_session

GRAPH_FILE: Final[str] = "mood.onnx"
METADATA_FILE: Final[str] = "metadata.json"


class InputSpec(BaseModel):
    """The graph's input: grey face crops of one size, with pixels mapped to `pixel * scale + offset`.

    Attributes:
        size: Side of the square crop, in pixels.
        margin: Share of the box's longer side that is added to it; see `service.faces.crop`.
        scale: Factor of the normalisation.
        offset: Summand of the normalisation.
    """

    model_config = ConfigDict(frozen=True)

    size: int = Field(gt=0)
    margin: float = Field(ge=0)
    scale: float
    offset: float


class ClassifierMetadata(BaseModel):
    """The description of a classifier in its bundle.

    Attributes:
        name: Name of the model, for example `mini_xception`.
        version: Number of the release, from `models/releases.json`. It rises with every new classifier.
        digest: Digest of what is served; see `digest_of`.
        moods: Names on the probability axis; must be `service.moods.MOODS`.
        input: Input of the graph.
        temperature: Divisor of the logits before the softmax (Guo et al., "On Calibration of Modern Neural Networks",
            ICML 2017); 1 leaves the graph's probabilities unchanged.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    moods: tuple[str, ...]
    input: InputSpec
    temperature: float = Field(default=1.0, gt=0)

    @classmethod
    def of(
        cls, graph: Path, *, name: str, version: str, moods: tuple[str, ...], input: InputSpec, temperature: float
    ) -> ClassifierMetadata:
        """The description of a graph, an ONNX file, with its digest; the other arguments are the attributes."""
        digest = digest_of(graph.read_bytes(), moods=moods, spec=input, temperature=temperature)
        return cls(name=name, version=version, digest=digest, moods=moods, input=input, temperature=temperature)


def digest_of(graph: bytes, *, moods: tuple[str, ...], spec: InputSpec, temperature: float) -> str:
    """SHA-256 of all that decides a classifier's probabilities, in hexadecimal.

    It is the digest of a JSON object without spaces and with sorted keys: `graph` (SHA-256 of the ONNX file), `input`,
    `moods` and `temperature`. Two classifiers with the same digest give the same probabilities, whatever they are
    called.

    Args:
        graph: Content of the ONNX file.
        moods: Names on the probability axis.
        spec: Input of the graph.
        temperature: See `ClassifierMetadata`.
    """
    content = {
        "graph": hashlib.sha256(graph).hexdigest(),
        "input": spec.model_dump(),
        "moods": moods,
        "temperature": float(temperature),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def normalise(faces: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """The graph's input, float32 (n, size, size, 1), from grey crops, uint8 (n, size, size)."""
    return (faces.astype(np.float32) * np.float32(spec.scale) + np.float32(spec.offset))[..., None]


def calibrate(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Temperature scaling of probabilities, (n, moods); each row of the result sums to 1.

    The logarithms of the probabilities serve as logits: the difference, a constant per row, does not change a softmax.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class MoodClassifier:
    """A champion, loaded and ready; safe to call from several threads."""

    def __init__(self, directory: Path, *, threads: int = 1) -> None:
        """Load a classifier.

        Args:
            directory: Directory with `GRAPH_FILE` and `METADATA_FILE`.
            threads: Number of threads within one operator of the graph.

        Raises:
            ValueError: The bundle's moods are not `MOODS`, or its digest is that of another graph or calibration.
        """
        self.metadata = ClassifierMetadata.model_validate_json((directory / METADATA_FILE).read_bytes())
        if self.metadata.moods != MOODS:
            raise ValueError(f"the bundle in {directory} has the moods {self.metadata.moods}, this code has {MOODS}")
        _check_digest(self.metadata, directory / GRAPH_FILE)
        self._session = open_session(directory / GRAPH_FILE, threads=threads)
        self._input_name = self._session.get_inputs()[0].name

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Calibrated probabilities of the moods.

        Args:
            faces: Grey crops of side `metadata.input.size`, uint8 (n, size, size).

        Returns:
            Probabilities, float64 (n, 4), columns in the order of `MOODS`, rows summing to 1.
        """
        (probabilities,) = self._session.run(None, {self._input_name: normalise(faces, self.metadata.input)})
        return calibrate(probabilities, self.metadata.temperature)


def _check_digest(metadata: ClassifierMetadata, graph: Path) -> None:
    """Raise a ValueError if metadata belong to another graph: the digest in every answer would be wrong."""
    found = digest_of(graph.read_bytes(), moods=metadata.moods, spec=metadata.input, temperature=metadata.temperature)
    if found != metadata.digest:
        raise ValueError(
            f"{graph.parent} is damaged or mixed from two releases: its digest is {found[:12]}, its "
            f"{METADATA_FILE} says {metadata.digest[:12]}. Restore it from git, or package it again."
        )
