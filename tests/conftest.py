"""What the tests of all packages share: the checkout's root, a photo, and the dataset where it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A smiling astronaut, uint8 (512, 512, 3), RGB; the photo comes with scikit-image and is in the public domain."""
    return np.asarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def photos() -> Path:
    """`data/photos.parquet`; a test that needs it is skipped where the dataset was not fetched."""
    path = ROOT / "data" / "photos.parquet"
    if not path.is_file():
        pytest.skip("needs data/photos.parquet: fetch the dataset with `make data`")
    return path
