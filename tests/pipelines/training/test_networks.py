"""The networks and their heads."""

import keras
import numpy as np
import pytest

from pipelines.data.dataset import EMOTIONS
from pipelines.params import Params
from pipelines.training import networks
from pipelines.training.config import emotion_moods
from pipelines.training.networks import Heads
from service.moods import MOODS


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_gives_probabilities_of_the_four_moods(name: str) -> None:
    model = networks.build(name, 48, 4)
    probabilities = model.predict(np.zeros((2, 48, 48, 1), np.float32), verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert probabilities.shape == (2, 4)


def test_mini_xception_is_built_as_described() -> None:
    model = networks.build("mini_xception", 48, 4)
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(keras.layers.SeparableConv2D) == 8  # two in each of four blocks
    assert kinds.count(keras.layers.MaxPooling2D) == kinds.count(keras.layers.Add) == 4
    assert kinds.count(keras.layers.Conv2D) == 2 + 4 + 1  # entry, skips, exit
    assert all(layer.kernel_size == (1, 1) for layer in model.layers if layer.name.endswith("skip_conv"))
    assert kinds[-3:] == [keras.layers.Conv2D, keras.layers.GlobalAveragePooling2D, keras.layers.Softmax]


def test_with_heads_the_mood_is_the_sum_of_its_emotions() -> None:
    moods = emotion_moods(Params.read().prepare)
    model = networks.build("mini_xception", 48, 4, heads=Heads(moods, original=True))
    predicted = model.predict(np.random.default_rng(0).normal(size=(3, 48, 48, 1)).astype(np.float32), verbose=0)
    assert predicted["original"].shape == (3, 4)
    for index, mood in enumerate(MOODS):
        emotions = [emotion for emotion in range(len(EMOTIONS)) if moods[emotion] == index]
        np.testing.assert_allclose(
            predicted["mood"][:, index], predicted["emotions"][:, emotions].sum(axis=1), rtol=1e-5, err_msg=mood
        )


def test_an_unknown_network_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mini_xception"):
        networks.build("resnet", 48, 4)
