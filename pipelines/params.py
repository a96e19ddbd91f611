"""`params.yaml` as typed, validated values: a wrong entry fails before a stage does any work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipelines.paths import PARAMS
from service.classifier import InputSpec
from service.detector import DetectorSettings
from service.moods import MOODS

Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of the file: an unknown key is an error, because it is most likely a misspelt one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PhotoSplits(Section):
    """How the photos are split into folds of equal size, with no person in two of them.

    Attributes:
        folds: Number of folds.
        validation_folds: Folds for validation.
        test_folds: Folds for test; the rest trains.
    """

    folds: int = Field(ge=3)
    validation_folds: int = Field(ge=1)
    test_folds: int = Field(ge=1)

    @model_validator(mode="after")
    def _some_folds_train(self) -> PhotoSplits:
        if self.validation_folds + self.test_folds >= self.folds:
            raise ValueError(f"no fold of the {self.folds} is left for training (prepare.photo_splits)")
        return self


class PrepareParams(Section):
    """How labelled images become face sets.

    Attributes:
        label_source: `ferplus` for soft labels from ten votes, `fer2013` for the original, noisier label.
        moods: Emotions and vote columns of the sources, by mood.
        min_votes: Votes that an emotion needs in order to count.
        photo_splits: How the photos are split.
        duplicate_correlation: Correlation from which two reduced images count as the same picture.
        seed: Seed of the split.
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


class AugmentationParams(Section):
    """Ranges of the random changes of a training image; see `pipelines.training.augmentation`.

    Attributes:
        flip: Whether faces are flipped horizontally at random.
        rotation_degrees: Largest rotation in either direction.
        shift: Largest shift, as a share of the side.
        zoom: Scale factors lie in [1 - zoom, 1 + zoom].
        brightness: Largest offset, as a share of the full range.
        contrast: Contrast factors lie in [1 - contrast, 1 + contrast].
        corrupted: Share of the faces that get one random corruption: noise, blur, compression, darkness or a cover.
    """

    flip: bool
    rotation_degrees: float = Field(ge=0)
    shift: Share
    zoom: Share
    brightness: Share
    contrast: Share
    corrupted: Share


class PlateauParams(Section):
    """Reduction of the learning rate when the validation loss stops falling.

    Attributes:
        factor: Factor of one reduction.
        patience: Epochs without improvement before a reduction.
        min_learning_rate: Lower bound of the learning rate.
    """

    factor: float = Field(gt=0, lt=1)
    patience: int = Field(ge=1)
    min_learning_rate: float = Field(ge=0)


class HeadParams(Section):
    """Loss weights of the auxiliary heads; a head of weight 0 is not built.

    Attributes:
        emotions: Loss weight of the head for the shares of FER+'s nine emotions. With it the mood is their sum.
        original: Loss weight of the head for the mood by the dataset's original label.
    """

    emotions: float = Field(default=0.0, ge=0)
    original: float = Field(default=0.0, ge=0)


class TrainParams(Section):
    """A training recipe.

    Attributes:
        epochs: Number of epochs; the maximum if training can stop early.
        batch_size: Faces in a step.
        optimizer: `adam` with an L2 penalty on kernels, or `adamw` with decoupled weight decay.
        learning_rate: Initial learning rate of the schedule `plateau`, peak of `one_cycle`.
        weight_decay: Strength of the penalty or of the decay.
        schedule: `plateau` lowers the rate when the validation loss stops falling; `one_cycle` warms up and then
            follows a cosine down to almost zero.
        reduce_on_plateau: Settings of the schedule `plateau`.
        warm_up: Share of the steps that warm up, for `one_cycle`.
        early_stopping_patience: Epochs without a better validation loss before training stops; None trains to the end.
        photo_balance: Class-weight exponent of the photos: a photo weighs the inverse of its mood's share among the
            photos to this power, scaled to a mean of 1. 0 weighs all photos alike.
        heads: Auxiliary heads.
        teacher_weight: Share of the teacher's prediction in the target; the rest is the label. 0 needs no teacher.
        augmentation: Random changes of the faces.
        seed: Seed of weights, order and augmentation.
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
    fine_tuned: dict[str, FineTunedParams] = {}
    distilled: dict[str, FineTunedParams] = {}

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
        max_latency_ms: Upper bound for the median time of one face on one thread.
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
    max_latency_ms: float = Field(gt=0)
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


class Params(Section):
    """The whole file; `monitoring` is validated by `monitoring.params`, which stands above this package."""

    detector: DetectorSettings
    input: InputSpec
    prepare: PrepareParams
    train: dict[str, TrainParams]
    teacher: TeacherParams
    models: ModelsParams
    candidates: tuple[str, ...] = Field(min_length=1)
    serving: ServingParams
    evaluate: EvaluateParams
    gate: GateParams
    monitoring: dict[str, Any]

    @classmethod
    def read(cls, path: Path = PARAMS) -> Params:
        """The file's content.

        Raises:
            pydantic.ValidationError: an entry is wrong; the message names it.
        """
        return cls.model_validate(yaml.safe_load(path.read_text()))

    @field_validator("detector", mode="plain")
    @classmethod
    def _detector(cls, values: dict[str, Any]) -> DetectorSettings:
        # Pydantic would ignore an unknown key of a dataclass; its constructor does not.
        try:
            return DetectorSettings(**{**values, "thresholds": tuple(values["thresholds"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"wrong setting: {error}") from error

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
        for name in self.candidates:
            if name not in names:
                yield f"candidates: there is no model {name!r}"

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
