"""Where the model bundle lies: in a checkout, in a bento, or where the environment says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import bentoml

from service.settings import BUNDLE_VARIABLE

MODEL_NAME: Final[str] = "mood_estimator"
"""Name of the bundle in BentoML's model store; `bentofile.yaml` asks for it by this name."""

CHECKOUT_BUNDLE: Final[Path] = Path(__file__).resolve().parents[1] / "bundle"
"""The released bundle, tracked by git beside the packages."""


def find(bento: bentoml.Bento | None, override: Path | None = None) -> Path:
    """The directory of the model bundle.

    Args:
        bento: the bento that the service runs from, which carries its bundle as a BentoML model; None in a checkout.
        override: a directory that takes precedence over both.

    Raises:
        FileNotFoundError: there is no bundle where it should be.
    """
    directory = override or (_in_bento(bento) if bento is not None else CHECKOUT_BUNDLE)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"There is no model bundle in {directory}. Run from a checkout or a bento, or set {BUNDLE_VARIABLE}."
        )
    return directory


def _in_bento(bento: bentoml.Bento) -> Path:
    """The bundle that a bento was built with, at that very version.

    Raises:
        FileNotFoundError: the bento was built without it.
    """
    for model in bento.info.all_models:
        if model.tag.name == MODEL_NAME:
            return Path(bentoml.models.get(model.tag).path)
    raise FileNotFoundError(f"{bento.tag} carries no model {MODEL_NAME}. Build it anew with `make bento`.")
