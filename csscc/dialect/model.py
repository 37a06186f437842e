"""Spiking networks as ONNX models: their nodes, and the functions that define them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
from onnx import AttributeProto, helper

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.functions import FunctionWriter, activation_definition, function_of
from csscc.dialect.plain import NeuronSignature
from csscc.dialect.spiking import (
    ACTIVATION_DOMAIN,
    ATTRIBUTES,
    DOMAIN,
    DOMAIN_VERSION,
    STEPS_DOMAIN,
    STEPS_DOMAIN_VERSION,
    STREAM_DOMAIN,
    STREAM_DOMAIN_VERSION,
    Spiking,
    neurons,
    spiking,
    spiking_nodes,
)
from csscc.errors import RefusedError

VERSIONS = {DOMAIN: DOMAIN_VERSION, STEPS_DOMAIN: STEPS_DOMAIN_VERSION, STREAM_DOMAIN: STREAM_DOMAIN_VERSION}
TIME_AND_BATCH = "time_and_batch"  # first axis of a tensor that holds all steps

_ATTRIBUTE_TYPES = {
    AttributeProto.FLOAT: "float",
    AttributeProto.INT: "int",
    AttributeProto.STRING: "string",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
}


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def refuse_other_version(model: onnx.ModelProto) -> None:
    """Refuse a model whose spiking operators mean something else than this csscc's.

    Raises:
        RefusedError: an older or newer csscc made it.
    """
    other = other_version(model)
    if other is not None:
        raise RefusedError(
            f"the file's spiking operators are of version {other.version} of the domain {other.domain}, this csscc "
            "knows "
            f"version {VERSIONS[other.domain]}; compile the network again (onnxruntime runs the file as it is)"
        )


def other_version(model: onnx.ModelProto) -> onnx.OperatorSetIdProto | None:
    """The first import of spiking operators that mean something else than this csscc's; None if all mean the same.

    Domains that no node uses do not count: onnxruntime writes all that a process has registered into what it saves.
    """
    used = {n.domain for nodes in (model.graph.node, *(f.node for f in model.functions)) for n in nodes}
    imports = (o for o in model.opset_import if o.domain in used)
    return next((o for o in imports if o.version != VERSIONS.get(o.domain, o.version)), None)


def in_stream(model: onnx.ModelProto) -> bool:
    """Whether the model does one time step a run, see `csscc.passes.lower.stream`."""
    return any(n.domain == STREAM_DOMAIN for n in model.graph.node)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that the model imports."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def spike_sources(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose first output is a spike train: neurons, and encoders that do not send a constant current."""
    return [node for node, view in spiking_nodes(model.graph) if view.makes_spikes]


def slabs_of(graph: onnx.GraphProto) -> dict[str, int]:
    """How many slabs each tensor of the core of a time-folded network holds, by name."""
    slabs: dict[str, int] = {}
    for node in graph.node:
        view = spiking(node)
        if view is not None and not view.is_readout:
            slabs |= dict.fromkeys(node.output, view.schedule.T - view.sends.steps + 1)
        elif view is None and node.domain != DOMAIN:
            carried = next((slabs[name] for name in node.input if name in slabs), None)
            slabs |= dict.fromkeys(filter(None, node.output), carried) if carried else {}
    return slabs


def attribute_types(nodes: Iterable[onnx.NodeProto]) -> tuple[tuple[str, str], ...]:
    """Names and ONNX text types of the attributes of an activation that `nodes` have, sorted.

    Raises:
        RefusedError: one is a tensor, a graph, or a list of such.
    """
    kinds: dict[str, str] = {}
    for node, a in ((n, a) for n in nodes for a in n.attribute if a.name not in ATTRIBUTES):
        if a.type not in _ATTRIBUTE_TYPES:
            raise RefusedError(
                f"node '{node.name}' ({node.op_type}) states its '{a.name}' as no number or text; compile the network "
                "again"
            )
        kinds[a.name] = _ATTRIBUTE_TYPES[a.type]
    return tuple(sorted(kinds.items()))


def signature_of(nodes: list[tuple[onnx.NodeProto, Spiking[str]]]) -> NeuronSignature | None:
    """Signature that serves all `nodes`, which are of one operator; None for what is no neuron."""
    _, view = nodes[0]
    if not view.is_neuron:
        return None
    return NeuronSignature(view.kind, max(len(v.parameters) for _, v in nodes), attribute_types(n for n, _ in nodes))


