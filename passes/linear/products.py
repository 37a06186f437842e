"""Products of matrices with a constant: ``Gemm`` and ``MatMul``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant, rank_of, set_constant
from csscc.passes.linear.factors import ZERO, Factor
from csscc.passes.linear.weighted import WeightedOp, as64, scale_constant, weights_of


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
        weights: Factor = weights_of(node, 1) * attribute(node, "alpha", 1.0)
        return weights if attribute(node, "transB", 0) else weights.T

    def scale_inputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Inputs are B's first axis, its second with transB."""
        self._scale(graph, node, vector, axis=1 if attribute(node, "transB", 0) else 0)

    def scale_outputs(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> None:
        """Outputs are B's second axis, its first with transB, and C's last."""
        self._scale(graph, node, vector, axis=0 if attribute(node, "transB", 0) else 1)
        scale_constant(graph, node, 2, vector)

    def output_magnitude(self, node: gs.Node) -> Factor:
        """With C times beta."""
        total: Factor = np.abs(self.outputs_first(node)).sum(axis=1)
        c = constant(node, 2)
        return total if c is None else total + np.abs(as64(c) * attribute(node, "beta", 1.0)).reshape(-1)

    def snap(self, graph: gs.Graph, node: gs.Node, step: Factor) -> None:
        """Fold alpha and beta first: they would multiply what is a multiple of `step`."""
        self._scale(graph, node, np.asarray(node.attrs.pop("alpha", 1.0), np.float64), axis=1)
        scale_constant(graph, node, 2, np.asarray(node.attrs.pop("beta", 1.0), np.float64))
        super().snap(graph, node, step)

    def _scale(self, graph: gs.Graph, node: gs.Node, vector: Factor, axis: int) -> None:
        scale = vector if vector.ndim == 0 else vector.reshape([-1, 1] if axis == 0 else [1, -1])
        set_constant(graph, node, 1, weights_of(node, 1) * scale)

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """Add to C, in which beta is folded."""
        c = constant(node, 2)
        beta = attribute(node, "beta", 1.0)
        old = ZERO if c is None else as64(c).reshape(-1) * beta
        node.attrs["beta"] = 1.0
        set_constant(graph, node, 2, old + np.broadcast_to(vector, len(self.outputs_first(node))))
        return True

    def take_constant(self, graph: gs.Graph, node: gs.Node) -> Factor:
        """C times beta, removed."""
        c = constant(node, 2)
        if c is None:
            return ZERO
        del node.inputs[2]
        taken: Factor = as64(c).reshape(-1) * attribute(node, "beta", 1.0)
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
        weights = weights_of(node, 1 - self.data_index(node))
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
        set_constant(graph, node, index, weights_of(node, index) * scale)

    def add_bias(self, graph: gs.Graph, node: gs.Node, vector: Factor) -> bool:
        """A matrix product of two axes becomes a Gemm, which has a bias."""
        if self.data_index(node) != 0 or rank_of(node.inputs[0]) != 2 or rank_of(node.inputs[1]) != 2:
            return False
        node.op = "Gemm"
        return Gemm().add_bias(graph, node, vector)
