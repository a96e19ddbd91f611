"""Stages `train`, `fine_tune` and `distil`: fit one network to the training faces by its recipe in `params.yaml`.

Writes the model of the best epoch, the curves by epoch and a summary, and records it all as one MLflow run. An
interrupted run resumes after its last finished epoch; see `pipelines.callbacks.checkpoints`. Only Keras 3 is used, so
`KERAS_BACKEND=jax` or `torch` trains on whatever accelerator that backend sees.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines import paths
from pipelines.params import Params
from pipelines.registry.training_run import train
from pipelines.training.config import TrainingConfig


def main(name: Annotated[str, typer.Argument(help="A model of the section `models` of params.yaml.")]) -> None:
    """Train one model of params.yaml."""
    params = Params.read()
    try:
        model = params.model(name)
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0])) from None
    train(TrainingConfig.of(params, model), paths.MODELS / name, paths.CHECKPOINTS / name)


if __name__ == "__main__":
    typer.run(main)
