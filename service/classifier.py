"""The mood classifier: a champion's ONNX graph with the metadata that says how to feed it.

Architecture, input size, normalisation and calibration all come out of the model bundle, so that a new champion
needs no change here.
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
    """What the graph takes: grey face crops of one size, pixels mapped to `pixel * scale + offset`.

    Attributes:
        size: side of the square crop, in pixels.
        margin: see `service.faces.crop`.
        scale: factor of the normalisation.
        offset: summand of the normalisation.
    """

    model_config = ConfigDict(frozen=True)

    size: int = Field(gt=0)
    margin: float = Field(ge=0)
    scale: float
    offset: float


class ClassifierMetadata(BaseModel):
    """What a bundle says of its classifier.

    Attributes:
        name: the architecture, for example `mini_xception`.
        version: the version in the model registry.
        moods: names on the probability axis; must be `service.moods.MOODS`.
        input: what the graph takes.
        temperature: divides the logits before the softmax (Guo et al., "On Calibration of Modern Neural Networks",
            ICML 2017); 1 leaves the probabilities as the graph gives them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    moods: tuple[str, ...]
    input: InputSpec
    temperature: float = Field(default=1.0, gt=0)


def normalise(faces: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Grey crops, uint8 (n, size, size), to the graph's input, float32 (n, size, size, 1)."""
    return (faces.astype(np.float32) * np.float32(spec.scale) + np.float32(spec.offset))[..., None]


def calibrate(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Temperature scaling of probabilities, (n, moods); each row of the result sums to 1.

    Logits are needed only up to a constant per row, and the logarithm of a softmax is just that.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class MoodClassifier:
    """A champion, loaded and ready; safe to call from several threads."""

    def __init__(self, directory: Path, *, threads: int = 1) -> None:
        """Load `GRAPH_FILE` and `METADATA_FILE`.

        Raises:
            ValueError: the bundle was made for other moods than this code has.
        """
        self.metadata = ClassifierMetadata.model_validate_json((directory / METADATA_FILE).read_bytes())
        if self.metadata.moods != MOODS:
            raise ValueError(f"the bundle in {directory} has the moods {self.metadata.moods}, this code has {MOODS}")
        self._session = open_session(directory / GRAPH_FILE, threads=threads)
        self._input_name = self._session.get_inputs()[0].name

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Calibrated probabilities of the moods.

        Args:
            faces: uint8 (n, size, size), grey crops of `metadata.input.size`.

        Returns:
            float64 (n, 4), columns in the order of `MOODS`, rows summing to 1.
        """
        (probabilities,) = self._session.run(None, {self._input_name: normalise(faces, self.metadata.input)})
        return calibrate(probabilities, self.metadata.temperature)
