"""The csscc operators as ONNX functions, unrolled over time with standard operators only.

A core tensor holds all time steps in its batch axis, time-major: ``[T*B, ...]``. Splitting axis 0 into T equal parts
gives the steps without knowing a shape.

    Encode(x, theta)                                        -> spikes [T*B, ...]
    TSA<Op>(z1, bias1, ..., theta, params...)               -> spikes [T*B, ...] (and the residual [B, ...])
    Decode(z)                                               -> y [B, ...]

The bodies perform the operations of `csscc.runtime.neuron` in the same order, so that the spikes are the same bit for
bit. A runtime that registers a kernel of the same name and domain uses that instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx
import onnx.parser

from csscc.runtime.activations import ACTIVATIONS
from csscc.runtime.coding import Coding

DOMAIN = "csscc"
ACTIVATION_DOMAIN = "csscc.activation"  # activations that ONNX spells in several nodes, before they become neurons
DOMAIN_VERSION = 2  # 1: currents in thresholds, which depended on the silent period
CODING_ATTRIBUTES = ("T", "beta", "silent", "negative")
OWN = "own_"
NEWEST_QUANTIZATION = 27  # onnxruntime 1.32 has no kernel for the QuantizeLinear of later opsets
PLANES = (
    "any = Constant <value = int64[1] {-1}> ()",
    "one = Constant <value = int64[1] {1}> ()",
    "number = Shape <start = 1, end = 2> (z1)",
    "size = Shape <start = 2> (z1)",
    "planes = Concat <axis = 0> (any, one, size)",
)
ZERO = "zero = Constant <value = int8 {0}> ()"


@dataclass(frozen=True)
class NeuronSignature:
    """What one TSA function must accept; `attributes` pairs each of the activation with its ONNX text type."""

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


def carried_name(attribute: str) -> str:
    """Name under which a neuron carries its activation's `attribute`: HardSigmoid and LRN have a beta of their own."""
    return f"{OWN}{attribute}" if attribute in CODING_ATTRIBUTES else attribute


def own_name(carried: str) -> str:
    """Name of the activation's attribute that a neuron carries as `carried`."""
    return carried.removeprefix(OWN)


def _constant(name: str, value: float) -> str:
    return f"{name} = Constant <value_float = {float(value)!r}> ()"


def _split(name: str, parts: Sequence[str], opset: int) -> str:
    attributes = f"axis = 0, num_outputs = {len(parts)}" if opset >= 18 else "axis = 0"
    return f"{', '.join(parts)} = Split <{attributes}> ({name})"


def _fire(k: int, worth: float, opset: int, *, negative: bool, whole: bool) -> list[str]:
    """Spike k, int8, of the potential ``o<k>``, see `csscc.runtime.neuron.fire`; a constant ``q<k>`` holds its worth.

    QuantizeLinear divides, rounds halves to the even number, and saturates at the bounds of int8. Rounded, ``o / q`` is
    0 exactly where ``-q/2 <= o <= q/2``; its sign is the spike. (A Clip between QuantizeLinear and DequantizeLinear
    would not survive onnxruntime's optimiser.)
    """
    constant = _constant(f"q{k}", worth)
    if negative and opset <= NEWEST_QUANTIZATION:
        return [constant, f"n{k} = QuantizeLinear(o{k}, q{k}, zero)", f"s{k} = Sign(n{k})"]
    if negative:
        fired = [f"d{k} = Div(o{k}, q{k})", f"n{k} = Round(d{k})", f"b{k} = Sign(n{k})"]
    elif whole:
        fired = [f"b{k} = GreaterOrEqual(o{k}, q{k})"]
    else:
        fired = [_constant(f"half{k}", worth / 2), f"b{k} = Greater(o{k}, half{k})"]
    return [constant, *fired, f"s{k} = Cast <to = {onnx.TensorProto.INT8}> (b{k})"]


