"""The optimizer and the learning rate schedule of a recipe."""

from __future__ import annotations

import keras

from pipelines.params import TrainParams


def make_optimizer(model: keras.Model, recipe: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """The recipe's optimizer for a network; `adam` also puts the L2 penalty on the network's kernels.

    Args:
        model: The network.
        recipe: Optimizer, schedule and decay.
        steps: Steps in an epoch.
    """
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    if recipe.schedule == "one_cycle":
        rate = one_cycle(recipe, steps)
    if recipe.optimizer == "adam":
        _penalise_kernels(model, recipe.weight_decay)
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def one_cycle(recipe: TrainParams, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A warm-up to the peak learning rate, then a cosine down to a thousandth of it: Smith and Topin,
    "Super-Convergence", arXiv:1708.07120."""
    warm_up = round(recipe.warm_up * recipe.epochs * steps)
    return keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 25,
        decay_steps=recipe.epochs * steps - warm_up,
        alpha=0.001,
        warmup_target=recipe.learning_rate,
        warmup_steps=warm_up,
    )


def _penalise_kernels(model: keras.Model, strength: float) -> None:
    """Add an L2 penalty to every convolution and dense kernel; `keras.applications` has no argument for it."""
    for variable in model.trainable_variables:
        if "kernel" in variable.name:
            variable.regularizer = keras.regularizers.L2(strength) if strength else None
