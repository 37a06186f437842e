"""Spiking networks as ONNX models: which nodes spike, how they code, and the functions that define them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding
from csscc.dialect.functions import (
    ACTIVATION_DOMAIN,
    CODING_ATTRIBUTES,
    DOMAIN,
    DOMAIN_VERSION,
    Form,
    NeuronSignature,
    activation_definition,
    activation_of,
    decode_function,
    encode_function,
    tsa_function,
)
from csscc.errors import RefusedError
from csscc.passes.lower.step_functions import STEPS_DOMAIN, STEPS_DOMAIN_VERSION

VERSIONS = {DOMAIN: DOMAIN_VERSION, STEPS_DOMAIN: STEPS_DOMAIN_VERSION}
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


def coding_of(node: onnx.NodeProto) -> Coding:
    """The coding that a csscc node states."""
    attributes = attributes_of(node)
    return Coding(
        T=attributes["T"],
        beta=_shortest(attributes["beta"]),
        silent=attributes.get("silent", 0),
        negative=bool(attributes.get("negative", 1)),
        signed_input=bool(attributes.get("signed_input", 1)),
    )


def _shortest(value: float) -> float:
    """The shortest decimal that gives the float32 an attribute holds: 1.3, not 1.2999999523."""
    return float(str(np.float32(value)))


def refuse_other_version(model: onnx.ModelProto) -> None:
    """Refuse a model whose spiking operators mean something else than this csscc's.

    Raises:
        RefusedError: an older or newer csscc made it.
    """
    other = other_version(model)
    if other is not None:
        raise RefusedError(
            f"its spiking operators are of version {other.version} of the domain {other.domain}, this csscc knows "
            f"version {VERSIONS[other.domain]}; compile the network again (onnxruntime runs the file as it is)"
        )


def other_version(model: onnx.ModelProto) -> onnx.OperatorSetIdProto | None:
    """The first import of spiking operators that mean something else than this csscc's; None if all mean the same."""
    return next((o for o in model.opset_import if o.version != VERSIONS.get(o.domain, o.version)), None)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that the model imports."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def csscc_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Encoders, neurons and decoders."""
    return [n for n in model.graph.node if n.domain == DOMAIN]


def neurons(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The TSA nodes."""
    return [n for n in csscc_nodes(model) if n.op_type.startswith("TSA")]


def spike_sources(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes whose first output is a spike train: neurons, and encoders that do not send a constant current."""
    spiking = [n for n in csscc_nodes(model) if n.op_type != "Decode"]
    return [n for n in spiking if n.op_type != "Encode" or not coding_of(n).constant_input]


def attribute_types(nodes: list[onnx.NodeProto]) -> tuple[tuple[str, str], ...]:
    """Names and ONNX text types of the attributes that `nodes` have beyond their coding, sorted."""
    kinds = {a.name: _ATTRIBUTE_TYPES[a.type] for n in nodes for a in n.attribute if a.name not in CODING_ATTRIBUTES}
    return tuple(sorted(kinds.items()))


def signature_of(nodes: list[onnx.NodeProto], *, residual: bool) -> NeuronSignature:
    """Signature that serves all `nodes`, which are neurons of one operator."""
    op = activation_of(nodes[0].op_type)
    parameters = max(len(n.input) for n in nodes) - 2 * ACTIVATIONS[op].inputs - 1
    return NeuronSignature(op, parameters, attribute_types(nodes), residual)


def _by_op(nodes: Iterable[onnx.NodeProto]) -> list[tuple[str, list[onnx.NodeProto]]]:
    groups: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        groups.setdefault(node.op_type, []).append(node)
    return sorted(groups.items())


def _definitions(model: onnx.ModelProto, *, residual: bool, form: Form) -> Iterable[onnx.FunctionProto]:
    opset = opset_of(model)
    for op, nodes in _by_op(n for n in model.graph.node if n.domain == ACTIVATION_DOMAIN):
        yield activation_definition(op, attribute_types(nodes), max(len(n.input) for n in nodes) - 1, opset)
    for op, nodes in _by_op(csscc_nodes(model)):
        coding = coding_of(nodes[0])
        if op == "Encode":
            yield encode_function(coding, opset, form)
        elif op == "Decode":
            yield decode_function(coding, opset)
        else:
            yield from _neurons(nodes, opset, residual=residual, form=form)


def _neurons(nodes: list[onnx.NodeProto], opset: int, *, residual: bool, form: Form) -> Iterable[onnx.FunctionProto]:
    """One function for all neurons of an operator; where layers differ in their silent steps, an overload for each."""
    by_silence: dict[int, list[onnx.NodeProto]] = {}
    for node in nodes:
        by_silence.setdefault(coding_of(node).silent, []).append(node)
    signature = signature_of(nodes, residual=residual)
    for silent, alike in sorted(by_silence.items()):
        function = tsa_function(signature, coding_of(alike[0]), opset, form)
        function.overload = f"silent_{silent}" if len(by_silence) > 1 else ""
        for node in alike:
            node.overload = function.overload
        yield function


def define_operators(model: onnx.ModelProto, *, residual: bool = False, form: Form = "unrolled") -> onnx.ModelProto:
    """Add the functions of the csscc operators that the model uses, in place of any it has (in place).

    With `residual`, the neurons' functions have the residual membrane potential as a second output. `form` is that of
    the functions' bodies: a Scan over time, or in any other form nodes for each step. The spikes are the same, bit for
    bit.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    refuse_other_version(model)
    kept = [f for f in model.functions if f.domain not in (DOMAIN, ACTIVATION_DOMAIN)]
    definitions = list(_definitions(model, residual=residual, form=form))
    del model.functions[:]
    model.functions.extend(kept)
    used = {n.domain for n in model.graph.node} | {f.domain for f in definitions}
    unused = [o for o in model.opset_import if o.domain == ACTIVATION_DOMAIN and o.domain not in used]
    for entry in unused:
        model.opset_import.remove(entry)
    return add_functions(model, definitions)


def add_functions(model: onnx.ModelProto, functions: Iterable[onnx.FunctionProto]) -> onnx.ModelProto:
    """Add functions and import their domains (in place)."""
    added = list(functions)
    model.functions.extend(added)
    missing = {f.domain for f in added} - {o.domain for o in model.opset_import}
    versions = {domain: VERSIONS.get(domain, DOMAIN_VERSION) for domain in sorted(missing)}
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    return model


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that may be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model with `names` as additional outputs (in place)."""
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    return model


def with_residuals(model: onnx.ModelProto) -> dict[str, str]:
    """Give every neuron its residual as a second output (in place); returns tensor names by node name."""
    names = {}
    for node in neurons(model):
        names[node.name] = f"{node.name}_residual"
        node.output.append(names[node.name])
    define_operators(model, residual=True)
    return names
