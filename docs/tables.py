"""Tables of the guides that the code makes: settings, `params.yaml`, `make` commands.

    python -m docs.tables     # writes them anew between their markers

A test compares the pages with what this would write.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final

from monitoring.params import FeedbackParams, MonitoringParams, RebaseParams, WebhookParams
from pipelines import params
from pipelines.markdown import table
from service.classifier import InputSpec
from service.detector import DetectorSettings
from service.settings import PREFIX, Settings

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ROOT / "docs" / "reference"

SECTIONS: Final[dict[str, type]] = {
    "detector": DetectorSettings,
    "input": InputSpec,
    "prepare": params.PrepareParams,
    "prepare.photo_splits": params.PhotoSplits,
    "train.RECIPE": params.TrainParams,
    "train.RECIPE.reduce_on_plateau": params.PlateauParams,
    "train.RECIPE.heads": params.HeadParams,
    "train.RECIPE.augmentation": params.AugmentationParams,
    "teacher": params.TeacherParams,
    "models": params.ModelsParams,
    "models.from_scratch.NAME": params.ScratchParams,
    "models.fine_tuned.NAME, models.distilled.NAME": params.FineTunedParams,
    "serving": params.ServingParams,
    "evaluate": params.EvaluateParams,
    "gate": params.GateParams,
    "reliability": params.ReliabilityParams,
    "monitoring": MonitoringParams,
    "monitoring.rebase": RebaseParams,
    "monitoring.feedback": FeedbackParams,
    "monitoring.webhook": WebhookParams,
}
"""The documented parts of `params.yaml`."""

_MARKED: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def attributes(kind: type) -> dict[str, str]:
    """Descriptions of a class's attributes, from its docstring."""
    text = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE)
    return {name: " ".join(description.split()) for name, description in entries}


def settings_table() -> str:
    """The settings of the service, one row per environment variable."""

    def default(value: Any) -> str:
        return "none" if value in (None, ()) else f"`{value}`"

    return table(
        ("variable", "default", "meaning"),
        (
            (f"`{PREFIX}{name.upper()}`", default(field.default), field.description)
            for name, field in Settings.model_fields.items()
        ),
    )


def params_tables() -> str:
    """The sections of `params.yaml`, one table each."""
    parts = []
    for section, kind in SECTIONS.items():
        summary = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
        rows = ((f"`{name}`", description) for name, description in attributes(kind).items())
        parts.append(f"## {section}\n\n{summary}\n\n{table(('key', 'meaning'), rows)}")
    return "\n\n".join(parts)


def commands_table() -> str:
    """The targets of the Makefile with their descriptions."""
    targets = re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return table(("command", "purpose"), ((f"`make {name}`", purpose) for name, purpose in targets))


TABLES: Final = {"settings": settings_table, "params": params_tables, "commands": commands_table}


def render(page: str) -> str:
    """A page with its marked tables made anew."""
    return _MARKED.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", page)


def main() -> None:
    """Write the tables into the pages."""
    for name in TABLES:
        path = PAGES / f"{name}.md"
        path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
