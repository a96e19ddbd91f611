"""What is converted and served: the trained network with what is done around it at inference."""

from __future__ import annotations

import keras

from pipelines.training.networks import MOOD


def serving_model(model: keras.Model, *, mirror_averaging: bool, head: str = MOOD) -> keras.Model:
    """The model as it is served.

    Args:
        model: as trained; float32 (n, size, size, 1) to probabilities, float32 (n, moods), or to a dictionary of such
            outputs by head.
        mirror_averaging: answer with the mean of the probabilities of the face and of its mirror image. A mood has no
            side: what differs between the two is error, and part of it cancels. It takes twice the time.
        head: the output to serve, where the model has several; what only the others need is left behind.

    Returns:
        A model from the same input to one array of probabilities, with the weights of the one given.
    """
    if isinstance(model.output, dict):
        model = keras.Model(model.input, model.output[head], name=model.name)
    if not mirror_averaging:
        return model
    inputs = keras.Input(model.input_shape[1:], name="image")
    # One pass over twice the batch and not two: the graph holds every operation once, which is smaller and faster.
    both = model(keras.ops.concatenate([inputs, keras.ops.flip(inputs, axis=2)], axis=0))
    outputs = keras.ops.mean(keras.ops.reshape(both, (2, -1, both.shape[-1])), axis=0)
    return keras.Model(inputs, outputs, name=model.name)
