"""Keras callbacks that do not change the weights: checkpoints, progress, memory."""
