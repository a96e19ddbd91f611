"""Try an idea for a better model: train an architecture with some of its parameters changed, measure it on validation.

    python -m pipelines.try_idea fewer-corruptions --set recipe.augmentation.corrupted=0.15 --set recipe.epochs=6 \\
        --expect "a point of F1 on clean faces"

Every trial is an MLflow run and a row of `reports/ideas.csv`, whether it gave anything or not. It never sees the test
set, and leaves no candidate: an idea that is worth it goes into `params.yaml`, and `dvc repro` does the rest.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from pipelines import paths
from pipelines.data.face_sets import FaceSet
from pipelines.evaluation import metrics
from pipelines.evaluation.metrics import Predictions
from pipelines.params import ArchitectureParams, Params, TrainParams, read_architecture, read_section
from pipelines.train import SUMMARY_FILE, Job, emotion_moods, run
from pipelines.training.networks import MOOD, ORIGINAL
from service.classifier import InputSpec, normalise

_BATCH = 256


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested values with some of them replaced.

    Args:
        values: for example `{"recipe": {"epochs": 32}}`.
        changes: by dotted name, for example `{"recipe.epochs": 6}`.

    Raises:
        KeyError: a change is under a name that has no values.
    """
    result = json.loads(json.dumps(values))
    for name, value in changes.items():
        *parents, last = name.split(".")
        section = result
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                raise KeyError(f"there is no section {parent!r} to set {name!r} in")
            section = section[parent]
        section[last] = value
    return result


def job_of(architecture: str, changes: dict[str, Any]) -> Job:
    """The job of an architecture in `params.yaml`, with changes under `recipe.` and `architecture.`."""
    declared = read_architecture(architecture)
    recipe_name = changes.get("architecture.recipe", declared.recipe)
    values = {
        "architecture": declared.model_dump(),
        "recipe": Params.read().train[recipe_name].model_dump(),
    }
    values = changed(values, changes)
    recipe = TrainParams.model_validate(values["recipe"])
    teacher = Params.read().teacher if recipe.teacher_weight else None
    network = ArchitectureParams.model_validate(values["architecture"])
    return Job(architecture, network, recipe, Params.read().input, emotion_moods(), teacher)


def answers(model: Any, pixels: NDArray[np.uint8], spec: InputSpec) -> dict[str, NDArray[np.float32]]:
    """What each head answers, the mean over face and mirror image as it is served: float32 (n, classes) by name."""
    faces = normalise(pixels, spec)
    both = [model.predict(one, batch_size=_BATCH, verbose=0) for one in (faces, faces[:, :, ::-1])]
    if not isinstance(both[0], dict):
        both = [{MOOD: one} for one in both]
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}


def measure(model: Any, validation: FaceSet, spec: InputSpec) -> dict[str, float]:
    """The validation figures that an idea is judged by."""
    said = answers(model, validation.pixels, spec)
    fer2013, photos = validation.source == 0, validation.source == 1
    voted = fer2013 & (validation.ferplus_mood >= 0)
    ferplus = metrics.summarise(Predictions(validation.ferplus_mood[voted], said[MOOD][voted]), bins=15)
    original = Predictions(validation.original_mood[fer2013], said.get(ORIGINAL, said[MOOD])[fer2013])
    on_photos = metrics.summarise(Predictions(validation.ferplus_mood[photos], said[MOOD][photos]), bins=15)
    return {
        "ferplus_weighted_f1": ferplus["weighted_f1"],
        "original_weighted_f1": metrics.summarise(original, bins=15)["weighted_f1"],
        "photos_accuracy": on_photos["accuracy"],
        "photos_macro_recall": on_photos["macro_recall"],
    }


def record(row: dict[str, Any], path: Path = paths.IDEAS) -> None:
    """Put a trial into the table, in the place of one of the same name and seed."""
    table = pd.DataFrame([row])
    if path.exists():
        before = pd.read_csv(path)
        same = (before["idea"] == row["idea"]) & (before["seed"] == row["seed"])
        table = pd.concat([before[~same], table], ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


def main(idea: str, architecture: str, changes: dict[str, Any], expectation: str) -> None:
    """Train, measure, record."""
    job, directory = job_of(architecture, changes), paths.TRIALS / idea
    started = time.monotonic()
    model = run(job, paths.FACES, directory, paths.LESSONS if job.teacher else None, paths.CHECKPOINTS / "ideas" / idea)
    figures = measure(model, FaceSet.load(paths.FACES / "validation.npz"), job.spec)
    summary = json.loads((directory / SUMMARY_FILE).read_text())
    with mlflow.start_run(run_id=summary["run_id"]):
        mlflow.set_tags({"idea": idea, "expectation": expectation})
        mlflow.log_metrics({f"validation.{name}": value for name, value in figures.items()})
    record(
        {
            "idea": idea,
            "seed": job.recipe.seed,
            "architecture": architecture,
            "changes": " ".join(f"{name}={value}" for name, value in changes.items()),
            "expectation": expectation,
            "parameters": summary["parameters"],
            "epochs": summary["epochs"],
            "minutes": (time.monotonic() - started) / 60,
            **figures,
        }
    )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("idea", help="a short name")
    parser.add_argument("--architecture", default="mini_xception_fine", choices=sorted(read_section("architectures")))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="recipe. or architecture.")
    parser.add_argument("--expect", default="", help="what it should give, written down before")
    arguments = parser.parse_args()
    pairs = (change.split("=", 1) for change in arguments.set)
    main(
        arguments.idea,
        arguments.architecture,
        {name: yaml.safe_load(value) for name, value in pairs},
        arguments.expect,
    )
