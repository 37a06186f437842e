"""Operators of a network in steps, as ONNX functions: T tensors ``[B, ...]`` in place of one ``[T*B, ...]``.

    Encode(x, theta)                                 -> spikes at each step
    TSA<Op>(z1 at each step, bias1, theta, ...)      -> spikes at each step
    <Op>(x at each step, ..., constants)             -> the standard operator Op at each step
    Stack(x at each step) -> x [T*B, ...],  Unstack(x [T*B, ...]) -> x at each step

On a CPU, onnxruntime convolves in a layout of its own, channels in blocks of 8 or 16, and brings tensors into that
layout and back wherever an operator stands that does not know it. Of a neuron's usual operators it knows few. But it
knows convolutions, and a depthwise convolution with windows of one element is a product with a number and a sum with
another. So neurons whose channels fill whole blocks are written in those, and nothing is brought back:

    a = Conv <group = C> (z, q)            q * z
    y = Conv <group = C> (x, k, b)         k * x + b, where the product is rounded before the sum, as everywhere here

Every operation still is one IEEE operation on one element, the same as in `csscc.dialect.functions`, or one that
decides alike, so the spikes are the same bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import helper

from csscc.coding.coding import Coding
from csscc.dialect.functions import (
    CODING_ATTRIBUTES,
    NeuronSignature,
    apply,
    constant,
    encoded,
    parse,
    parts,
    split,
    step_by_step,
    tsa_op,
    with_constants,
)

STEPS_DOMAIN = "csscc.steps"
STEPS_DOMAIN_VERSION = 1
LANES = 16  # channels of a block, or of two, on any processor
MAGIC = 1.5 * 2.0**23  # adding it rounds what is small to a whole number, halves to the even one
SHARP = 2.0**25  # makes the least difference between a potential and a threshold, 2**-24, larger than 1

Given = Literal["stepped", "plain", "absent"]


@dataclass(frozen=True)
class StepsSignature:
    """What the function of a standard operator in steps must accept.

    Attributes:
        op: the operator.
        inputs: how each of its inputs is given.
        outputs: how many it has.
        attributes: names and `onnx.AttributeProto` types of its attributes.
    """

    op: str
    inputs: tuple[Given, ...]
    outputs: int
    attributes: tuple[tuple[str, int], ...]


def operator_in_steps(signature: StepsSignature, steps: int, opset: int) -> onnx.FunctionProto:
    """A standard operator at each step."""
    inputs: list[str] = []
    for i, given in enumerate(signature.inputs):
        inputs += parts(f"x{i}", steps) if given == "stepped" else [f"x{i}"] if given == "plain" else []
    outputs = [parts(f"y{i}", steps) for i in range(signature.outputs)]
    nodes = []
    for t in range(1, steps + 1):
        names = {"stepped": "x{}_{}", "plain": "x{}", "absent": ""}
        read = [names[given].format(i, t) for i, given in enumerate(signature.inputs)]
        node = helper.make_node(signature.op, read, [train[t - 1] for train in outputs])
        for name, kind in signature.attributes:
            node.attribute.add(name=name, ref_attr_name=name, type=kind)
        nodes.append(node)
    return helper.make_function(
        STEPS_DOMAIN,
        signature.op,
        inputs,
        [name for train in outputs for name in train],
        nodes,
        [helper.make_opsetid("", opset)],
        ["T", "stepped", *(name for name, _ in signature.attributes)],
    )


def stack_function(steps: int, opset: int) -> onnx.FunctionProto:
    """From T tensors to one."""
    x = parts("x", steps)
    return parse("Stack", x, ["y"], ["T"], [f"y = Concat <axis = 0> ({', '.join(x)})"], opset, STEPS_DOMAIN)


def unstack_function(steps: int, opset: int) -> onnx.FunctionProto:
    """From one tensor to T."""
    y = parts("y", steps)
    return parse("Unstack", ["x"], y, ["T"], [split("x", y, opset)], opset, STEPS_DOMAIN)


def encoder_in_steps(coding: Coding, opset: int) -> onnx.FunctionProto:
    """The encoder, see `csscc.dialect.functions.encode_function`."""
    spikes = parts("spikes", coding.T)
    if coding.constant_input:
        lines = [constant("share", 1 / coding.T), "units = Div(x, theta)"]
        lines += [f"{spike} = Mul(units, share)" for spike in spikes]
    else:
        lines = with_constants([*encoded(coding, opset), *_floats(coding.T)])
    attributes = ("T", "beta", "signed_input")
    return parse("Encode", ["x", "theta"], spikes, attributes, lines, opset, STEPS_DOMAIN)


def neuron_in_steps(signature: NeuronSignature, coding: Coding, opset: int, *, blocks: bool) -> onnx.FunctionProto:
    """A neuron, see `csscc.dialect.functions.tsa_function`.

    With `blocks` it is written for the layout of onnxruntime's convolutions; for activations that exist there, of
    currents ``[B, C, H, W]`` with C a multiple of `LANES`, and biases that are one number or one a channel. C is the
    attribute ``channels``.
    """
    membranes = range(1, signature.inputs + 1)
    current = "z" if blocks else "given"
    inputs = [n for i in membranes for n in (*parts(f"{current}{i}", coding.T), f"bias{i}")]
    inputs += ["theta", *(f"param{i}" for i in range(1, signature.parameters + 1))]
    if blocks:
        lines = _in_blocks(signature, coding)
    else:
        lines = with_constants([*_apart(signature.inputs, coding.T), *step_by_step(signature, coding, opset)])
        lines += _floats(coding.T)
    names = {*CODING_ATTRIBUTES, *(name for name, _ in signature.attributes), *(["channels"] if blocks else [])}
    return parse(tsa_op(signature.op), inputs, parts("spikes", coding.T), names, lines, opset, STEPS_DOMAIN)


def scale_in_steps(factor: int, steps: int, opset: int) -> onnx.FunctionProto:
    """A product with one number, or one a channel, input `factor` of two, for the layout of convolutions."""
    lines = [
        *_CHANNELS,
        "rows = Reshape(factor, open_row)",
        "each = Expand(rows, row)",
        "filters = Reshape(each, filter_shape)",
        *(f"y_{t} = {_CONV} (x_{t}, filters)" for t in range(1, steps + 1)),
    ]
    inputs = ["factor", *parts("x", steps)] if factor == 0 else [*parts("x", steps), "factor"]
    return parse("Mul", inputs, parts("y", steps), ["T", "stepped", "channels"], lines, opset, STEPS_DOMAIN)


def _apart(membranes: int, steps: int) -> list[str]:
    """Currents as the neuron reads them: apart from the convolution or product that made them.

    onnxruntime would multiply its weights by what the step is worth, and their sums would no longer be exact. A Reshape
    to the shape that a tensor has costs nothing, and nothing is fused over it.
    """
    lines = []
    for i in range(1, membranes + 1):
        lines.append(f"shape{i} = Shape(given{i}_1)")
        lines += [f"z{i}_{t} = Reshape(given{i}_{t}, shape{i})" for t in range(1, steps + 1)]
    return lines


def _floats(steps: int) -> list[str]:
    return [f"spikes_{t} = Cast <to = {onnx.TensorProto.FLOAT}> (s{t})" for t in range(1, steps + 1)]


_CONV = "Conv <group : int = @channels, kernel_shape = [1, 1]>"
_CHANNELS = (
    "number = Constant <value_int : int = @channels> ()",
    "vector = Constant <value_ints = [-1]> ()",
    "one = Constant <value_ints = [1]> ()",
    "open_row = Constant <value_ints = [-1, 1, 1]> ()",
    "count = Reshape(number, vector)",
    "row = Concat <axis = 0> (count, one, one)",
    "filter_shape = Concat <axis = 0> (row, one)",
)


class _Blocks:
    """Lines of a function body, with the filters and offsets of its depthwise convolutions, each defined once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._made: dict[tuple[str, float], str] = {}

    def affine(self, result: str, x: str, factor: float, offset: float | str | None = None) -> None:
        """``result = factor * x + offset``."""
        given = [x, self._spread(factor, "filter_shape")]
        if offset is not None:
            given.append(offset if isinstance(offset, str) else self._spread(offset, "count"))
        self.lines.append(f"{result} = {_CONV} ({', '.join(given)})")

    def clip(self, result: str, x: str, least: float, most: float) -> None:
        """``result``: `x` within bounds."""
        self.lines.append(f"{result} = Clip({x}, {self._number(least)}, {self._number(most)})")

    def _spread(self, value: float, shape: str) -> str:
        if (shape, value) not in self._made:
            name = self._made[shape, value] = f"spread{len(self._made)}"
            self.lines.append(f"{name} = Expand({self._number(value)}, {shape})")
        return self._made[shape, value]

    def _number(self, value: float) -> str:
        if ("", value) not in self._made:
            name = self._made["", value] = f"number{len(self._made)}"
            self.lines.append(constant(name, value))
        return self._made["", value]