def _sent(k: int, opset: int) -> list[str]:
    """``w<k>``: the value of spike k, ``q[k] * S[k]``."""
    if opset <= NEWEST_QUANTIZATION:
        return [f"w{k} = DequantizeLinear(s{k}, q{k}, zero)"]
    return [f"v{k} = Cast <to = {onnx.TensorProto.FLOAT}> (s{k})", f"w{k} = Mul(v{k}, q{k})"]


def _train(steps: int) -> list[str]:
    spikes = ", ".join(f"s{k}" for k in range(1, steps + 1))
    return [f"train = Concat <axis = 0> ({spikes})", f"spikes = Cast <to = {onnx.TensorProto.FLOAT}> (train)"]


def _parse(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Iterable[str],
    lines: Sequence[str],
    opset: int,
    domain: str = DOMAIN,
) -> onnx.FunctionProto:
    body = "\n".join(lines)
    names = sorted(attributes)
    declared = f"<{', '.join(names)}>" if names else ""
    text = (
        f'<domain: "{domain}", opset_import: ["" : {opset}]>\n'
        f"{name} {declared} ({', '.join(inputs)}) => ({', '.join(outputs)})\n{{\n{body}\n}}"
    )
    return onnx.parser.parse_function(text)


def encode_function(coding: Coding, opset: int) -> onnx.FunctionProto:
    """ONNX function of the encoder (Theorem 2), see `csscc.runtime.neuron.encode`."""
    signature = ("Encode", ["x", "theta"], ["spikes"], ("T", "beta", "signed_input"))
    if coding.constant_input:
        parts = ", ".join(["part"] * coding.T)
        lines = [_constant("share", 1 / coding.T), "units = Div(x, theta)", "part = Mul(units, share)"]
        return _parse(*signature, [*lines, f"spikes = Concat <axis = 0> ({parts})"], opset)
    lines = [ZERO, "o1 = Div(x, theta)"]
    for t, worth in enumerate(coding.weights.tolist(), 1):
        lines += _fire(t, worth, opset, negative=coding.signed_input, whole=not coding.signed_input)
        if t < coding.T:
            lines += [*_sent(t, opset), f"o{t + 1} = Sub(o{t}, w{t})"]
    lines += _train(coding.T)
    return _parse(*signature, lines, opset)


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
    T, L, q = coding.T, coding.silent, coding.weights.tolist()
    activation = ACTIVATIONS[signature.op]
    membranes = range(1, signature.inputs + 1)
    lines = [ZERO, *(_split(f"z{i}", [f"z{i}_{t}" for t in range(1, T + 1)], opset) for i in membranes)]
    if activation.partial:
        lines.append(_constant("silence", 0))
    if activation.reach == "window":
        lines += PLANES
    for t in range(1, T + L + 1):
        if t <= T:
            lines += _heard(membranes, t, q[t - 1])
        k = t - L
        if k < 1:
            continue
        if t <= T or k == 1:
            target = f"y{k}"
            value = target if activation.homogeneous else f"f{k}"
            arguments = [f"h{i}_{min(t, T)}" for i in membranes]
            if activation.reach == "window":
                lines += _pooled(signature, arguments[0], value, first=k == 1)
            else:
                lines += _apply(signature, arguments, value)
            if not activation.homogeneous:
                lines.append(f"{target} = Div({value}, theta)")
        known = f"r{k}" if activation.partial else f"o{k}"
        lines.append(f"{known} = Identity({target})" if k == 1 else f"{known} = Sub({target}, p{k - 1})")
        if activation.partial:
            # inf - inf is NaN, so one test finds both.
            lines += [f"gap{k} = Sub({known}, {known})", f"unknown{k} = IsNaN(gap{k})"]
            lines.append(f"o{k} = Where(unknown{k}, silence, {known})")
        lines += _fire(k, q[k - 1], opset, negative=coding.negative, whole=coding.whole)
        if k < T:
            lines += [*_sent(k, opset), f"p{k} = Identity(w1)" if k == 1 else f"p{k} = Add(p{k - 1}, w{k})"]
    lines += _train(T)
    outputs = ["spikes"]
    if signature.residual:
        lines += [*_sent(T, opset), f"residual = Sub(o{T}, w{T})"]
        outputs.append("residual")
    inputs = [n for i in membranes for n in (f"z{i}", f"bias{i}")]
    inputs += ["theta", *(f"param{i}" for i in range(1, signature.parameters + 1))]
    names = {*CODING_ATTRIBUTES, *(name for name, _ in signature.attributes)}
    return _parse(tsa_op(signature.op), inputs, outputs, names, lines, opset)


