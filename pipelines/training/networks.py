"""The networks: each a function from hyper-parameters to an untrained Keras model.

All take grey faces, float32 (n, size, size, 1) in [-1, 1], and return the probabilities of the moods, float32
(n, moods). With auxiliary heads, which are trained but not served, the output is a dictionary of such arrays with the
keys `MOOD`, `EMOTIONS` and `ORIGINAL`. Backend-agnostic Keras 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
from keras import layers

MOOD: Final = "mood"
EMOTIONS: Final = "emotions"
ORIGINAL: Final = "original"
"""Names of the outputs of a network with several heads. Only the mood is served."""


@dataclass(frozen=True)
class Heads:
    """The auxiliary heads of a network.

    Attributes:
        emotion_moods: Index of each emotion's mood. With this head the mood has none of its own: its probability is
            the sum of its emotions' probabilities, as its label is the sum of their votes. None for no emotions.
        original: Whether there is a head for the mood by FER2013's original labels, which differ from FER+'s.
    """

    emotion_moods: tuple[int, ...] | None
    original: bool


def mini_xception(
    size: int,
    classes: int,
    *,
    heads: Heads | None = None,
    filters: Sequence[int] = (8, 8),
    strides: Sequence[int] = (1, 1),
    padding: str = "valid",
    block_filters: Sequence[int] = (16, 32, 64, 128),
) -> keras.Model:
    """mini-Xception: Arriaga, Valdenegro-Toro and Ploeger, "Real-time Convolutional Neural Networks for Emotion and
    Gender Classification", ESANN 2019, section 3.

    Args:
        size: Side of the input, in pixels.
        classes: Number of moods.
        heads: Auxiliary heads; None for the mood alone.
        filters: Filters of the two entry convolutions.
        strides: Their strides.
        padding: Their padding, `valid` or `same`.
        block_filters: Filters of the residual blocks, each of which halves the side.
    """
    inputs = keras.Input((size, size, 1), name="image")
    x = inputs
    for index, (width, stride) in enumerate(zip(filters, strides, strict=True), start=1):
        x = layers.Conv2D(width, 3, strides=stride, padding=padding, use_bias=False, name=f"entry{index}_conv")(x)
        x = layers.BatchNormalization(name=f"entry{index}_bn")(x)
        x = layers.ReLU(name=f"entry{index}_relu")(x)
    for index, width in enumerate(block_filters, start=1):
        x = _residual_block(x, width, name=f"block{index}")
    return keras.Model(inputs, _outputs(x, classes, heads), name="mini_xception")


def _outputs(
    x: keras.KerasTensor, classes: int, heads: Heads | None
) -> keras.KerasTensor | dict[str, keras.KerasTensor]:
    """The probabilities of the moods, or those of every head."""
    if heads is None:
        return _exit(x, classes, "")
    outputs = {}
    if heads.emotion_moods is None:
        outputs[MOOD] = _exit(x, classes, "")
    else:
        outputs[EMOTIONS] = _exit(x, len(heads.emotion_moods), f"{EMOTIONS}_")
        grouping = np.eye(classes, dtype=np.float32)[list(heads.emotion_moods)]
        grouped = layers.Dense(classes, use_bias=False, trainable=False, name="probabilities")
        outputs[MOOD] = grouped(outputs[EMOTIONS])
        grouped.set_weights([grouping])
    if heads.original:
        outputs[ORIGINAL] = _exit(x, classes, f"{ORIGINAL}_")
    return outputs


def _exit(x: keras.KerasTensor, classes: int, prefix: str) -> keras.KerasTensor:
    """mini-Xception's head: a convolution with one filter per class, global average pooling, softmax."""
    x = layers.Conv2D(classes, 3, padding="same", name=f"{prefix}exit_conv")(x)
    x = layers.GlobalAveragePooling2D(name=f"{prefix}exit_pool")(x)
    return layers.Softmax(name=f"{prefix}probabilities")(x)


def _residual_block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    """Two separable convolutions and max pooling, beside a 1x1 convolution on the skip connection."""
    skip = layers.Conv2D(width, 1, strides=2, padding="same", use_bias=False, name=f"{name}_skip_conv")(x)
    skip = layers.BatchNormalization(name=f"{name}_skip_bn")(skip)
    x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_separable1")(x)
    x = layers.BatchNormalization(name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_separable2")(x)
    x = layers.BatchNormalization(name=f"{name}_bn2")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, skip])


def mobilenet_v1(size: int, classes: int, *, alpha: float = 0.25) -> keras.Model:
    """MobileNetV1: Howard et al., "MobileNets", arXiv:1704.04861.

    Args:
        size: Side of the input, in pixels; at least 32.
        classes: Number of moods.
        alpha: Width multiplier.
    """
    return keras.applications.MobileNet(
        input_shape=(size, size, 1), alpha=alpha, weights=None, classes=classes, name="mobilenet_v1"
    )


def mobilenet_v2(size: int, classes: int, *, alpha: float = 0.35) -> keras.Model:
    """MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    Args:
        size: Side of the input, in pixels; at least 32.
        classes: Number of moods.
        alpha: Width multiplier.
    """
    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 1), alpha=alpha, weights=None, classes=classes, name="mobilenet_v2"
    )
    # Keras sets 0.999 here, for ImageNet's million images. With some 500 batches an epoch the running statistics would
    # lag behind the weights by epochs, and so would every validation metric.
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.99
    return model


NETWORKS: Final[dict[str, Callable[..., keras.Model]]] = {
    "mini_xception": mini_xception,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}
"""The networks by their names in `params.yaml`."""


def build(network: str, size: int, classes: int, **hyper_parameters: object) -> keras.Model:
    """An untrained model.

    Args:
        network: Key of `NETWORKS`.
        size: Side of the input, in pixels.
        classes: Number of moods.
        hyper_parameters: Keyword arguments of the network's function.

    Raises:
        ValueError: there is no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[network](size, classes, **hyper_parameters)
