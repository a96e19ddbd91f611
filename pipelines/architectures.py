"""The networks that are compared: each a function from hyper-parameters to an untrained Keras model.

All take grey faces, float32 (n, size, size, 1) in [-1, 1], and give the probabilities of the moods, float32
(n, moods). Backend-agnostic Keras 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import keras
from keras import layers


def mini_xception(
    size: int, classes: int, *, filters: Sequence[int] = (8, 8), block_filters: Sequence[int] = (16, 32, 64, 128)
) -> keras.Model:
    """mini-Xception: Arriaga, Valdenegro-Toro and Ploeger, "Real-time Convolutional Neural Networks for Emotion and
    Gender Classification", ESANN 2019, section 3.

    Args:
        size: side of the input, in pixels.
        classes: number of moods.
        filters: of the two convolutions at the entry.
        block_filters: of the residual blocks, each of which halves the side.
    """
    inputs = keras.Input((size, size, 1), name="image")
    x = inputs
    for index, width in enumerate(filters, start=1):
        x = layers.Conv2D(width, 3, use_bias=False, name=f"entry{index}_conv")(x)
        x = layers.BatchNormalization(name=f"entry{index}_bn")(x)
        x = layers.ReLU(name=f"entry{index}_relu")(x)
    for index, width in enumerate(block_filters, start=1):
        x = _residual_block(x, width, name=f"block{index}")
    x = layers.Conv2D(classes, 3, padding="same", name="exit_conv")(x)
    x = layers.GlobalAveragePooling2D(name="exit_pool")(x)
    outputs = layers.Softmax(name="probabilities")(x)
    return keras.Model(inputs, outputs, name="mini_xception")


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


ARCHITECTURES: Final[dict[str, Callable[..., keras.Model]]] = {
    "mini_xception": mini_xception,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}
"""The architectures by the names that `params.yaml` uses."""


def build(name: str, size: int, classes: int, **hyper_parameters: object) -> keras.Model:
    """An untrained model.

    Args:
        name: a key of `ARCHITECTURES`.
        size: side of the input, in pixels.
        classes: number of moods.
        hyper_parameters: of the architecture.

    Raises:
        ValueError: there is no architecture of that name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"there is no architecture {name!r}; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](size, classes, **hyper_parameters)
