"""`service.settings` and `service.bundle`: what the environment can configure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service import bundle
from service.settings import OTHER_VARIABLES, PREFIX, Settings
from tests.conftest import ROOT


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """The settings of an environment that has these variables of the service and no others."""

    def read(**variables: str) -> Settings:
        for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return read


def test_an_empty_environment_gives_the_defaults(environment: Callable[..., Settings]) -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert environment().model_dump() == defaults
    assert (
        environment(**{f"{PREFIX}{name.upper()}": "" for name in defaults if name != "token"}).model_dump() == defaults
    )


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
        ({"MEAA_TOKEN": ""}, "MEAA_TOKEN is set and holds no token; unset it to admit everybody"),
        ({"MEAA_TOKEN": " "}, "MEAA_TOKEN is set and holds no token"),
        ({"meaa_token": " , ,"}, "meaa_token is set and holds no token"),
        ({"MEAA_TOKEN": ",", "MEAA_METRICS": "token"}, "MEAA_TOKEN is set and holds no token"),
        ({"MEAA_TOKEN": "line\nbreak"}, "MEAA_TOKEN holds a line break"),
        ({"MEAA_TOKENS": "t"}, r"MEAA_TOKENS is no setting; did you mean MEAA_TOKEN\?"),
        ({"MEAA_MAXBYTES": "1"}, r"MEAA_MAXBYTES is no setting; did you mean MEAA_MAX_BYTES\?"),
        ({"meaa_prediction_logs": ""}, r"meaa_prediction_logs is no setting; did you mean MEAA_PREDICTION_LOG"),
        ({"MEAA_PORT": "8011"}, "MEAA_PORT is no setting"),
        ({"MEAA_CORS_ORIGINS": "clinic.example"}, "MEAA_CORS_ORIGINS holds 'clinic.example'"),
        (
            {"MEAA_CORS_ORIGINS": "https://a.example, https://b.example/"},
            "MEAA_CORS_ORIGINS holds 'https://b.example/'",
        ),
        ({"MEAA_PREDICTION_LOG": " "}, "MEAA_PREDICTION_LOG is ' ': it is blank"),
        ({"MEAA_REQUEST_ID": "header"}, "MEAA_REQUEST_ID is 'header': input should be 'random' or 'client'"),
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


def test_variables_of_the_projects_other_programs_and_of_kubernetes_are_none_of_the_services_business(
    environment: Callable[..., Settings],
) -> None:
    others = dict.fromkeys(OTHER_VARIABLES, "x")
    links = {  # what a service called `meaa` and one called `meaa-web` add to every container of their namespace
        "MEAA_SERVICE_HOST": "10.0.0.7",
        "MEAA_SERVICE_PORT": "8000",
        "MEAA_SERVICE_PORT_HTTP": "8000",
        "MEAA_PORT": "tcp://10.0.0.7:8000",
        "MEAA_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "MEAA_PORT_8000_TCP_PROTO": "tcp",
        "MEAA_PORT_8000_TCP_PORT": "8000",
        "MEAA_PORT_8000_TCP_ADDR": "10.0.0.7",
        "MEAA_WEB_SERVICE_HOST": "10.0.0.8",
        "MEAA_WEB_PORT": "tcp://10.0.0.8:80",
    }
    assert environment(**others, **links) == environment()


def test_every_variable_that_the_repository_mentions_is_known() -> None:
    places = ("benchmarks", "deploy", "docs", "monitoring", "pipelines", "service", "Makefile", "README.md")
    files = [file for place in places for file in [ROOT / place, *(ROOT / place).rglob("*")] if file.is_file()]
    texts = [file.read_text() for file in files if file.suffix in (".py", ".md", ".yaml", ".cron", ".json", "")]
    mentioned = {name for text in texts for name in re.findall(r"\bMEAA_[A-Z_]*[A-Z]\b", text)}
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert mentioned == known | OTHER_VARIABLES


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_checkout_serves_its_released_bundle() -> None:
    assert bundle.find(None) == ROOT / "bundle"


def test_another_bundle_can_be_named(tmp_path: Path) -> None:
    assert bundle.find(None, tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError, match="MEAA_BUNDLE"):
        bundle.find(None, tmp_path / "nowhere")
