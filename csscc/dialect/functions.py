"""The csscc operators as ONNX functions of standard operators only, with nodes for each step.

A core tensor holds the slabs of its train in its batch axis, in order: ``[slabs*B, ...]``; time-folded, when every
step is a slab, ``[T*B, ...]``. Splitting axis 0 into equal parts gives the slabs without a known shape. The bodies are
`csscc.coding.program`, written in plain operators. A runtime that registers a kernel of the same name and domain uses
that instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

import onnx

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.program import Train, encoder, merged_head, neuron
from csscc.coding.schedule import Schedule
from csscc.dialect.plain import NeuronSignature, Plain, body_text
from csscc.dialect.spiking import ACTIVATION_DOMAIN, DECODE, DOMAIN, Spiking, attributes
from csscc.dialect.text import Body, parse, split


class FunctionWriter(Protocol):
    """Writes the function of a spiking node: `signature` is that of a neuron, None for any other node."""

    def __call__(
        self, node: Spiking[str], signature: NeuronSignature | None, opset: int, *, residual: bool = False
    ) -> onnx.FunctionProto:
        """The function; with `residual`, what stays unsent is a neuron's second output."""


def function_of(
    node: Spiking[str], signature: NeuronSignature | None, opset: int, *, residual: bool = False
) -> onnx.FunctionProto:
    """ONNX function of a spiking node, time folded into the batch; what it reads is no part of that."""
    function = onnx.FunctionProto()
    function.CopyFrom(_function(node.op, node.schedule, node.reads, node.sends, signature, opset, residual))
    return function


@lru_cache(maxsize=256)
def _function(
    op: str,
    schedule: Schedule,
    reads: int,
    sends: Train,
    signature: NeuronSignature | None,
    opset: int,
    residual: bool,
) -> onnx.FunctionProto:
    """Kept, since a compile asks for the same functions again after every pass."""
    node: Spiking[str] = Spiking("", op, [], schedule, reads, sends)
    if node.is_readout:
        return _decode(node, opset)
    body = Body()
    ops = Plain(body, node.schedule, opset, signature)
    if node.is_encoder:
        return _define(node, ["x", "theta"], body, encoded(body, ops, node), opset)
    if signature is None:
        parts = split(body, "z1", node.schedule.T - node.reads + 1, opset)
        head = merged_head(ops, node.schedule.merged, node.reads, parts)
        slabs = [head, *parts[len(node.schedule.merged) - node.reads + 1 :]]
        return _define(node, ["z1"], body, slabs, opset)
    currents = [split(body, z, node.schedule.T - node.reads + 1, opset) for z in signature.currents]
    slabs, unsent = neuron(
        ops, node.schedule, node.sends, currents, signature.biases, reads=node.reads, residual=residual
    )
    return _define(node, signature.names, body, slabs, opset, unsent, signature.attributes)


def encoded(body: Body, ops: Plain, node: Spiking[str]) -> list[str]:
    """The slabs that an encoder sends of a value ``x``: spikes, or the same part of it at each step."""
    units = ops.units()
    if not node.schedule.constant:
        return encoder(ops, node.schedule, node.sends, units)
    return [body.add("part", f"Mul({units}, {body.number(1 / node.schedule.levels)})")] * node.schedule.T


def _define(
    node: Spiking[str],
    inputs: Sequence[str],
    body: Body,
    slabs: Sequence[str],
    opset: int,
    unsent: str | None = None,
    own: Iterable[tuple[str, str]] = (),
) -> onnx.FunctionProto:
    """The function of a body that makes `slabs`, which become one tensor."""
    body.lines.append(f"spikes = Concat <axis = 0> ({', '.join(slabs)})")
    outputs = ["spikes"]
    if unsent is not None:
        body.let("residual", unsent)
        outputs.append("residual")
    names = {*attributes(node.schedule, node.op), *(name for name, _ in own)}
    return parse(node.op, inputs, outputs, names, body.lines, opset, DOMAIN)


def _decode(node: Spiking[str], opset: int) -> onnx.FunctionProto:
    """Readout, see `csscc.coding.oracle.decode`: one product of matrices, or the value of one slab."""
    body = Body()
    weights = node.schedule.weights[node.reads - 1 :]
    if len(weights) == 1:
        total = "z" if weights[0] == 1 else body.add("total", f"Mul(z, {body.number(weights[0])})")
    else:
        free, first = body.integers(-1), body.integers(len(weights), -1)
        row = body.add("row", f"Reshape({body.vector(weights)}, {body.integers(1, len(weights))})")
        rows = body.add("rows", f"Reshape(z, {first})")
        product = body.add("product", f"MatMul({row}, {rows})")
        shape = body.add("shape", f"Concat <axis = 0> ({free}, {body.add('rest', 'Shape <start = 1> (z)')})")
        total = body.add("total", f"Reshape({product}, {shape})")
    body.lines.append(f"y = Add({total}, bias)")
    return parse(DECODE, ["z", "bias"], ["y"], attributes(node.schedule, DECODE), body.lines, opset, DOMAIN)


def activation_definition(op: str, own: tuple[tuple[str, str], ...], parameters: int, opset: int) -> onnx.FunctionProto:
    """A composed activation as a function of its own, for the ANN before its neurons are inserted."""
    data = ["x", *(f"x{i}" for i in range(2, ACTIVATIONS[op].inputs + 1))]
    inputs = [*data, *(f"param{i}" for i in range(1, parameters + 1))]
    references = ", ".join(f"{name} : {kind} = @{name}" for name, kind in own)
    line = body_text(ACTIVATIONS[op].body, f"<{references}>" if references else "", {n: n for n in data}, "y")
    return parse(op, inputs, ["y"], [name for name, _ in own], [line], opset, ACTIVATION_DOMAIN)
