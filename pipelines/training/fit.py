"""Fitting one network to the training faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import keras
import pandas as pd

from pipelines.callbacks.checkpoints import Checkpoints, CheckpointSaver
from pipelines.callbacks.memory import KeepMemory
from pipelines.data.face_sets import FaceSet
from pipelines.training.batches import FaceBatches, head_targets
from pipelines.training.config import TrainingConfig
from pipelines.training.distillation import Distillation, TeacherPredictions
from pipelines.training.networks import MOOD
from pipelines.training.optimizer import make_optimizer
from service.classifier import normalise

MONITOR: Final = "val_cross_entropy"
"""Column of the history that decides: without the L2 penalty, which falls for reasons of its own."""


def fit(
    config: TrainingConfig,
    train: FaceSet,
    validation: FaceSet,
    checkpoints: Checkpoints,
    reporters: Sequence[keras.callbacks.Callback] = (),
    predictions: TeacherPredictions | None = None,
    init_from: keras.Model | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train by the recipe.

    Args:
        config: Network and recipe.
        train: Faces to fit.
        validation: Faces that decide on learning rate, end and best epoch.
        checkpoints: Where to resume from and to save each epoch.
        reporters: Callbacks that report each epoch and have no part in the training.
        predictions: The teacher's predictions, if the recipe gives a teacher weight.
        init_from: A network of the same build whose weights are the first; None starts from random ones.

    Returns:
        The model of the best epoch, without optimizer state, and the metrics of every epoch.

    Raises:
        ValueError: the recipe needs a teacher's predictions and there are none.
    """
    keras.utils.set_random_seed(config.recipe.seed)
    model = compile_network(config, steps=-(-len(train) // config.recipe.batch_size))
    if init_from is not None:
        model.set_weights(init_from.get_weights())
    # Keras puts the head's name before the metric's name if there are several heads.
    monitor = MONITOR if not config.head_weights else MONITOR.replace("val_", f"val_{MOOD}_")
    deciding = _deciding_callbacks(config, monitor)
    saver = CheckpointSaver(checkpoints, monitor, deciding)
    first_epoch = saver.restore(model)
    if not saver.finished:
        heads = list(config.head_weights)
        targets = head_targets(validation, heads)
        model.fit(
            FaceBatches(train, config.spec, config.recipe, first_epoch, heads, Distillation.of(config, predictions)),
            validation_data=(normalise(validation.pixels, config.spec), targets if heads else targets[MOOD]),
            validation_batch_size=256,
            initial_epoch=first_epoch,
            epochs=config.recipe.epochs,
            # The saver comes last: it records what the others have decided.
            callbacks=[KeepMemory(), *deciding.values(), *reporters, saver],
            shuffle=False,  # Keras would permute the batches by a global state that no checkpoint holds
            verbose=0,
        )
    best = config.network()
    best.set_weights(saver.best_weights(model))
    return best, saver.history.rename(columns=lambda name: name.replace(f"{MOOD}_c", "c"))


def compile_network(config: TrainingConfig, steps: int) -> keras.Model:
    """The untrained network, compiled by the recipe for so many steps an epoch."""
    model, several = config.network(), bool(config.head_weights)
    if keras.backend.backend() == "tensorflow":
        _fuse_batch_normalization(model)
    loss = "categorical_crossentropy"
    metrics = [keras.metrics.CategoricalCrossentropy(name="cross_entropy"), "categorical_accuracy"]
    model.compile(
        optimizer=make_optimizer(model, config.recipe, steps),
        loss=dict.fromkeys((MOOD, *config.head_weights), loss) if several else loss,
        loss_weights={MOOD: 1.0, **config.head_weights} if several else None,
        metrics={MOOD: metrics} if several else metrics,
        jit_compile=keras.backend.backend() == "jax",  # XLA is slower than TensorFlow's own kernels on a CPU
    )
    return model


def _deciding_callbacks(config: TrainingConfig, monitor: str) -> dict[str, keras.callbacks.Callback]:
    """The callbacks that decide on learning rate and end, by the names that checkpoints use."""
    deciding: dict[str, keras.callbacks.Callback] = {}
    plateau, patience = config.recipe.reduce_on_plateau, config.recipe.early_stopping_patience
    if plateau is not None:
        deciding["plateau"] = keras.callbacks.ReduceLROnPlateau(
            monitor,
            mode="min",
            factor=plateau.factor,
            patience=plateau.patience,
            min_lr=plateau.min_learning_rate,
            min_delta=0,
            verbose=0,
        )
    if patience is not None:
        deciding["stopping"] = keras.callbacks.EarlyStopping(monitor, mode="min", patience=patience)
    return deciding


def _fuse_batch_normalization(model: keras.Model) -> None:
    """Let training use TensorFlow's fused kernel for batch normalisation.

    Keras 3 composes the operation of some ten others, which take a fifth of the training time on a CPU. The result is
    the same except for the running variance, which the kernel corrects by n / (n - 1), with n some thousands. The
    layers themselves do not change, so a saved model does not depend on this.
    """
    import tensorflow

    def fused(layer: keras.layers.BatchNormalization) -> Any:
        plain = layer.call

        def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            if not training or mask is not None:
                return plain(inputs, training=training, mask=mask)
            outputs, mean, variance = tensorflow.compat.v1.nn.fused_batch_norm(
                inputs, layer.gamma, layer.beta, epsilon=layer.epsilon, is_training=True
            )
            for running, seen in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
                running.assign(running * layer.momentum + seen * (1 - layer.momentum))
            return outputs

        return call

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.scale and layer.center:
            layer.call = fused(layer)
