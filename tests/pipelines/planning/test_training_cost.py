"""The cost of a training, from the last one or from a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import paths
from pipelines.params import Params, ParamsError
from pipelines.planning.training_cost import time_of_an_epoch, training_cost
from tests.conftest import ROOT
from tests.support import toys


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The released params.yaml; the working directory has nothing else."""
    monkeypatch.chdir(tmp_path)
    return Params.read(ROOT / "params.yaml")


def write_summary(name: str, **values: Any) -> None:
    path = paths.MODELS / name / "training.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))


def test_the_time_is_that_of_the_last_training_for_as_many_faces_as_there_are(params: Params) -> None:
    write_summary("mini_xception_fine", epochs=32, training_faces=40, seconds_per_epoch=80.0)
    cost = training_cost(params, "mini_xception_fine", changed=False)
    assert (cost.epochs, cost.faces, cost.seconds, cost.measured) == (32, 40, 32 * 80, "last training")
    paths.FACES.mkdir()
    toys.faces(60).save(paths.face_set("train"))
    assert training_cost(params, "mini_xception_fine", changed=False).seconds == 32 * 120


def test_a_training_that_can_stop_early_is_expected_to_take_as_many_epochs_as_last_time(params: Params) -> None:
    write_summary("mobilenet_v1", epochs=56, training_faces=40, seconds_per_epoch=10.0)
    cost = training_cost(params, "mobilenet_v1", changed=False)
    assert (cost.epochs, cost.max_epochs) == (56, params.train["plateau"].epochs)


def test_without_a_record_or_with_another_recipe_steps_are_timed(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.planning.training_cost.time_of_an_epoch", lambda params, name, faces: faces / 10)
    write_summary("mini_xception_fine", epochs=32, training_faces=40)
    write_summary("mini_xception_wide", epochs=32, training_faces=40, seconds_per_epoch=80.0)
    for name, changed in {"mini_xception_fine": False, "mini_xception_wide": True}.items():
        cost = training_cost(params, name, changed=changed)
        assert (cost.seconds_per_epoch, cost.measured) == (4, "steps timed now")


def test_a_model_that_was_never_trained_on_faces_that_are_not_there_has_no_time(params: Params) -> None:
    cost = training_cost(params, "mini_xception_fine", changed=False)
    assert (cost.epochs, cost.faces, cost.seconds) == (params.train["one_cycle"].epochs, None, None)


@pytest.mark.slow
def test_steps_of_a_distilled_model_are_timed_without_a_teacher(params: Params, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    small = {"filters": [2, 2], "block_filters": [4, 4, 4, 4]}
    values["models"]["from_scratch"]["small"] = {"recipe": "one_cycle", "network": "mini_xception", **small}
    values["models"]["distilled"]["small_distilled"] = {"recipe": "distilled", "init_from": "small"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    hundred = time_of_an_epoch(Params.read(), "small_distilled", faces=100 * 64)
    assert 0.1 < hundred < 600  # a step takes more than a millisecond


@pytest.mark.parametrize("network", [{"network": "mini_exception"}, {"network": "mobilenet_v1", "alhpa": 0.5}])
def test_a_network_that_cannot_be_built_is_one_sentence(tmp_path: Path, network: dict[str, Any]) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["models"]["from_scratch"]["new"] = {"recipe": "plateau", **network}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match=r"^params\.yaml: the network of new cannot be built: .*(mini_ex|alhpa)"):
        time_of_an_epoch(Params.read(tmp_path / "params.yaml"), "new", faces=640)
