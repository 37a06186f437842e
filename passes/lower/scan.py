"""The target ``scan``: functions with a Scan over time in place of nodes for each step.

The program of `csscc.coding.program`, with time as a loop: one Scan over the steps that bring input, and one over the
spikes that are decided after the last of them, which share a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.program import between, merged_head
from csscc.coding.schedule import Schedule
from csscc.dialect.functions import function_of
from csscc.dialect.model import define_operators
from csscc.dialect.plain import NeuronSignature, Plain
from csscc.dialect.spiking import DOMAIN, Spiking, attributes
from csscc.dialect.text import Body, parse

MUTE = float(np.finfo(np.float32).max) / 4  # a spike with this threshold is never sent


def down(model: onnx.ModelProto) -> onnx.ModelProto:
    """The time-folded network `model` with functions that loop over time (in place)."""
    return define_operators(model, write=scanned_function)


def back(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nothing to undo: nodes are those of a time-folded network."""
    return model


def is_fastest(model: onnx.ModelProto) -> bool:
    """Never by its speed."""
    return False


def scanned_function(
    node: Spiking[str], signature: NeuronSignature | None, opset: int, *, residual: bool = False
) -> onnx.FunctionProto:
    """`csscc.dialect.functions.function_of` with a Scan, of a time-folded network.

    Unrolled as there are neurons over windows and rows, whose attributes decide shapes (ONNX infers those of a Scan's
    body before it knows the node's attributes), readouts, and functions with a residual, which are not for files.
    """
    loops = node.is_encoder and not node.schedule.constant
    if signature is not None:
        loops = ACTIVATIONS[signature.op].scope == "element" and not residual
    if not loops:
        return function_of(node, signature, opset, residual=residual)
    body = Body()
    if signature is None:
        units = Plain(body, node.schedule, opset).units()
        train, inputs = _digits(body, node, opset, units, 1), ["x", "theta"]
    else:
        train, inputs = _neuron(body, node, signature, opset), signature.names
    row = body.add("row", f"Shape <start = 2> ({train})")
    shape = body.add("shape", f"Concat <axis = 0> ({body.integers(-1)}, {row})")
    rows = body.add("rows", f"Reshape({train}, {shape})")
    body.lines.append(f"spikes = Cast <to = {onnx.TensorProto.FLOAT}> ({rows})")
    own = signature.attributes if signature is not None else ()
    names = {*attributes(node.schedule, node.op), *(name for name, _ in own)}
    return parse(node.op, inputs, ["spikes"], names, body.lines, opset, DOMAIN)


def _neuron(body: Body, node: Spiking[str], signature: NeuronSignature, opset: int) -> str:
    """The neuron's spikes ``[T, B, ...]``, int8 but for bursts: those decided while input comes, and those after."""
    s, m = node.schedule, len(node.schedule.merged)
    outer = Plain(body, s, opset, signature)
    currents, starts = [], []
    for z, bias in zip(signature.currents, signature.biases, strict=True):
        row = body.add("row", f"Shape <start = 1> ({z})")
        shape = body.add("shape", f"Concat <axis = 0> ({body.integers(s.T, -1)}, {row})")
        steps = body.add("steps", f"Reshape({z}, {shape})")
        first = [body.add("step", f"Slice({steps}, {body.integers(t)}, {body.integers(t + 1)})") for t in range(m)]
        head = merged_head(outer, s.merged, 1, first)
        rest = body.add("rest", f"Slice({steps}, {body.integers(m)}, {body.integers(s.T)})")
        currents.append(body.add("currents", f"Concat <axis = 0> ({head}, {rest})"))
        starts.append(body.add("start", f"Expand({bias}, {body.add('shape', f'Shape <start = 1> ({steps})')})"))
    total = body.add("starts", f"Sum({', '.join(starts)})")
    shape = body.add("shape", f"Shape({total})")
    nothing = body.add("nothing", f"ConstantOfShape <value = float[1] {{0}}> ({shape})")
    step = Body(within=body)
    inner = Plain(step, s, opset, signature)
    received = [inner.plus(f"h{i}", f"z{i}_t", "u") for i in range(1, signature.inputs + 1)]
    spike = inner.fire(inner.potential(inner.target(received), "p"), "c")
    left = inner.with_spike("p", spike, "q")
    # Spike k = t - L is decided at step t; that of the last step begins the shared target, and waits.
    muted, early = s.T - m + 1 - s.shared, slice(s.shared - 1)
    states = {**{f"h{i}": start for i, start in enumerate(starts, 1)}, "p": nothing}
    scanned = {f"z{i}_t": current for i, current in enumerate(currents, 1)}
    scanned |= {"u": body.vector(s.weights[m - 1 :])}
    scanned |= {n: body.vector([*[idle(n, s)] * muted, *v[early], idle(n, s)]) for n, v in _tables(s).items()}
    made = [f"total{i}" for i in range(1, signature.inputs + 1)]
    results, int8 = [*received, left, spike], _int8(s, spike)
    body.lines.append(_scan([*made, "sent", "answered"], states, scanned, results, step, int8))
    rest = outer.potential(outer.target(made), "sent")
    if s.rounded:
        rounded = outer.nearest(rest, 1.0, *s.whole(s.shared))
        late = _digits(body, node, opset, between(outer, rest, rounded), s.shared)
    else:
        late = _late(body, node, signature, opset, outer.target(made))
    if s.shared == 1:
        return late
    start, end = body.integers(muted), body.integers(muted + s.shared - 1)
    return body.add("train", f"Concat <axis = 0> ({body.add('early', f'Slice(answered, {start}, {end})')}, {late})")


