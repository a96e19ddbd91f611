"""The place of the model bundle: in a checkout, in a bento, or in a directory that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import bentoml

MODEL_NAME: Final[str] = "mood_estimator"
"""Name of the bundle in BentoML's model store; `bentofile.yaml` refers to it by this name."""

CHECKOUT_BUNDLE: Final[Path] = Path(__file__).resolve().parents[1] / "bundle"
"""The released bundle, tracked by git beside the packages."""


def find(bento: bentoml.Bento | None, override: Path | None = None) -> Path:
    """The directory of the model bundle.

    Args:
        bento: The bento that the service runs from, which carries its bundle as a BentoML model; None in a checkout.
        override: Directory that takes precedence over both.

    Raises:
        FileNotFoundError: There is no bundle where it should be.
    """
    directory = override or (_in_bento(bento) if bento is not None else CHECKOUT_BUNDLE)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"There is no model bundle in {directory}. Run from a checkout or a bento, or set MEAA_BUNDLE."
        )
    return directory


def own_bento() -> bentoml.Bento | None:
    """The bento into which this code was packed, for programs that BentoML does not start; None in a checkout."""
    directory = Path(__file__).resolve().parents[2]
    return bentoml.Bento.from_path(str(directory)) if (directory / "bento.yaml").is_file() else None


def _in_bento(bento: bentoml.Bento) -> Path:
    """The bundle that a bento was built with, in exactly that version.

    Raises:
        FileNotFoundError: The bento was built without a bundle.
    """
    for model in bento.info.all_models:
        if model.tag.name == MODEL_NAME:
            return Path(bentoml.models.get(model.tag).path)
    raise FileNotFoundError(f"{bento.tag} carries no model {MODEL_NAME}. Build it again with `make bento`.")
