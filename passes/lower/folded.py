"""The way back from a network in steps: time folded into the batch, a tensor for all slabs of a train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import helper

from csscc.dialect.model import attributes_of, copy_of, define_operators, refuse_other_version, with_outputs
from csscc.dialect.spiking import DOMAIN, STEPS_DOMAIN, Spiking, neuron_inputs, operator_of, spiking

PER_SLAB = "/slabs"  # of the size of a first axis that holds all slabs
_CONVERSIONS = ("Stack", "Unstack")


def is_in_steps(model: onnx.ModelProto) -> bool:
    """Whether any node of the model is of the domain ``csscc.steps``."""
    return any(n.domain == STEPS_DOMAIN for n in model.graph.node)


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The spiking network `model`, given in steps, folded; any other model as it is.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    refuse_other_version(model)
    if not is_in_steps(model):
        return model
    made = copy_of(model)
    del made.graph.node[:], made.functions[:], made.graph.value_info[:]
    for node in model.graph.node:
        if node.domain != STEPS_DOMAIN:
            made.graph.node.append(node)
        elif operator_of(node) not in _CONVERSIONS:
            made.graph.node.append(_whole(node))
    made.functions.extend(f for f in model.functions if f.domain != STEPS_DOMAIN)
    made.opset_import.remove(next(o for o in made.opset_import if o.domain == STEPS_DOMAIN))
    trains = _trains(model)
    steps = {name for names in trains.values() for name in names}
    values = {v.name: v for v in model.graph.value_info}
    made.graph.value_info.extend(v for v in values.values() if v.name not in steps)
    known = {*values, *(o.name for o in model.graph.output)}
    for name, names in trains.items():
        if names[0] in values and name not in known:
            value = values[names[0]]
            first = value.type.tensor_type.shape.dim[0].dim_param.removesuffix(PER_SLAB)
            made.graph.value_info.append(declared(value, name, first))
    return define_operators(made)


def with_trains(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model, in steps or folded, with the tensors `names` of its core as additional outputs, folded (in place)."""
    wanted, trains = list(names), _trains(model)
    written = {name for node in model.graph.node for name in node.output}
    for name in [n for n in wanted if n not in written]:
        model.graph.node.append(helper.make_node("Concat", trains[name], [name], axis=0))
    return with_outputs(model, wanted)


def _trains(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Names of the slabs of each tensor in steps, by its name folded."""
    trains: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.domain == STEPS_DOMAIN and operator_of(node) != "Stack":
            n, names = _slabs_made(node), list(node.output)
            trains |= {_base(names[i]): names[i : i + n] for i in range(0, len(names), n)}
    return trains


def _slabs_made(node: onnx.NodeProto) -> int:
    view = spiking(node)
    return len(node.output) if view is not None else attributes_of(node)["slabs"]


def _base(name: str) -> str:
    return name.rsplit("@", 1)[0]


def _whole(node: onnx.NodeProto) -> onnx.NodeProto:
    """The folded node of a node in steps."""
    view, attributes = spiking(node), attributes_of(node)
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.output[:] = [_base(name) for name in node.output[:: _slabs_made(node)]]
    made.op_type = operator_of(node)
    dropped = {"channels"}
    if view is None:
        made.ClearField("domain")
        dropped |= {"slabs", "stepped"}
        made.input[:] = _inputs(node, attributes["slabs"], attributes["stepped"])
    else:
        made.domain = DOMAIN
        made.input[:] = _spiking_inputs(view)
    kept = [a for a in node.attribute if a.name not in dropped]
    del made.attribute[:]
    made.attribute.extend(kept)
    return made


def _spiking_inputs(view: Spiking[str]) -> list[str]:
    if view.is_neuron:
        trains = [[_base(tensors[0])] for tensors in view.currents]
        return neuron_inputs(trains, view.biases, view.theta, view.parameters)
    return list(view.inputs) if view.is_encoder else [_base(view.inputs[0])]


def _inputs(node: onnx.NodeProto, slabs: int, stepped: list[int]) -> Iterator[str]:
    at = 0
    for given in stepped:
        yield "" if given < 0 else _base(node.input[at]) if given else node.input[at]
        at += {1: slabs, 0: 1, -1: 0}[given]


def declared(value: onnx.ValueInfoProto, name: str, first: str) -> onnx.ValueInfoProto:
    """`value` under another name, with another size of the first axis."""
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    made.name = name
    made.type.tensor_type.shape.dim[0].dim_param = first
    return made
