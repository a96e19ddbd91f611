"""`params.yaml` as typed, validated values: a wrong entry fails before a stage does any work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.paths import PARAMS
from service.classifier import InputSpec
from service.moods import MOODS

Share = Annotated[float, Field(ge=0, lt=1)]

_TRAINED_ON: Final = ("continued", "pupils")
"""The sections of models that begin with the weights of another one, in the order in which they can be trained."""


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
    """Ranges of the random changes of a training image; see `pipelines.training.augmentation`."""

    flip: bool
    rotation_degrees: float = Field(ge=0)
    shift: Share
    zoom: Share
    brightness: Share
    contrast: Share
    corrupted: Share


class PlateauParams(_Section):
    """Reduction of the learning rate where the validation loss stops falling."""

    factor: float = Field(gt=0, lt=1)
    patience: int = Field(ge=1)
    min_learning_rate: float = Field(ge=0)


class HeadParams(_Section):
    """Weights of the losses of the auxiliary heads; a head of weight 0 is not built. See `pipelines.training.networks`.

    Attributes:
        emotions: of the head that fits the shares of FER+'s nine emotions; with it the mood is their sum.
        original: of the head that fits the mood by the dataset's original label.
    """

    emotions: float = Field(default=0.0, ge=0)
    original: float = Field(default=0.0, ge=0)


class TrainParams(_Section):
    """A recipe that architectures are trained by.

    Attributes:
        epochs: at most where it stops early, else exactly.
        batch_size: faces a step.
        optimizer: `adam` with an L2 penalty on kernels, or `adamw` with decoupled decay of them.
        learning_rate: where the schedule starts, or its peak.
        weight_decay: of the penalty or of the decay.
        schedule: `plateau` lowers the rate where the validation loss stops falling; `one_cycle` warms up and then
            follows a cosine down to nothing.
        reduce_on_plateau: of the schedule `plateau`.
        warm_up: share of the steps, of the schedule `one_cycle`.
        early_stopping_patience: epochs without a better validation loss; None trains to the end.
        photo_balance: exponent by which photos of scarce moods count more: a photo weighs the inverse of its mood's
            share among the photos, to this power, scaled to a mean of 1. 0 weighs all alike.
        heads: auxiliary heads.
        teacher_weight: share of the teacher's answer in the target, the rest being the label's; 0 needs no teacher.
        augmentation: random changes of the faces.
        seed: of weights, order and augmentation.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    schedule: Literal["plateau", "one_cycle"] = "plateau"
    reduce_on_plateau: PlateauParams | None = None
    warm_up: Share = 0.0
    early_stopping_patience: int | None = Field(default=None, ge=1)
    photo_balance: float = Field(default=0.0, ge=0, le=1)
    heads: HeadParams = HeadParams()
    teacher_weight: float = Field(default=0.0, ge=0, le=1)
    augmentation: AugmentationParams
    seed: int

    @model_validator(mode="after")
    def _the_schedule_has_its_settings(self) -> TrainParams:
        if (self.schedule == "plateau") != (self.reduce_on_plateau is not None):
            raise ValueError("reduce_on_plateau belongs to the schedule `plateau`, and to no other")
        return self


class ArchitectureParams(_Section):
    """One architecture of the section `architectures`.

    Attributes:
        recipe: by which it is trained, a key of the section `train`.
        network: a key of `pipelines.training.networks.NETWORKS`.
        hyper_parameters: of that network.
    """

    recipe: str
    network: str
    hyper_parameters: dict[str, Any] = {}


class ContinuedParams(_Section):
    """One entry of the sections `continued` and `pupils`: a model that begins with the weights of another one.

    Attributes:
        architecture: of both, a key of the section `architectures`.
        start: the other model, a key of any of the three sections.
        recipe: by which it is trained on, a key of the section `train`.
    """

    architecture: str
    start: str
    recipe: str


class TeacherParams(_Section):
    """The teacher, and how it answers for its pupil; see `pipelines.teach`.

    Attributes:
        members: architectures with the heads `emotions` and `original`, whose mean answer is the teacher's.
        pupil: the recipe that learns from it, by whose augmentation the views are made.
        views: of each training face that it answers for, each augmented anew.
        seed: of the augmentation.
    """

    members: tuple[str, ...] = Field(min_length=1)
    pupil: str
    views: int = Field(ge=1)
    seed: int


