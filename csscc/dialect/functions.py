"""The csscc operators as ONNX functions of standard operators only, with nodes for each step or a Scan over time.

A core tensor holds all time steps in its batch axis, time-major: ``[T*B, ...]``. Splitting axis 0 into T equal parts
gives the steps without knowing a shape.

    Encode(x, theta)                                        -> spikes [T*B, ...]
    TSA<Op>(z1, bias1, ..., theta, params...)               -> spikes [T*B, ...] (and the residual [B, ...])
    Decode(z)                                               -> y [B, ...]

The bodies perform the operations of `csscc.coding.oracle` in the same order, so that the spikes are the same bit for
bit. A runtime that registers a kernel of the same name and domain uses that instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import onnx.parser

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding

DOMAIN = "csscc"
ACTIVATION_DOMAIN = "csscc.activation"  # activations that ONNX spells in several nodes, before they become neurons
DOMAIN_VERSION = 2  # 1: currents in thresholds, which depended on the silent period
CODING_ATTRIBUTES = ("T", "beta", "silent", "negative")
OWN = "own_"
NEWEST_QUANTIZATION = 27  # onnxruntime 1.32 has no kernel for the QuantizeLinear of later opsets
FOLDED = (  # spikes [T, B, ...] as [T*B, ...]
    "any_rows = Constant <value = int64[1] {-1}> ()",
    "row = Shape <start = 2> (train)",
    "folded = Concat <axis = 0> (any_rows, row)",
    "rows = Reshape(train, folded)",
    f"spikes = Cast <to = {onnx.TensorProto.FLOAT}> (rows)",
)
PLANES = (
    "any = Constant <value = int64[1] {-1}> ()",
    "one = Constant <value = int64[1] {1}> ()",
    "number = Shape <start = 1, end = 2> (z1_1)",
    "size = Shape <start = 2> (z1_1)",
    "planes = Concat <axis = 0> (any, one, size)",
)
CONSTANTS = {
    "zero": "zero = Constant <value = int8 {0}> ()",
    "half": "half = Constant <value_float = 0.5> ()",
    "silence": "silence = Constant <value_float = 0.0> ()",
}
Form = Literal["steps", "unrolled", "scan"]
FORMS: tuple[Form, ...] = ("steps", "unrolled", "scan")
MUTE = float(np.finfo(np.float32).max)  # a spike worth this much is never sent


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


def constant(name: str, value: float) -> str:
    """The line that defines a number."""
    return f"{name} = Constant <value_float = {float(value)!r}> ()"


def parts(name: str, steps: int) -> list[str]:
    """Names of a tensor's steps in a function."""
    return [f"{name}_{t}" for t in range(1, steps + 1)]


def split(name: str, into: Sequence[str], opset: int) -> str:
    """The line that splits the first axis of a tensor into equal parts."""
    attributes = f"axis = 0, num_outputs = {len(into)}" if opset >= 18 else "axis = 0"
    return f"{', '.join(into)} = Split <{attributes}> ({name})"


def _potential(k: int | str, target: str, sent: str, *, partial: bool) -> list[str]:
    """``o<k>``: what is still to be sent; nothing where an activation that is not defined everywhere is not finite."""
    known = f"r{k}" if partial else f"o{k}"
    lines = [f"{known} = Sub({target}, {sent})" if sent else f"{known} = Identity({target})"]
    if partial:
        # inf - inf is NaN, so one test finds both.
        lines += [f"gap{k} = Sub({known}, {known})", f"unknown{k} = IsNaN(gap{k})"]
        lines.append(f"o{k} = Where(unknown{k}, silence, {known})")
    return lines


