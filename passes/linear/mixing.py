"""Operators without weights that mix along some axes: pooling, reductions, resizing, blocks added up.

A factor passes where it is constant over the mixed axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant, rank_of, shape_of, sizes_after_batch
from csscc.passes.linear.base import LinearOp
from csscc.passes.linear.factors import Factor, after_batch, along, compress, constant_over, spread


class Pool(LinearOp):
    """``AveragePool``, ``GlobalAveragePool``: mix the spatial axes."""

    def size(self, node: gs.Node) -> int | None:
        """How many elements each average is over, padding that counts among them; None if not known or not the same."""
        sizes = sizes_after_batch(node.inputs[0].shape)
        if node.op == "GlobalAveragePool":
            return None if sizes is None else int(np.prod(sizes[1:]))
        kernel = attribute(node, "kernel_shape", [1])
        number = len(kernel)
        pads = attribute(node, "pads", [0] * 2 * number)
        if is_padded(node) and not attribute(node, "count_include_pad", 0):
            return None
        if attribute(node, "ceil_mode", 0):
            if sizes is None or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
                return None
            strides, dilations = (attribute(node, name, [1] * number) for name in ("strides", "dilations"))
            for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
                if (sizes[1 + i] + pads[i] + pads[number + i] - (k - 1) * d - 1) % s:
                    return None
        return int(np.prod(kernel))

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """A factor per channel passes."""
        rank = rank_of(node.inputs[index])
        return factor if constant_over(factor, rank, range(2, rank)) else None

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """A factor per channel passes."""
        passed = self.push(graph, node, 0, factor)
        return None if passed is None else {0: passed}

    def carry_constant(self, node: gs.Node, index: int, value: Factor) -> Factor | None:
        """An average keeps a constant per channel where no padding enters it."""
        rank = rank_of(node.inputs[index])
        padded = is_padded(node) or attribute(node, "ceil_mode", 0)
        return None if padded or not constant_over(value, rank, range(2, rank)) else value


class Reduce(LinearOp):
    """``ReduceMean`` and ``ReduceSum`` over axes after the batch."""

    def size(self, node: gs.Node) -> int | None:
        """How many elements each mean or sum is over; None if that is not known."""
        shape = shape_of(node.inputs[0])
        sizes = [d for a in self.axes(node) or [] if isinstance(d := shape[a], int)]
        return int(np.prod(sizes)) if len(sizes) == len(self.axes(node) or []) else None

    def axes(self, node: gs.Node) -> list[int] | None:
        """The reduced axes, counted from the front; None if they are not constant."""
        rank = rank_of(node.inputs[0])
        if len(node.inputs) > 1 and node.inputs[1].name:
            values = constant(node, 1)
            if values is None:
                return None
            if values.size:
                return [int(a) % rank for a in values]
        whole = [] if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
        return [a % rank for a in attribute(node, "axes", whole) or whole]

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """The batch must stay."""
        axes = self.axes(node)
        if axes is None:
            return "its axes are computed, not constant"
        return "it reduces the batch axis" if 0 in axes else ""

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """A factor that is constant over the reduced axes passes."""
        axes = self.axes(node) or []
        rank = rank_of(node.inputs[0])
        if not constant_over(factor, rank, axes):
            return None
        if attribute(node, "keepdims", 1) or factor.ndim == 0:
            return factor
        return compress(np.squeeze(after_batch(factor, rank), axis=tuple(a - 1 for a in axes)))

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """What multiplies the result multiplies all that is reduced to it."""
        if factor.ndim == 0 or attribute(node, "keepdims", 1):
            return {0: factor}
        full = after_batch(factor, rank_of(node.outputs[0]))
        return {0: compress(np.expand_dims(full, tuple(a - 1 for a in sorted(self.axes(node) or []))))}


class Resize(LinearOp):
    """``Resize`` and ``Upsample`` of the spatial axes, by nearest or linear interpolation."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """Interpolation must be linear, its scales constant, and leave batch and channels alone."""
        if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            return "tf_crop_and_resize may bring in values from outside"
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if list(core) != [0] or not before or not after or before[1] != after[1]:
            return "it resizes the channels or its sizes are computed"
        axes = [a % len(before) for a in attribute(node, "axes", list(range(len(before))))]
        if constant(node, 3) is not None:
            return "it fixes the batch size; give it scales instead of sizes" if 0 in axes else ""
        scales = constant(node, 2)
        resizes = scales is not None and any(a == 0 and s != 1 for a, s in zip(axes, scales, strict=True))
        return "it resizes the batch axis" if resizes else ""

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """A factor per channel passes."""
        rank = rank_of(node.inputs[0])
        return factor if constant_over(factor, rank, range(2, rank)) else None

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """A factor per channel passes."""
        passed = self.push(graph, node, 0, factor)
        return None if passed is None else {0: passed}

    def carry_constant(self, node: gs.Node, index: int, value: Factor) -> Factor | None:
        """Interpolation weights add up to one."""
        rank = rank_of(node.inputs[0])
        return value if constant_over(value, rank, range(2, rank)) else None


class Col2Im(LinearOp):
    """``Col2Im``: each element of the image is the sum of those elements of blocks that lie on it."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """The sizes of image and blocks must be constant."""
        known = list(core) == [0] and all(constant(node, i) is not None for i in (1, 2))
        return "" if known else "its parameters are computed, not constant"

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """A factor per channel of the image passes: one that is the same within its blocks and for each of them."""
        if factor.ndim == 0:
            return factor
        channels = along(factor, rank_of(node.inputs[0]), 1)
        if channels is None:
            return None
        blocks = channels.reshape(-1, self._elements(node))
        return compress(spread(blocks[:, 0], rank_of(node.outputs[0]), 1)) if (blocks == blocks[:, :1]).all() else None

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """What multiplies a channel of the image multiplies all that is added up to it."""
        if factor.ndim == 0:
            return {0: factor}
        channels = along(factor, rank_of(node.outputs[0]), 1)
        return None if channels is None else {0: spread(np.repeat(channels, self._elements(node)), 3, 1)}

    @staticmethod
    def _elements(node: gs.Node) -> int:
        """How many elements a block has."""
        block = constant(node, 2)
        assert block is not None, f"{node.name} was checked by refuse"
        return int(np.prod(block))


def is_padded(node: gs.Node) -> bool:
    """Whether a convolution or pool puts anything around its input."""
    return any(attribute(node, "pads", [0])) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
