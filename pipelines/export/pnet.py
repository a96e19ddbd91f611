"""Candidate selection inside P-Net's graph, so that it returns candidates instead of maps."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from service.detector import MIN_LOGIT


def select_candidates(model: onnx.ModelProto) -> None:
    """Rewrite the end of P-Net's graph in place.

    Nearly all cells of the maps show no face. In the new end one convolution computes offsets and logits, the
    difference of the two logits selects the candidates, and only these go through the softmax. The graph takes one
    image, and `MIN_LOGIT`, a scalar that the difference must exceed. Its outputs are `cells` int64 (n, 2), rows (row,
    column) in the order of the map, `offsets` float32 (n, 4) and `probabilities` float32 (n, 2).
    """
    graph = model.graph
    makers = {node.output[0]: node for node in graph.node}
    heads = []
    for output in graph.output:  # offsets, probabilities
        node = makers[output.name]
        while node.op_type != "Conv":
            graph.node.remove(node)
            node = makers[node.input[0]]
        graph.node.remove(node)
        heads.append(node)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernel, bias = (np.concatenate([weights[head.input[index]] for head in heads]) for index in (1, 2))
    constants = {"kernel": kernel, "bias": bias, "parts": np.array([4, 1, 1]), "pair": np.array([4, 2])}
    constants |= {"columns": np.array([6, -1]), "flat": np.array([-1]), "from": np.array([2]), "to": np.array([4])}
    graph.initializer.extend(numpy_helper.from_array(value, f"heads/{name}") for name, value in constants.items())
    x = heads[0].input[0]
    graph.node.extend(
        helper.make_node(operator, [*map(_scoped, inputs)], [*map(_scoped, outputs)], **attributes)
        for operator, inputs, outputs, attributes in (
            ("Conv", ["kernel", "bias"], ["maps"], {"kernel_shape": [1, 1]}),
            ("Split", ["maps", "parts"], ["corrections", "no face", "face"], {"axis": 1}),
            ("Sub", ["face", "no face"], ["logits"], {}),
            ("Greater", ["logits", MIN_LOGIT], ["chosen"], {}),
            ("NonZero", ["chosen"], ["places"], {}),
            ("Slice", ["places", "from", "to"], ["rows and columns"], {}),
            ("Transpose", ["rows and columns"], ["cells"], {"perm": [1, 0]}),
            ("Reshape", ["chosen", "flat"], ["chosen of all"], {}),
            ("NonZero", ["chosen of all"], ["index"], {}),
            ("Reshape", ["index", "flat"], ["indices"], {}),
            ("Reshape", ["maps", "columns"], ["all"], {}),
            ("Gather", ["all", "indices"], ["candidates"], {"axis": 1}),
            ("Transpose", ["candidates"], ["rows"], {"perm": [1, 0]}),
            ("Split", ["rows", "pair"], ["offsets", "both"], {"axis": 1}),
            ("Softmax", ["both"], ["probabilities"], {"axis": 1}),
        )
    )
    next(node for node in graph.node if node.output[0] == "heads/maps").input.insert(0, x)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    graph.input.append(helper.make_tensor_value_info(MIN_LOGIT, onnx.TensorProto.FLOAT, []))
    del graph.output[:]
    for name, kind, columns in (("cells", "INT64", 2), ("offsets", "FLOAT", 4), ("probabilities", "FLOAT", 2)):
        graph.output.append(helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), ["n", columns]))
    onnx.checker.check_model(model)


def _scoped(name: str) -> str:
    """Name of a value in the new end of the graph; the graph's own inputs and outputs keep theirs."""
    return name if name in (MIN_LOGIT, "cells", "offsets", "probabilities") else f"heads/{name}"
