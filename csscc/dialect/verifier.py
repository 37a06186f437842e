"""The rules of a spiking graph, as one table, checked after every pass."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.core import core_tensors
from csscc.dialect.network import Network
from csscc.dialect.spiking import DOMAIN, numbers, spiking, spiking_nodes
from csscc.errors import PassError

SUMS = frozenset(["Add", "Sub", "Sum"])  # what they make is no spike any more


def _known_operators(network: Network) -> Iterator[str]:
    for node in network.graph.nodes:
        view = spiking(node)
        if node.domain == DOMAIN and (view is None or (view.is_neuron and view.kind not in ACTIVATIONS)):
            yield f"'{node.name}' is a {node.op}, which is no csscc operator"


def _same_coding(network: Network) -> Iterator[str]:
    wanted = numbers(network.coding.encoder().weights)
    for _, view in spiking_nodes(network.graph):
        if view.schedule.weights != wanted:
            yield f"the spikes of '{view.name}' have the weights {view.schedule.weights}, those of the network {wanted}"


def _schedules_are_sound(network: Network) -> Iterator[str]:
    for _, view in spiking_nodes(network.graph):
        s = view.schedule
        if view.is_neuron and not len(s.merged) <= min(s.silent + 1, s.T):
            yield f"'{view.name}' receives {len(s.merged)} steps as one and fires after {s.silent + 1}"
        if view.is_neuron and not 1 <= view.reads <= len(s.merged):
            yield f"'{view.name}' reads {view.reads} steps as one, of {len(s.merged)} that it may"
        if s.burst and (s.constant or not s.negative):
            yield f"'{view.name}' sends bursts, which only trains with spikes of either sign may"
        if not (1 <= view.sends.steps <= s.T and view.sends.merged[-1] == 1):
            yield f"'{view.name}' sends no train of {s.T} steps"


def _core_is_converted(network: Network, linear: Container[str]) -> Iterator[str]:
    spikes = {id(t) for t in core_tensors(network.graph)}
    for node in network.graph.nodes:
        in_core = node.domain != DOMAIN and any(id(t) in spikes for t in node.inputs)
        if in_core and node.op not in linear:
            yield f"'{node.name}' ({node.op}) reads spikes but is neither linear nor a neuron"
        if in_core and any(not isinstance(t, gs.Constant) and t.name and id(t) not in spikes for t in node.inputs):
            yield f"'{node.name}' mixes spikes with analog values"


def _weights_read_spikes(network: Network, linear: Container[str], weighted: Container[str]) -> Iterator[str]:
    """Between a weighted operator and spikes lies only what moves them about, averages them or scales them."""
    core = {id(t) for t in core_tensors(network.graph)}
    currents: set[int] = set()
    for node in network.graph.nodes:
        if node.domain == DOMAIN or node.op not in linear:
            continue
        reads = [t for t in node.inputs if id(t) in core]
        if node.op in weighted and any(id(t) in currents for t in reads):
            yield f"'{node.name}' ({node.op}) has weights and reads currents, not spikes"
        if reads and (node.op in weighted or node.op in SUMS or any(id(t) in currents for t in reads)):
            currents.update(id(t) for t in node.outputs)


def _borders_are_guarded(network: Network) -> Iterator[str]:
    spikes = {id(t) for t in core_tensors(network.graph)}
    for node, view in spiking_nodes(network.graph):
        if not view.is_encoder and id(node.inputs[0]) not in spikes:
            yield f"'{view.name}' ({view.op}) reads analog values"
        if view.is_encoder and id(node.inputs[0]) in spikes:
            yield f"'{view.name}' encodes spikes"
        if view.kind in {*ACTIVATIONS, "readout"} and any(id(bias) in spikes for bias in view.biases):
            yield f"a bias of '{view.name}' comes as spikes"
    for tensor in network.graph.outputs:
        if id(tensor) in spikes:
            yield f"output '{tensor.name}' is not decoded"


def _amplitudes_are_positive(network: Network) -> Iterator[str]:
    for name, theta in network.amplitudes.items():
        if not (theta > 0).all():
            yield f"an amplitude of '{name}' is not positive"


RULES: tuple[Callable[[Network], Iterator[str]], ...] = (
    _known_operators,
    _same_coding,
    _schedules_are_sound,
    _borders_are_guarded,
    _amplitudes_are_positive,
)


def verify_spiking(network: Network, linear: Container[str], weighted: Container[str]) -> None:
    """Check every rule; `linear` are the operators that may act on spikes, `weighted` those of them with weights.

    Raises:
        PassError: rules that do not hold, all of them.
    """
    if not _is_spiking(network.graph):
        return
    broken = [text for rule in RULES for text in rule(network)]
    broken += _core_is_converted(network, linear)
    broken += _weights_read_spikes(network, linear, weighted)
    if broken:
        raise PassError("; ".join(broken))


def _is_spiking(graph: Any) -> bool:
    return any(n.domain == DOMAIN for n in graph.nodes)