def _fire(k: int | str, opset: int, *, negative: bool, whole: bool) -> list[str]:
    """Spike k, int8, of the potential ``o<k>``, where it is worth ``q<k>``; see `csscc.coding.oracle.fire`.

    QuantizeLinear divides, rounds halves to the even number, and saturates at the bounds of int8. Rounded, ``o / q`` is
    0 exactly where ``-q/2 <= o <= q/2``; its sign is the spike. (A Clip between QuantizeLinear and DequantizeLinear
    would not survive onnxruntime's optimiser.)
    """
    if negative and opset <= NEWEST_QUANTIZATION:
        return [f"n{k} = QuantizeLinear(o{k}, q{k}, zero)", f"s{k} = Sign(n{k})"]
    if negative:
        fired = [f"d{k} = Div(o{k}, q{k})", f"n{k} = Round(d{k})", f"b{k} = Sign(n{k})"]
    elif whole:
        fired = [f"b{k} = GreaterOrEqual(o{k}, q{k})"]
    else:
        fired = [f"least{k} = Mul(q{k}, half)", f"b{k} = Greater(o{k}, least{k})"]
    return [*fired, f"s{k} = Cast <to = {onnx.TensorProto.INT8}> (b{k})"]


def _sent(k: int | str, opset: int) -> list[str]:
    """``w<k>``: the value of spike k, ``q[k] * S[k]``."""
    if opset <= NEWEST_QUANTIZATION:
        return [f"w{k} = DequantizeLinear(s{k}, q{k}, zero)"]
    return [f"v{k} = Cast <to = {onnx.TensorProto.FLOAT}> (s{k})", f"w{k} = Mul(v{k}, q{k})"]


def _vector(name: str, values: Sequence[float]) -> str:
    return f"{name} = Constant <value = float[{len(values)}] {{{', '.join(map(repr, values))}}}> ()"


def _train(steps: int) -> list[str]:
    spikes = ", ".join(f"s{k}" for k in range(1, steps + 1))
    return [f"train = Concat <axis = 0> ({spikes})", f"spikes = Cast <to = {onnx.TensorProto.FLOAT}> (train)"]


def with_constants(lines: Sequence[str]) -> list[str]:
    """`lines` behind those that define the constants they read."""
    read = set(re.findall(r"\w+", "\n".join(lines)))
    return [*(line for name, line in CONSTANTS.items() if name in read), *lines]


def parse(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Iterable[str],
    lines: Sequence[str],
    opset: int,
    domain: str = DOMAIN,
) -> onnx.FunctionProto:
    """The function of a body's lines in ONNX text."""
    body = "\n".join(lines)
    names = sorted(attributes)
    declared = f"<{', '.join(names)}>" if names else ""
    text = (
        f'<domain: "{domain}", opset_import: ["" : {opset}]>\n'
        f"{name} {declared} ({', '.join(inputs)}) => ({', '.join(outputs)})\n{{\n{body}\n}}"
    )
    return onnx.parser.parse_function(text)


def encode_function(coding: Coding, opset: int, form: Form = "unrolled") -> onnx.FunctionProto:
    """ONNX function of the encoder (Theorem 2), see `csscc.coding.oracle.encode`."""
    signature = ("Encode", ["x", "theta"], ["spikes"], ("T", "beta", "signed_input"))
    if coding.constant_input:
        same = ", ".join(["part"] * coding.T)
        lines = [constant("share", 1 / coding.T), "units = Div(x, theta)", "part = Mul(units, share)"]
        return parse(*signature, [*lines, f"spikes = Concat <axis = 0> ({same})"], opset)
    if form == "scan":
        step = [*_fire("", opset, **_encoder_firing(coding)), *_sent("", opset), "rest = Sub(o, w)"]
        scan = _scan(["left", "train"], {"o": "units"}, {"q": "worth"}, ["rest", "s"], step)
        lines = ["units = Div(x, theta)", _vector("worth", coding.weights.tolist()), scan, *FOLDED]
        return parse(*signature, with_constants(lines), opset)
    return parse(*signature, with_constants([*encoded(coding, opset), *_train(coding.T)]), opset)


def _encoder_firing(coding: Coding) -> dict[str, bool]:
    return {"negative": coding.signed_input, "whole": not coding.signed_input}


def encoded(coding: Coding, opset: int) -> list[str]:
    """Spikes ``s1 ... sT``, int8, of a value ``x``."""
    lines = ["o1 = Div(x, theta)"]
    for t, worth in enumerate(coding.weights.tolist(), 1):
        lines += [constant(f"q{t}", worth), *_fire(t, opset, **_encoder_firing(coding))]
        if t < coding.T:
            lines += [*_sent(t, opset), f"o{t + 1} = Sub(o{t}, w{t})"]
    return lines


