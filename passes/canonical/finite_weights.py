"""Refuse weights that are not finite, by name: what they make is no number, and nothing measured of it would be true.

NaN spoils whatever computes with it. An infinite constant may be meant, as a mask that is added or a bound is, so it is
refused where weights are multiplied or normalised with, or what they pad is. So is a 64-bit number that 32 bits do not
hold, and one so large that the products with it have no sum in 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from csscc.errors import RefusedError
from csscc.io.finite import not_finite

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
MULTIPLIES = frozenset(
    [
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "PRelu", "LSTM", "GRU", "RNN"),
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"),
        *("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
    ]
)
SUMS_PRODUCTS = frozenset(["Conv", "ConvTranspose", "Gemm", "MatMul"])  # of their first two inputs
TOO_LARGE, LARGE = 1e30, "beyond 1e+30"
COMPUTES = MULTIPLIES | {"Add", "Sub", "Mul", "Div", "Sum", "Mean", "Pow", "Max", "Min", "Clip"}
MOVES = frozenset(["Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Expand"])
SHOWN = 5


def refuse_not_finite(
    model: onnx.ModelProto, weights: Mapping[str, TensorProto], advice: str = "train or export it again"
) -> None:
    """Refuse a model that computes with constants that are not finite.

    Args:
        model: without local functions, but those of spiking operators.
        weights: values of the large initializers, which `model` lacks.
        advice: what its user can do.

    Raises:
        RefusedError: there are such constants; it names them, with the nodes that read them.
    """
    constants = {t.name: t for t in model.graph.initializer} | dict(weights)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    bad = {name: text for name, tensor in constants.items() if (text := _described(tensor))}
    origin, found = {name: name for name in bad}, dict[str, str]()
    for node in model.graph.node if bad else ():
        for at, name in [(i, origin[n]) for i, n in enumerate(node.input) if n in origin]:
            if _spoils(node, at, bad[name]) and not node.domain:
                found.setdefault(name, f"'{name}' of {node.op_type} '{node.name or node.output[0]}' ({bad[name]})")
        passed_on = [0] if node.op_type in MOVES else [0, 2] if node.op_type == "Pad" else []
        for name in [node.input[i] for i in passed_on if i < len(node.input) and node.input[i] in origin]:
            origin[node.output[0]] = origin[name]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        what = "too large" if all(bad[name].endswith(LARGE) for name in found) else "not finite"
        raise RefusedError(
            f"the model has weights that are {what}: {', '.join([*found.values()][:SHOWN])}{more}; {advice}"
        )


def _spoils(node: onnx.NodeProto, at: int, wrong: str) -> bool:
    """Whether a constant that is `wrong` spoils what a node makes, as its input number `at`."""
    if wrong.endswith(LARGE):
        return node.op_type in SUMS_PRODUCTS and at < 2
    return node.op_type in (COMPUTES if "NaN" in wrong else MULTIPLIES)


def _described(tensor: TensorProto) -> str:
    """What is wrong with the values of a constant, as 32-bit numbers; empty if nothing is."""
    if tensor.data_type not in FLOATS or tensor.data_location == TensorProto.EXTERNAL:
        return ""
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(tensor).astype(np.float32, copy=False)
    number = not_finite(values)
    if not number:
        large = int(np.count_nonzero(np.abs(values) > TOO_LARGE))
        return f"{large} of {values.size} values are {LARGE}" if large else ""
    nan = int(np.isnan(values).sum())
    what = "NaN" if nan == number else "NaN or infinite" if nan else "infinite"
    return f"{number} of {values.size} values are {what}"
