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
DOMAIN_VERSION = 1
CODING_ATTRIBUTES = ("T", "beta", "silent", "negative")
OWN = "own_"


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


def _levels(negative: bool) -> list[str]:
    return [_constant("lowest", -1 if negative else 0), _constant("highest", 1)]


def _fire(k: int) -> list[str]:
    """Spike k of the potential ``o<k>``: the Cast truncates, so that what is short of the threshold becomes 0.

    Spikes stay in int8 until all are there: Cast is the cheapest rounding in onnxruntime, and a small Concat follows.
    """
    return [f"c{k} = Clip(o{k}, lowest, highest)", f"s{k} = Cast <to = {onnx.TensorProto.INT8}> (c{k})"]


def _reset(k: int, reset: float) -> list[str]:
    """``w<k>``: what spike k takes from the potential, one or two thresholds."""
    doubled = [f"d{k} = Add(s{k}, s{k})"] if reset == 2 else []
    return [*doubled, f"w{k} = Cast <to = {onnx.TensorProto.FLOAT}> ({'d' if doubled else 's'}{k})"]


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
    lines = [
        *_levels(coding.signed_input),
        _constant("beta_c", coding.beta),
        _constant("start", coding.input_reset * coding.beta ** (1 - coding.T)),
        "units = Div(x, theta)",
        "o1 = Mul(units, start)",
    ]
    for t in range(1, coding.T + 1):
        lines += _fire(t)
        if t < coding.T:
            lines += [*_reset(t, coding.input_reset), f"u{t} = Sub(o{t}, w{t})", f"o{t + 1} = Mul(u{t}, beta_c)"]
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
    T, L = coding.T, coding.silent
    activation = ACTIVATIONS[signature.op]
    lines = [
        *_levels(coding.negative),
        _constant("beta_c", coding.beta),
        _constant("first", coding.beta ** (1 - T)),
    ]
    if activation.partial:
        lines.append(_constant("silence", 0))
    membranes = range(1, signature.inputs + 1)
    for i in membranes:
        lines += [
            _split(f"z{i}", [f"z{i}_{t}" for t in range(1, T + 1)], opset),
            f"start{i} = Mul(bias{i}, first)",
            f"h{i}_1 = Add(z{i}_1, start{i})",
        ]
    for t in range(1, T + L + 1):
        k = t - L
        for i in membranes:
            if 1 < t <= T:
                lines += [f"a{i}_{t} = Mul(h{i}_{t - 1}, beta_c)", f"h{i}_{t} = Add(a{i}_{t}, z{i}_{t})"]
            elif t > T and activation.homogeneous:
                lines.append(f"h{i}_{t} = Mul(h{i}_{t - 1}, beta_c)")
        if k < 1:
            continue
        if activation.homogeneous:
            lines += _apply(signature, [f"h{i}_{t}" for i in membranes], f"y{k}")
            target = f"y{k}"
        else:
            last = min(t, T)
            if t == last or k == 1:
                lines.append(_constant(f"q{t}", coding.beta ** (T - last)))
                lines += [f"x{i}_{t} = Mul(h{i}_{last}, q{t})" for i in membranes]
                lines += _apply(signature, [f"x{i}_{t}" for i in membranes], f"y{k}")
                said = f"y{k}"
            lines += [
                _constant(f"m{k}", coding.beta ** (T - k) / coding.reset),
                f"unit{k} = Mul(theta, m{k})",
                f"target{k} = Div({said}, unit{k})",
            ]
            target = f"target{k}"
        known = f"n{k}" if activation.partial else f"o{k}"
        lines.append(f"{known} = Identity({target})" if k == 1 else f"{known} = Sub({target}, p{k})")
        if activation.partial:
            # inf - inf is NaN, so one test finds both.
            lines += [f"gap{k} = Sub({known}, {known})", f"unknown{k} = IsNaN(gap{k})"]
            lines.append(f"o{k} = Where(unknown{k}, silence, {known})")
        lines += _fire(k)
        if k < T:
            lines += _reset(k, coding.reset)
            lines.append(f"v{k} = Identity(w1)" if k == 1 else f"v{k} = Add(p{k}, w{k})")
            lines.append(f"p{k + 1} = Mul(v{k}, beta_c)")
    lines += _train(T)
    outputs = ["spikes"]
    if signature.residual:
        lines += _reset(T, coding.reset)
        lines += [_constant("threshold", 1 / coding.reset), f"left = Sub(o{T}, w{T})"]
        lines.append("residual = Mul(left, threshold)")
        outputs.append("residual")
    inputs = [n for i in membranes for n in (f"z{i}", f"bias{i}")]
    inputs += ["theta", *(f"param{i}" for i in range(1, signature.parameters + 1))]
    names = {*CODING_ATTRIBUTES, *(name for name, _ in signature.attributes)}
    return _parse(tsa_op(signature.op), inputs, outputs, names, lines, opset)


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