def _in_blocks(signature: NeuronSignature, coding: Coding) -> list[str]:
    """A neuron of one input whose activation is homogeneous, see `csscc.dialect.functions.step_by_step`.

    In a sum, what was just multiplied comes first: onnxruntime lets that convolution add the other. A Sum, since where
    there are no blocks, it would make one matrix product of such a convolution, an Add and a Relu, and round once.
    """
    T, L, q = coding.T, coding.silent, coding.weights.tolist()
    body = _Blocks()
    body.lines += [*_CHANNELS, "rows = Reshape(bias1, open_row)", "each = Expand(rows, row)"]
    body.lines.append("bias = Reshape(each, vector)")
    for t in range(1, T + L + 1):
        if t == 1:
            body.affine("h1", "z1_1", q[0], "bias")
        elif t <= T:
            body.affine(f"a{t}", f"z1_{t}", q[t - 1])
            body.lines.append(f"h{t} = Sum(a{t}, h{t - 1})")
        k = t - L
        if k < 1:
            continue
        if t <= T or k == 1:
            target = f"y{k}"
            body.lines += apply(signature, [f"h{min(t, T)}"], target)
        body.lines.append(f"o{k} = Add({target}, n{k - 1})" if k > 1 else f"o1 = Identity({target})")
        _fire(body, k, q[k - 1], coding)
        if k < T:
            body.affine(f"w{k}" if k > 1 else "n1", f"spikes_{k}", -q[k - 1])
            body.lines += [f"n{k} = Sum(w{k}, n{k - 1})"] if k > 1 else []
    return body.lines


