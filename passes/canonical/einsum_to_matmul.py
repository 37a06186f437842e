"""Write an Einsum of the core as a matrix product.

    before:  Einsum <equation = "bnhd,bmhd->bhnm"> (q, k)
    after:   MatMul(Transpose(q) [b,h,n,d], Transpose(k) [b,h,d,m])

Labels that both operands and the result have are axes of both matrix stacks; one label that only the first has becomes
its rows, one that only the second has its columns, and others stack further, an axis of one repeated along the other's.
Several summed labels become one axis by a Reshape. It does not fire where a label stands twice in an operand, or is
summed over in one operand alone, for more than two operands, where a Reshape would have to state free sizes, or where
the result has no axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.adapter import infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, constant_tensor, insert_node, set_inputs
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes

Labels = list[str]


@dataclass(frozen=True)
class EinsumToMatMul(BasePass):
    """Rewrite Einsums of one or two operands."""

    name: ClassVar[str] = "einsum-to-matmul"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        changed = sum(_rewrite(graph, n) for n in core_nodes(graph) if n.op == "Einsum" and not n.domain)
        tidy(graph)
        if changed:
            infer_shapes(network)
        return changed


def _rewrite(graph: gs.Graph, node: gs.Node) -> int:
    parsed = _parsed(node)
    if parsed is None:
        return 0
    operands, result = parsed
    if not result:
        return 0
    if len(operands) == 1 and sorted(operands[0]) == sorted(result):
        node.op, node.attrs = "Transpose", {"perm": [operands[0].index(x) for x in result]}
        return 1
    if len(operands) != 2 or any(len(set(o)) != len(o) for o in (*operands, result)):
        return 0
    first, second = operands
    shared = [x for x in first if x in second and x in result]
    summed = [x for x in first if x in second and x not in result]
    left, right = ([x for x in own if x not in other] for own, other in ((first, second), (second, first)))
    if any(x not in result for x in (*left, *right)) or not summed:
        return 0
    row = _matrix_axis(left, first, stacked=bool(shared) or not isinstance(node.inputs[1], gs.Constant))
    column = _matrix_axis(right, second, stacked=not isinstance(node.inputs[1], gs.Constant))
    stack_left, stack_right = [x for x in left if x not in row], [x for x in right if x not in column]
    repeated = ["1"] * len(stack_right) if stack_left else []
    a = _arranged(graph, node, 0, first, [*stack_left, *repeated, *shared], row or ["1"], summed)
    b = _arranged(graph, node, 1, second, [*stack_right, *shared], summed, column or ["1"])
    if a is None or b is None:
        return 0
    product = insert_node(graph, "MatMul", f"{node.name}_product", [a, b])
    made = [*stack_left, *stack_right, *shared, *row, *column]
    gone = [axis - 2 for axis, kind in enumerate((row, column)) if not kind]
    if gone:
        product = insert_node(graph, "Squeeze", f"{node.name}_alone", [product, _vector(graph, node, gone)])
    node.op, node.attrs = "Transpose", {"perm": [made.index(x) for x in result]}
    set_inputs(node, [product])
    return 1


def _parsed(node: gs.Node) -> tuple[list[Labels], Labels] | None:
    """Labels of the operands and the result, those of an ellipsis written out."""
    equation = attribute(node, "equation", "").replace(" ", "")
    texts, arrow, after = equation.partition("->")
    operands = []
    for text, tensor in zip(texts.split(","), node.inputs, strict=True):
        if tensor.shape is None:
            return None
        count = len(tensor.shape) - len(text.replace("...", ""))
        operands.append(_labels(text, count))
    widest = max(operands, key=lambda labels: sum(x.isdigit() for x in labels))
    ellipsis = [x for x in widest if x.isdigit()]
    if arrow:
        return operands, _labels(after, len(ellipsis))
    letters = [x for o in operands for x in o if x.isalpha()]
    return operands, [*ellipsis, *sorted(x for x in set(letters) if letters.count(x) == 1)]


def _labels(text: str, count: int) -> Labels:
    before, dots, after = text.partition("...")
    return [*before, *([str(2 + i) for i in reversed(range(count))] if dots else []), *after]


def _matrix_axis(own: Labels, operand: Labels, *, stacked: bool) -> Labels:
    """The label that becomes rows or columns: the last; of a stack, not the operand's first, which may be the batch."""
    fit = [x for x in own if not stacked or x != operand[0]]
    return fit[-1:]


def _arranged(
    graph: gs.Graph, node: gs.Node, index: int, labels: Labels, stack: Labels, rows: Labels, columns: Labels
) -> gs.Tensor | None:
    """An operand as a stack of matrices, "1" standing for an axis of its own; None where that takes free sizes."""
    tensor, order = node.inputs[index], [*stack, *rows, *columns]
    real = [x for x in order if x != "1"]
    perm = [labels.index(x) for x in real]
    ones = [i for i, x in enumerate(order) if x == "1"]
    many = len(rows) > 1 or len(columns) > 1
    if isinstance(tensor, gs.Constant):
        values = np.expand_dims(tensor.values.transpose(perm), tuple(ones))
        sizes = [int(np.prod(values.shape[i:j])) for i, j in _spans(len(stack), len(rows), len(columns))]
        return constant_tensor(graph, f"{node.name}_operand", values.reshape(*values.shape[: len(stack)], *sizes))
    shape = [tensor.shape[p] for p in perm] if tensor.shape else []
    made: gs.Tensor = tensor
    if perm != sorted(perm):
        made = insert_node(graph, "Transpose", f"{node.name}_arranged", [made], perm=perm)
    if ones:
        made = insert_node(graph, "Unsqueeze", f"{node.name}_apart", [made, _vector(graph, node, ones)])
        for i in ones:
            shape.insert(i, 1)
    if not many:
        return made
    ends = [shape[i:j] for i, j in _spans(len(stack), len(rows), len(columns))]
    target = [0] * len(stack)
    for part in ends:
        known = [d for d in part if isinstance(d, int)]
        target.append(int(np.prod(known)) if len(known) == len(part) else -1)
    if target.count(-1) > 1:
        return None
    return insert_node(graph, "Reshape", f"{node.name}_summed", [made, _vector(graph, node, target)])


def _spans(stack: int, rows: int, columns: int) -> list[tuple[int, int]]:
    return [(stack, stack + rows), (stack + rows, stack + rows + columns)]


def _vector(graph: gs.Graph, node: gs.Node, numbers: list[int]) -> gs.Constant:
    return constant_tensor(graph, f"{node.name}_axes", np.array(numbers, np.int64))
