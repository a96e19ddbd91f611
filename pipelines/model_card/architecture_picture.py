"""A picture of a network: its layers from top to bottom, residual blocks with their skip connection, tensor shapes.

Made for mini-Xception, after figure 1 of Arriaga, Valdenegro-Toro and Ploeger, ESANN 2019. It is read off the Keras
graph, so that it shows what was trained: other widths, strides, blocks and small additions included. Only the path to
the moods is shown, no auxiliary heads; around it the service averages over mirror images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import keras
from keras import layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from pipelines.training.networks import MOOD
from service.moods import MOODS

# Inches.
_ROW: Final = 0.3  # height of a box
_GAP: Final = 0.17  # between boxes: room for an arrow
_MAIN: Final = 3.0  # width of a box on the main path
_SKIP: Final = 1.75  # and on a skip connection
_BETWEEN: Final = 0.35  # from one to the other
_PADDING: Final = 0.14  # of a block's panel
_SHAPES: Final = 1.1  # room for the shapes, at the right
_RADIUS: Final = 0.12  # of the circle where paths join

_COLOURS: Final = {
    "tensor": "#f2f2f2",
    "convolution": "#cfe2f3",
    "separable": "#d9ead3",
    "pooling": "#fff2cc",
    "other": "#ead1dc",
}
_PANEL: Final = "#fafafa"
_LINE: Final = "#555555"


@dataclass(frozen=True)
class Box:
    """A layer, with the normalisation and activation that follow it.

    Attributes:
        label: what it does.
        kind: a key of `_COLOURS`.
        shape: of its output, without the batch.
    """

    label: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Two paths that part and join again.

    Attributes:
        main: the longer one.
        skip: the shorter one; empty where the input itself is joined.
        join: `+` or `×`.
        label: name of the block.
        shape: of its output, without the batch.
    """

    main: tuple[Box, ...]
    skip: tuple[Box, ...]
    join: str
    label: str
    shape: tuple[int, ...]


def read(model: keras.Model) -> list[Box | Block]:
    """The elements of a network on the way from its input to the moods.

    Args:
        model: functional; with several outputs, the one called `architectures.MOOD`.
    """
    output = model.output[MOOD] if isinstance(model.output, dict) else model.output
    elements = _condense(_path(_layer_of(output), None))
    return [*elements, Box(", ".join(MOODS), "tensor", elements[-1].shape)]


def draw(model: keras.Model, title: str) -> Figure:
    """A network from top to bottom.

    Args:
        model: see `read`.
        title: above the picture.
    """
    elements = read(model)
    skips = any(isinstance(element, Block) for element in elements)
    width = _MAIN + 2 * _PADDING + (_BETWEEN + _SKIP if skips else 0) + _SHAPES
    height = sum(_height(element) + _GAP for element in elements) + 0.3
    figure = Figure(figsize=(width + 0.2, height + 0.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, width + 0.1), ylim=(-height - 0.1, 0.1), aspect="equal")
    axes.axis("off")
    axes.text(_PADDING, -0.12, title, va="center", fontsize=10, fontweight="bold")
    axes.text(width, -0.12, "output", ha="right", va="center", fontsize=8, color=_LINE)
    top = -0.3
    for index, element in enumerate(elements):
        if index:
            _arrow(axes, [(_PADDING + _MAIN / 2, top + _GAP), (_PADDING + _MAIN / 2, top)])
        if isinstance(element, Box):
            _draw_box(axes, element, _PADDING, top, _MAIN)
        else:
            _draw_block(axes, element, top)
        bottom = top - _height(element)
        _write_shape(axes, element.shape, width, bottom + (0 if isinstance(element, Block) else _ROW / 2))
        top = bottom - _GAP
    return figure


# --- From the Keras graph to boxes ---------------------------------------------------------------------------------


def _layer_of(tensor: keras.KerasTensor) -> layers.Layer:
    """The layer that gives a tensor."""
    return tensor._keras_history.operation


def _parents(layer: layers.Layer) -> list[layers.Layer]:
    """The layers that a layer takes its input from; none for the input layer."""
    if isinstance(layer, layers.InputLayer):
        return []
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [_layer_of(tensor) for tensor in tensors]


def _ancestors(layer: layers.Layer) -> Iterator[layers.Layer]:
    """A layer and all that it depends on, the nearest first along each path."""
    waiting, seen = [layer], set()
    while waiting:
        layer = waiting.pop(0)
        if layer.name not in seen:
            seen.add(layer.name)
            yield layer
            waiting.extend(_parents(layer))


