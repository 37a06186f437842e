"""Operators whose every output element is one input element, or a zero: layout, selection, padding, concatenation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from onnx.reference import ReferenceEvaluator

from csscc import limits
from csscc.dialect.rewrite import attribute, constant, rank_of, shape_of, sizes_after_batch
from csscc.passes.linear.base import LinearOp
from csscc.passes.linear.factors import Factor, after_batch, along, compress, spread

MIXES_BATCH = "it mixes or reorders the batch axis"


class Selection(LinearOp):
    """``Transpose``, ``Reshape``, ``Slice``, ``Pad`` and their kin, with constant parameters.

    A factor passes as the operator's own result on it: the operator is run on one batch of the factor.
    """

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """Parameters constant, and the batch axis kept in front, whole and in order."""
        if list(core) != [0]:
            return "its parameters are computed, not constant"
        if any(t.name and constant(node, i) is None for i, t in enumerate(node.inputs) if i > 0):
            return "its parameters are computed, not constant"
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if before is None or after is None:
            return "its shape is not known"
        if node.op == "Pad" and attribute(node, "mode", "constant") == "constant":
            value = constant(node, 2)
            if value is not None and np.any(value != 0):
                return "it pads with a value other than zero"
        if node.op == "Slice" and _cuts_batch(node):
            return "it cuts the batch axis"
        return self._refuse_batch(node)

    def _refuse_batch(self, node: gs.Node) -> str:
        """Run on three samples: each must come out as it does alone."""
        tried = _sizes_to_try(node)
        if any(math.prod(sizes) > limits.MADE_UP // 8 for sizes in tried):
            return f"a sample of {limits.MADE_UP // 8:,} numbers or more is too large to look at"
        return next(filter(None, (self._refuse_sizes(node, sizes) for sizes in tried)), "")

    def _refuse_sizes(self, node: gs.Node, sizes: list[int]) -> str:
        samples = np.arange(3 * int(np.prod(sizes))).reshape(3, *sizes).astype(np.float32) + 1
        try:
            together = _run(node, samples)
            alone = [_run(node, s[None]) for s in samples]
        except Exception:
            return "it states the size of the batch"
        for index, parts in enumerate(zip(*alone, strict=True)):
            if together[index].shape[0] != 3 or not np.array_equal(together[index], np.concatenate(parts)):
                return MIXES_BATCH
        return ""

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """The operator's own result on the factor, where it is known and the same for each output."""
        parts = self.push_each(node, factor)
        return parts[0] if parts and all(np.array_equal(parts[0], p) for p in parts) else None

    def push_each(self, node: gs.Node, factor: Factor) -> list[Factor] | None:
        """The factor of each output in place of one on the input; None where that is not known."""
        if factor.ndim == 0:
            return [factor] * len(node.outputs)
        tried = [_run_on_factor(node, factor, sizes) for sizes in _sizes_to_try(node)]
        same = all(len(parts) == len(tried[0]) and all(map(np.array_equal, parts, tried[0])) for parts in tried)
        return tried[0] if same and tried[0] else None

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """Back to the elements that are selected, unless one would get two factors; those left out get any."""
        if factor.ndim == 0:
            return {0: factor} if len(node.outputs) == 1 else None
        if node.op == "Transpose":
            order = [a - 1 for a in permutation(node)[1:]]
            return {0: compress(after_batch(factor, rank_of(node.inputs[0])).transpose(np.argsort(order)))}
        sizes = sizes_after_batch(node.inputs[0].shape)
        if sizes is None or len(node.outputs) != 1:
            return None
        numbers = np.arange(1, np.prod(sizes) + 1, dtype=np.int64)  # 0 is what padding brings in
        selected = _run(node, numbers.reshape(1, *sizes))[0][0]
        wanted, known = np.broadcast_to(factor, selected.shape), np.full(len(numbers) + 1, np.nan)
        known[selected] = wanted
        if np.any((known[selected] != wanted) & (selected != 0)):
            return None
        return {0: _compress_known(known[1:].reshape(sizes))}

    def carry_constant(self, node: gs.Node, index: int, value: Factor) -> Factor | None:
        """As a factor, except that padding brings in zeros."""
        return None if node.op == "Pad" else self.push(gs.Graph(), node, index, value)


def _compress_known(values: Factor) -> Factor:
    """`compress` for a factor that is not known everywhere: NaN may be any number."""
    for axis in range(values.ndim):
        least, most = (f.reduce(values, axis=axis, keepdims=True) for f in (np.fmin, np.fmax))
        values = least if np.array_equal(least, most, equal_nan=True) else values
    return compress(np.where(np.isnan(values), 1.0, values))


