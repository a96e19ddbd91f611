"""params.yaml: what it may say, and what it may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.params import Params
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


def test_the_released_file_is_valid_and_the_teachers_members_are_dependencies_of_the_stage() -> None:
    params = Params.read(ROOT / "params.yaml")
    dependencies = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["teach"]["deps"]
    listed = [path for path in dependencies if path.startswith("models/")]
    expected = [f"models/${{teacher.members[{index}]}}/model.keras" for index in range(len(params.teacher.members))]
    assert listed == expected


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
