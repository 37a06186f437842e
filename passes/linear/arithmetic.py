"""Sums of core tensors, and arithmetic of a core tensor with a constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import Shape, constant, rank_of, set_constant, shape_of
from csscc.passes.linear.base import LinearOp
from csscc.passes.linear.factors import ONE, ZERO, Factor, after_batch, compress


def _operand(node: gs.Node) -> int | None:
    """Index of the constant operand of a binary node; None if both are computed."""
    return next((i for i in (0, 1) if constant(node, i) is not None), None)


def _refuse_operand(node: gs.Node) -> str:
    """Why a constant operand cannot act on a core tensor."""
    index = _operand(node)
    if index is None:
        return ""
    values, rank = constant(node, index), rank_of(node.inputs[1 - index])
    assert values is not None
    if values.ndim > rank or (values.ndim == rank and values.shape[0] != 1):
        return "its constant differs along the batch axis"
    return _refuse_growth(shape_of(node.inputs[1 - index]), shape_of(node.outputs[0]))


def _refuse_growth(before: Shape, after: Shape) -> str:
    """A constant that is the same for all of an axis is later written as one number, which would not repeat it."""
    grows = any(b == 1 and a != 1 for b, a in zip(before[1:], after[1:], strict=True))
    return "its constant repeats the core tensor along an axis" if grows else ""


def operand_factor(node: gs.Node, index: int) -> Factor:
    """The constant operand as a factor: without the batch axis, in float64."""
    values = np.asarray(constant(node, index), np.float64)
    rank = rank_of(node.outputs[0])
    return compress(values.reshape(values.shape[1:]) if values.ndim == rank else values)


def _refuse_broadcast(node: gs.Node, core: Sequence[int]) -> str:
    ranks = {rank_of(node.inputs[i]) for i in core}
    return "" if len(ranks) == 1 else "core tensors of different rank: the batch axes do not meet"


class Sum(LinearOp):
    """``Add``, ``Sub`` and ``Sum``: of core tensors, or of one and a constant."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """Ranks must agree, and a constant must not differ along the batch."""
        return _refuse_broadcast(node, core) or _refuse_operand(node)

    def additive(self, node: gs.Node) -> list[int]:
        """The constant operands."""
        return [i for i in range(len(node.inputs)) if constant(node, i) is not None]

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """With a constant c: ``x*f + c = (x + c/f)*f``. A sum of more than two waits for `pull`."""
        other = _operand(node)
        if other is None or len(node.inputs) != 2 or np.any(factor == 0):
            return None
        self._scale(graph, node, other, 1 / factor)
        return factor

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """``(x + y)*f = x*f + y*f``."""
        parts = self.parts(node, factor)
        if parts is not None:
            for index in self.additive(node):
                self._scale(graph, node, index, factor)
        return parts

    def parts(self, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """What `pull` gives each operand that is computed, with the node unchanged."""
        constants = self.additive(node)
        dynamic = [i for i in range(len(node.inputs)) if i not in constants]
        rank = rank_of(node.outputs[0])
        full, after = after_batch(factor, rank).shape, shape_of(node.outputs[0])[1:]
        for shape in (shape_of(node.inputs[i]) for i in dynamic):
            before = [*[1] * (rank - len(shape)), *shape][1:]
            # Where the sum repeats an operand, the factor must not vary: the operand would have to grow.
            if any(b != a and size > 1 for b, a, size in zip(before, after, full, strict=True)):
                return None
        return dict.fromkeys(dynamic, factor)

    def _scale(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> None:
        set_constant(graph, node, index, operand_factor(node, index) * factor)

    def take_constant(self, graph: gs.Graph, node: gs.Node) -> Factor:
        """The constant operand, replaced by zero."""
        index = _operand(node)
        if index is None:
            return ZERO
        value = operand_factor(node, index)
        set_constant(graph, node, index, np.zeros((), np.float32))
        return -value if node.op == "Sub" and index == 1 else value

    def carry_constant(self, node: gs.Node, index: int, value: Factor) -> Factor | None:
        """A constant on a summand is one on the sum."""
        return -value if node.op == "Sub" and index == 1 else value


class Scale(LinearOp):
    """``Mul`` and ``Div`` by a constant, and ``Neg``."""

    def refuse(self, node: gs.Node, core: Sequence[int]) -> str:
        """One core input; a constant must not differ along the batch."""
        if node.op == "Div" and list(core) == [1]:
            return "division by a core tensor is not linear"
        return _refuse_operand(node)

    def factor(self, node: gs.Node) -> Factor:
        """What the node multiplies by."""
        if node.op == "Neg":
            return -ONE
        index = _operand(node)
        assert index is not None
        value = operand_factor(node, index)
        return 1 / value if node.op == "Div" else value

    def multiply(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> None:
        """Multiply the node's own factor."""
        product = compress(self.factor(node) * factor)
        data = next(i for i in range(len(node.inputs)) if constant(node, i) is None)
        if node.op != "Mul":
            source = node.inputs[data]
            node.inputs.clear()
            node.inputs.append(source)
            node.op, data = "Mul", 0
            node.attrs.clear()
        set_constant(graph, node, 1 - data, product)

    def push(self, graph: gs.Graph, node: gs.Node, index: int, factor: Factor) -> Factor | None:
        """Two factors in a row are one."""
        self.multiply(graph, node, factor)
        return ONE

    def pull(self, graph: gs.Graph, node: gs.Node, factor: Factor) -> dict[int, Factor] | None:
        """Two factors in a row are one."""
        self.multiply(graph, node, factor)
        return {}

    def carry_constant(self, node: gs.Node, index: int, value: Factor) -> Factor | None:
        """Multiplied."""
        return value * self.factor(node)
