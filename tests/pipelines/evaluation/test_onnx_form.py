"""`pipelines.evaluation.onnx_form`: exports of one model are the same bytes, and those of two models are not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from pipelines.evaluation import onnx_form
from pipelines.export import to_onnx
from pipelines.export.serving_model import serving_model
from tests.conftest import ROOT
from tests.support import toys

RELEASED = ROOT / "bundle" / "classifier" / "mood.onnx"


def renamed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same graph as another export might write it: other names, constants and nodes in another order."""
    other, shuffle = onnx.ModelProto(), random.Random(seed)
    other.CopyFrom(model)
    graph = other.graph
    kept = {value.name for value in [*graph.input, *graph.output]}
    names = {name: name for name in kept | {""}}
    for node in graph.node:
        node.name = f"node {shuffle.random()}"
        for values in (node.input, node.output):
            values[:] = [names.setdefault(name, f"value {shuffle.random()}") for name in values]
    constants = list(graph.initializer)
    shuffle.shuffle(constants)
    del graph.initializer[:]
    for constant in constants:
        constant.name = names.setdefault(constant.name, constant.name)
        graph.initializer.add().CopyFrom(constant)
    return other


@pytest.mark.parametrize("seed", range(3))
def test_other_names_and_another_order_of_the_constants_give_the_same_bytes(seed: int) -> None:
    model = onnx.load(RELEASED)
    other = renamed(model, seed)
    onnx.checker.check_model(other)
    assert other.SerializeToString() != model.SerializeToString()
    assert onnx_form.normal_form(other) == onnx_form.normal_form(model)


def test_the_normal_form_is_its_own_and_predicts_the_same_to_the_last_bit(tmp_path: Path) -> None:
    form = onnx_form.normal_form(onnx.load(RELEASED))
    assert onnx_form.normal_form(form) == form
    onnx.checker.check_model(form)
    onnx.save(form, tmp_path / "form.onnx")
    faces = np.random.default_rng(0).uniform(-1, 1, (5, 48, 48, 1)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": faces})[0]
        for path in (RELEASED, tmp_path / "form.onnx")
    )
    np.testing.assert_array_equal(before, after)


def test_a_weight_that_differs_in_its_last_bit_is_another_model(tmp_path: Path) -> None:
    model = onnx.load(RELEASED)
    constant = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(constant).copy()
    values.flat[7] = np.nextafter(values.flat[7], np.float32(9))
    constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    onnx.save(model, tmp_path / "other.onnx")
    assert onnx_form.same(RELEASED, RELEASED)
    assert not onnx_form.same(RELEASED, tmp_path / "other.onnx")


def test_two_exports_of_one_model_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first.onnx", "second.onnx"):
        model = serving_model(toys.headed_model(), mirror_averaging=True)
        to_onnx.export(model, (None, toys.SIZE, toys.SIZE, 1), tmp_path / name, [to_onnx.OUTPUT_NAME])
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_a_graph_inside_a_node_is_refused() -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "branch", [], [])
    node = helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=branch)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("condition", "z")]
    model = helper.make_model(helper.make_graph([node], "whole", values[:1], values[1:]))
    with pytest.raises(ValueError, match="If has a graph"):
        onnx_form.normal_form(model)
