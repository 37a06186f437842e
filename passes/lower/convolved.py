"""Standard operators on images that a convolution with windows of one element computes as well.

    y = Mul(x, f)        f one number, or one a channel:         a depthwise convolution by f
    y = Slice(x, ...)    every n-th row and column:              a depthwise convolution by 1 with strides
    y = Pad(x, ...)      channels of zeros before and after:     a convolution by zeros, and a one for each channel of x

onnxruntime does not know these operators in the layout of its convolutions, see `csscc.passes.lower.blocks`. What a
convolution makes of them is the same number: a product with one, and sums with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.dialect.model import attributes_of, slabs_of
from csscc.passes.lower.blocks import LANES, Depthwise

CHANNELS, ROWS, COLUMNS = 1, 2, 3  # axes of an image ``[B, C, H, W]``
IMAGE_RANK = 4
ANY_SIZE = 2**31 - 1  # the end of any axis


@dataclass(frozen=True)
class Factor:
    """A product with the operand called `name`."""

    name: str

    def write(self, convolve: Depthwise, x: str) -> str:
        """The product."""
        return convolve.scaled(x, self.name)


@dataclass(frozen=True)
class Every:
    """Every n-th row and column, from the first."""

    rows: int
    columns: int

    def write(self, convolve: Depthwise, x: str) -> str:
        """These rows and columns."""
        return convolve.every(x, self.rows, self.columns)


@dataclass(frozen=True)
class MoreChannels:
    """Channels, with others of zeros before them: `channels` in all."""

    before: int
    channels: int

    def write(self, convolve: Depthwise, x: str) -> str:
        """All channels."""
        return convolve.placed(x, self.before, self.channels)


Convolved = Factor | Every | MoreChannels


@dataclass(frozen=True)
class Images:
    """What is known of the images in a model.

    Attributes:
        constants: the initializers, by name.
        sizes: sizes of the axes after the batch of a tensor of four axes, 0 for one that is not known.
        trains: tensors ``[n*B, C, H, W]`` of n slabs that a convolution reads or writes, or that others of them lead to
            or come from. Not the heads of an attention, which have as many axes.
    """

    constants: Mapping[str, onnx.TensorProto]
    sizes: Mapping[str, Sequence[int]]
    trains: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Images:
        """The images of a folded spiking network."""
        graph = model.graph
        values = (*graph.input, *graph.output, *graph.value_info)
        dims = {v.name: v.type.tensor_type.shape.dim for v in values}
        sizes = {n: [d.dim_value for d in list(axes)[1:]] for n, axes in dims.items() if len(axes) == IMAGE_RANK}
        trains = _joined(graph, {n for n in slabs_of(graph) if n in sizes})
        return cls({t.name: t for t in graph.initializer}, sizes, frozenset(trains))

    def channels(self, name: str) -> int:
        """Channels of an image where they fill whole blocks, else 0."""
        channels = self.sizes.get(name, (0,))[0]
        return channels if channels % LANES == 0 else 0

    def one_a_channel(self, name: str, channels: int) -> bool:
        """Whether a constant is one number, or one a channel of an image."""
        if name not in self.constants:
            return False
        shape = list(self.constants[name].dims)
        return prod(shape) == 1 or shape in ([channels, 1, 1], [1, channels, 1, 1])

    def convolved(self, node: onnx.NodeProto, index: int) -> Convolved | None:
        """The convolution that computes a node of its input `index`, an image; None if there is none."""
        channels = self.channels(node.input[index])
        if not channels or any(n and n not in self.constants for k, n in enumerate(node.input) if k != index):
            return None
        if node.op_type == "Mul" and self.one_a_channel(node.input[1 - index], channels):
            return Factor(f"x{1 - index}")
        if index == 0 and node.op_type == "Slice":
            return self._every(node)
        if index == 0 and node.op_type == "Pad":
            return self._more_channels(node, channels)
        return None

    def _every(self, node: onnx.NodeProto) -> Every | None:
        starts, ends, axes, steps = (self._operand(node, i) for i in range(1, 5))
        sizes, strides = (0, *self.sizes[node.input[0]]), {ROWS: 1, COLUMNS: 1}
        for k, axis in enumerate(range(starts.size) if axes.size == 0 else axes % len(sizes)):
            if axis not in strides or starts[k] != 0 or ends[k] < (sizes[axis] or ANY_SIZE):
                return None
            strides[axis] = steps[k] if steps.size else 1
        return Every(int(strides[ROWS]), int(strides[COLUMNS])) if min(strides.values()) >= 1 else None

    def _more_channels(self, node: onnx.NodeProto, channels: int) -> MoreChannels | None:
        pads, value, axes = (self._operand(node, i) for i in range(1, 4))
        each = np.zeros((2, 4), np.int64)
        each[:, axes if axes.size else slice(None)] = pads.reshape(2, -1)
        before, after = map(int, each[:, CHANNELS])
        each[:, CHANNELS] = 0
        zeros = attributes_of(node).get("mode", b"constant") == b"constant" and not value.any()
        more = before + channels + after
        if not zeros or each.any() or min(before, after) < 0 or more % LANES:
            return None
        return MoreChannels(before, more)

    def _operand(self, node: onnx.NodeProto, index: int) -> NDArray[np.generic]:
        """The numbers of an operand; none if it is left out."""
        name = node.input[index] if index < len(node.input) else ""
        return numpy_helper.to_array(self.constants[name]).ravel() if name else np.zeros(0, np.int64)


def _joined(graph: onnx.GraphProto, images: set[str]) -> set[str]:
    """Those of `images` that a convolution reads or writes, or that others of them lead to or come from."""
    found: set[str] = set()
    groups = []
    for node in graph.node:
        group = images & {*node.input, *node.output}
        groups.append(group)
        found |= group if node.op_type in ("Conv", "ConvTranspose") else set()
    before = -1
    while len(found) > before:
        before = len(found)
        for group in (*groups, *reversed(groups)):
            if not group.isdisjoint(found):
                found |= group
    return found
