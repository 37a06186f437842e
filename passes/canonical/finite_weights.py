"""Refuse weights that are not finite, by name: what they make is no number, and nothing measured of it would be true.

NaN spoils whatever computes with it. An infinite constant may be meant, as a mask that is added or a bound is, so it is
refused where weights are multiplied or normalised with. So is a 64-bit number that 32 bits do not hold.
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
COMPUTES = MULTIPLIES | {"Add", "Sub", "Mul", "Div", "Sum", "Mean", "Pow", "Max", "Min", "Clip"}
MOVES = frozenset(["Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Expand"])
SHOWN = 5


def refuse_not_finite(model: onnx.ModelProto, weights: Mapping[str, TensorProto]) -> None:
    """Refuse a model that computes with constants that are not finite.

    Args:
        model: without local functions.
        weights: values of the large initializers, which `model` lacks.

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
        for name in [origin[n] for n in node.input if n in origin]:
            if node.op_type in (COMPUTES if "NaN" in bad[name] else MULTIPLIES) and not node.domain:
                found.setdefault(name, f"'{name}' of {node.op_type} '{node.name or node.output[0]}' ({bad[name]})")
        if node.op_type in MOVES and node.input and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise RefusedError(
            f"the model has weights that are not finite: {', '.join([*found.values()][:SHOWN])}{more}; "
            "train or export it again"
        )


def _described(tensor: TensorProto) -> str:
    """What is wrong with the values of a constant, as 32-bit numbers; empty if nothing is."""
    if tensor.data_type not in FLOATS or tensor.data_location == TensorProto.EXTERNAL:
        return ""
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(tensor).astype(np.float32, copy=False)
    number = not_finite(values)
    if not number:
        return ""
    nan = int(np.isnan(values).sum())
    what = "NaN" if nan == number else "NaN or infinite" if nan else "infinite"
    return f"{number} of {values.size} values are {what}"