def decode_function(coding: Coding, opset: int) -> onnx.FunctionProto:
    """ONNX function of the readout, see `csscc.coding.oracle.decode`."""
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
    return parse("Decode", ["z"], ["y"], ("T", "beta"), lines, opset)


def tsa_function(signature: NeuronSignature, coding: Coding, opset: int, form: Form = "unrolled") -> onnx.FunctionProto:
    """ONNX function of a TSA neuron, see `csscc.coding.oracle.tsa`.

    Unrolled in either form are neurons over windows and rows, whose attributes decide shapes (ONNX infers those of a
    Scan's body before it knows the node's attributes), and functions with a residual, which are not for files.
    """
    scanned = form == "scan" and ACTIVATIONS[signature.op].reach == "element" and not signature.residual
    write = _scanned if scanned else _unrolled
    outputs = ["spikes", "residual"] if signature.residual else ["spikes"]
    inputs = [n for i in range(1, signature.inputs + 1) for n in (f"z{i}", f"bias{i}")]
    inputs += ["theta", *(f"param{i}" for i in range(1, signature.parameters + 1))]
    names = {*CODING_ATTRIBUTES, *(name for name, _ in signature.attributes)}
    lines = with_constants(write(signature, coding, opset))
    return parse(tsa_op(signature.op), inputs, outputs, names, lines, opset)


def _unrolled(signature: NeuronSignature, coding: Coding, opset: int) -> list[str]:
    """The neuron with nodes of its own for each step."""
    lines = [split(f"z{i}", parts(f"z{i}", coding.T), opset) for i in range(1, signature.inputs + 1)]
    lines += step_by_step(signature, coding, opset)
    lines += _train(coding.T)
    if signature.residual:
        lines += [*_sent(coding.T, opset), f"residual = Sub(o{coding.T}, w{coding.T})"]
    return lines


def step_by_step(signature: NeuronSignature, coding: Coding, opset: int) -> list[str]:
    """Spikes ``s1 ... sT``, int8, of currents ``z<i>_1 ... z<i>_T``."""
    T, L, q = coding.T, coding.silent, coding.weights.tolist()
    activation = ACTIVATIONS[signature.op]
    membranes = range(1, signature.inputs + 1)
    lines = list(PLANES) if activation.reach == "window" else []
    for t in range(1, T + L + 1):
        if t <= T:
            lines += _heard(membranes, t, q[t - 1])
        k = t - L
        if k < 1:
            continue
        if t <= T or k == 1:
            target = f"y{k}"
            lines += _said(signature, [f"h{i}_{min(t, T)}" for i in membranes], target, first=k == 1)
        lines += _potential(k, target, f"p{k - 1}" if k > 1 else "", partial=activation.partial)
        lines += [constant(f"q{k}", q[k - 1]), *_fire(k, opset, negative=coding.negative, whole=coding.whole)]
        if k < T:
            lines += [*_sent(k, opset), f"p{k} = Identity(w1)" if k == 1 else f"p{k} = Add(p{k - 1}, w{k})"]
    return lines