def _fire(body: _Blocks, k: int, worth: float, coding: Coding) -> None:
    """Spike k of the potential ``o<k>``, see `csscc.coding.oracle.fire`.

    Where a float32 is close enough to ``1 / worth``, a potential is multiplied by it, and rounded by an addition.
    Elsewhere its distance to each threshold is made larger than any spike, and cut off.
    """
    per_worth = reciprocal(worth)
    if coding.negative and per_worth is not None:
        body.affine(f"r{k}", f"o{k}", per_worth, MAGIC)
        body.clip(f"c{k}", f"r{k}", MAGIC - 1, MAGIC + 1)
        body.affine(f"spikes_{k}", f"c{k}", 1.0, -MAGIC)
        return
    threshold = np.nextafter(np.float32(worth), np.float32(0)) if coding.whole else np.float32(worth / 2)
    positive = f"p{k}" if coding.negative else f"spikes_{k}"
    body.affine(f"f{k}", f"o{k}", SHARP, -float(threshold) * SHARP)
    body.clip(positive, f"f{k}", 0.0, 1.0)
    if coding.negative:
        body.affine(f"g{k}", f"o{k}", SHARP, float(threshold) * SHARP)
        body.clip(f"m{k}", f"g{k}", -1.0, 0.0)
        body.lines.append(f"spikes_{k} = Add(p{k}, m{k})")


def reciprocal(worth: float) -> float | None:
    """A float32 whose rounded product with a float32 is above 1/2 exactly where that is above half of `worth`.

    Products grow with what is multiplied, so the two numbers next to the threshold decide. None if there is no such
    number: the floats are then too coarse about ``1 / worth``.
    """
    half = np.float32(worth / 2)
    above = np.nextafter(half, np.float32(np.inf))
    nearest = np.float32(1 / worth)
    for number in (nearest, np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf))):
        if half * number <= np.float32(0.5) < above * number:
            return float(number)
    return None
