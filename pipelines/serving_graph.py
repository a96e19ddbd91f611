"""What is converted and served: the trained network with what is done around it at inference."""

from __future__ import annotations

import keras


def serving_model(model: keras.Model, *, mirror_averaging: bool) -> keras.Model:
    """The model as it is served.

    Args:
        model: as trained; float32 (n, size, size, 1) to probabilities, float32 (n, moods).
        mirror_averaging: answer with the mean of the probabilities of the face and of its mirror image. A mood has no
            side: what differs between the two is error, and part of it cancels. It takes twice the time.

    Returns:
        A model of the same inputs and outputs, with the weights of the one given.
    """
    if not mirror_averaging:
        return model
    inputs = keras.Input(model.input_shape[1:], name="image")
    mirrored = keras.ops.flip(inputs, axis=2)
    outputs = keras.layers.Average(name="mirror_average")([model(inputs), model(mirrored)])
    return keras.Model(inputs, outputs, name=model.name)
