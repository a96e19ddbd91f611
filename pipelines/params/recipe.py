"""The section `train` of `params.yaml`: what a training recipe consists of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.params.section import Section, Share


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
