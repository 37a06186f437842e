"""The target ``stream``: one time step a run. What the network remembers is given to a run and comes back from it.

    time-folded:  z [T*B, ...] = Conv(s, W)   n [T*B, ...] = TSARelu(z, bias, theta)
    a stream:     z [B, ...] = Conv(s, W)   n [B, ...], membrane', sent' = TSARelu(z, bias, theta, step, membrane, sent)

Here silent steps pass: a neuron sends spike k at step k + L of its input. So each node has a ``depth``, the step after
which its input begins, and where trains of unequal depth meet, early ones are delayed. Numbers that change with the
step stand in tables: outside its input a node receives nothing, and outside its train it does not fire.
"""

from __future__ import annotations

from copy import deepcopy

import onnx
from onnx import TensorProto, helper

from csscc.coding.program import between
from csscc.dialect.model import add_functions, copy_of, define_operators, in_stream, opset_of, refuse_other_version
from csscc.dialect.plain import NeuronSignature, Plain
from csscc.dialect.spiking import DELAY, DOMAIN, NEXT, STEP, STREAM_DOMAIN, Spiking, attributes, spiking
from csscc.dialect.text import Body, parse
from csscc.passes.lower.scan import idle


def down(model: onnx.ModelProto) -> onnx.ModelProto:
    """One step of the time-folded network `model`."""
    made = define_operators(copy_of(model), write=step_function)
    graph, begins = made.graph, dict[str, int]()  # the step after which the train of a tensor begins
    nodes, shapes = list[onnx.NodeProto](), {v.name: v.type.tensor_type.shape.dim for v in graph.value_info}
    graph.input.append(helper.make_tensor_value_info(STEP, TensorProto.INT64, []))

    def add(node: onnx.NodeProto, states: dict[str, str], steps: tuple[int, ...] = ()) -> None:
        """A node that remembers what is shaped as other tensors, or as so many `steps` of them."""
        for state, like in states.items():
            shape = [*steps, *(d.dim_value or d.dim_param for d in shapes[like])]
            for names, values, end in ((node.input, graph.input, ""), (node.output, graph.output, NEXT)):
                names.append(f"{node.name}.{state}{end}")
                values.append(helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape))
        nodes.append(node)

    for node in map(deepcopy, graph.node):
        view, before = spiking(node), [begins[name] for name in node.input if name in begins]
        states, depth = _states(view, node.output[0]) if view is not None else {}, max(before, default=0)
        if view is None and before:
            begins |= dict.fromkeys(node.output, depth)
        for i, name in enumerate(node.input):
            early = depth - begins.get(name, depth)
            if early:
                node.input[i] = later = f"{name}_later_{early}"
                if later not in begins:
                    delay = helper.make_node(DELAY, [name], [later], later, domain=STREAM_DOMAIN)
                    add(delay, {"held": name}, (early,))
                    begins[later] = depth
        if view is not None:
            node.domain = STREAM_DOMAIN
            node.attribute.append(helper.make_attribute("depth", depth))
            node.input.append(STEP)
            if not view.is_readout:
                begins[node.output[0]] = depth + view.schedule.silent
        add(node, states)
    del graph.node[:]
    graph.node.extend(nodes)
    return add_functions(made, [_delay(opset_of(made))] if any(n.op_type == DELAY for n in nodes) else [])