def _scanned(signature: NeuronSignature, coding: Coding, opset: int) -> list[str]:
    """The neuron as one Scan over the steps that bring input, and one over the L steps behind.

    While it listens, the neuron is mute: a spike would be worth more than any potential.
    """
    T, q = coding.T, coding.weights.tolist()
    L = min(coding.silent, T)
    membranes = range(1, signature.inputs + 1)
    lines = [f"steps = Constant <value = int64[2] {{{T}, -1}}> ()"]
    for i in membranes:
        lines += [
            f"behind{i} = Shape <start = 1> (z{i})",
            f"by_time{i} = Concat <axis = 0> (steps, behind{i})",
            f"currents{i} = Reshape(z{i}, by_time{i})",
            f"shape{i} = Shape <start = 1> (currents{i})",
            f"start{i} = Expand(bias{i}, shape{i})",
        ]
    lines += [
        f"starts = Sum({', '.join(f'start{i}' for i in membranes)})",
        "shape = Shape(starts)",
        "nothing = ConstantOfShape <value = float[1] {0}> (shape)",
        _vector("worth", q),
        _vector("early", [MUTE] * L + q[: T - L]),
    ]
    listening = [line for i in membranes for line in (f"a{i} = Mul(z{i}_t, u)", f"g{i} = Add(h{i}, a{i})")]
    listening += _said(signature, [f"g{i}" for i in membranes], "y", first=True)
    states = {**{f"h{i}": f"start{i}" for i in membranes}, "p": "nothing"}
    scanned = {**{f"z{i}_t": f"currents{i}" for i in membranes}, "u": "worth", "q": "early"}
    results = [*(f"g{i}" for i in membranes), "paid", "s"]
    made = [*(f"heard{i}" for i in membranes), "sent", "answered"]
    lines.append(_scan(made, states, scanned, results, [*listening, *_spoken("y", signature, coding, opset)]))
    if L == 0:
        return [*lines, "train = Identity(answered)", *FOLDED]
    speaking = _spoken("whole", signature, coding, opset)
    return [
        *lines,
        f"from = Constant <value = int64[1] {{{L}}}> ()",
        f"to = Constant <value = int64[1] {{{T}}}> ()",
        "train_early = Slice(answered, from, to)",
        *_said(signature, [f"heard{i}" for i in membranes], "whole", first=True),
        _vector("late", q[T - L :]),
        _scan(["all_sent", "train_late"], {"p": "sent"}, {"q": "late"}, ["paid", "s"], speaking),
        "train = Concat <axis = 0> (train_early, train_late)",
        *FOLDED,
    ]


def _spoken(target: str, signature: NeuronSignature, coding: Coding, opset: int) -> list[str]:
    """One step of a Scan: the spike ``s`` that `target` causes where ``p`` was sent before, ``paid`` after."""
    return [
        *_potential("", target, "p", partial=ACTIVATIONS[signature.op].partial),
        *_fire("", opset, negative=coding.negative, whole=coding.whole),
        *_sent("", opset),
        "paid = Add(p, w)",
    ]


def _scan(
    made: Sequence[str],
    states: Mapping[str, str],
    scanned: Mapping[str, str],
    results: Sequence[str],
    lines: Sequence[str],
) -> str:
    """A Scan over the first axis; `states` and `scanned` pair names in the body with those outside."""
    inputs = ", ".join(f"float[] {n}" for n in states) + "".join(f", float[] {n}" for n in scanned)
    outputs = ", ".join(f"{'int8' if n == 's' else 'float'}[] {n}" for n in results)
    body = "\n".join(lines)
    arguments = ", ".join([*states.values(), *scanned.values()])
    return (
        f"{', '.join(made)} = Scan <num_scan_inputs = {len(scanned)}, "
        f"body = step ({inputs}) => ({outputs}) {{\n{body}\n}}> ({arguments})"
    )


def _said(signature: NeuronSignature, arguments: list[str], result: str, *, first: bool) -> list[str]:
    """What the spikes should say, in units of theta, of the accumulated inputs."""
    activation = ACTIVATIONS[signature.op]
    value = result if activation.homogeneous else f"{result}_value"
    if activation.reach == "window":
        lines = _pooled(signature, arguments[0], value, first=first)
    else:
        lines = apply(signature, arguments, value)
    return lines if activation.homogeneous else [*lines, f"{result} = Div({value}, theta)"]


def _heard(membranes: Iterable[int], t: int, worth: float) -> list[str]:
    """The membranes ``h<i>_<t>`` with the current of step t; a product with 1 is spared."""
    lines = [] if worth == 1 else [constant(f"u{t}", worth)]
    for i in membranes:
        current = f"z{i}_{t}" if worth == 1 else f"a{i}_{t}"
        lines += [] if worth == 1 else [f"{current} = Mul(z{i}_{t}, u{t})"]
        lines.append(f"h{i}_{t} = Add({f'bias{i}' if t == 1 else f'h{i}_{t - 1}'}, {current})")
    return lines


def apply(signature: NeuronSignature, arguments: list[str], result: str) -> list[str]:
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
    lines += apply(signature, [f"{result}_planes"], f"{result}_pooled")
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
    return parse(op, inputs, ["y"], [name for name, _ in attributes], [line], opset, ACTIVATION_DOMAIN)
