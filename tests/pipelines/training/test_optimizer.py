"""Optimizer and learning rate schedule."""

import numpy as np
import pytest

from pipelines.training.fit import compile_network
from tests.support.training import training_config


def test_a_decay_by_weight_leaves_out_what_normalises_and_shifts() -> None:
    model = compile_network(training_config(2, "one_cycle"), steps=4)
    model.optimizer.build(model.trainable_variables)
    decayed = {v.name for v in model.trainable_variables if model.optimizer._use_weight_decay(v)}
    assert decayed
    assert all("kernel" in name for name in decayed)


def test_the_one_cycle_rate_rises_to_its_peak_and_falls_to_nearly_nothing() -> None:
    recipe = training_config(10, "one_cycle").recipe
    rate = compile_network(training_config(10, "one_cycle"), steps=100).optimizer._learning_rate
    rates = [float(rate(step)) for step in range(0, 1000, 10)]
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.01)
    assert int(np.argmax(rates)) == pytest.approx(recipe.warm_up * 100, abs=2)
    assert rates[-1] < recipe.learning_rate / 100