def _heard(membranes: Iterable[int], t: int, worth: float) -> list[str]:
    """The membranes ``h<i>_<t>`` with the current of step t; a product with 1 is spared."""
    lines = [] if worth == 1 else [_constant(f"u{t}", worth)]
    for i in membranes:
        current = f"z{i}_{t}" if worth == 1 else f"a{i}_{t}"
        lines += [] if worth == 1 else [f"{current} = Mul(z{i}_{t}, u{t})"]
        lines.append(f"h{i}_{t} = Add({f'bias{i}' if t == 1 else f'h{i}_{t - 1}'}, {current})")
    return lines


def _apply(signature: NeuronSignature, arguments: list[str], result: str) -> list[str]:
    """The activation itself: its operator with the node's attributes and parameters, or its body."""
    references = ", ".join(f"{own_name(name)} : {kind} = @{name}" for name, kind in signature.attributes)
    attributes = f"<{references}>" if references else ""
    body = ACTIVATIONS[signature.op].body
    if not body:
        parameters = [f"param{i}" for i in range(1, signature.parameters + 1)]
        return [f"{result} = {signature.op} {attributes} ({', '.join(arguments + parameters)})"]
    names = dict(zip(["x", *(f"x{i}" for i in range(2, len(arguments) + 1))], arguments, strict=True))
    return [body_text(body, attributes, names, result)]


def _pooled(signature: NeuronSignature, membrane: str, result: str, *, first: bool) -> list[str]:
    """A pool on planes ``[B*C, 1, ...]``.

    onnxruntime brings a pool over many channels into the layout of its convolutions, and back, at every step. What has
    one channel stays as it is.
    """
    lines = [f"{result}_planes = Reshape({membrane}, planes)"]
    lines += _apply(signature, [f"{result}_planes"], f"{result}_pooled")
    if first:
        lines += [f"area = Shape <start = 2> ({result}_pooled)", "channels = Concat <axis = 0> (any, number, area)"]
    return [*lines, f"{result} = Reshape({result}_pooled, channels)"]


def body_text(body: str, attributes: str, names: dict[str, str], result: str) -> str:
    """A composed activation's ONNX text with its inputs and its result renamed and its locals made unique."""
    local = {m: f"{result}_{m}" for m in re.findall(r"(\w+) =", re.sub(r"<[^>]*>", "", body))}
    local |= {"y": result} | names
    pattern = r"\b(" + "|".join(map(re.escape, local)) + r")\b"
    renamed = re.sub(pattern, lambda m: local[m[1]], body)
    return renamed.replace("MaxPool(", f"MaxPool {attributes} (")


def activation_definition(
    op: str, attributes: tuple[tuple[str, str], ...], parameters: int, opset: int
) -> onnx.FunctionProto:
    """A composed activation as a function of its own, for the ANN before its neurons are inserted."""
    inputs = ["x", *(f"param{i}" for i in range(1, parameters + 1))]
    references = ", ".join(f"{name} : {kind} = @{name}" for name, kind in attributes)
    line = body_text(ACTIVATIONS[op].body, f"<{references}>" if references else "", {"x": "x"}, "y")
    return _parse(op, inputs, ["y"], [name for name, _ in attributes], [line], opset, ACTIVATION_DOMAIN)