def back(model: onnx.ModelProto) -> onnx.ModelProto:
    """The time-folded network of a stream; any other model as it is.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    refuse_other_version(model)
    if not in_stream(model):
        return model
    made, sources = copy_of(model), dict[str, str]()
    given, returned = {i.name for i in model.graph.input}, {o.name for o in model.graph.output}
    del made.graph.node[:], made.graph.input[:], made.graph.output[:], made.functions[:]
    made.graph.input.extend(i for i in model.graph.input if i.name != STEP and i.name + NEXT not in returned)
    made.graph.output.extend(o for o in model.graph.output if o.name.removesuffix(NEXT) not in given)
    made.functions.extend(f for f in model.functions if f.domain != STREAM_DOMAIN)
    for node in map(deepcopy, model.graph.node):
        node.input[:] = [sources.get(name, name) for name in node.input]
        if node.domain == STREAM_DOMAIN and node.op_type == DELAY:
            sources[node.output[0]] = node.input[0]
            continue
        if node.domain == STREAM_DOMAIN:
            node.domain = DOMAIN
            del node.input[list(node.input).index(STEP) :], node.output[1:]
            del node.attribute[[a.name for a in node.attribute].index("depth")]
        made.graph.node.append(node)
    made.opset_import.remove(next(o for o in made.opset_import if o.domain == STREAM_DOMAIN))
    return define_operators(made)


def is_fastest(model: onnx.ModelProto) -> bool:
    """Never by its speed."""
    return False


def step_function(
    node: Spiking[str], signature: NeuronSignature | None, opset: int, *, residual: bool = False
) -> onnx.FunctionProto:
    """ONNX function of one step of a spiking node, which gives its states back; files have no `residual`."""
    body, s, states = Body(), node.schedule, _states(node, "")
    ops, L, m = Plain(body, s, opset, signature, "z1"), s.silent, len(s.merged)
    local = body.add("local", f"Sub(step, {body.add('depth', 'Constant <value_int : int = @depth> ()')})")
    t = body.add("t", f"Clip({local}, {body.integer(0)}, {body.integer(s.T + L + 1)})")

    def now(*table: float) -> str:
        return body.add("now", f"Gather({body.vector(table)}, {t})")

    def choose(test: str, at: int, value: str, other: str) -> str:
        return body.add("chosen", f"Where({body.add('test', f'{test}({t}, {body.integer(at)})')}, {value}, {other})")

    if node.is_readout:
        inputs, total = ["z", "bias"], ops.plus("total", "z", now(0, *s.weights, 0))
        made = [body.add("y", f"Add({total}, bias)"), total]
    elif signature is None:
        inputs, units = ["x", "theta"], ops.units()
        if s.constant:
            made = [ops.plus(None, units, now(0, *[1 / s.levels] * s.T, 0))]
        else:
            q, rest = now(0, *s.weights, 0), choose("Equal", 1, units, "rest")
            spike = ops.fire(rest, now(idle("c", s), *s.decides, idle("c", s)))
            made = [ops.step(spike), ops.left(rest, spike, q)]
    else:
        inputs, receives = signature.names, now(0, *s.merged, *s.weights[m:], *[0.0] * (L + 1))
        membranes = []
        for state, z, bias in zip(states, signature.currents, signature.biases, strict=False):
            received = ops.plus(state, z, receives)
            membranes.append(choose("Equal", m, ops.plus(bias, received, s.weights[m - 1]), received))
        q, potential = now(*[0.0] * (L + 1), *s.weights, 0), ops.potential(ops.target(membranes), "sent")
        decides = now(*[idle("c", s)] * (L + 1), *s.decides, idle("c", s))
        if s.rounded:  # `sent` is then what is left of the rounded value
            rounded = ops.nearest(potential, 1.0, *s.whole(s.shared))
            rest = choose("Equal", s.shared + L, between(ops, potential, rounded), "sent")
            potential = choose("GreaterOrEqual", s.shared + L, rest, potential)
        spike = ops.fire(potential, decides)
        sent = ops.with_spike("sent", spike, q)
        if s.rounded:
            sent = choose("GreaterOrEqual", s.shared + L, ops.left(potential, spike, q), sent)
        made = [ops.step(spike), *membranes, sent]
    outputs = ["y", *(f"{state}_next" for state in states)]
    for output, value in zip(outputs, made, strict=True):
        body.let(output, value)
    names = {*attributes(s, node.op), "depth", *(name for name, _ in (signature.attributes if signature else ()))}
    return parse(node.op, [*inputs, "step", *states], outputs, names, body.lines, opset, STREAM_DOMAIN)


def _states(node: Spiking[str], output: str) -> dict[str, str]:
    """What a node remembers, each with a tensor of its shape; `output` is what the node makes."""
    if node.is_readout:
        return {"total": node.current[0]}
    if node.is_encoder:
        return {} if node.schedule.constant else {"rest": output}
    return {f"membrane{i}": z for i, z in enumerate(node.current, 1)} | {"sent": output}


def _delay(opset: int) -> onnx.FunctionProto:
    """What was held longest, and what is held then; axis 0 is time."""
    body = Body()
    row = body.add("row", f"Unsqueeze(x, {body.integers(0)})")
    before = body.add("before", f"Expand(held, {body.add('shape', f'Shape({row})')})")  # at first one sample's zeros
    held = body.add("held", f"Concat <axis = 0> ({before}, {row})")
    body.lines.append(f"y = Gather({held}, {body.integer(0)})")
    body.lines.append(f"held_next = Slice({held}, {body.integers(1)}, {body.integers(2**62)})")
    return parse(DELAY, ["x", "held"], ["y", "held_next"], [], body.lines, opset, STREAM_DOMAIN)
