"""What values a tensor can hold that is made of spikes alone: whether float32 adds them without rounding."""

from __future__ import annotations

from typing import NamedTuple

import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute
from csscc.passes.linear import LINEAR
from csscc.passes.linear.layout import Selection
from csscc.passes.linear.mixing import Pool, Reduce, Resize


class Parts(NamedTuple):
    """Every value is a multiple of `finest`, a power of two, of magnitude at most `largest`."""

    finest: float
    largest: float


SPIKES = Parts(1.0, 1.0)
BURSTS = Parts(1.0, 2.0)


def passed_on(node: gs.Node, parts: Parts) -> Parts | None:
    """The values after an operator without weights and with one core input; None if they are not exact.

    A selection passes them on. A mean is exact if it is over a power of two of them, a sum always.
    """
    rule = LINEAR.get(node.op)
    if isinstance(rule, Selection) or (isinstance(rule, Resize) and attribute(node, "mode", "nearest") == "nearest"):
        return parts
    size = rule.size(node) if isinstance(rule, Pool | Reduce) else None
    if size is None:
        return None
    if node.op == "ReduceSum":
        return Parts(parts.finest, parts.largest * size)
    return None if size & (size - 1) else Parts(parts.finest / size, parts.largest)
