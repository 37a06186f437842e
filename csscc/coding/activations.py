"""The activations a TSA neuron can send: one row an operator.

A neuron named ``TSA<Op>`` sends the value of ONNX operator `Op` applied to its accumulated inputs, with `Op`'s own
attributes and constant inputs. To add an activation, add a row; its ONNX body is the operator itself unless a
`body` is given, and its NumPy form is the reference implementation of that body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["element", "window", "row"]


@dataclass(frozen=True)
class Activation:
    """How an operator behaves as the activation of a neuron.

    Attributes:
        op: name of the operator, without the ``TSA`` prefix.
        homogeneous: ``f(c*x) = c*f(x)`` for c > 0 (in all core inputs together), so that the amplitude can be
            absorbed into the incoming weights.
        inputs: how many inputs come from the core; those after them are constant parameters.
        scope: which inputs an output depends on: the same ``element``, a spatial ``window`` of the same channel, or
            a whole ``row``. An amplitude per channel can be absorbed unless the scope is a row.
        body: ONNX text of what computes ``y`` from ``x`` (and ``x2``, ...; ``param1``, ... are constant parameters),
            for compositions that are no operator of the opset in use; empty for the operator itself.
        partial: not finite for some numbers. What has arrived so far may be such a number where the whole input is
            none; until it is finite, the neuron sends nothing.
        blocks: onnxruntime knows it in the layout of its convolutions (see `csscc.passes.lower.blocks`); one input,
            homogeneous.
        positive: it is never negative.
        exact: each of its operations is exact or correctly rounded, so that all runtimes send the same spikes where
            their sums are exact.
        computed: its parameters may be computed, if they are known before time starts.
    """

    op: str
    homogeneous: bool = False
    inputs: int = 1
    scope: Scope = "element"
    body: str = ""
    partial: bool = False
    blocks: bool = False
    positive: bool = False
    exact: bool = False
    computed: bool = False


def _quantised_sum(number: int) -> str:
    """A weighted sum, rounded as Add, QuantizeLinear and DequantizeLinear compute it; with scale, low and high."""
    products = " ".join(f"a{i} = Mul(x{i if i > 1 else ''}, param{i})" for i in range(1, number + 1))
    sums = " ".join(f"s{i} = Add({f's{i - 1}' if i > 2 else 'a1'}, a{i})" for i in range(2, number + 1))
    scale, low, high = (f"param{number + i}" for i in (1, 2, 3))
    stairs = f"v = Div(s{number}, {scale}) r = Round(v) c = Clip(r, {low}, {high}) y = Mul(c, {scale})"
    return f"{products} {sums} {stairs}"


_WEIGHTS = "s = MatMul(x, x2) m = Add(s, param1) p = Softmax <axis = -1> (m)"
_OR_ZERO = "n = IsNaN(p) z = Constant <value_float = 0.0> () w = Where(n, z, p)"
_TABLE = (
    Activation("Linear", homogeneous=True, body="y = Identity(x)", exact=True),  # the membrane potential itself
    Activation("Relu", homogeneous=True, blocks=True, positive=True, exact=True),
    Activation("LeakyRelu", homogeneous=True, exact=True),
    Activation("PRelu", homogeneous=True, exact=True),
    Activation("Abs", homogeneous=True, positive=True, exact=True),
    Activation("Max", homogeneous=True, inputs=2, exact=True),
    Activation("Min", homogeneous=True, inputs=2, exact=True),
    Activation("MaxPool", homogeneous=True, scope="window", blocks=True, exact=True),
    Activation("GlobalMaxPool", homogeneous=True, scope="window", exact=True),
    Activation(
        "ReluMaxPool",
        homogeneous=True,
        scope="window",
        body="m = MaxPool(x) y = Relu(m)",
        blocks=True,
        positive=True,
        exact=True,
    ),
    Activation("LpPool", homogeneous=True, scope="window", positive=True),
    Activation("ReduceMax", homogeneous=True, scope="row", exact=True),
    Activation("ReduceMin", homogeneous=True, scope="row", exact=True),
    Activation("ReduceL1", homogeneous=True, scope="row", positive=True),
    Activation("Times", homogeneous=True, computed=True, exact=True, body="y = Mul(x, param1)"),
    Activation("AtLeast", body="y = Max(x, param1)", exact=True),
    Activation("AtMost", body="y = Min(x, param1)", exact=True),
    Activation(
        "Quantise", body="v = Mul(x, param1) r = Round(v) c = Clip(r, param3, param4) y = Mul(c, param2)", exact=True
    ),  # a multiplication and a rounding, as integer kernels do with what they have added up
    *(Activation(f"QuantiseSum{n}", inputs=n, body=_quantised_sum(n), exact=True) for n in (2, 3, 4)),
    Activation("ThresholdedRelu", exact=True),
    Activation("Clip", exact=True),
    Activation("HardSigmoid", positive=True),
    Activation("HardSwish"),
    Activation("Sigmoid", positive=True),
    Activation("Silu", body="s = Sigmoid(x) y = Mul(x, s)"),
    Activation("QuickGelu", body="a = Constant <value_float = 1.702> () b = Mul(a, x) s = Sigmoid(b) y = Mul(x, s)"),
    Activation("Swish"),
    Activation("Shrink", exact=True),
    Activation("Tanh"),
    Activation("Elu"),
    Activation("Selu"),
    Activation("Celu"),
    Activation("Softplus", positive=True),
    Activation("Softsign"),
    Activation("Mish"),
    Activation("Gelu"),
    Activation("Erf"),
    Activation("Exp", partial=True, positive=True),
    Activation("Log", partial=True),
    Activation("Sqrt", partial=True, positive=True, exact=True),
    Activation("Reciprocal", partial=True),
    Activation("Pow", partial=True),
    Activation("DividedInto", partial=True, body="y = Div(param1, x)", exact=True),
    Activation("PowerOf", partial=True, body="y = Pow(param1, x)"),
    Activation("Mul", inputs=2, exact=True),
    Activation("Div", partial=True, inputs=2, exact=True),
    Activation("MatMul", inputs=2, scope="row"),
    Activation("Attention", inputs=3, scope="row"),
    Activation("Attend", inputs=3, scope="row", computed=True, body=f"{_WEIGHTS} y = MatMul(p, x3)"),
    Activation("AttendOrZero", inputs=3, scope="row", computed=True, body=f"{_WEIGHTS} {_OR_ZERO} y = MatMul(w, x3)"),
    Activation("Softmax", scope="row", positive=True),
    Activation(
        "SoftmaxOrZero", scope="row", positive=True, body=f"p = Softmax <axis = -1> (x) {_OR_ZERO} y = Identity(w)"
    ),
    Activation("LogSoftmax", scope="row"),
    Activation("LayerNormalization", scope="row"),
    Activation("RMSNormalization", scope="row"),
    Activation(
        "Rms",
        scope="row",
        body="row = Constant <value_ints = [-1]> () s = Mul(x, x) m = ReduceMean(s, row) e = Add(m, param1) "
        "r = Sqrt(e) y = Div(x, r)",
    ),
    Activation("InstanceNormalization", scope="row"),
    Activation("GroupNormalization", scope="row"),
    Activation("LpNormalization", partial=True, scope="row"),
    Activation("LRN", scope="row"),
    Activation("ReduceL2", scope="row", positive=True),
    Activation("ReduceSumSquare", scope="row", positive=True),
    Activation("ReduceLogSum", partial=True, scope="row"),
    Activation("ReduceLogSumExp", scope="row"),
)

ACTIVATIONS: dict[str, Activation] = {a.op: a for a in _TABLE}