@dataclass(frozen=True)
class _Join:
    """A layer that joins two paths, and the layers on each, the longer path first."""

    layer: layers.Layer
    paths: tuple[list[layers.Layer | _Join], list[layers.Layer | _Join]]


def _path(last: layers.Layer, before: layers.Layer | None) -> list[layers.Layer | _Join]:
    """The layers that lead to one, in order.

    Args:
        last: where the path ends.
        before: the layer after which it begins; None where it begins with the input.

    Raises:
        ValueError: more than two paths meet in a layer.
    """
    path: list[layers.Layer | _Join] = []
    layer: layers.Layer | None = last
    while layer is not None and layer is not before:
        parents = _parents(layer)
        if len(parents) < 2:
            path.append(layer)
            layer = parents[0] if parents else None
            continue
        if len(parents) > 2:
            raise ValueError(f"{len(parents)} paths meet in the layer {layer.name!r}; two can be drawn")
        reached = {one.name for one in _ancestors(parents[0])}
        fork = next(one for one in _ancestors(parents[1]) if one.name in reached)
        first, second = sorted((_path(parent, fork) for parent in parents), key=len, reverse=True)
        path.append(_Join(layer, (first, second)))
        layer = fork
    return path[::-1]


def _condense(path: Sequence[layers.Layer | _Join], *, nested: bool = False) -> list[Box | Block]:
    """Layers as they are drawn: normalisation and activation in the box of the layer before them."""
    elements: list[Box | Block] = []
    for item in path:
        if isinstance(item, _Join):
            elements.append(_gate(item) if nested else _block(item))
        elif (suffix := _suffix(item)) and elements and isinstance(elements[-1], Box):
            last = elements[-1]
            elements[-1] = Box(f"{last.label}, {suffix}", last.kind, _shape(item))
        else:
            elements.append(Box(_label(item), _kind(item), _shape(item)))
    return elements


def _block(join: _Join) -> Block:
    """A join as two paths."""
    main, skip = (tuple(box for box in _condense(path, nested=True) if isinstance(box, Box)) for path in join.paths)
    sign = "×" if isinstance(join.layer, layers.Multiply) else "+"
    return Block(main, skip, sign, join.layer.name.rpartition("_")[0], _shape(join.layer))


def _gate(join: _Join) -> Box:
    """A join inside a block, such as squeeze-and-excitation, as one box."""
    pooled = any(isinstance(layer, layers.GlobalAveragePooling2D) for layer in join.paths[0])
    multiplied = isinstance(join.layer, layers.Multiply)
    label = "squeeze-and-excitation" if pooled and multiplied else type(join.layer).__name__
    return Box(label, "other", _shape(join.layer))


def _suffix(layer: layers.Layer) -> str:
    """What a layer adds to the box of the one before it; empty for one that has a box of its own."""
    if isinstance(layer, layers.BatchNormalization):
        return "BN"
    if isinstance(layer, layers.ReLU):
        return "ReLU"
    if isinstance(layer, layers.Activation):
        return str(layer.get_config()["activation"])
    return ""


def _label(layer: layers.Layer) -> str:
    """What a layer does, in a few words."""
    match layer:
        case layers.InputLayer():
            return "grey face"
        case layers.DepthwiseConv2D():
            return f"depthwise conv {_size(layer.kernel_size)}{_stride(layer)}"
        case layers.SeparableConv2D():
            return f"separable conv {_size(layer.kernel_size)}, {layer.filters}{_stride(layer)}"
        case layers.Conv2D():
            return f"conv {_size(layer.kernel_size)}, {layer.filters}{_stride(layer)}"
        case layers.MaxPooling2D():
            return f"max pooling {_size(layer.pool_size)}{_stride(layer)}"
        case layers.AveragePooling2D():
            return f"average pooling {_size(layer.pool_size)}{_stride(layer)}"
        case layers.GlobalAveragePooling2D():
            return "global average pooling"
        case layers.Dense(trainable=False):  # see `architectures.Heads`
            return "sums of the emotions of each mood"
        case layers.Dense():
            return f"dense, {layer.units}, {layer.get_config()['activation']}"
        case layers.Softmax():
            return "softmax"
    return type(layer).__name__


def _size(sides: tuple[int, int]) -> str:
    """A kernel's size."""
    return f"{sides[0]}×{sides[1]}"


def _stride(layer: layers.Layer) -> str:
    """A layer's stride where it has one."""
    stride = layer.strides[0] if isinstance(layer.strides, tuple) else layer.strides
    return f", stride {stride}" if stride > 1 else ""


