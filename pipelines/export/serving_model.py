"""The model that is converted and served: the trained network with test-time augmentation around it."""

from __future__ import annotations

import keras

from pipelines.training.networks import MOOD


def serving_model(model: keras.Model, *, mirror_averaging: bool, head: str = MOOD) -> keras.Model:
    """The model as served.

    Args:
        model: Trained network from float32 (n, size, size, 1) to probabilities, float32 (n, moods), or to a dictionary
            of such outputs by head.
        mirror_averaging: Test-time augmentation (horizontal flip): the output is the mean of the probabilities for the
            face and for its flip. A mood has no side, so the difference between the two is error, and part of it
            cancels. It takes twice the time.
        head: Output to serve if the model has several; layers that only the other heads need are dropped.

    Returns:
        A model from the same input to one array of probabilities, sharing the weights of `model`.
    """
    if isinstance(model.output, dict):
        model = keras.Model(model.input, model.output[head], name=model.name)
    if not mirror_averaging:
        return model
    inputs = keras.Input(model.input_shape[1:], name="image")
    # One pass with twice the batch instead of two passes: the graph then holds each operation once, so that it is
    # smaller and faster.
    both = model(keras.ops.concatenate([inputs, keras.ops.flip(inputs, axis=2)], axis=0))
    outputs = keras.ops.mean(keras.ops.reshape(both, (2, -1, both.shape[-1])), axis=0)
    return keras.Model(inputs, outputs, name=model.name)
