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
    assert settings.tokens == ("t",)
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


def test_several_tokens_and_origins_are_separated_by_commas() -> None:
    settings = Settings.from_environment({"MEAA_TOKEN": "old, new,", "MEAA_CORS_ORIGINS": "https://a.example"})
    assert settings.tokens == ("old", "new")
    assert settings.cors_origins == ("https://a.example",)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"MEAA_DOCS": "maybe"}, "MEAA_DOCS"),
        ({"MEAA_METRICS": "token"}, "MEAA_TOKEN"),
        ({"MEAA_MAX_BUFFER": "1000"}, "MEAA_MAX_BUFFER"),
        ({"MEAA_MAX_WAIT": "0"}, "MEAA_MAX_WAIT"),
        ({"MEAA_WORKERS": "-1"}, "MEAA_WORKERS"),
    ],
)
def test_what_would_not_do_what_was_meant_is_refused_by_name(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Settings.from_environment(variables)
