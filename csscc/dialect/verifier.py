"""The rules of a spiking graph, as one table, checked behind every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.core import core_tensors
from csscc.dialect.functions import CODING_ATTRIBUTES, DOMAIN, activation_of
from csscc.dialect.network import Network
from csscc.passes.base import PassError
from csscc.passes.linear import LINEAR


def _known_operators(network: Network) -> Iterator[str]:
    for node in network.graph.nodes:
        if node.domain == DOMAIN and node.op not in ("Encode", "Decode") and activation_of(node.op) not in ACTIVATIONS:
            yield f"'{node.name}' is a {node.op}, which is no csscc operator"


def _same_coding(network: Network) -> Iterator[str]:
    coding = network.coding
    wanted = {"T": coding.T, "beta": float(coding.beta)}
    for node in network.graph.nodes:
        if node.domain != DOMAIN:
            continue
        got = {name: node.attrs.get(name) for name in wanted}
        if got != wanted:
            yield f"'{node.name}' codes with {got}, the network with {wanted}"
        if node.op.startswith("TSA") and any(name not in node.attrs for name in CODING_ATTRIBUTES):
            yield f"'{node.name}' lacks an attribute of its coding"


def _core_is_converted(network: Network) -> Iterator[str]:
    spiking = {id(t) for t in core_tensors(network.graph)}
    for node in network.graph.nodes:
        in_core = node.domain != DOMAIN and any(id(t) in spiking for t in node.inputs)
        if in_core and node.op not in LINEAR:
            yield f"'{node.name}' ({node.op}) reads spikes but is neither linear nor a neuron"
        if in_core and any(not isinstance(t, gs.Constant) and t.name and id(t) not in spiking for t in node.inputs):
            yield f"'{node.name}' mixes spikes with analog values"


def _borders_are_guarded(network: Network) -> Iterator[str]:
    spiking = {id(t) for t in core_tensors(network.graph)}
    for node in network.graph.nodes:
        if node.domain == DOMAIN and node.op != "Encode" and id(node.inputs[0]) not in spiking:
            yield f"'{node.name}' ({node.op}) reads analog values"
        if node.domain == DOMAIN and node.op == "Encode" and id(node.inputs[0]) in spiking:
            yield f"'{node.name}' encodes spikes"
    for tensor in network.graph.outputs:
        if id(tensor) in spiking:
            yield f"output '{tensor.name}' is not decoded"


def _amplitudes_are_positive(network: Network) -> Iterator[str]:
    for name, theta in network.amplitudes.items():
        if not (theta > 0).all():
            yield f"an amplitude of '{name}' is not positive"


RULES: tuple[Callable[[Network], Iterator[str]], ...] = (
    _known_operators,
    _same_coding,
    _core_is_converted,
    _borders_are_guarded,
    _amplitudes_are_positive,
)


def verify_spiking(network: Network) -> None:
    """Check every rule.

    Raises:
        PassError: rules that do not hold, all of them.
    """
    if not _is_spiking(network.graph):
        return
    broken = [text for rule in RULES for text in rule(network)]
    if broken:
        raise PassError("; ".join(broken))


def _is_spiking(graph: Any) -> bool:
    return any(n.domain == DOMAIN for n in graph.nodes)
