"""Two servers and the released estimator, which the tests of the service share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.estimator import MoodEstimator
from tests.conftest import ROOT
from tests.support.pictures import Pixels, encode
from tests.support.server import Server, serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the default settings, except for less patience with slow senders."""
    with serve(tmp_path_factory.mktemp("server"), MEAA_READ_SECONDS="3") as running:
        yield running


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two tokens, everything optional closed, one web page admitted, room for a single image, and
    clients that choose the ids of their requests."""
    with serve(
        tmp_path_factory.mktemp("guarded"),
        MEAA_TOKEN="open sesame, open simsim",
        MEAA_DOCS="off",
        MEAA_METRICS="token",
        MEAA_REQUEST_ID="client",
        MEAA_CORS_ORIGINS="https://clinic.example",
        MEAA_WORKERS="1",
        MEAA_MAX_QUEUE="1",
        MEAA_PREDICTION_LOG="/dev/full",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def estimator() -> MoodEstimator:
    """The estimator of the released bundle."""
    return MoodEstimator.load(ROOT / "bundle")


@pytest.fixture(scope="session")
def photo(astronaut: Pixels) -> bytes:
    """The astronaut as a JPEG file."""
    return encode(astronaut)
