"""All that determines a training, its data apart: the network, the recipe and where the weights start."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras

from pipelines.data.dataset import EMOTIONS as EMOTION_NAMES
from pipelines.params import ModelParams, Params, PrepareParams, TeacherParams, TrainParams
from pipelines.training import networks
from pipelines.training.networks import EMOTIONS, ORIGINAL, Heads
from service.classifier import InputSpec
from service.moods import MOODS


@dataclass(frozen=True)
class TrainingConfig:
    """One training.

    Attributes:
        model: Name, network and starting weights.
        recipe: How the network is trained.
        spec: The network's input.
        emotion_moods: Index of the mood of each of `pipelines.data.dataset.EMOTIONS`.
        teacher: The teacher to learn from; None if the recipe gives a teacher no weight.
    """

    model: ModelParams
    recipe: TrainParams
    spec: InputSpec
    emotion_moods: tuple[int, ...]
    teacher: TeacherParams | None = None

    @classmethod
    def of(cls, params: Params, model: ModelParams) -> TrainingConfig:
        """The training of a model by its recipe in `params.yaml`."""
        recipe = params.train[model.recipe]
        teacher = params.teacher if recipe.teacher_weight else None
        return cls(model, recipe, params.input, emotion_moods(params.prepare), teacher)

    @property
    def head_weights(self) -> dict[str, float]:
        """Loss weights of the auxiliary heads that the network has."""
        return {name: weight for name, weight in self.recipe.heads if weight > 0}

    def network(self) -> keras.Model:
        """The untrained network."""
        heads = Heads(self.emotion_moods if EMOTIONS in self.head_weights else None, ORIGINAL in self.head_weights)
        return networks.build(
            self.model.network,
            self.spec.size,
            len(MOODS),
            **self.model.hyper_parameters,
            **({"heads": heads} if self.head_weights else {}),
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters of the training's MLflow run, nested."""
        model = asdict(self.model)
        return {
            "architecture": model.pop("name"),
            **model.pop("hyper_parameters"),
            **{key: value for key, value in model.items() if value is not None},
            **self.recipe.model_dump(),
            "input": self.spec.model_dump(),
            **({"teacher": self.teacher.model_dump()} if self.teacher else {}),
        }


def emotion_moods(params: PrepareParams) -> tuple[int, ...]:
    """The index of the mood of each of `pipelines.data.dataset.EMOTIONS`."""
    return tuple(params.mood_of(emotion) for emotion in EMOTION_NAMES)
