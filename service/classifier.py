"""The mood classifier: a champion's ONNX graph with the metadata that describes its input and calibration.

Architecture, input size, normalisation and calibration all come from the model bundle, so that a new champion needs no
change here.
"""

from __future__ import annotations

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
        version: Version in the model registry.
        moods: Names on the probability axis; must be `service.moods.MOODS`.
        input: Input of the graph.
        temperature: Divisor of the logits before the softmax (Guo et al., "On Calibration of Modern Neural Networks",
            ICML 2017); 1 leaves the graph's probabilities unchanged.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    moods: tuple[str, ...]
    input: InputSpec
    temperature: float = Field(default=1.0, gt=0)


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
            ValueError: The bundle's moods are not `MOODS`.
        """
        self.metadata = ClassifierMetadata.model_validate_json((directory / METADATA_FILE).read_bytes())
        if self.metadata.moods != MOODS:
            raise ValueError(f"the bundle in {directory} has the moods {self.metadata.moods}, this code has {MOODS}")
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
