"""`service.settings` and `service.bundle`: what the environment can configure."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service import bundle
from service.settings import PREFIX, Settings
from tests.conftest import ROOT


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """The settings of an environment that has these variables of the service and no others."""

    def read(**variables: str) -> Settings:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return read


def test_an_empty_environment_gives_the_defaults(environment: Callable[..., Settings]) -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert environment().model_dump() == defaults
    assert environment(**{f"{PREFIX}{name.upper()}": "" for name in defaults}).model_dump() == defaults


def test_variables_set_what_they_name(environment: Callable[..., Settings]) -> None:
    settings = environment(
        MEAA_MAX_BYTES="5e6",
        MEAA_MAX_QUEUE="4",
        MEAA_TOKEN="t",
        MEAA_DOCS=" Off",
        MEAA_PREDICTION_LOG="/var/log/p.jsonl",
    )
    assert settings.max_bytes == 5_000_000
    assert settings.max_queue == 4
    assert settings.token == ("t",)
    assert settings.docs == "off"
    assert settings.prediction_log == Path("/var/log/p.jsonl")


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "nan", "inf"])
def test_a_number_that_makes_no_sense_is_refused_by_name(environment: Callable[..., Settings], value: str) -> None:
    with pytest.raises(ValueError, match=rf"MEAA_MAX_QUEUE is '?{value}'?: input should be"):
        environment(MEAA_MAX_QUEUE=value)


def test_several_tokens_and_origins_are_separated_by_commas(environment: Callable[..., Settings]) -> None:
    settings = environment(MEAA_TOKEN="old, new,", MEAA_CORS_ORIGINS="https://a.example")
    assert settings.token == ("old", "new")
    assert settings.cors_origins == ("https://a.example",)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MEAA_DOCS": "maybe"}, "MEAA_DOCS is 'maybe': input should be 'on' or 'off'"),
        ({"MEAA_METRICS": "token"}, "MEAA_TOKEN"),
        ({"MEAA_MAX_BUFFER": "1000"}, "MEAA_MAX_BUFFER is 1000; it must be at least MEAA_MAX_BYTES"),
        ({"MEAA_MAX_WAIT": "0"}, "MEAA_MAX_WAIT is '0': input should be greater than or equal to 0.01"),
        ({"MEAA_MAX_WAIT": "inf"}, "MEAA_MAX_WAIT"),
        ({"MEAA_WORKERS": "-1"}, "MEAA_WORKERS"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(
    environment: Callable[..., Settings], variables: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        environment(**variables)


def test_a_refusal_names_every_wrong_variable_and_no_token(environment: Callable[..., Settings]) -> None:
    with pytest.raises(ValueError, match=r"MEAA_DOCS.*MEAA_MAX_QUEUE") as refusal:
        environment(MEAA_DOCS="maybe", MEAA_MAX_QUEUE="many", MEAA_TOKEN="open sesame")
    assert "open sesame" not in str(refusal.value)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_checkout_serves_its_released_bundle() -> None:
    assert bundle.find(None) == ROOT / "bundle"


def test_another_bundle_can_be_named(tmp_path: Path) -> None:
    assert bundle.find(None, tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError, match="MEAA_BUNDLE"):
        bundle.find(None, tmp_path / "nowhere")
