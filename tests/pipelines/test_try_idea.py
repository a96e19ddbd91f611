"""Trying ideas: what is changed, and the table of what it gave."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.data import test_sets
from pipelines.data.face_sets import FaceSet
from pipelines.params import Params
from pipelines.try_idea import change, changed_config, measure, record
from tests.support.toys import brightness_model, faces


def test_a_change_reaches_the_setting_it_names_and_no_other() -> None:
    before = {"recipe": {"epochs": 32, "augmentation": {"zoom": 0.1, "shift": 0.2}}}
    after = change(before, {"recipe.augmentation.zoom": 0.3})
    assert after == {"recipe": {"epochs": 32, "augmentation": {"zoom": 0.3, "shift": 0.2}}}
    assert before["recipe"]["augmentation"]["zoom"] == 0.1


def test_a_change_in_a_section_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="recipes"):
        change({"recipe": {}}, {"recipes.epochs": 1})


def test_a_misspelt_setting_is_an_error_before_anything_is_trained() -> None:
    with pytest.raises(ValueError, match="epoch"):
        changed_config(Params.read(), "mini_xception", {"recipe.epoch": 1})


def test_an_idea_may_take_another_recipe_and_change_it() -> None:
    params = Params.read()
    config = changed_config(params, "mini_xception", {"recipe": "one_cycle", "recipe.epochs": 2})
    assert config.recipe == params.train["one_cycle"].model_copy(update={"epochs": 2})
    assert config.model == replace(params.model("mini_xception"), recipe="one_cycle")


def test_an_idea_may_vary_the_champion_which_starts_from_other_weights() -> None:
    params = Params.read()
    config = changed_config(params, "mini_xception_fine_2", {"recipe.epochs": 2, "network.filters": [8, 12]})
    assert config.model.init_from == "mini_xception_fine"
    assert config.model.hyper_parameters["filters"] == [8, 12]
    assert changed_config(params, "mini_xception_fine_2", {"init_from": None}).model.init_from is None
    assert changed_config(params, "mini_xception_fine_2", {"recipe": "distilled"}).teacher == params.teacher


def test_a_model_that_is_right_everywhere_is_measured_as_such() -> None:
    validation = FaceSet.concatenate([faces(40), faces(40, source="photos")])
    measured = measure(brightness_model(), validation, Params.read().input, bins=15)
    assert measured == {
        "ferplus_weighted_f1": 1.0,
        "original_weighted_f1": 1.0,
        "photos_accuracy": 1.0,
        "photos_macro_recall": 1.0,
    }


def test_a_trial_replaces_the_one_of_the_same_name_and_seed(tmp_path: Path) -> None:
    table = tmp_path / "reports" / "ideas.csv"
    for seed, score in [(1, 0.5), (2, 0.6), (1, 0.7)]:
        record({"idea": "wider", "seed": seed, "score": score}, table)
    np.testing.assert_allclose(pd.read_csv(table).set_index("seed")["score"].loc[[1, 2]], [0.7, 0.6])


def test_a_trial_without_versions_of_its_validation_sets_is_of_the_first_ones(tmp_path: Path) -> None:
    table = tmp_path / "ideas.csv"
    table.write_text("idea,seed,score\nwider,1,0.5\n")
    record({"idea": "deeper", "seed": 1, "score": 0.6, "validation_sets": "0123 4567"}, table)
    first = " ".join(test_sets.FIRST["validation"].values())
    assert pd.read_csv(table)["validation_sets"].tolist() == [first, "0123 4567"]
