"""`params.yaml` as typed, validated values: a wrong entry fails before a stage does any work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.params.recipe import AugmentationParams, HeadParams, PlateauParams, TrainParams
from pipelines.params.section import ParamsError, Section, Share, read_yaml
from pipelines.paths import COMPARISON, EVALUATION, PARAMS
from service.classifier import InputSpec
from service.detector import DetectorSettings
from service.moods import MOODS

__all__ = [
    "AugmentationParams",
    "EvaluateParams",
    "FineTunedParams",
    "GateParams",
    "HeadParams",
    "ModelParams",
    "ModelsParams",
    "Params",
    "ParamsError",
    "PhotoSplits",
    "PlateauParams",
    "PrepareParams",
    "ReliabilityParams",
    "ScratchParams",
    "Section",
    "ServingParams",
    "TeacherParams",
    "TrainParams",
]


class PhotoSplits(Section):
    """How new people are dealt out to the splits of the photos; the rest trains.

    Attributes:
        validation: Share of the photos of each mood for validation.
        test: Share of the photos of each mood for test.
    """

    validation: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _some_photos_train(self) -> PhotoSplits:
        if self.validation + self.test >= 1:
            raise ValueError("no photo is left for training")
        return self


class PrepareParams(Section):
    """How labelled images become face sets.

    Attributes:
        label_source: `ferplus` for soft labels from ten votes, `fer2013` for the original, noisier label.
        moods: Emotions and vote columns of the sources, by mood.
        min_votes: Votes that an emotion needs in order to count.
        photo_splits: How new people are dealt out.
        duplicate_correlation: Correlation from which two reduced images count as the same picture.
        seed: Seed of the choice of faces for the montages.
    """

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


class TeacherParams(Section):
    """The teacher, an ensemble; see `pipelines.teach`.

    Attributes:
        members: Models with the heads `emotions` and `original`; the teacher's prediction is their mean. They are
            exactly two because `dvc.yaml` lists them one by one as dependencies of the stage `teach`: for a third,
            add a line there and a type here.
        student_recipe: Recipe of the students, whose augmentation makes the views.
        views: Augmented copies of each training face that the teacher labels.
        seed: Seed of the augmentation.
    """

    members: tuple[str, str]
    student_recipe: str
    views: int = Field(ge=1)
    seed: int


class ScratchParams(BaseModel):
    """A model that is trained from random weights; any further key is a hyper-parameter of its network.

    Attributes:
        recipe: Key of the section `train`.
        network: Key of `pipelines.training.networks.NETWORKS`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    recipe: str
    network: str

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Keyword arguments of the network's function; a wrong one fails when the network is built."""
        return dict(self.model_extra or {})


class FineTunedParams(Section):
    """A model that starts from another model's weights and has that model's network.

    Attributes:
        recipe: Key of the section `train`.
        init_from: The other model.
    """

    recipe: str
    init_from: str


class ModelsParams(Section):
    """The models, by the DVC stage that trains them.

    Attributes:
        from_scratch: Models trained from random weights (stage `train`).
        fine_tuned: Models trained further from another model's weights (stage `fine_tune`).
        distilled: Models trained further with the teacher's predictions as targets (stage `distil`).
    """

    from_scratch: dict[str, ScratchParams]
    fine_tuned: dict[str, FineTunedParams] = Field(default={})
    distilled: dict[str, FineTunedParams] = Field(default={})

    def entries(self) -> dict[str, ScratchParams | FineTunedParams]:
        """All models by name, in an order in which they can be trained."""
        return {**self.from_scratch, **self.fine_tuned, **self.distilled}


@dataclass(frozen=True)
class ModelParams:
    """One model with its network resolved.

    Attributes:
        name: Name of the model.
        recipe: Key of the section `train`.
        network: Key of `pipelines.training.networks.NETWORKS`.
        hyper_parameters: Keyword arguments of the network's function.
        init_from: The model whose weights it starts from; None starts from random ones.
    """

    name: str
    recipe: str
    network: str
    hyper_parameters: dict[str, Any]
    init_from: str | None = None


class EvaluateParams(Section):
    """How candidates are measured.

    Attributes:
        calibration_bins: Bins of the reliability diagram and of the expected calibration error.
        temperature_labels: Labels that the temperature is fitted to: `soft` for the shares of the votes, `mood` for
            the mood with the most votes.
        latency_runs: Number of timed single-face predictions behind the median and the 99th percentile.
        max_parity_difference: Largest difference of a probability between the Keras model and the served graph.
        bootstrap_resamples: Resamples of the test images for the confidence intervals.
        seed: Seed of the resamples and of random corruptions.
    """

    calibration_bins: int = Field(ge=1)
    temperature_labels: Literal["soft", "mood"]
    latency_runs: int = Field(ge=1)
    max_parity_difference: float = Field(gt=0)
    bootstrap_resamples: int = Field(ge=100)
    seed: int


