"""Carry the first steps of a train as one tensor, where all that reads it receives them as one sum anyway.

    before:  TSARelu <sends = (1)> -> T steps -> Conv -> TSARelu <silent = L, merged = (w_1 .. w_m), reads = 1>
    after:   TSARelu <sends = (w_1 .. w_m)> -> w_1*S[1] + .. + w_m*S[m], S[m+1], .., S[T] -> Conv -> TSARelu <reads = m>

A neuron with L silent steps reads its membrane for the first time at step L+1. Until then only the sum of what came in
matters, and a linear operator may take that sum instead of its parts: T-L convolutions in place of T. A readout reads
its membrane once, so it takes one. The sums are exact (see `csscc.passes.convert.snap_weights`), so the spikes are the
same.

Linear operators between the same spikes and neurons carry one number of steps, the smallest that a reader merges. Where
one spike train has readers that merge different numbers, a Merge stands in front of those that merge more. It does not
fire where a linear operator adds a constant, which each of T steps would bring.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.program import EVERY_STEP, Train
from csscc.dialect.core import core_tensors
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import replace_input, unique_name
from csscc.dialect.spiking import DOMAIN, MERGE, Spiking, attributes, set_reads, set_sends, spiking, spiking_nodes
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR


@dataclass(frozen=True)
class MergeSilence(BasePass):
    """Merge the steps at which readers only receive."""

    name: ClassVar[str] = "merge-silence"

    def apply(self, network: Network) -> int:
        """Return the number of trains whose first steps are merged."""
        graph = toposort(network.graph)
        if any(view.reads > 1 for _, view in spiking_nodes(graph)):
            return 0
        trains = _trains(graph)
        merged = sum(_merge(graph, node, view, trains) for node, view in spiking_nodes(graph))
        for node, view in spiking_nodes(graph):
            if not (view.is_encoder or view.is_merge):
                set_reads(node, trains[id(node)].steps)
        _name_first_axes(graph)
        toposort(graph)
        self._report(network)
        return merged

    def _report(self, network: Network) -> None:
        """Report the layers that have silent steps and still take every step of their input by itself."""
        layers = [view for _, view in spiking_nodes(network.graph) if view.is_neuron and view.schedule.silent]
        apart = [view for view in layers if view.reads == 1 and view.schedule.T > 1]
        if apart:
            coding = network.coding
            reason = f"sums of spikes need more bits than float32 has to spare at T={coding.T} and beta={coding.beta:g}"
            if coding.neuron().merged != EVERY_STEP.merged:
                reason = "operators in front add a constant at every step, or merged sums would not be exact in float32"
            count = f"{len(apart)} of {len(layers)} layers"
            text = f"the silent steps of {count} are not merged, which costs time: {reason}"
            network.report(self.name, apart[0].name, text)


def _trains(graph: gs.Graph) -> dict[int, Train]:
    """How each linear node, and each spiking node that reads, wants the trains it reads, by id."""
    groups = _Groups()
    wanted: dict[int, list[Train]] = {}
    for node in graph.nodes:
        view = spiking(node)
        if (view is None and node.domain == DOMAIN) or (view is not None and view.is_encoder):
            continue
        groups.join(id(node), (id(m) for t in node.inputs for m in t.inputs if spiking(m) is None))
        if view is not None:
            wanted.setdefault(id(node), []).append(_own(view))
        elif node.op in LINEAR and LINEAR[node.op].additive(node):
            wanted.setdefault(id(node), []).append(EVERY_STEP)
    least: dict[int, Train] = {}
    for member, trains in wanted.items():
        root = groups.root(member)
        least[root] = min([*trains, least.get(root, trains[0])], key=lambda train: train.steps)
    return {member: least.get(groups.root(member), EVERY_STEP) for member in groups.members}


def _own(view: Spiking[gs.Tensor]) -> Train:
    """What a neuron or readout receives as one sum."""
    return Train(view.schedule.weights if view.is_readout else view.schedule.merged)


def _merge(graph: gs.Graph, node: gs.Node, view: Spiking[gs.Tensor], trains: dict[int, Train]) -> int:
    """Let the train that a node sends have the steps that its readers want; return whether any are merged."""
    if view.is_readout:
        return 0
    spikes = node.outputs[0]
    readers = list({id(r): r for r in spikes.outputs}.values())
    wanted = [trains.get(id(r), EVERY_STEP) for r in readers]
    if not readers or all(train == EVERY_STEP for train in wanted):
        return 0
    sent = EVERY_STEP if view.schedule.constant else min(wanted, key=lambda train: train.steps)
    set_sends(node, sent)
    for train in set(wanted) - {sent}:
        fewer = gs.Variable(unique_name(graph, f"{spikes.name}_merged"), dtype=np.float32, shape=spikes.shape)
        stated = {**attributes(view.schedule, MERGE, reads=sent.steps), "merged": list(train.merged)}
        name = unique_name(graph, f"{node.name}_merge")
        graph.nodes.append(gs.Node(MERGE, name, stated, inputs=[spikes], outputs=[fewer], domain=DOMAIN))
        for reader, wants in zip(readers, wanted, strict=True):
            if wants == train:
                replace_input(reader, spikes, fewer)
    return 1


def _name_first_axes(graph: gs.Graph) -> None:
    """Tensors that hold different numbers of slabs have first axes of different names."""
    toposort(graph)
    core = {id(t) for t in core_tensors(graph)}
    merged: dict[int, int] = {}
    for node in graph.nodes:
        view = spiking(node)
        steps = next((merged[id(t)] for t in node.inputs if id(t) in merged), 1) if view is None else view.sends.steps
        for tensor in node.outputs:
            if id(tensor) in core and steps > 1 and tensor.shape is not None:
                tensor.shape = [f"{tensor.shape[0]}_of_{steps}_merged", *tensor.shape[1:]]
            merged[id(tensor)] = steps


class _Groups:
    """Disjoint sets of nodes."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    @property
    def members(self) -> list[int]:
        return list(self._parents)

    def join(self, member: int, others: Iterable[int]) -> None:
        self._parents.setdefault(member, member)
        for other in others:
            if other in self._parents:
                self._parents[self.root(other)] = self.root(member)

    def root(self, member: int) -> int:
        while self._parents[member] != member:
            member = self._parents[member]
        return member