def _kind(layer: layers.Layer) -> str:
    """The key of a layer's colour."""
    match layer:
        case layers.InputLayer():
            return "tensor"
        case layers.SeparableConv2D() | layers.DepthwiseConv2D():
            return "separable"
        case layers.Conv2D():
            return "convolution"
        case layers.MaxPooling2D() | layers.AveragePooling2D() | layers.GlobalAveragePooling2D():
            return "pooling"
    return "other"


def _shape(layer: layers.Layer) -> tuple[int, ...]:
    """Shape of a layer's output, without the batch."""
    return tuple(layer.output.shape[1:])


# --- From boxes to a picture ---------------------------------------------------------------------------------------


def _height(element: Box | Block) -> float:
    """Height of an element, in inches."""
    if isinstance(element, Box):
        return _ROW
    return len(element.main) * (_ROW + _GAP) + 2 * _RADIUS + 2 * _PADDING + _GAP


def _draw_box(axes: Axes, box: Box, left: float, top: float, width: float) -> None:
    """A box with its label."""
    axes.add_patch(
        FancyBboxPatch(
            (left, top - _ROW),
            width,
            _ROW,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=_COLOURS[box.kind],
            edgecolor=_LINE,
            linewidth=0.8,
        )
    )
    axes.text(left + width / 2, top - _ROW / 2, box.label, ha="center", va="center", fontsize=8)


def _draw_block(axes: Axes, block: Block, top: float) -> None:
    """A panel with the main path at the left, the skip connection at the right, and the circle where they join."""
    height, centre = _height(block), _PADDING + _MAIN / 2
    side = _PADDING + _MAIN + _BETWEEN + _SKIP / 2
    axes.add_patch(
        FancyBboxPatch(
            (0, top - height),
            2 * _PADDING + _MAIN + _BETWEEN + _SKIP,
            height,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=_PANEL,
            edgecolor="#bbbbbb",
            linewidth=0.8,
            zorder=0.5,
        )
    )
    corner = _PADDING + _MAIN + _BETWEEN + _SKIP
    axes.text(corner, top - _PADDING, block.label, ha="right", va="center", fontsize=8, color=_LINE)
    fork = top - _PADDING - 0.02
    joined = top - height + _PADDING + _RADIUS
    y = top - _PADDING - _GAP
    _line(axes, [(centre, top), (centre, fork)])
    _arrow(axes, [(centre, fork), (centre, y)])
    for index, box in enumerate(block.main):
        if index:
            _arrow(axes, [(centre, y + _GAP), (centre, y)])
        _draw_box(axes, box, _PADDING, y, _MAIN)
        y -= _ROW + _GAP
    _arrow(axes, [(centre, y + _GAP), (centre, joined + _RADIUS)])
    middle = (fork + joined) / 2 + len(block.skip) * (_ROW + _GAP) / 2 - _GAP / 2
    _draw_skip(axes, block.skip, (centre, fork), side, middle, joined)
    axes.add_patch(Circle((centre, joined), _RADIUS, facecolor="white", edgecolor=_LINE, linewidth=0.8, zorder=1.5))
    axes.text(centre, joined - 0.005, block.join, ha="center", va="center", fontsize=10)
    _line(axes, [(centre, joined - _RADIUS), (centre, top - height)])


def _draw_skip(
    axes: Axes, boxes: Sequence[Box], fork: tuple[float, float], side: float, top: float, joined: float
) -> None:
    """The skip connection: from the fork to the right, down through its boxes, and back to the circle."""
    end = (fork[0] + _RADIUS, joined)
    if not boxes:
        _arrow(axes, [fork, (side, fork[1]), (side, joined), end])
        return
    _arrow(axes, [fork, (side, fork[1]), (side, top)])
    for index, box in enumerate(boxes):
        if index:
            _arrow(axes, [(side, top + _GAP), (side, top)])
        _draw_box(axes, box, side - _SKIP / 2, top, _SKIP)
        top -= _ROW + _GAP
    _arrow(axes, [(side, top + _GAP), (side, joined), end])


def _write_shape(axes: Axes, shape: tuple[int, ...], right: float, y: float) -> None:
    """A tensor's shape, at the right edge."""
    axes.text(right, y, " × ".join(map(str, shape)), ha="right", va="center", fontsize=8, color=_LINE)


def _line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line through points."""
    axes.plot(*zip(*points, strict=True), color=_LINE, linewidth=0.8, solid_capstyle="butt", zorder=0.9)


def _arrow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A line through points with a head at the last."""
    _line(axes, points)
    axes.annotate(
        "",
        xy=points[-1],
        xytext=points[-2],
        arrowprops={
            "arrowstyle": "-|>",
            "color": _LINE,
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 7,
        },
    )
