"""Find what becomes spiking: the core between the first and the last weighted operators.

    prologue (analog)  ->  encoder  ->  core: linear and spiking operators  ->  decoder  ->  epilogue (analog)

A weighted operator (constant weights, computed data) is core. Any other operator is core if one comes before it and
one comes after it; without one before it belongs to the prologue, without one after it to the epilogue. Every core
operator must be linear or have a neuron; the others are refused, all of them by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.network import Event, Network
from csscc.dialect.regions import Regions, Role
from csscc.dialect.rewrite import constant, is_foreign, is_output, rank_of
from csscc.errors import Offender, RefusedError, RefusedModelError
from csscc.io.finite import not_finite
from csscc.passes.base import BasePass
from csscc.passes.canonical.true_causes import NO_SHAPE, Sizes, causes_first, instead_of_layers, true_cause
from csscc.passes.linear import LINEAR, WEIGHTED
from csscc.passes.linear.core import core_of, is_neuron, known_operand, read_tensors
from csscc.passes.linear.mixing import Reduce

CORE_ROLES: tuple[Role, ...] = ("weighted", "linear", "neuron")


@dataclass(frozen=True)
class FindRegions(BasePass):
    """Assign every node its role, or refuse the model."""

    name: ClassVar[str] = "find-regions"

    def apply(self, network: Network) -> int:
        """Return the number of core nodes; 0 if the regions are those known already.

        Raises:
            RefusedError: there is no weighted operator, so nothing to convert.
            RefusedModelError: operators inside the core are neither linear nor have a neuron.
        """
        regions, offenders = survey(network.graph, network.events)
        refused = refusal(network, regions, offenders)
        if refused is not None:
            raise refused
        known, network.regions = network.regions, regions
        return 0 if regions == known else sum(r in CORE_ROLES for r in regions.roles.values())


def refusal(network: Network, regions: Regions, offenders: list[Offender]) -> RefusedError | None:
    """Why what `survey` found cannot be compiled; None if it can."""
    if offenders:
        return RefusedModelError(offenders, int(network.origin.get("opset", network.graph.opset)))
    if any(r == "weighted" for r in regions.roles.values()):
        return None
    return RefusedError(
        "the model has no weighted layer (Conv, ConvTranspose, Gemm or MatMul with constant weights), "
        "so there is nothing to make spiking"
    )


def survey(graph: gs.Graph, events: Iterable[Event] = ()) -> tuple[Regions, list[Offender]]:
    """Roles of all nodes, and the nodes that stand in the way.

    These are core nodes that cannot be converted, with the reasons that earlier passes noted, or what a network has in
    place of weighted layers.
    """
    noted = {e.node: e.text for e in events}
    weighted, before, core = core_of(graph)
    regions, offenders, sizes = Regions(), [], Sizes(graph)
    regions.known = _known_sums(graph, core, weighted | before)
    for node in graph.nodes:
        if id(node) not in core:
            regions.roles[node.name] = "epilogue" if id(node) in before else "prologue"
            continue
        data = [i for i, t in enumerate(node.inputs) if t.name and not isinstance(t, gs.Constant)]
        data = [i for i in data if _is_float(node.inputs[i]) and not _is_bias(regions, node, i)]
        regions.core_inputs[node.name] = data
        role, offender = _core_role(graph, node, data, id(node) in weighted)
        regions.roles[node.name] = role
        if offender is not None:
            note = noted.get(node.name, "")
            text = note or offender.reason
            cause = true_cause(node, text, sizes, note) or (text, offender.advice)
            offenders.append(replace(offender, reason=cause[0], advice=cause[1]))
    offenders.sort(key=lambda o: o.advice == sizes.advice)  # first what no size can help
    set_borders(graph, core, regions)
    return regions, causes_first(graph, offenders) if weighted else instead_of_layers(graph, noted)


def _known_sums(graph: gs.Graph, core: set[int], dependent: set[int]) -> dict[str, int]:
    """Sums in front of neurons and readouts with what is known before time starts: see `Regions.known`."""
    found = {}
    for node in graph.nodes:
        known = known_operand(node, dependent) if id(node) in core else None
        if known is not None and all(is_neuron(r) for r in node.outputs[0].outputs if id(r) in core):
            found[node.name] = known
    return found


def _is_bias(regions: Regions, node: gs.Node, index: int) -> bool:
    """Whether a neuron takes a computed input of the node as it is: as a bias, or as a parameter."""
    activation = ACTIVATIONS.get(node.op)
    parameter = activation is not None and activation.computed and index >= activation.inputs
    return parameter or regions.known.get(node.name) == index


def _is_float(tensor: gs.Tensor) -> bool:
    return tensor.dtype is None or np.dtype(tensor.dtype).kind == "f"


def _core_role(graph: gs.Graph, node: gs.Node, data: list[int], weighted: bool) -> tuple[Role, Offender | None]:
    role: Role = "weighted" if weighted else "linear"
    standard = not is_foreign(node.domain)
    reason = "" if standard else f"an operator of the foreign domain '{node.domain}'"
    weights = _no_weights(node)
    reason = reason or _no_rank(node, data) or weights
    linear = ""
    if not reason and node.op in LINEAR and _may_be_linear(node, data):
        linear = LINEAR[node.op].refuse(node, data)
        if not linear:
            return role, None
    if standard and node.op in ACTIVATIONS and not weights and not _no_rank(node, data):
        reason = refuse_neuron(graph, node, data)
        if not reason:
            return "neuron", None
    read = node.inputs[data[0] if data else 0] if node.inputs else None
    shape = "x".join(str(d) for d in read.shape) if read is not None and read.shape else "unknown"
    reason = linear or reason or "it is neither linear nor an activation that a neuron can send"
    op = node.op if standard else f"{node.domain}::{node.op}"
    advice = "train or export it again" if reason == weights else _advice(node)
    return role, Offender(node.name, op, reason, advice, shape)


def _may_be_linear(node: gs.Node, data: list[int]) -> bool:
    """A product or quotient of two core tensors is not linear; everything else in the table may be."""
    return node.op not in ("Mul", "Div", "MatMul") or len(data) == 1


def _no_rank(node: gs.Node, data: list[int]) -> str:
    if any(node.inputs[i].shape is None for i in data) or any(t.shape is None for t in node.outputs):
        return NO_SHAPE
    return ""


def _no_weights(node: gs.Node) -> str:
    constants = [t for t in node.inputs if isinstance(t, gs.Constant)] if node.op in WEIGHTED else []
    if any(0 in t.shape for t in constants[:2]):
        return "its weights are empty"
    bad = sum(not_finite(np.asarray(t.values)) for t in constants)
    return f"{bad} of its weights are NaN or infinite, or become so when constants are folded" if bad else ""


def refuse_neuron(graph: gs.Graph, node: gs.Node, data: list[int]) -> str:
    """Why no neuron can send the node's value; empty if one can."""
    activation = ACTIVATIONS.get(node.op)
    assert activation is not None
    if data != list(range(activation.inputs)):
        return f"a neuron needs its first {activation.inputs} input(s) computed and the others constant"
    parameters = [i for i, t in enumerate(node.inputs) if t.name and i not in data]
    if not activation.computed and any(constant(node, i) is None for i in parameters):
        return "its parameters are computed, not constant"
    if any(t.outputs or is_output(graph, t) for t in node.outputs[1:]):
        return "its second output is read"
    ranks = {rank_of(node.inputs[i]) for i in data}
    if len(ranks) > 1:
        return "core tensors of different rank: the batch axes do not meet"
    rank = ranks.pop()
    axis = node.attrs.get("axis")
    if isinstance(axis, int) and axis % rank == 0:
        return "it acts along the batch axis"
    return Reduce().refuse(node, data) if node.op.startswith("Reduce") else ""


def _advice(node: gs.Node) -> str:
    if is_foreign(node.domain):
        return "export the model with standard operators, before any optimiser of onnxruntime sees it"
    if node.op in ("ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "Cast"):
        return "a layer follows it; move it after the last layer, or split the model here"
    return "replace it by an operator of the table in docs/operators.md, or split the model here"


def set_borders(graph: gs.Graph, core: set[int], regions: Regions) -> None:
    """What the core, nodes by id, reads and makes that is analog."""
    encoded: dict[str, None] = {}
    decoded: dict[str, None] = {}
    for node in graph.nodes:
        for index, tensor in enumerate(read_tensors(node)):
            if not tensor.name or isinstance(tensor, gs.Constant):
                continue
            made_in_core = bool(tensor.inputs) and id(tensor.inputs[0]) in core
            if id(node) in core and not made_in_core and index in regions.core_inputs[node.name]:
                encoded[tensor.name] = None
            elif id(node) not in core and made_in_core:
                decoded[tensor.name] = None
    for tensor in graph.outputs:
        if tensor.inputs and id(tensor.inputs[0]) in core and is_output(graph, tensor):
            decoded[tensor.name] = None
    regions.encoded, regions.decoded = list(encoded), list(decoded)