def _digits(body: Body, node: Spiking[str], opset: int, value: str, first: int) -> str:
    """Spikes ``[steps, B, ...]``, int8 but for bursts, from number `first` on, that send one value."""
    step = Body(within=body)
    ops = Plain(step, node.schedule, opset)
    spike = ops.fire("o", "c")
    left = ops.left("o", spike, "q")
    made = [body.name("over"), body.name("digits")]
    int8 = _int8(node.schedule, spike)
    body.lines.append(_scan(made, {"o": value}, _numbers(body, node, first), [left, spike], step, int8))
    return made[1]


def _int8(s: Schedule, spike: str) -> set[str]:
    """The spike, if it is one of int8."""
    return set() if s.burst else {spike}


def _numbers(body: Body, node: Spiking[str], first: int) -> dict[str, str]:
    """The numbers that change with the step, for the spikes from number `first` on."""
    return {name: body.vector(numbers[first - 1 :]) for name, numbers in _tables(node.schedule).items()}


def idle(table: str, s: Schedule) -> float:
    """The number of one of `_tables` at steps at which nothing is sent."""
    return 0.0 if table == "c" and s.burst else MUTE


def _tables(s: Schedule) -> dict[str, tuple[float, ...]]:
    """Numbers that change with the step: weights q, and what a potential is compared with, c."""
    return {"q": s.weights, "c": s.decides}


def _late(body: Body, node: Spiking[str], signature: NeuronSignature, opset: int, target: str) -> str:
    """Spikes ``[steps, B, ...]``, int8 but for bursts, that share a target."""
    step = Body(within=body)
    ops = Plain(step, node.schedule, opset, signature)
    spike = ops.fire(ops.potential(target, "p"), "c")
    left = ops.with_spike("p", spike, "q")
    made = [body.name("over"), body.name("late")]
    numbers = _numbers(body, node, node.schedule.shared)
    body.lines.append(_scan(made, {"p": "sent"}, numbers, [left, spike], step, _int8(node.schedule, spike)))
    return made[1]


def _scan(
    made: Sequence[str],
    states: Mapping[str, str],
    scanned: Mapping[str, str],
    results: Sequence[str],
    step: Body,
    int8: set[str],
) -> str:
    """A Scan over the first axis; `states` and `scanned` pair names in the body with those outside."""
    inputs = ", ".join(f"float[] {n}" for n in states) + "".join(f", float[] {n}" for n in scanned)
    outputs = ", ".join(f"{'int8' if n in int8 else 'float'}[] {n}" for n in results)
    arguments = ", ".join([*states.values(), *scanned.values()])
    lines = "\n".join(step.lines)
    return (
        f"{', '.join(made)} = Scan <num_scan_inputs = {len(scanned)}, "
        f"body = step ({inputs}) => ({outputs}) {{\n{lines}\n}}> ({arguments})"
    )
