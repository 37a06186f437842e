"""Operators of a network in steps, as ONNX functions: a tensor ``[B, ...]`` for each slab of a train.

Encode(x, theta)                                 -> spikes, slab by slab
TSA<Op>(slabs of z1, bias1, theta, ...)          -> spikes, slab by slab
Merge(slabs)                                     -> fewer slabs
<Op>(slabs of x, ..., constants)                 -> the standard operator Op on each slab
Stack(slabs of x) -> x [slabs*B, ...],  Unstack(x) -> slabs of x
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import helper

from csscc.coding.program import merged_head, neuron
from csscc.dialect.functions import encoded
from csscc.dialect.plain import NeuronSignature, Plain
from csscc.dialect.spiking import STEPS_DOMAIN, Spiking, attributes
from csscc.dialect.text import Body, parse, parts, split
from csscc.passes.lower import powers_of_two
from csscc.passes.lower.blocks import Blocks, Depthwise
from csscc.passes.lower.convolved import Convolved, Images

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

    @property
    def stepped(self) -> list[int]:
        """How each input is given, as a node states it: 1 in steps, 0 plain, -1 absent."""
        return [{"stepped": 1, "plain": 0, "absent": -1}[given] for given in self.inputs]


def signature_in_steps(node: onnx.NodeProto, trains: Container[str]) -> StepsSignature:
    """The signature of a standard operator whose inputs in `trains` are given in steps."""
    given: list[Given] = ["stepped" if n in trains else "plain" if n else "absent" for n in node.input]
    return StepsSignature(node.op_type, tuple(given), len(node.output), tuple((a.name, a.type) for a in node.attribute))


def convolution(signature: StepsSignature, images: Images, node: onnx.NodeProto) -> tuple[Convolved | None, int]:
    """The convolution that computes a node, and the channels of its image; None if there is none."""
    if not signature.inputs.count("stepped") == 1 == signature.outputs:
        return None, 0
    data = signature.inputs.index("stepped")
    return images.convolved(node, data), images.channels(node.input[data])


def operator_in_steps(signature: StepsSignature, slabs: int, opset: int) -> onnx.FunctionProto:
    """A standard operator on each slab."""
    outputs = [parts(f"y{i}", slabs) for i in range(signature.outputs)]
    nodes = []
    for t in range(slabs):
        names = {"stepped": f"x{{}}_at{t + 1}", "plain": "x{}", "absent": ""}
        read = [names[given].format(i) for i, given in enumerate(signature.inputs)]
        node = helper.make_node(signature.op, read, [train[t] for train in outputs])
        for name, kind in signature.attributes:
            node.attribute.add(name=name, ref_attr_name=name, type=kind)
        nodes.append(node)
    return helper.make_function(
        STEPS_DOMAIN,
        signature.op,
        _inputs(signature, slabs),
        [name for train in outputs for name in train],
        nodes,
        [helper.make_opsetid("", opset)],
        ["slabs", "stepped", *(name for name, _ in signature.attributes)],
    )


def convolved_in_steps(
    signature: StepsSignature, slabs: int, opset: int, convolved: Convolved
) -> onnx.FunctionProto:
    """A standard operator of one image in steps, on each slab, for the layout of convolutions."""
    body = Body()
    convolve = Depthwise(body)
    made = [convolved.write(convolve, x) for x in parts(f"x{signature.inputs.index('stepped')}", slabs)]
    names = ["slabs", "stepped", "channels", *(name for name, _ in signature.attributes)]
    return _define(signature.op, _inputs(signature, slabs), body, made, names, opset)


def _inputs(signature: StepsSignature, slabs: int) -> list[str]:
    inputs: list[str] = []
    for i, given in enumerate(signature.inputs):
        inputs += parts(f"x{i}", slabs) if given == "stepped" else [f"x{i}"] if given == "plain" else []
    return inputs


def stack_function(slabs: int, opset: int) -> onnx.FunctionProto:
    """From a tensor a slab to one."""
    x = parts("x", slabs)
    return parse("Stack", x, ["y"], ["slabs"], [f"y = Concat <axis = 0> ({', '.join(x)})"], opset, STEPS_DOMAIN)


def unstack_function(slabs: int, opset: int) -> onnx.FunctionProto:
    """From one tensor to one a slab."""
    body = Body()
    y = split(body, "y", slabs, opset)
    lines = [line.replace("(y)", "(x)") for line in body.lines]
    return parse("Unstack", ["x"], y, ["slabs"], lines, opset, STEPS_DOMAIN)


def encoder_in_steps(node: Spiking[str], opset: int) -> onnx.FunctionProto:
    """The encoder, see `csscc.dialect.functions`."""
    body = Body()
    slabs = _head_apart(body, node, encoded(body, Plain(body, node.schedule, opset), node))
    return _define(node.op, ["x", "theta"], body, slabs, attributes(node.schedule, node.op), opset)


def merge_in_steps(node: Spiking[str], opset: int) -> onnx.FunctionProto:
    """Fewer slabs of the same train."""
    body = Body()
    x, merged = parts("x", node.schedule.T - node.reads + 1), node.schedule.merged
    head = merged_head(Plain(body, node.schedule, opset), merged, node.reads, x)
    slabs = [head, *x[len(merged) - node.reads + 1 :]]
    return _define(node.op, x, body, slabs, attributes(node.schedule, node.op), opset)


def neuron_in_steps(node: Spiking[str], signature: NeuronSignature, opset: int, *, blocks: bool) -> onnx.FunctionProto:
    """A neuron, see `csscc.dialect.functions`.

    With `blocks` it is written for the layout of onnxruntime's convolutions; for activations that exist there, of
    currents ``[B, C, H, W]`` with C a multiple of `LANES`, and biases that are one number or one a channel. C is the
    attribute ``channels``.
    """
    body, s = Body(), node.schedule
    given = [parts(z, s.T - node.reads + 1) for z in signature.currents]
    inputs = [n for z, bias in zip(given, signature.biases, strict=True) for n in (*z, bias)]
    names = {*attributes(s, node.op), *(name for name, _ in signature.attributes), *(["channels"] if blocks else [])}
    if blocks:
        algebra = powers_of_two.PowersOfTwo if powers_of_two.applies(s) else Blocks
        ops = algebra(body, s, node.sends, signature)
        slabs, _ = neuron(ops, s, node.sends, given, [ops.bias(b) for b in signature.biases], reads=node.reads)
    else:
        currents = [_apart(body, z) for z in given]
        plain = Plain(body, s, opset, signature, likeness=given[0][0])
        slabs, _ = neuron(plain, s, node.sends, currents, signature.biases, reads=node.reads)
        slabs = _head_apart(body, node, slabs)
    return _define(node.op, [*inputs, "theta", *signature.parameter_names], body, slabs, names, opset)


def _apart(body: Body, slabs: list[str]) -> list[str]:
    """Currents as the neuron reads them: apart from the convolution or product that made them.

    onnxruntime would multiply its weights by the weight of the step, and their sums would no longer be exact. A Reshape
    to the shape that a tensor has costs nothing, and nothing is fused over it.
    """
    shape = body.add("shape", f"Shape({slabs[0]})")
    return [body.add("apart", f"Reshape({slab}, {shape})") for slab in slabs]


def _head_apart(body: Body, node: Spiking[str], slabs: list[str]) -> list[str]:
    """Slabs of a train, the sum of its first steps apart from the division that made it, for the same reason."""
    return slabs if node.sends.steps == 1 else [*_apart(body, slabs[:1]), *slabs[1:]]


def _define(
    op: str, inputs: list[str], body: Body, slabs: list[str], names: Iterable[str], opset: int
) -> onnx.FunctionProto:
    outputs = parts("y", len(slabs))
    for output, slab in zip(outputs, slabs, strict=True):
        body.let(output, slab)
    return parse(op, inputs, outputs, names, body.lines, opset, STEPS_DOMAIN)
