"""Convolutions: ``Conv`` and ``ConvTranspose``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant, rank_of, set_constant
from csscc.passes.linear.factors import ZERO, Factor, spread
from csscc.passes.linear.weighted import WeightedOp, as64, scale_constant, weights_of


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
        weights = weights_of(node, 1)
        return weights.reshape(weights.shape[0], -1)

    def inputs_first(self, node: gs.Node) -> Factor:
        """Input channel c of group g meets the outputs of its group."""
        return _second_axis_first(weights_of(node, 1), node)

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Input channel c of group g meets weight ``[m, c - g*C/group]`` of the group's outputs m."""
        weights = weights_of(node, 1)
        if vector.ndim:
            group = attribute(node, "group", 1)
            per_output = np.repeat(vector.reshape(group, -1), weights.shape[0] // group, axis=0)
            vector = per_output.reshape(*per_output.shape, *(1,) * (weights.ndim - 2))
        set_constant(graph, node, 1, weights * vector)

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Outputs are the weights' first axis."""
        weights = weights_of(node, 1)
        set_constant(graph, node, 1, weights * _leading(vector, weights.ndim))
        scale_constant(graph, node, 2, vector)

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """Add to the bias, or give it one."""
        bias = constant(node, 2)
        old = ZERO if bias is None else as64(bias)
        set_constant(graph, node, 2, old + np.broadcast_to(vector, len(self.outputs_first(node))))
        return True

    def take_constant(self, graph: gs.Graph, node: gs.Node) -> Factor:
        """The bias, removed."""
        bias = constant(node, 2)
        if bias is None:
            return ZERO
        del node.inputs[2]
        return spread(as64(bias), rank_of(node.outputs[0]), 1)


class ConvTranspose(Conv):
    """``ConvTranspose``: weights ``[C, M/group, kernel...]``, bias ``[M]``."""

    def outputs_first(self, node: gs.Node) -> Factor:
        """Output channel m of group g meets the inputs of its group."""
        return _second_axis_first(weights_of(node, 1), node)

    def inputs_first(self, node: gs.Node) -> Factor:
        """Inputs are the weights' first axis."""
        weights = weights_of(node, 1)
        return weights.reshape(weights.shape[0], -1)

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Inputs are the weights' first axis."""
        weights = weights_of(node, 1)
        set_constant(graph, node, 1, weights * _leading(vector, weights.ndim))

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Output channel m of group g meets weight ``[c, m - g*M/group]`` of the group's inputs c."""
        weights = weights_of(node, 1)
        scale = vector
        if vector.ndim:
            group = attribute(node, "group", 1)
            per_input = np.repeat(vector.reshape(group, -1), weights.shape[0] // group, axis=0)
            scale = per_input.reshape(*per_input.shape, *(1,) * (weights.ndim - 2))
        set_constant(graph, node, 1, weights * scale)
        scale_constant(graph, node, 2, vector)


def _second_axis_first(weights: Factor, node: gs.Node) -> Factor:
    """A convolution's weights ``[A, B/group, kernel...]`` as ``[B, all that meets in one]``."""
    group = attribute(node, "group", 1)
    parts = weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1)
    return parts.transpose(0, 2, 1, 3).reshape(group * weights.shape[1], -1)


def _leading(vector: Factor, rank: int) -> Factor:
    return vector.reshape(-1, *(1,) * (rank - 1)) if vector.ndim else vector
