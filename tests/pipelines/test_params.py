"""params.yaml: what it may say, and what it may not."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.params import read_monitoring
from pipelines.params import Params, ParamsError
from pipelines.training.config import TrainingConfig
from tests.conftest import ROOT

Values = dict[str, Any]


@pytest.fixture
def values() -> Values:
    """The released params.yaml."""
    return dict(yaml.safe_load((ROOT / "params.yaml").read_text()))


def fine_tune(values: Values, name: str, init_from: str, section: str = "fine_tuned") -> None:
    """Add a model that starts from another one."""
    recipe = {"fine_tuned": "second_cycle", "distilled": "distilled"}[section]
    values["models"][section][name] = {"recipe": recipe, "init_from": init_from}


def test_a_fine_tuned_model_has_the_network_that_it_starts_from_and_its_own_recipe(values: Values) -> None:
    fine_tune(values, "once_more", "mini_xception_wide")
    fine_tune(values, "taught", "once_more", "distilled")
    params = Params.model_validate(values)
    start, once_more, taught = (params.model(name) for name in ("mini_xception_wide", "once_more", "taught"))
    assert taught.hyper_parameters == once_more.hyper_parameters == start.hyper_parameters
    assert taught.init_from == "once_more"
    config = TrainingConfig.of(params, once_more)
    assert config.recipe == params.train["second_cycle"]
    assert config.parameters()["init_from"] == "mini_xception_wide"
    assert config.teacher is None
    assert TrainingConfig.of(params, taught).teacher == params.teacher


def test_the_released_file_is_valid() -> None:
    params = Params.read(ROOT / "params.yaml")
    assert set(params.candidates).isdisjoint(params.compared)
    assert set(params.evaluated) == set(params.models.entries())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["models"]["from_scratch"]["mini_xception"].update(recipe="plato"), "plato"),
        (lambda v: fine_tune(v, "new", "nobody"), "nobody"),
        (lambda v: fine_tune(v, "first", "mini_xception_distilled"), "declared before"),
        (lambda v: fine_tune(v, "mini_xception", "mini_xception_fine"), "two sections"),
        (lambda v: v["models"]["from_scratch"]["mini_xception"].update(recipe="distilled"), "teacher_weight"),
        (lambda v: v["teacher"].update(members=["mini_xception", "nobody"]), "nobody"),
        (lambda v: v["teacher"].update(members=["mini_xception"]), "members"),
        (lambda v: v["teacher"].update(student_recipe="nothing"), "nothing"),
        (lambda v: v["candidates"].append("stranger"), "stranger"),
        (lambda v: v["compared"].append("stranger"), "stranger"),
        (lambda v: v["compared"].append(v["candidates"][0]), "stands there twice"),
        (lambda v: v["detector"].update(min_face_pixel=20), "min_face_pixel"),
        (lambda v: v["train"]["plateau"].update(epoch=3), "epoch"),
        (lambda v: v.update(trian={}), "trian"),
    ],
)
def test_a_name_that_refers_to_nothing_is_an_error_that_says_it(
    values: Values, change: Callable[[Values], None], message: str
) -> None:
    change(values)
    with pytest.raises(ValueError, match=message):
        Params.model_validate(values)


def test_an_unknown_model_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="mini_xception_fine"):
        Params.read(ROOT / "params.yaml").model("nobody")


def test_the_file_is_read_from_the_path_that_is_given(tmp_path: Path, values: Values) -> None:
    values["evaluate"]["latency_runs"] = 7
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert Params.read(tmp_path / "params.yaml").evaluate.latency_runs == 7


def put(values: Values, name: str, value: Any) -> None:
    """Change a value by its dotted name; `...` removes it."""
    *parents, last = name.split(".")
    for parent in parents:
        values = values[parent]
    if value is ...:
        del values[last]
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("gate.max_bytes", "many", "gate.max_bytes is 'many'; it should be a valid integer"),
        ("gate.max_bytes", -1, "gate.max_bytes is -1; it should be greater than 0"),
        ("gate.max_bytes", True, "gate: max_bytes is true, which is no value for it"),
        ("gate.max_multiply_adds", 0.5, "gate.max_multiply_adds is 0.5; it should be a valid integer"),
        ("gate.max_latency_ratio", float("inf"), "gate.max_latency_ratio is inf; it should be a finite number"),
        ("gate.max_slice_loss", float("nan"), "gate.max_slice_loss is nan; it should be a finite number"),
        ("gate.confidence", 95, "gate.confidence is 95; it should be less than 1"),
        ("gate.metric", "test.ferplus.weighted_f1", "gate.metric is 'test.ferplus.weighted_f1'; it should be"),
        ("gate.max_latency_ms", 1.0, "there is no setting gate.max_latency_ms; it may be misspelt"),
        ("gate.seed", ..., "gate.seed is missing"),
        ("gate", None, "gate is None; it should be"),
        ("detector.min_face_pixels", "x", "detector.min_face_pixels is 'x'; it should be a valid integer"),
        ("detector.scale_factor", 1.5, "detector: scale_factor is 1.5; it must lie between 0 and 1"),
        ("input.size", "big", "input.size is 'big'; it should be a valid integer"),
        ("prepare.min_votes", 0, "prepare.min_votes is 0; it should be greater than or equal to 1"),
        ("train.plateau.optimizer", "sgd", "train.plateau.optimizer is 'sgd'; it should be 'adam' or 'adamw'"),
        ("teacher.views", None, "teacher.views is None; it should be a valid integer"),
        ("models.fine_tuned", [], "models.fine_tuned is wrong; it should be a valid dictionary"),
        ("candidates", [], "candidates is wrong; "),
        ("serving.mirror_averaging", "maybe", "serving.mirror_averaging is 'maybe'; it should be a valid boolean"),
        ("evaluate.latency_runs", "1e3", "evaluate.latency_runs is '1e3'; it should be a valid integer"),
        ("monitoring.min_rows", 1, "monitoring.min_rows is 1; it should be greater than or equal to 20"),
        ("monitoring.webhook.attempts", "often", "monitoring.webhook.attempts is 'often'; it should be a valid int"),
    ],
)
def test_a_wrong_value_in_any_section_is_one_sentence_that_names_it(
    tmp_path: Path, values: Values, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, sentence: str
) -> None:
    put(values, name, value)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError) as failed:
        read_monitoring() if name.startswith("monitoring") else Params.read()
    assert str(failed.value).startswith(f"params.yaml: {sentence}")
    assert len(str(failed.value).splitlines()) == 1


def test_two_wrong_values_are_two_lines(tmp_path: Path, values: Values) -> None:
    put(values, "gate.confidence", 95)
    put(values, "evaluate.seed", "x")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError) as failed:
        Params.read(tmp_path / "params.yaml")
    assert len(str(failed.value).splitlines()) == 2


@pytest.mark.parametrize(("text", "sentence"), [(None, "does not exist here"), ("gate: [", "is no YAML")])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=sentence):
        Params.read(tmp_path / "params.yaml")


def test_a_command_ends_with_the_sentence_alone(tmp_path: Path, values: Values) -> None:
    put(values, "gate.confidence", 95)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    code = "from pipelines.params import Params; Params.read()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "params.yaml: gate.confidence is 95; it should be less than 1.\n"


STAGES = {
    "pipelines.convert_detector": (),
    "pipelines.detect": (),
    "pipelines.prepare": (),
    "pipelines.train": ("mini_xception",),
    "pipelines.teach": (),
    "pipelines.evaluate": ("mini_xception",),
    "pipelines.register": (),
    "pipelines.package": (),
    "pipelines.detector_equivalence": (),
}
"""The stages that read `params.yaml`, with the arguments of their `main`."""


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_stops_at_a_wrong_number_before_it_does_anything(
    tmp_path: Path, values: Values, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    put(values, "gate.confidence", 95)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match=r"gate\.confidence"):
        importlib.import_module(stage).main(*STAGES[stage])
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
