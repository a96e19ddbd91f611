"""What MLflow's pages say about the registered model and its versions: why, the model card's first lines, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import mlflow
from mlflow.entities.model_registry import ModelVersion

from pipelines.registry import mlflow_connection, mlflow_store

CARD_ARTIFACTS: Final = "card"
"""Folder of a training's run with the model card."""


def describe(version: ModelVersion, decision: str | None = None, card: Path | None = None) -> None:
    """Write the description of a version, and with a card that of the registered model.

    Args:
        version: A version whose reason `mlflow_store.annotate` wrote.
        decision: Artifact of the version's run with the gate's decision; None if it has none.
        card: The version's model card, a copy of which goes to its run; None if it has none.
    """
    client, name = mlflow.MlflowClient(), mlflow_store.REGISTERED_MODEL
    version = client.get_model_version(name, str(version.version))
    artifacts = {"The gate's decision": decision, "Model card": f"{CARD_ARTIFACTS}/{card.name}" if card else None}
    links = [_link(text, version.run_id, path) for text, path in artifacts.items() if path and version.run_id]
    about = [first_lines(card.read_text(encoding="utf-8"))] if card else []
    if card and version.run_id:
        client.log_artifact(version.run_id, str(card), CARD_ARTIFACTS)
        client.update_registered_model(name, "\n\n".join([*about, *links]))
    # The architecture comes first, because tables of versions show little more.
    architecture, why = version.tags.get("architecture", "unknown"), mlflow_store.reason_of(version)
    why = why if why.startswith(architecture) else f"{architecture}: {why}"
    client.update_model_version(name, str(version.version), "\n\n".join([why, *about, *links]))


def first_lines(card: str) -> str:
    """The title of a model card and its first section, without links, which lead to files beside the card.

    Args:
        card: A model card as Markdown.
    """
    title = card.split("\n", 1)[0].removeprefix("# ")
    sections = card.split("\n## ")
    first = sections[1].partition("\n")[2].strip() if len(sections) > 1 else ""
    without_links = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", first)
    return f"**{title}**\n\n{without_links}".strip()


def _link(text: str, run_id: str, artifact: str) -> str:
    """A link to an artifact, as MLflow's pages address it."""
    experiment = mlflow.get_run(run_id).info.experiment_id
    return f"[{text}](#/experiments/{experiment}/runs/{run_id}/artifacts/{artifact}?{mlflow_connection.MODE})"