class GateParams(Section):
    """The rule by which a challenger replaces the champion; see `pipelines.registry.gate`.

    Attributes:
        metric: Deciding metric, by its dotted name in `metrics.json`. It must be a validation metric: a test set that
            decides is no longer a test set.
        max_bytes: Upper bound for the served graph's size.
        max_multiply_adds: Upper bound for the served graph's multiply-adds for one face.
        max_latency_ratio: Upper bound for the time of one face on one thread, in units of the fixed network's.
        confidence: Confidence level of the two-sided intervals of differences.
        resamples: Resamples of the paired bootstrap.
        min_improvement: Lower bound for the interval of the metric's difference.
        max_slice_loss: Weighted F1 that a challenger may lose on a corruption of the validation faces, or on photos.
        max_mood_loss: F1 that it may lose on a mood, on FER2013's validation faces and on photos.
        min_mood_photos: Validation photos of a mood that are needed for a comparison on them.
        seed: Seed of the bootstrap.
    """

    metric: Literal[
        "validation.ferplus.weighted_f1",
        "validation.ferplus.macro_f1",
        "validation.ferplus.accuracy",
        "validation.ferplus.macro_recall",
    ]
    max_bytes: int = Field(gt=0)
    max_multiply_adds: int = Field(gt=0)
    max_latency_ratio: float = Field(gt=0)
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=100)
    min_improvement: float = Field(ge=0)
    max_slice_loss: Share
    max_mood_loss: Share
    min_mood_photos: int = Field(ge=1)
    seed: int


class ServingParams(Section):
    """What is done around the network at inference; see `pipelines.export.serving_model`.

    Attributes:
        mirror_averaging: Whether the prediction is the mean over the face and its horizontal flip (test-time
            augmentation).
    """

    mirror_averaging: bool


class ReliabilityParams(Section):
    """Which answers are called reliable; see `pipelines.reliability`.

    Attributes:
        max_error: Largest share of wrong answers among those called reliable, for every source of faces and every
            corruption.
        level: Confidence level of the upper bound of that share, which must keep to `max_error` on validation for all
            sources and corruptions at once.
        seed: Seed of random corruptions.
    """

    max_error: float = Field(gt=0, lt=1)
    level: float = Field(ge=0.5, lt=1)
    seed: int


class Params(Section):
    """The whole file; `monitoring` is validated by `monitoring.params`, which stands above this package."""

    detector: DetectorSettings
    input: InputSpec
    prepare: PrepareParams
    train: dict[str, TrainParams]
    teacher: TeacherParams
    models: ModelsParams
    candidates: tuple[str, ...] = Field(min_length=1)
    compared: tuple[str, ...]
    serving: ServingParams
    evaluate: EvaluateParams
    gate: GateParams
    reliability: ReliabilityParams
    monitoring: dict[str, Any]

    @classmethod
    def read(cls, path: Path = PARAMS) -> Params:
        """The file's content.

        Raises:
            ParamsError: an entry is wrong; the message names it.
        """
        return cls.parse(read_yaml(path), path)

    @field_validator("detector", mode="before")
    @classmethod
    def _detector(cls, values: Any) -> Any:
        # Pydantic ignores an unknown key of a dataclass.
        if isinstance(values, dict) and (unknown := values.keys() - {field.name for field in fields(DetectorSettings)}):
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}; it may be misspelt")
        return values

    @model_validator(mode="after")
    def _names_exist(self) -> Params:
        if problems := list(self._wrong_names()):
            raise ValueError("; ".join(problems))
        return self

    def _wrong_names(self) -> Iterator[str]:
        """Sentences about names that refer to nothing, or to what they must not."""
        names, models = list(self.models.entries()), self.models
        if len(names) != len(models.from_scratch) + len(models.fine_tuned) + len(models.distilled):
            yield "a model stands in two sections of `models`"
        for position, (name, entry) in enumerate(self.models.entries().items()):
            if entry.recipe not in self.train:
                yield f"models: {name} names the recipe {entry.recipe!r}; `train` has {', '.join(self.train)}"
            elif bool(self.train[entry.recipe].teacher_weight) != (name in self.models.distilled):
                yield f"models: {name} must stand in `distilled` if, and only if, its recipe has a teacher_weight"
            if isinstance(entry, FineTunedParams) and entry.init_from not in names[:position]:
                yield f"models: {name} starts from {entry.init_from!r}, which is no model declared before it"
        for member in self.teacher.members:
            if member not in names:
                yield f"teacher.members: there is no model {member!r}"
        if self.teacher.student_recipe not in self.train:
            yield f"teacher.student_recipe: `train` has no recipe {self.teacher.student_recipe!r}"
        for name in self.evaluated:
            if name not in names:
                yield f"candidates, compared: there is no model {name!r}"
        for name in {name for name in self.evaluated if self.evaluated.count(name) > 1}:
            yield f"candidates, compared: {name!r} stands there twice"

    @property
    def evaluated(self) -> tuple[str, ...]:
        """All models that are measured."""
        return (*self.candidates, *self.compared)

    def evaluation(self, name: str) -> Path:
        """Directory of a model's evaluation."""
        return (EVALUATION if name in self.candidates else COMPARISON) / name

    def model(self, name: str) -> ModelParams:
        """A model with its network; a fine-tuned one has that of `init_from`. A KeyError names an unknown model."""
        entries = self.models.entries()
        if name not in entries:
            raise KeyError(f"params.yaml has no model {name!r}; it has {', '.join(entries)}")
        entry = network = entries[name]
        while isinstance(network, FineTunedParams):
            network = entries[network.init_from]
        init_from = entry.init_from if isinstance(entry, FineTunedParams) else None
        return ModelParams(name, entry.recipe, network.network, network.hyper_parameters, init_from)
