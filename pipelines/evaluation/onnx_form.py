"""The normal form of an ONNX graph: all exports of one model have the same.

tf2onnx numbers nodes and values by counters that differ from export to export, and takes nodes in the order of a set.
What is computed is the same. In normal form the bytes are the same too, so that a digest of the file stands for the
model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

_GRAPHS: Final = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that computes the same, with nodes, names and constants in an order that only the computation decides.

    Nodes stand in the order in which a depth-first search from the outputs leaves them; values and constants are
    numbered as the nodes use them, free axes too. Inputs and outputs keep their names. What no output needs is left
    out, and so are documentation, metadata and intermediate shapes.

    Args:
        model: Model whose nodes have no graphs among their attributes (no `If`, `Loop` or `Scan`).

    Raises:
        ValueError: a node has a graph among its attributes.
    """
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    nodes = _in_order(graph)
    names = {value.name: value.name for value in [*graph.input, *graph.output]} | {"": ""}
    used: list[onnx.TensorProto] = []
    for node in nodes:
        for name in [*node.input, *node.output]:
            if name in names:
                continue
            names[name] = f"constant_{len(used)}" if name in constants else f"value_{len(names)}"
            if name in constants:
                used.append(constants[name])

    written = onnx.ModelProto()
    written.CopyFrom(model)
    del written.metadata_props[:]
    written.doc_string = ""
    del written.graph.node[:], written.graph.initializer[:], written.graph.value_info[:]
    written.graph.doc_string = ""
    for index, node in enumerate(nodes):
        copy = written.graph.node.add(op_type=node.op_type, domain=node.domain, name=f"{node.op_type}_{index}")
        copy.input.extend(names[name] for name in node.input)
        copy.output.extend(names[name] for name in node.output)
        copy.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    for constant in used:
        written.graph.initializer.add().CopyFrom(constant)
        written.graph.initializer[-1].name = names[constant.name]
    axes: dict[str, str] = {}
    for value in [*written.graph.input, *written.graph.output]:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = axes.setdefault(axis.dim_param, f"axis_{len(axes)}")
    versions = sorted(written.opset_import, key=lambda one: one.domain)
    del written.opset_import[:]
    written.opset_import.extend(versions)
    return written


def same(one: Path, other: Path) -> bool:
    """Whether two ONNX files compute the same with the same constants, whatever they and their values are called.

    A file that is no ONNX model is only the same as its copy.
    """
    if one.read_bytes() == other.read_bytes():
        return True
    try:
        return _content(one) == _content(other)
    except DecodeError:
        return False


def _content(path: Path) -> bytes:
    """The normal form of a file as bytes, without the names of graph and exporter."""
    form = normal_form(onnx.load(path))
    form.graph.name = form.producer_name = form.producer_version = ""
    return form.SerializeToString(deterministic=True)


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the outputs need, each after those whose results it uses."""
    makers = {name: node for node in graph.node for name in node.output if name}
    ordered: list[onnx.NodeProto] = []
    seen: set[int] = set()
    waiting = [(makers[value.name], False) for value in reversed(graph.output) if value.name in makers]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            ordered.append(node)
            continue
        if id(node) in seen:
            continue
        seen.add(id(node))
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            raise ValueError(f"{node.op_type} has a graph among its attributes: there is no normal form for it")
        waiting.append((node, True))
        waiting += [(makers[name], False) for name in reversed(node.input) if name in makers]
    return ordered
