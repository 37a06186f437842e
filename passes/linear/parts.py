"""What values a tensor can hold that is made of spikes alone: whether float32 adds them without rounding."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, constant
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

    A selection passes them on. A mean is exact if it is over a power of two of them, a sum always, and linear
    interpolation where it takes them at parts of a power of two.
    """
    rule = LINEAR.get(node.op)
    if isinstance(rule, Resize):
        finest = _finest_weight(node)
        return None if finest is None else Parts(parts.finest * finest, parts.largest)
    if isinstance(rule, Selection):
        return parts
    size = rule.size(node) if isinstance(rule, Pool | Reduce) else None
    if size is None:
        return None
    if node.op == "ReduceSum":
        return Parts(parts.finest, parts.largest * size)
    return None if size & (size - 1) else Parts(parts.finest / size, parts.largest)


def _finest_weight(resize: gs.Node) -> float | None:
    """The power of two of which all weights of an interpolation are multiples; None if there is none that is known."""
    mode = attribute(resize, "mode", "nearest")
    if mode == "nearest":
        return 1.0
    ratios, place = _ratios(resize), attribute(resize, "coordinate_transformation_mode", "half_pixel")
    plain = not attribute(resize, "antialias", 0) and not attribute(resize, "exclude_outside", 0)
    if mode != "linear" or not plain or ratios is None or place not in ("half_pixel", "asymmetric"):
        return None
    finest = 1.0
    for ratio in ratios:
        whole = ratio.numerator if ratio > 1 else ratio.denominator
        if 1 not in (ratio.numerator, ratio.denominator) or whole & (whole - 1):
            return None
        steps = max(ratio, Fraction(1))  # to a distance of two values; half pixels lie in the middle of these steps
        finest /= float(steps if place == "asymmetric" or ratio == 1 else 2 * steps)
    return finest


def _ratios(resize: gs.Node) -> list[Fraction] | None:
    """By how much each axis grows; None where sizes are not known, nor scales."""
    before, after = resize.inputs[0].shape or [], resize.outputs[0].shape or []
    if len(before) != len(after) or len(before) < 3:
        return None
    scales = constant(resize, 2)
    axes = [a % len(before) for a in attribute(resize, "axes", list(range(len(before))))]
    stated = {} if scales is None else dict(zip(axes, scales.reshape(-1).tolist(), strict=False))
    found: list[Fraction] = []
    for axis in range(2, len(before)):
        old, new = before[axis], after[axis]
        if axis in stated:
            found.append(Fraction(stated[axis]))
        elif isinstance(old, int) and isinstance(new, int) and old:
            found.append(Fraction(new, old))
        else:
            return None
    return found
