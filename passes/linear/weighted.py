"""What operators that hold weights have in common."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.rewrite import constant, rank_of, set_constant
from csscc.passes.linear.base import LinearOp
from csscc.passes.linear.factors import ONE, Factor, along


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
        return total if bias is None else total + np.abs(as64(bias)).reshape(-1)

    def snap(self, graph: gs.Graph, node: gs.Node, step: Factor) -> None:
        """Round weights and bias to multiples of `step` of their output channel."""
        self.scale_outputs(graph, node, 1 / step)
        for index in (1 - self.data_index(node), 2):
            values = constant(node, index)
            if values is not None:
                set_constant(graph, node, index, np.rint(as64(values)))
        self.scale_outputs(graph, node, step)


def weights_of(node: gs.Node, index: int) -> Factor:
    """The weights that the node has at `index`, in float64."""
    values = constant(node, index)
    assert values is not None
    return as64(values)


def as64(values: NDArray[np.generic]) -> Factor:
    """Values in float64."""
    return np.asarray(values, np.float64)


def scale_constant(graph: gs.Graph, node: gs.Node, index: int, vector: Factor) -> None:
    """Multiply the node's constant at `index`, if there is one."""
    values = constant(node, index)
    if values is not None:
        set_constant(graph, node, index, as64(values) * vector)
