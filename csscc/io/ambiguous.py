"""What a stranger's model may not leave open: names that two things have, numbers that are none.

Readers differ there: onnx's inliner and graph library take one of two things of a name, onnxruntime the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import onnx
from onnx import numpy_helper

from csscc.errors import RefusedError

STANDARD = ("", "ai.onnx")
_MAY_BE_INFINITE = frozenset(("Constant", "Clip", "Pad"))  # bounds, and what a maximum never takes
_QUANTISERS = frozenset(("QuantizeLinear", "DequantizeLinear"))


def refuse_ambiguous(model: onnx.ModelProto) -> None:
    """Refuse a model that readers understand differently.

    Raises:
        RefusedError: what is wrong, with the name of what it is about.
    """
    _refuse_shadowed(model.graph, frozenset())
    names = {t.name for t in model.graph.initializer}
    if model.graph.input and all(i.name in names for i in model.graph.input):
        raise RefusedError("all its inputs have values of their own, so that it takes no data; export it with an input")
    standard = {f.name for f in model.functions if f.domain in STANDARD and onnx.defs.has(f.name)}
    constants = {t.name: t for t in model.graph.initializer}
    for node in _nodes(model.graph.node):
        if node.domain not in STANDARD:
            continue
        if node.op_type in standard:
            raise RefusedError(f"its function '{node.op_type}' has the name of a standard operator; call it otherwise")
        for attribute in node.attribute if node.op_type not in _MAY_BE_INFINITE else ():
            if not all(map(math.isfinite, (attribute.f, *attribute.floats))):
                which = f"attribute '{attribute.name}' of {node.op_type} '{node.name}'"
                raise RefusedError(f"{which} is NaN or infinite; train or export it again")
        if node.op_type in _QUANTISERS and len(node.input) > 1 and node.input[1] in constants:
            scale = numpy_helper.to_array(constants[node.input[1]]).astype("f4")
            if not ((scale > 0) & (scale < math.inf)).all():
                raise RefusedError(
                    f"the scale '{node.input[1]}' of {node.op_type} '{node.name}' is not a positive number; "
                    "export it again"
                )


def _refuse_shadowed(graph: onnx.GraphProto, outside: frozenset[str]) -> None:
    """Refuse constants of one name, in a graph or in a branch and around it."""
    known = set(outside)
    for tensor in graph.initializer:
        if tensor.name in known:
            raise RefusedError(f"two of its constants are called '{tensor.name}'; give each a name of its own")
        known.add(tensor.name)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _refuse_shadowed(inner, frozenset(known))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        yield from _nodes(n for a in node.attribute for g in (a.g, *a.graphs) for n in g.node)