class EvaluateParams(_Section):
    """How candidates are measured.

    Attributes:
        calibration_bins: of the reliability diagram and the expected calibration error.
        temperature_labels: what the temperature is fitted to: `soft`, the shares of the votes, or `mood`, the mood
            that they make.
        latency_runs: how often a single face is classified for the median and the 99th percentile of the time.
        max_parity_difference: largest difference of a probability between the Keras model and the served graph.
        bootstrap_resamples: of the test images, for the intervals of the figures.
        seed: of the resamples, and of what chance decides in the slices (`pipelines.evaluation.slices`).
    """

    calibration_bins: int = Field(ge=1)
    temperature_labels: Literal["soft", "mood"]
    latency_runs: int = Field(ge=1)
    max_parity_difference: float = Field(gt=0)
    bootstrap_resamples: int = Field(ge=100)
    seed: int


class GateParams(_Section):
    """The rule by which a challenger takes the champion's place; see `pipelines.registry.gate`.

    Attributes:
        metric: the figure that decides, by its dotted name in `metrics.json`. It must be one of validation: a test
            set that decides is a test set no longer.
        max_bytes: of the served graph.
        max_latency_ms: median time for one face on one thread.
        confidence: of the two-sided intervals of differences.
        resamples: of the bootstrap that they come from.
        min_improvement: what the interval of the metric's difference must lie above.
        max_slice_loss: how much weighted F1 a challenger may lose on a slice of the validation faces, or on photos.
        max_mood_loss: how much F1 it may lose on a mood, of FER2013's validation faces and of the photos.
        min_mood_photos: validation photos of a mood that are needed to compare on them.
        seed: of the bootstrap.
    """

    metric: Literal[
        "validation.ferplus.weighted_f1",
        "validation.ferplus.macro_f1",
        "validation.ferplus.accuracy",
        "validation.ferplus.macro_recall",
    ]
    max_bytes: int = Field(gt=0)
    max_latency_ms: float = Field(gt=0)
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=100)
    min_improvement: float = Field(ge=0)
    max_slice_loss: Share
    max_mood_loss: Share
    min_mood_photos: int = Field(ge=1)
    seed: int


class ServingParams(_Section):
    """What is done around the network at inference; see `pipelines.export.serving_model`."""

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


def read_train(recipe: str, path: Path = PARAMS) -> TrainParams:
    """One recipe of the section `train`.

    Raises:
        KeyError: the section does not name it.
    """
    return TrainParams.model_validate(_entry("train", recipe, path))


def read_teacher(path: Path = PARAMS) -> TeacherParams:
    """The section `teacher`."""
    return TeacherParams.model_validate(read_section("teacher", path))


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


def read_architecture(name: str, path: Path = PARAMS) -> ArchitectureParams:
    """One architecture of the section `architectures`.

    Raises:
        KeyError: the section does not name it.
    """
    return ArchitectureParams.model_validate(_entry("architectures", name, path))


def read_models(path: Path = PARAMS) -> list[str]:
    """Names of all models that are trained, evaluated and compared, in the order in which they can be trained."""
    return [name for section in ("architectures", *_TRAINED_ON) for name in read_section(section, path)]


def read_continued(name: str, path: Path = PARAMS) -> ContinuedParams | None:
    """The entry of a model that begins with the weights of another one; None where it does not."""
    for section in _TRAINED_ON:
        if name in (entries := read_section(section, path)):
            return ContinuedParams.model_validate(entries[name])
    return None


def recipe_of(name: str, path: Path = PARAMS) -> str:
    """The recipe that a model is trained by, on top of that of the model it starts from.

    Raises:
        KeyError: no section names the model.
    """
    continued = read_continued(name, path)
    return read_architecture(name, path).recipe if continued is None else continued.recipe


def _entry(section: str, name: str, path: Path) -> dict:
    """A named entry of a section.

    Raises:
        KeyError: the section does not name it.
    """
    entries = read_section(section, path)
    if name not in entries:
        raise KeyError(f"{path} names no {name!r} in the section {section!r}; it names {', '.join(entries)}")
    return entries[name]
