"""The csscc operators as ONNX functions, unrolled over time with standard operators only.

A core tensor holds all time steps in its batch axis, time-major: ``[T*B, ...]``. Splitting axis 0 into T equal parts
gives the steps without knowing a shape.

    Encode(x, theta)                                        -> spikes [T*B, ...]
    TSA<Op>(z1, bias1, ..., theta, accumulator, params...)  -> spikes [T*B, ...] (and the residual [B, ...])
    Decode(z)                                               -> y [B, ...]

`accumulator` is `Coding.accumulator`: one product with it replaces T multiply-adds and carries the silent period.
A runtime that registers a kernel of the same name and domain uses that instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx
import onnx.parser

from csscc.runtime.activations import ACTIVATIONS
from csscc.runtime.coding import Coding

DOMAIN = "csscc"
DOMAIN_VERSION = 1
CODING_ATTRIBUTES = ("T", "beta", "silent", "negative")


@dataclass(frozen=True)
class NeuronSignature:
    """What one TSA function must accept; `attributes` pairs each attribute of the activation with its ONNX text type."""

    op: str
    parameters: int = 0
    attributes: tuple[tuple[str, str], ...] = ()
    residual: bool = False

    @property
    def inputs(self) -> int:
        """How many accumulated inputs the activation takes."""
        return ACTIVATIONS[self.op].inputs


def tsa_op(activation: str) -> str:
    """Operator name of the neuron that sends `activation`."""
    return f"TSA{activation}"


def activation_of(tsa: str) -> str:
    """Activation sent by the neuron operator named `tsa`."""
    return tsa.removeprefix("TSA")


def _constant(name: str, value: float) -> str:
    return f"{name} = Constant <value_float = {float(value)!r}> ()"


def _split(name: str, parts: Sequence[str], opset: int) -> str:
    attributes = f"axis = 0, num_outputs = {len(parts)}" if opset >= 18 else "axis = 0"
    return f"{', '.join(parts)} = Split <{attributes}> ({name})"


def _fire(potential: str, spike: str) -> list[str]:
    return [f"{potential}_r = Round({potential})", f"{spike} = Clip({potential}_r, lowest, highest)"]


def _parse(name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Iterable[str], lines: Sequence[str], opset: int) -> onnx.FunctionProto:
    body = "\n".join(lines)
    names = sorted(attributes)
    declared = f"<{', '.join(names)}>" if names else ""
    text = (
        f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>\n'
        f"{name} {declared} ({', '.join(inputs)}) => ({', '.join(outputs)})\n{{\n{body}\n}}"
    )
    return onnx.parser.parse_function(text)


def encode_function(coding: Coding, opset: int) -> onnx.FunctionProto:
    """ONNX function of the encoder (Theorem 2), see `csscc.runtime.neuron.encode`."""
    lines = [
        _constant("lowest", -1 if coding.negative else 0),
        _constant("highest", 1),
        _constant("beta_c", coding.beta),
        _constant("start", coding.beta ** -(coding.T - 1)),
        "units = Div(x, theta)",
        "o0 = Mul(units, start)",
    ]
    for t in range(coding.T):
        lines += _fire(f"o{t}", f"s{t}")
        if t < coding.T - 1:
            lines += [f"u{t} = Sub(o{t}, s{t})", f"o{t + 1} = Mul(u{t}, beta_c)"]
    spikes = ", ".join(f"s{t}" for t in range(coding.T))
    lines.append(f"spikes = Concat <axis = 0> ({spikes})")
    return _parse("Encode", ["x", "theta"], ["spikes"], ("T", "beta", "negative"), lines, opset)


def decode_function(coding: Coding, opset: int) -> onnx.FunctionProto:
    """ONNX function of the readout, see `csscc.runtime.neuron.decode`."""
    weights = ", ".join(repr(float(w)) for w in coding.weights)
    lines = [
        f"weights = Constant <value = float[1, {coding.T}] {{{weights}}}> ()",
        f"by_time = Constant <value = int64[2] {{{coding.T}, -1}}> ()",
        "any = Constant <value = int64[1] {-1}> ()",
        "rows = Reshape(z, by_time)",
        "total = MatMul(weights, rows)",
        "rest = Shape <start = 1> (z)",
        "shape = Concat <axis = 0> (any, rest)",
        "y = Reshape(total, shape)",
    ]
    return _parse("Decode", ["z"], ["y"], ("T", "beta"), lines, opset)


def tsa_function(signature: NeuronSignature, coding: Coding, opset: int) -> onnx.FunctionProto:
    """ONNX function of a TSA neuron, see `csscc.runtime.neuron.tsa`."""
    T = coding.T
    lines = [
        _constant("lowest", -1 if coding.negative else 0),
        _constant("highest", 1),
        _constant("beta_c", coding.beta),
        f"by_time = Constant <value = int64[2] {{{T}, -1}}> ()",
    ]
    targets = _relu_targets if signature.op == "Relu" else _general_targets
    lines += targets(signature, coding, opset)
    for k in range(T):
        sent = f"p{k}"
        lines += [f"o{k} = Sub(target{k}, {sent})", *_fire(f"o{k}", f"s{k}")]
        if k < T - 1:
            lines += [f"v{k} = Add({sent}, s{k})", f"p{k + 1} = Mul(v{k}, beta_c)"]
    lines.append(f"spikes = Concat <axis = 0> ({', '.join(f's{k}' for k in range(T))})")
    outputs = ["spikes"]
    if signature.residual:
        lines.append(f"residual = Sub(o{T - 1}, s{T - 1})")
        outputs.append("residual")
    inputs = [n for i in range(1, signature.inputs + 1) for n in (f"z{i}", f"bias{i}")]
    inputs += ["theta", "accumulator", *(f"param{i}" for i in range(1, signature.parameters + 1))]
    return _parse(tsa_op(signature.op), inputs, outputs, {*CODING_ATTRIBUTES, *(name for name, _ in signature.attributes)}, lines, opset)


def _accumulate(index: int) -> list[str]:
    """Steps known when each spike is decided, in the shape of the current."""
    z, h = f"z{index}", f"h{index}"
    return [
        f"{z}_rows = Reshape({z}, by_time)",
        f"{h}_rows = MatMul(accumulator, {z}_rows)",
        f"{z}_shape = Shape({z})",
        f"{h} = Reshape({h}_rows, {z}_shape)",
    ]


def _relu_targets(signature: NeuronSignature, coding: Coding, opset: int) -> list[str]:
    """ReLU: ``max(h + b, 0) - p = max(h, -b) - (p - b)``, so that the bias costs no pass over the membrane."""
    lines = [*_accumulate(1), _split("h1", [f"h1_{k}" for k in range(coding.T)], opset)]
    for k, q in enumerate(coding.weights):
        lines += [_constant(f"c{k}", -1 / q), f"floor{k} = Mul(bias1, c{k})", f"target{k} = Max(h1_{k}, floor{k})"]
    return [*lines, "p0 = Identity(floor0)"]


def _general_targets(signature: NeuronSignature, coding: Coding, opset: int) -> list[str]:
    """Any activation: of the whole accumulated tensor, then in units of the spike about to be sent."""
    activation = ACTIVATIONS[signature.op]
    lines = []
    arguments = []
    for i in range(1, signature.inputs + 1):
        x = "x" if i == 1 else f"x{i}"
        lines += [*_accumulate(i), f"{x} = Add(h{i}, bias{i})"]
        arguments.append(x)
    arguments += [f"param{i}" for i in range(1, signature.parameters + 1)]
    references = ", ".join(f"{name} : {kind} = @{name}" for name, kind in signature.attributes)
    attributes = f"<{references}>" if references else ""
    if activation.body:
        operator = activation.body.replace("MaxPool(", f"MaxPool {attributes} (")
    else:
        operator = f"y = {signature.op} {attributes} ({', '.join(arguments)})"
    lines += [operator, _split("y", [f"y_{k}" for k in range(coding.T)], opset)]
    for k, q in enumerate(coding.weights):
        lines.append(_constant(f"c{k}", 1 / q))
        if activation.homogeneous:
            lines.append(f"target{k} = Mul(y_{k}, c{k})")
        else:
            lines += [f"unit{k} = Div(c{k}, theta)", f"target{k} = Mul(y_{k}, unit{k})"]
    return [*lines, _constant("p0", 0)]