def define_operators(
    model: onnx.ModelProto, *, residual: bool = False, write: FunctionWriter = function_of
) -> onnx.ModelProto:
    """Add the functions of the operators of domain ``csscc`` that the model uses, in place of any it has (in place).

    Where nodes of one operator do different things, it has a function for each; the name of the second, and the type of
    its nodes, ends in ``_2``. (Functions might have overloads, but onnxruntime up to 1.26 takes one of them for all.)

    Args:
        model: a spiking network, or an ANN with composed activations.
        residual: whether the functions of neurons have the residual membrane potential as a second output.
        write: makes the functions; all writers' send the same spikes, bit for bit.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    refuse_other_version(model)
    kept = [f for f in model.functions if f.domain not in (DOMAIN, ACTIVATION_DOMAIN)]
    definitions = [*_compositions(model), *_spiking(model, residual, write)]
    del model.functions[:]
    model.functions.extend(kept)
    used = {n.domain for n in model.graph.node} | {f.domain for f in definitions}
    unused = [o for o in model.opset_import if o.domain == ACTIVATION_DOMAIN and o.domain not in used]
    for entry in unused:
        model.opset_import.remove(entry)
    return add_functions(model, definitions)


def _compositions(model: onnx.ModelProto) -> Iterable[onnx.FunctionProto]:
    groups: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.domain == ACTIVATION_DOMAIN:
            groups.setdefault(node.op_type, []).append(node)
    for op, nodes in sorted(groups.items()):
        parameters = max(len(n.input) for n in nodes) - ACTIVATIONS[op].inputs
        yield activation_definition(op, attribute_types(nodes), parameters, opset_of(model))


def _spiking(model: onnx.ModelProto, residual: bool, write: FunctionWriter) -> Iterable[onnx.FunctionProto]:
    groups: dict[str, list[tuple[onnx.NodeProto, Spiking[str]]]] = {}
    for node, view in spiking_nodes(model.graph):
        if node.domain == DOMAIN:
            groups.setdefault(view.op, []).append((node, view))
    for op, nodes in sorted(groups.items()):
        signature = signature_of(nodes)
        alike: dict[object, list[tuple[onnx.NodeProto, Spiking[str]]]] = {}
        for node, view in nodes:
            alike.setdefault((view.schedule, view.reads, view.sends), []).append((node, view))
        for number, same in enumerate(alike.values(), 1):
            function = write(same[0][1], signature, opset_of(model), residual=residual and signature is not None)
            function.name = op if number == 1 else f"{op}_{number}"
            for node, _ in same:
                node.op_type = function.name
            yield function


def add_functions(model: onnx.ModelProto, functions: Iterable[onnx.FunctionProto]) -> onnx.ModelProto:
    """Add functions and import their domains (in place)."""
    added = list(functions)
    model.functions.extend(added)
    missing = {f.domain for f in added} - {o.domain for o in model.opset_import}
    versions = {domain: VERSIONS.get(domain, 1) for domain in sorted(missing)}
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    return model


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that may be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def in_the_usual_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose standard operators are of the empty domain.

    Its other name is ``ai.onnx``, which onnx's evaluator and, before version 1.23, its checker do not take for it.
    """
    named = [*model.opset_import, *(o for f in model.functions for o in f.opset_import), *model.graph.node]
    if all(each.domain != "ai.onnx" for each in named):
        return model
    copy = copy_of(model)
    for each in (*copy.opset_import, *(o for f in copy.functions for o in f.opset_import), *copy.graph.node):
        if each.domain == "ai.onnx":
            each.domain = ""
    return copy


def with_metadata(model: onnx.ModelProto, properties: Mapping[str, str]) -> onnx.ModelProto:
    """The model with these metadata properties in place of its own (in place)."""
    helper.set_model_props(model, dict(properties))
    return model


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model with `names` as additional outputs (in place)."""
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    return model


def with_residuals(model: onnx.ModelProto) -> dict[str, str]:
    """Give every neuron its residual as a second output (in place); returns tensor names by node name."""
    names = {}
    for node, _ in neurons(model.graph):
        names[node.name] = f"{node.name}_residual"
        node.output.append(names[node.name])
    define_operators(model, residual=True)
    return names
