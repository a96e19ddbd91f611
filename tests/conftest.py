"""Shared by the tests of all packages: the root of the checkout, a photo, and the dataset if it was fetched."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]

# `make test` sets these; a `make` in a test would take itself for a part of it, and print more.
for variable in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(variable, None)


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A smiling astronaut, uint8 (512, 512, 3), RGB; the photo comes with scikit-image and is in the public domain."""
    return np.asarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def fer2013() -> Path:
    """`data/fer2013.parquet`; a test that needs it is skipped if the dataset was not fetched."""
    return _dataset_file("fer2013.parquet")


@pytest.fixture(scope="session")
def photos() -> Path:
    """`data/photos.parquet`; a test that needs it is skipped if the dataset was not fetched."""
    return _dataset_file("photos.parquet")


def _dataset_file(name: str) -> Path:
    """A file of the dataset."""
    path = ROOT / "data" / name
    if not path.is_file():
        pytest.skip(f"needs data/{name}: fetch the dataset with `make data`")
    return path
