"""The networks that are compared: each a function from hyper-parameters to an untrained Keras model.

All take grey faces, float32 (n, size, size, 1) in [-1, 1], and give the probabilities of the moods, float32
(n, moods). With auxiliary heads, which are trained along and not served, the output is a dictionary of such arrays:
`MOOD`, `EMOTIONS`, `ORIGINAL`. Backend-agnostic Keras 3.
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
"""Names of the outputs of a network that has several: the mood is served, the others are trained along."""

_Head = Callable[[keras.KerasTensor, int, str], keras.KerasTensor]


@dataclass(frozen=True)
class Heads:
    """What a network answers beside the mood while it is trained.

    Attributes:
        emotion_moods: the index of each emotion's mood. With emotions the mood is not a head of its own: its
            probability is the sum of those of its emotions, as its label is the sum of their votes. None for no
            emotions.
        original: whether there is a head for the mood by FER2013's original labels, which differ from FER+'s.
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
        size: side of the input, in pixels.
        classes: number of moods.
        heads: what is answered beside the mood; None for the mood alone.
        filters: of the two convolutions at the entry.
        strides: of these.
        padding: of these.
        block_filters: of the residual blocks, each of which halves the side.
    """
    inputs = keras.Input((size, size, 1), name="image")
    x = inputs
    for index, (width, stride) in enumerate(zip(filters, strides, strict=True), start=1):
        x = layers.Conv2D(width, 3, strides=stride, padding=padding, use_bias=False, name=f"entry{index}_conv")(x)
        x = layers.BatchNormalization(name=f"entry{index}_bn")(x)
        x = layers.ReLU(name=f"entry{index}_relu")(x)
    for index, width in enumerate(block_filters, start=1):
        x = _residual_block(x, width, name=f"block{index}")
    return keras.Model(inputs, _outputs(x, classes, heads, _exit), name="mini_xception")


def _outputs(
    x: keras.KerasTensor, classes: int, heads: Heads | None, head: _Head
) -> keras.KerasTensor | dict[str, keras.KerasTensor]:
    """The probabilities of the moods, or those of every head where there are several."""
    if heads is None:
        return head(x, classes, "")
    outputs = {}
    if heads.emotion_moods is None:
        outputs[MOOD] = head(x, classes, "")
    else:
        outputs[EMOTIONS] = head(x, len(heads.emotion_moods), f"{EMOTIONS}_")
        grouping = np.eye(classes, dtype=np.float32)[list(heads.emotion_moods)]
        grouped = layers.Dense(classes, use_bias=False, trainable=False, name="probabilities")
        outputs[MOOD] = grouped(outputs[EMOTIONS])
        grouped.set_weights([grouping])
    if heads.original:
        outputs[ORIGINAL] = head(x, classes, f"{ORIGINAL}_")
    return outputs


def _exit(x: keras.KerasTensor, classes: int, prefix: str) -> keras.KerasTensor:
    """mini-Xception's end: a convolution with a filter a class, its mean, softmax."""
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


def residual(
    size: int,
    classes: int,
    *,
    heads: Heads | None = None,
    filters: Sequence[int] = (32, 64, 128, 256),
    dropout: float = 0.0,
) -> keras.Model:
    """A residual network of full convolutions, the teacher's: He et al., "Deep Residual Learning", CVPR 2016.

    On a CPU a full convolution does some four times the arithmetic of a separable one in the same time, and a teacher
    need not be small. Skips that change the side average first: He et al., "Bag of Tricks", CVPR 2019, section 4.2.

    Args:
        size: side of the input, in pixels.
        classes: number of moods.
        heads: what is answered beside the mood; None for the mood alone.
        filters: of the entry, which halves the side, and of one block each; every block but the first halves it again.
        dropout: share of the features that each head loses in training.
    """
    inputs = keras.Input((size, size, 1), name="image")
    x = layers.Conv2D(filters[0], 3, strides=2, padding="same", use_bias=False, name="entry_conv")(inputs)
    x = layers.BatchNormalization(name="entry_bn")(x)
    x = layers.ReLU(name="entry_relu")(x)
    for index, width in enumerate(filters, start=1):
        x = _full_block(x, width, stride=1 if index == 1 else 2, name=f"block{index}")
    x = layers.GlobalAveragePooling2D(name="exit_pool")(x)

    def head(features: keras.KerasTensor, count: int, prefix: str) -> keras.KerasTensor:
        features = layers.Dropout(dropout, name=f"{prefix}dropout")(features)
        return layers.Dense(count, activation="softmax", name=f"{prefix}probabilities")(features)

    return keras.Model(inputs, _outputs(x, classes, heads, head), name="residual")


def _full_block(x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions beside a skip connection."""
    skip = x
    if stride > 1:
        skip = layers.AveragePooling2D(stride, padding="same", name=f"{name}_skip_pool")(skip)
        skip = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_skip_conv")(skip)
        skip = layers.BatchNormalization(name=f"{name}_skip_bn")(skip)
    x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    x = layers.BatchNormalization(name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv2")(x)
    x = layers.BatchNormalization(name=f"{name}_bn2")(x)
    x = layers.Add(name=f"{name}_add")([x, skip])
    return layers.ReLU(name=f"{name}_relu2")(x)


def mobilenet_v1(size: int, classes: int, *, alpha: float = 0.25) -> keras.Model:
    """MobileNetV1: Howard et al., "MobileNets", arXiv:1704.04861.

    Args:
        size: side of the input, in pixels; at least 32.
        classes: number of moods.
        alpha: width multiplier.
    """
    return keras.applications.MobileNet(
        input_shape=(size, size, 1), alpha=alpha, weights=None, classes=classes, name="mobilenet_v1"
    )


def mobilenet_v2(size: int, classes: int, *, alpha: float = 0.35) -> keras.Model:
    """MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.

    Args:
        size: side of the input, in pixels; at least 32.
        classes: number of moods.
        alpha: width multiplier.
    """
    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 1), alpha=alpha, weights=None, classes=classes, name="mobilenet_v2"
    )
    # Keras sets 0.999 here, for ImageNet's million images. With some 500 batches an epoch the running statistics would
    # lag behind the weights by epochs, and every figure on validation with them.
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.99
    return model


NETWORKS: Final[dict[str, Callable[..., keras.Model]]] = {
    "mini_xception": mini_xception,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "residual": residual,
}
"""The networks by the names that `params.yaml` uses."""


def build(network: str, size: int, classes: int, **hyper_parameters: object) -> keras.Model:
    """An untrained model.

    Args:
        network: a key of `NETWORKS`.
        size: side of the input, in pixels.
        classes: number of moods.
        hyper_parameters: of the network.

    Raises:
        ValueError: there is no network of that name.
    """
    if network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[network](size, classes, **hyper_parameters)
