"""What membranes hold from the start: a constant, or what is known before time starts plus a constant.

    TSARelu(z, bias)            bias a constant
    TSARelu(z, Add(m, bias))    m computed from the inputs, without a weighted layer in between

The constant is what passes change; every computed bias is such a sum, which `computed_bias` makes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike, NDArray

from csscc.dialect.rewrite import constant_tensor, insert_shaped, producer, values_of
from csscc.dialect.spiking import Spiking

NO_BIAS = np.zeros((), np.float32)


def computed_bias(graph: gs.Graph, name: str, known: gs.Tensor, factor: gs.Constant | None = None) -> gs.Variable:
    """The bias of one membrane: what is known of its input, times a factor, plus a constant that is zero as yet."""
    # Of no shape: that of the membrane or any that repeats to it, as the constant has it.
    value = known if factor is None else insert_shaped(graph, "Mul", f"{name}_scaled", [known, factor], None)
    return insert_shaped(graph, "Add", name, [value, constant_tensor(graph, name, NO_BIAS)], None)


def constant_part(view: Spiking[gs.Tensor], index: int) -> NDArray[np.generic]:
    """The constant in the bias of one current."""
    maker = producer(view.biases[index])
    return values_of(view.biases[index] if maker is None else maker.inputs[1])


def set_constant_part(graph: gs.Graph, view: Spiking[gs.Tensor], index: int, values: ArrayLike) -> None:
    """Give the bias of one current another constant."""
    constant = constant_tensor(graph, f"{view.name}_bias", values)
    maker = producer(view.biases[index])
    if maker is None:
        view.set_bias(index, constant)
    else:
        maker.inputs[1] = constant


def constant_names(view: Spiking[str], makers: dict[str, Any]) -> list[str]:
    """Of a node of an ONNX message: the name of the constant in each bias; `makers` has the nodes by what they make."""
    return [makers[bias].input[1] if bias in makers else bias for bias in view.biases]
