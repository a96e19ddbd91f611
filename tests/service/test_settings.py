"""`service.settings` and `service.bundle`: what may be set from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import bundle
from service.settings import Settings
from tests.conftest import ROOT


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"MEAA_TOKEN": "", "MEAA_MAX_BYTES": ""}) == Settings()


def test_variables_set_what_they_name() -> None:
    settings = Settings.from_environment(
        {"MEAA_MAX_BYTES": "5e6", "MEAA_MAX_QUEUE": "4", "MEAA_TOKEN": "t", "MEAA_PREDICTION_LOG": "/var/log/p.jsonl"}
    )
    assert settings.max_bytes == 5_000_000
    assert settings.max_queue == 4
    assert settings.token == "t"
    assert settings.prediction_log == Path("/var/log/p.jsonl")


@pytest.mark.parametrize("value", ["many", "0", "-1", "nan", "inf"])
def test_a_number_that_is_none_is_refused_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="MEAA_MAX_QUEUE"):
        Settings.from_environment({"MEAA_MAX_QUEUE": value})


def test_a_checkout_serves_its_released_bundle() -> None:
    assert bundle.find(None) == ROOT / "bundle"


def test_another_bundle_can_be_named(tmp_path: Path) -> None:
    assert bundle.find(None, tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError, match="MEAA_BUNDLE"):
        bundle.find(None, tmp_path / "nowhere")
