"""`params.yaml` as typed, validated values: a wrong entry fails before a stage does any work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.paths import PARAMS
from service.classifier import InputSpec
from service.moods import MOODS

Share = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    """A section of the file: unknown keys are errors, since they are mostly misspelled known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PhotoSplits(_Section):
    """How many of the folds, of equal size and without a person in two of them, validate and test; the rest trains."""

    folds: int = Field(ge=3)
    validation_folds: int = Field(ge=1)
    test_folds: int = Field(ge=1)

    @model_validator(mode="after")
    def _some_folds_train(self) -> PhotoSplits:
        if self.validation_folds + self.test_folds >= self.folds:
            raise ValueError(f"no fold of the {self.folds} is left for training (prepare.photo_splits)")
        return self


class PrepareParams(_Section):
    """How labelled images become face sets."""

    label_source: Literal["ferplus", "fer2013"]
    moods: dict[str, list[str]]
    min_votes: int = Field(ge=1)
    photo_splits: PhotoSplits
    duplicate_correlation: float = Field(gt=0, le=1)
    seed: int

    @model_validator(mode="after")
    def _moods_are_the_vocabulary(self) -> PrepareParams:
        if set(self.moods) != set(MOODS):
            raise ValueError(f"prepare.moods has {sorted(self.moods)}, the vocabulary is {sorted(MOODS)}")
        emotions = [emotion for group in self.moods.values() for emotion in group]
        if len(emotions) != len(set(emotions)):
            raise ValueError("prepare.moods names an emotion under two moods")
        return self

    def mood_of(self, emotion: str) -> int:
        """Index in `MOODS` of the mood of an emotion.

        Raises:
            KeyError: no mood has that emotion.
        """
        for index, mood in enumerate(MOODS):
            if emotion in self.moods[mood]:
                return index
        raise KeyError(f"params.yaml gives no mood for the emotion {emotion!r} (prepare.moods)")


class AugmentationParams(_Section):
    """Ranges of the random changes of a training image; see `pipelines.augmentation`."""

    flip: bool
    rotation_degrees: float = Field(ge=0)
    shift: Share
    zoom: Share
    brightness: Share
    contrast: Share


class PlateauParams(_Section):
    """Reduction of the learning rate where the validation loss stops falling."""

    factor: float = Field(gt=0, lt=1)
    patience: int = Field(ge=1)
    min_learning_rate: float = Field(ge=0)


class TrainParams(_Section):
    """The recipe that all architectures are trained by."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay_l2: float = Field(ge=0)
    reduce_on_plateau: PlateauParams
    early_stopping_patience: int = Field(ge=1)
    augmentation: AugmentationParams
    seed: int


class EvaluateParams(_Section):
    """How candidates are measured.

    Attributes:
        calibration_bins: of the reliability diagram and the expected calibration error.
        temperature_labels: what the temperature is fitted to: `soft`, the shares of the votes, or `mood`, the mood
            that they make.
        latency_runs: how often a single face is classified for the median and the 99th percentile of the time.
        max_parity_difference: largest difference of a probability between the Keras model and the served graph.
    """

    calibration_bins: int = Field(ge=1)
    temperature_labels: Literal["soft", "mood"]
    latency_runs: int = Field(ge=1)
    max_parity_difference: float = Field(gt=0)


class GateParams(_Section):
    """The rule by which a challenger takes the champion's place; see `pipelines.gate`.

    Attributes:
        metric: the figure that decides, by its dotted name in `metrics.json`. It must be one of validation: a test
            set that decides is a test set no longer.
        max_bytes: of the served graph.
        max_latency_ms: median time for one face on one thread.
        min_improvement: by how much a challenger must beat the champion; with 0 any improvement will do.
    """

    metric: str = Field(pattern=r"^validation\.")
    max_bytes: int = Field(gt=0)
    max_latency_ms: float = Field(gt=0)
    min_improvement: float = Field(ge=0)


class ServingParams(_Section):
    """What is done around the network at inference; see `pipelines.serving_graph`."""

    mirror_averaging: bool


def read_section(name: str, path: Path = PARAMS) -> dict:
    """One section of the file as plain values.

    Raises:
        KeyError: the file has no such section.
    """
    sections = yaml.safe_load(path.read_text())
    if name not in sections:
        raise KeyError(f"{path} has no section {name!r}; it has {', '.join(sections)}")
    return sections[name]


def read_prepare(path: Path = PARAMS) -> PrepareParams:
    """The section `prepare`."""
    return PrepareParams.model_validate(read_section("prepare", path))


def read_train(path: Path = PARAMS) -> TrainParams:
    """The section `train`."""
    return TrainParams.model_validate(read_section("train", path))


def read_evaluate(path: Path = PARAMS) -> EvaluateParams:
    """The section `evaluate`."""
    return EvaluateParams.model_validate(read_section("evaluate", path))


def read_gate(path: Path = PARAMS) -> GateParams:
    """The section `gate`."""
    return GateParams.model_validate(read_section("gate", path))


def read_serving(path: Path = PARAMS) -> ServingParams:
    """The section `serving`."""
    return ServingParams.model_validate(read_section("serving", path))


def read_input(path: Path = PARAMS) -> InputSpec:
    """The section `input`: what the classifier takes."""
    return InputSpec.model_validate(read_section("input", path))


def read_architecture(name: str, path: Path = PARAMS) -> dict:
    """Hyper-parameters of one architecture.

    Raises:
        KeyError: the section `architectures` does not name it.
    """
    architectures = read_section("architectures", path)
    if name not in architectures:
        raise KeyError(f"{path} names no architecture {name!r}; it names {', '.join(architectures)}")
    return architectures[name] or {}
