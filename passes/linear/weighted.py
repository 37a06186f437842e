"""Conv, ConvTranspose, Gemm and MatMul with a constant: the operators that hold the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.rewrite import attribute, constant, rank_of, set_constant
from csscc.passes.linear.base import LinearOp
from csscc.passes.linear.factors import ONE, ZERO, Factor, along, spread


class WeightedOp(LinearOp):
    """An operator with constant weights: absorbs factors along its input and output channels."""

    weighted = True

    def data_index(self, node: gs.Node) -> int:
        """Index of the input that is not the weights."""
        return 0

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """Absorb `factor` into the weights, along the input channels."""
        vector = along(factor, rank_of(node.inputs[index]), self.input_axis(node))
        if vector is None:
            return None
        self.scale_inputs(graph, node, vector)
        return ONE

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """Absorb `factor` into weights and bias, along the output channels."""
        vector = along(factor, rank_of(node.outputs[0]), self.output_axis(node))
        if vector is None:
            return None
        self.scale_outputs(graph, node, vector)
        return {}

    def input_axis(self, node: gs.Node) -> int:
        """Channel axis of the data."""
        return 1

    def output_axis(self, node: gs.Node) -> int:
        """Channel axis of the result."""
        return 1

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Multiply the weights along the input channels."""
        raise NotImplementedError

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Multiply weights and bias along the output channels."""
        raise NotImplementedError

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """Add a constant per output channel; False where the operator has no bias."""
        return False

    def outputs_first(self, node: gs.Node) -> Factor:
        """The weights as a matrix ``[output channels, all that meets in one]``."""
        raise NotImplementedError

    def inputs_first(self, node: gs.Node) -> Factor:
        """The weights as a matrix ``[input channels, all that reads one]``."""
        return self.outputs_first(node).T

    def output_magnitude(self, node: gs.Node) -> Factor:
        """Largest magnitude of each output channel for inputs of at most 1, bias included."""
        total: Factor = np.abs(self.outputs_first(node)).sum(axis=1)
        bias = constant(node, 2)
        return total if bias is None else total + np.abs(_as64(bias)).reshape(-1)

    def snap(self, graph: gs.Graph, node: gs.Node, step: Factor) -> None:
        """Round weights and bias to multiples of `step` of their output channel."""
        self.scale_outputs(graph, node, 1 / step)
        for index in (1 - self.data_index(node), 2):
            values = constant(node, index)
            if values is not None:
                set_constant(graph, node, index, np.rint(_as64(values)))
        self.scale_outputs(graph, node, step)


class Conv(WeightedOp):
    """``Conv``: weights ``[M, C/group, kernel...]``, bias ``[M]``."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """Only the data may come from the core."""
        return "" if list(core) == [0] else "its weights are computed, not constant"

    def additive(self, node: gs.Node) -> list[int]:
        """The bias."""
        return [2] if constant(node, 2) is not None else []

    def outputs_first(self, node: gs.Node) -> Factor:
        """Outputs are the weights' first axis."""
        weights = _weights(node, 1)
        return weights.reshape(weights.shape[0], -1)

    def inputs_first(self, node: gs.Node) -> Factor:
        """Input channel c of group g meets the outputs of its group."""
        return _second_axis_first(_weights(node, 1), node)

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Input channel c of group g meets weight ``[m, c - g*C/group]`` of the group's outputs m."""
        weights = _weights(node, 1)
        if vector.ndim:
            group = attribute(node, "group", 1)
            per_output = np.repeat(vector.reshape(group, -1), weights.shape[0] // group, axis=0)
            vector = per_output.reshape(*per_output.shape, *(1,) * (weights.ndim - 2))
        set_constant(graph, node, 1, weights * vector)

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Outputs are the weights' first axis."""
        weights = _weights(node, 1)
        set_constant(graph, node, 1, weights * _leading(vector, weights.ndim))
        _scale_constant(graph, node, 2, vector)

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """Add to the bias, or give it one."""
        bias = constant(node, 2)
        old = ZERO if bias is None else _as64(bias)
        set_constant(graph, node, 2, old + np.broadcast_to(vector, len(self.outputs_first(node))))
        return True

    def take_constant(self, graph: gs.Graph, node: gs.Node) -> Factor:
        """The bias, removed."""
        bias = constant(node, 2)
        if bias is None:
            return ZERO
        del node.inputs[2]
        return spread(_as64(bias), rank_of(node.outputs[0]), 1)


class ConvTranspose(Conv):
    """``ConvTranspose``: weights ``[C, M/group, kernel...]``, bias ``[M]``."""

    def outputs_first(self, node: gs.Node) -> Factor:
        """Output channel m of group g meets the inputs of its group."""
        return _second_axis_first(_weights(node, 1), node)

    def inputs_first(self, node: gs.Node) -> Factor:
        """Inputs are the weights' first axis."""
        weights = _weights(node, 1)
        return weights.reshape(weights.shape[0], -1)

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Inputs are the weights' first axis."""
        weights = _weights(node, 1)
        set_constant(graph, node, 1, weights * _leading(vector, weights.ndim))

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Output channel m of group g meets weight ``[c, m - g*M/group]`` of the group's inputs c."""
        weights = _weights(node, 1)
        scale = vector
        if vector.ndim:
            group = attribute(node, "group", 1)
            per_input = np.repeat(vector.reshape(group, -1), weights.shape[0] // group, axis=0)
            scale = per_input.reshape(*per_input.shape, *(1,) * (weights.ndim - 2))
        set_constant(graph, node, 1, weights * scale)
        _scale_constant(graph, node, 2, vector)


class Gemm(WeightedOp):
    """``Gemm``: ``alpha * A @ B' + beta * C`` with the data in A."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """A from the core, not transposed; C one row for the whole batch."""
        if list(core) != [0]:
            return "its weights are computed, not constant"
        if attribute(node, "transA", 0):
            return "transA=1 mixes the batch axis"
        c = constant(node, 2)
        if c is not None and c.ndim == 2 and c.shape[0] != 1:
            return "its input C differs along the batch axis"
        return ""

    def additive(self, node: gs.Node) -> list[int]:
        """C."""
        return [2] if constant(node, 2) is not None else []

    def outputs_first(self, node: gs.Node) -> Factor:
        """Rows of B with transB, columns without, times alpha."""
        weights: Factor = _weights(node, 1) * attribute(node, "alpha", 1.0)
        return weights if attribute(node, "transB", 0) else weights.T

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Inputs are B's first axis, its second with transB."""
        self._scale(graph, node, vector, axis=1 if attribute(node, "transB", 0) else 0)

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Outputs are B's second axis, its first with transB, and C's last."""
        self._scale(graph, node, vector, axis=0 if attribute(node, "transB", 0) else 1)
        _scale_constant(graph, node, 2, vector)

    def output_magnitude(self, node: gs.Node) -> Factor:
        """With C times beta."""
        total: Factor = np.abs(self.outputs_first(node)).sum(axis=1)
        c = constant(node, 2)
        return total if c is None else total + np.abs(_as64(c) * attribute(node, "beta", 1.0)).reshape(-1)

    def snap(self, graph: gs.Graph, node: gs.Node, step: Factor) -> None:
        """Fold alpha and beta first: they would multiply what is a multiple of `step`."""
        self._scale(graph, node, np.asarray(node.attrs.pop("alpha", 1.0), np.float64), axis=1)
        _scale_constant(graph, node, 2, np.asarray(node.attrs.pop("beta", 1.0), np.float64))
        super().snap(graph, node, step)

    def _scale(self, graph: gs.Graph, node: gs.Node, vector: Factor, axis: int) -> None:
        scale = vector if vector.ndim == 0 else vector.reshape([-1, 1] if axis == 0 else [1, -1])
        set_constant(graph, node, 1, _weights(node, 1) * scale)

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """Add to C, in which beta is folded."""
        c = constant(node, 2)
        beta = attribute(node, "beta", 1.0)
        old = ZERO if c is None else _as64(c).reshape(-1) * beta
        node.attrs["beta"] = 1.0
        set_constant(graph, node, 2, old + np.broadcast_to(vector, len(self.outputs_first(node))))
        return True

    def take_constant(self, graph: gs.Graph, node: gs.Node) -> Factor:
        """C times beta, removed."""
        c = constant(node, 2)
        if c is None:
            return ZERO
        del node.inputs[2]
        taken: Factor = _as64(c).reshape(-1) * attribute(node, "beta", 1.0)
        return taken


class MatMul(WeightedOp):
    """``MatMul`` with a constant on either side."""

    def data_index(self, node: gs.Node) -> int:
        """The side that is not constant."""
        return 1 if constant(node, 0) is not None else 0

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """One side constant, of two or more axes, and no mixing of the batch."""
        if len(core) != 1:
            return "both sides come from the core"
        weights = constant(node, 1 - core[0])
        if weights is None:
            return "its weights are computed, not constant"
        rank = rank_of(node.inputs[core[0]])
        if weights.ndim < 2 or weights.ndim > rank or (weights.ndim == rank and weights.shape[0] != 1 and rank > 2):
            return "its constant has an axis for the batch"
        if core[0] == 1 and rank < 3:
            return "a constant on the left mixes the batch axis"
        return ""

    def input_axis(self, node: gs.Node) -> int:
        """The contracted axis."""
        return -1 if self.data_index(node) == 0 else -2

    def output_axis(self, node: gs.Node) -> int:
        """The axis the weights make."""
        return self.input_axis(node)

    def outputs_first(self, node: gs.Node) -> Factor:
        """Columns of weights on the right, rows of weights on the left, the largest of a stack."""
        weights = _weights(node, 1 - self.data_index(node))
        matrix: Factor = np.abs(weights).reshape(-1, *weights.shape[-2:]).max(axis=0)
        return matrix.T if self.data_index(node) == 0 else matrix

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Rows of weights on the right, columns of weights on the left."""
        self._scale(graph, node, vector, axis=-2 if self.data_index(node) == 0 else -1)

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Columns of weights on the right, rows of weights on the left."""
        self._scale(graph, node, vector, axis=-1 if self.data_index(node) == 0 else -2)

    def _scale(self, graph: gs.Graph, node: gs.Node, vector: Factor, axis: int) -> None:
        index = 1 - self.data_index(node)
        scale = vector.reshape(-1, 1) if vector.ndim and axis == -2 else vector
        set_constant(graph, node, index, _weights(node, index) * scale)

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """A matrix product of two axes becomes a Gemm, which has a bias."""
        if self.data_index(node) != 0 or rank_of(node.inputs[0]) != 2 or rank_of(node.inputs[1]) != 2:
            return False
        node.op = "Gemm"
        return Gemm().add_bias(graph, node, vector)


def _weights(node: gs.Node, index: int) -> Factor:
    values = constant(node, index)
    assert values is not None
    return _as64(values)


def _second_axis_first(weights: Factor, node: gs.Node) -> Factor:
    """A convolution's weights ``[A, B/group, kernel...]`` as ``[B, all that meets in one]``."""
    group = attribute(node, "group", 1)
    parts = weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1)
    return parts.transpose(0, 2, 1, 3).reshape(group * weights.shape[1], -1)


def _as64(values: NDArray[np.generic]) -> Factor:
    return np.asarray(values, np.float64)


def _leading(vector: Factor, rank: int) -> Factor:
    return vector.reshape(-1, *(1,) * (rank - 1)) if vector.ndim else vector


def _scale_constant(graph: gs.Graph, node: gs.Node, index: int, vector: Factor) -> None:
    values = constant(node, index)
    if values is not None:
        set_constant(graph, node, index, _as64(values) * vector)
