"""Stages `evaluate@NAME` and `compare@NAME`: metrics of a model, measured with the code that serves it.

The model is converted to the graph that the service runs, and the service's own classifier and estimator predict three
tests: FER2013's test split with FER+ labels, the same images with FER2013's original labels, and photos of people who
are not in the training data, from file to mood. The temperature is fitted on validation first, and all metrics are
computed with it. FER2013's faces are also scored under corruptions (`pipelines.evaluation.corruptions`), and the tests'
metrics have bootstrap intervals.

A network with a head for FER2013's original labels predicts these a second time with that head, which is not served.

Writes metrics, plots and the predictions for the validation images, and adds them to the model's MLflow run.
"""

from __future__ import annotations

from typing import Annotated

import keras
import typer

from pipelines import paths
from pipelines.data.labels import one_hot
from pipelines.evaluation import metrics, multiply_adds
from pipelines.evaluation.latency import measure_latency
from pipelines.evaluation.predictions import classify, open_classifier
from pipelines.export import parity
from pipelines.export.original_head import original_head
from pipelines.export.serving_model import serving_model
from pipelines.params import Params
from pipelines.registry import measurement, mlflow_store, runs
from pipelines.registry.candidates import METRICS_FILE, MODEL_FILE, Candidate
from service.classifier import GRAPH_FILE


def main(name: Annotated[str, typer.Argument(help="A model in `candidates` or `compared` of params.yaml.")]) -> None:
    """Convert and measure a model, write its reports and add them to its MLflow run."""
    settings = Params.read()
    if name not in settings.evaluated:
        raise typer.BadParameter(
            f"{name!r} is neither in `candidates` nor in `compared`; params.yaml has {', '.join(settings.evaluated)}"
        )
    params, spec, mirror_averaging = settings.evaluate, settings.input, settings.serving.mirror_averaging
    directory, model_directory = settings.evaluation(name), paths.MODELS / name
    sets = measurement.face_sets(spec)

    trained = keras.models.load_model(model_directory / MODEL_FILE, compile=False)
    model = serving_model(trained, mirror_averaging=mirror_averaging)
    graph, limit = model_directory / GRAPH_FILE, params.max_parity_difference
    uncalibrated, difference = parity.convert(model, graph, name, spec, sets["validation"].pixels, limit)
    soft = sets["validation"].soft_labels
    labels = soft if params.temperature_labels == "soft" else one_hot(soft.argmax(axis=1))
    temperature = metrics.fit_temperature(classify(uncalibrated, sets["validation"].pixels), labels)

    classifier = open_classifier(graph, name, spec, round(temperature, 4))
    latency = measure_latency(classifier, sets["validation"].pixels[0], params.latency_runs)
    head = original_head(trained, name, spec, sets["validation"], limit, mirror_averaging=mirror_averaging)
    costs = {
        "temperature": classifier.metadata.temperature,
        "size_bytes": graph.stat().st_size,
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds.count(graph),
        "latency_ratio": latency.ratio,
        "latency_ms": latency.median_ms,
        "latency_p99_ms": latency.p99_ms,
        "parity_difference": difference,
    }
    measured = measurement.measure(classifier, head, sets, settings)
    measurement.write(
        measured, costs, directory, name=name, spec=spec, mirror_averaging=mirror_averaging, params=params
    )

    mlflow_store.connect()
    candidate = Candidate.of(name)
    runs.log_evaluation(candidate, runs.ensure_training_run(candidate.model))
    print((directory / METRICS_FILE).read_text())


if __name__ == "__main__":
    typer.run(main)
