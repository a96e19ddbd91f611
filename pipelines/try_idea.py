"""Try one idea for a better model and write down what it gave.

    python -m pipelines.try_idea "twice the batch" --set recipe.batch_size=128 --expect "nothing"

By hand: trains one model of `params.yaml` with some values changed, measures it on validation (never on test), and
adds a run to MLflow and a row to `reports/ideas.csv`. A model that is fine-tuned or distilled starts from the weights
that it names. An idea that helps goes into `params.yaml`, where the pipeline trains it for real.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import keras
import mlflow
import pandas as pd
import typer
import yaml

from pipelines import paths
from pipelines.data import test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.data.test_sets import FIRST, Versions
from pipelines.evaluation import metrics
from pipelines.evaluation.predictions import Predictions
from pipelines.params import Params, TrainParams
from pipelines.registry import mlflow_connection
from pipelines.registry.candidates import SUMMARY_FILE
from pipelines.registry.training_run import train
from pipelines.training.config import TrainingConfig
from pipelines.training.distillation import predict_heads
from pipelines.training.networks import MOOD, ORIGINAL
from service.classifier import InputSpec, normalise

_SETS: Final = "validation_sets"
"""Column of the table with the versions of the validation sets; see `pipelines.data.test_sets`."""


def change(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested values with some of them changed, by dotted names such as `recipe.augmentation.zoom`.

    Raises:
        KeyError: a name leads through a section that does not exist.
    """
    result: dict[str, Any] = json.loads(json.dumps(values))
    for name, value in changes.items():
        *parents, last = name.split(".")
        section = result
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                raise KeyError(f"there is no section {parent!r} to set {name!r} in")
            section = section[parent]
        section[last] = value
    return result


def changed_config(params: Params, name: str, changes: dict[str, Any]) -> TrainingConfig:
    """The training of a model in `params.yaml` with changes.

    Args:
        params: The file.
        name: A model.
        changes: Values by dotted name. `recipe.KEY` changes the recipe, `network.KEY` a hyper-parameter, `recipe`
            takes another recipe, and `init_from` other weights to start from (null: random ones).
    """
    model = params.model(name)
    model = replace(
        model, recipe=changes.get("recipe", model.recipe), init_from=changes.get("init_from", model.init_from)
    )
    values = {"recipe": params.train[model.recipe].model_dump(), "network": model.hyper_parameters}
    values = change(values, {key: value for key, value in changes.items() if "." in key})
    config = TrainingConfig.of(params, replace(model, hyper_parameters=values["network"]))
    recipe = TrainParams.model_validate(values["recipe"])
    return replace(config, recipe=recipe, teacher=params.teacher if recipe.teacher_weight else None)


def measure(model: keras.Model, validation: FaceSet, spec: InputSpec, bins: int) -> dict[str, float]:
    """The validation metrics by which an idea is judged; `bins` are those of the calibration error."""
    fer2013, photos = validation.of_source("fer2013"), validation.of_source("photos")
    on_faces, on_photos = (predict_heads([model], normalise(faces.pixels, spec)) for faces in (fer2013, photos))
    voted = fer2013.ferplus_mood >= 0
    ferplus = metrics.summarise(Predictions(fer2013.ferplus_mood[voted], on_faces[MOOD][voted]), bins)
    original = metrics.summarise(Predictions(fer2013.original_mood, on_faces.get(ORIGINAL, on_faces[MOOD])), bins)
    photo = metrics.summarise(Predictions(photos.ferplus_mood, on_photos[MOOD]), bins)
    return {
        "ferplus_weighted_f1": ferplus["weighted_f1"],
        "original_weighted_f1": original["weighted_f1"],
        "photos_accuracy": photo["accuracy"],
        "photos_macro_recall": photo["macro_recall"],
    }


def record(row: dict[str, Any], path: Path = paths.IDEAS) -> None:
    """Add a trial to the table; it replaces one of the same name and seed.

    Rows without versions of the validation sets are of the first ones.
    """
    table = pd.DataFrame([row])
    if path.exists():
        before = pd.read_csv(path)
        same = (before["idea"] == row["idea"]) & (before["seed"] == row["seed"])
        table = pd.concat([before[~same], table], ignore_index=True).fillna({_SETS: _versions(FIRST)})
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


def _versions(versions: Versions) -> str:
    """Versions of the validation sets, by which trials can be compared."""
    return " ".join(versions["validation"].values())


def main(
    idea: Annotated[str, typer.Argument(help="A short name.")],
    model: Annotated[str, typer.Option(help="A model of params.yaml.")] = "mini_xception_fine",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="recipe.KEY, network.KEY, recipe, init_from")
    ] = None,
    expect: Annotated[str, typer.Option(help="What you expect, written down before.")] = "",
) -> None:
    """Train a model with changes, measure it on validation, record it."""
    params = Params.read()
    changes = {name: yaml.safe_load(value) for name, _, value in (one.partition("=") for one in assignments or [])}
    config, directory = changed_config(params, model, changes), paths.TRIALS / idea
    started = time.monotonic()
    trained = train(config, directory, paths.CHECKPOINTS / "ideas" / idea)
    bins = params.evaluate.calibration_bins
    measured = measure(trained, FaceSet.load(paths.face_set("validation")), config.spec, bins)
    summary = json.loads((directory / SUMMARY_FILE).read_text())
    with mlflow_connection.plain_errors(), mlflow.start_run(run_id=summary["run_id"]):
        mlflow.set_tags({"idea": idea, "expectation": expect})
        mlflow.log_metrics({f"validation.{name}": value for name, value in measured.items()})
    record(
        {
            "idea": idea,
            "seed": config.recipe.seed,
            "architecture": model,
            "changes": " ".join(f"{name}={value}" for name, value in changes.items()),
            "expectation": expect,
            "parameters": summary["parameters"],
            "epochs": summary["epochs"],
            "minutes": (time.monotonic() - started) / 60,
            **measured,
            _SETS: _versions(test_sets.present()),
        }
    )
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    typer.run(main)