def permutation(transpose: gs.Node) -> list[int]:
    """Which axis of the input each axis of a Transpose's output is."""
    return attribute(transpose, "perm", list(reversed(range(rank_of(transpose.inputs[0])))))


def _run_on_factor(node: gs.Node, factor: Factor, sizes: list[int]) -> list[Factor]:
    full = np.broadcast_to(factor, sizes)[None]
    results = _run(_continued(node) if node.op == "Pad" else node, full)
    return [compress(result[0]) for result in results] if all(r.size for r in results) else []


FREE_SIZES = (12, 60)  # divisible by small numbers, as Splits may ask for


def _sizes_to_try(node: gs.Node) -> list[list[int]]:
    """Sizes after the batch of the data: its own, or some for each that is free."""
    shape = shape_of(node.inputs[0])[1:]
    tried = [[d if isinstance(d, int) else free for d in shape] for free in FREE_SIZES]
    return tried[:1] if tried[0] == tried[1] else tried


def _continued(pad: gs.Node) -> gs.Node:
    """The same padding for a factor: whatever multiplies padded zeros is right, and its edge keeps it per channel."""
    if attribute(pad, "mode", "constant") != "constant":
        return pad
    inputs: list[gs.Tensor] = [gs.Variable("data"), *(gs.Variable.empty() for _ in pad.inputs[1:])]
    for index in {1, 3} & set(range(len(inputs))):
        values = constant(pad, index)
        inputs[index] = inputs[index] if values is None else gs.Constant(pad.inputs[index].name, values)
    return gs.Node("Pad", pad.name, {**pad.attrs, "mode": "edge"}, inputs, [gs.Variable("padded")])


def _cuts_batch(node: gs.Node) -> bool:
    """Whether a Slice names the batch axis and does not take all of it, whatever its size."""
    starts, ends, axes, steps = (constant(node, i) for i in range(1, 5))
    if starts is None or ends is None:
        return True
    rank = rank_of(node.inputs[0])
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = int(axes[i]) % rank if axes is not None else i
        if axis == 0 and (start != 0 or end < np.iinfo(np.int32).max or (steps is not None and steps[i] != 1)):
            return True
    return False


def _run(node: gs.Node, values: np.ndarray) -> list[np.ndarray]:
    """Outputs of one node with constant parameters, by onnx's reference implementation."""
    from csscc.dialect.adapter import single_node_model

    return [
        np.asarray(v) for v in ReferenceEvaluator(single_node_model(node, values.dtype)).run(None, {"data": values})
    ]


class Concat(LinearOp):
    """``Concat`` of core tensors along an axis after the batch."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """The batch axis must not be the one."""
        if concat_axis(node) == 0:
            return "it concatenates along the batch axis"
        if len(core) != len(node.inputs):
            return "it concatenates a core tensor and a constant"
        return ""

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """A factor of one input is none of the others; `join` takes the factors of all."""
        return None

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """Each input takes its part."""
        rank = rank_of(node.outputs[0])
        if factor.ndim == 0:
            return dict.fromkeys(range(len(node.inputs)), factor)
        axis, sizes = concat_axis(node), concat_sizes(node)
        vector = along(factor, rank, axis)
        if vector is None or sizes is None:
            return None
        parts = np.split(vector, np.cumsum(sizes)[:-1])
        return {i: compress(spread(p, rank, axis)) for i, p in enumerate(parts)}

    def join(self, node: gs.Node, values: list[Factor]) -> Factor | None:
        """One factor or constant per input, as one of the output; None where they vary along other axes."""
        rank, axis, sizes = rank_of(node.outputs[0]), concat_axis(node), concat_sizes(node)
        parts = [p for v in values if (p := along(v, rank, axis)) is not None]
        if len(parts) != len(values) or sizes is None:
            return None
        joined = np.concatenate([np.broadcast_to(p, s) for p, s in zip(parts, sizes, strict=True)])
        return compress(spread(joined, rank, axis))


def concat_axis(concat: gs.Node) -> int:
    """The axis of a Concat, counted from the front."""
    return attribute(concat, "axis", 0) % rank_of(concat.outputs[0])


def concat_sizes(concat: gs.Node) -> list[int] | None:
    """What each input of a Concat brings to its axis; None where that is not known."""
    sizes = [s for t in concat.inputs if isinstance(s := shape_of(t)[concat_axis(concat)], int)]
    return sizes if len(sizes) == len(concat.inputs) else None
