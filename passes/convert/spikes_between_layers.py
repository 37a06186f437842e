"""Put identity neurons between linear layers, so that every weighted layer reads spikes.

    before:  Conv -> Conv                                 x -> Conv -> Add(., y) -> Conv, and y, the sum, is read again
    after:   Conv -> Linear -> Conv                       x -> Conv -> Add(., y) -> Linear -> Conv, ...

A ``Linear`` neuron sends its membrane potential, of either sign: f(x) = x. Without it a weighted layer would multiply
currents, numbers of any size: no spikes, which hardware for spikes adds up without multiplying, and no sums that
`SnapWeights` makes exact. What holds spikes, or parts of them that are moved about, averaged or added up exactly (see
`csscc.passes.linear.parts`), needs no neuron. One neuron serves all that reads a tensor, so that in a chain of residual
blocks each block adds to spikes, not to the sums of all blocks before it.

A neuron whose activation is computed exactly (`Activation.exact`) also needs a current whose sums are. It is none where
its amplitude cannot be absorbed by the weights that make it, since other nodes read the current too, or a layout stands
in between. There a Linear neuron takes the current over.

It does not fire after the last layer with weights, nor in a model that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS, Scope
from csscc.dialect.network import Network
from csscc.dialect.order import tidy, toposort
from csscc.dialect.regions import Regions, Role
from csscc.dialect.rewrite import is_output, producer, rank_of, replace_readers, shape_of, unique_name
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.convert.channels import amplitude_axis
from csscc.passes.convert.find_regions import CORE_ROLES, survey
from csscc.passes.linear import LINEAR
from csscc.passes.linear.arithmetic import Scale, Sum
from csscc.passes.linear.factors import ONE, Factor, along, compress, spread
from csscc.passes.linear.layout import Concat, Selection
from csscc.passes.linear.mixing import Pool, Reduce, Resize
from csscc.passes.linear.parts import SPIKES, Parts, passed_on
from csscc.passes.linear.weighted import WeightedOp

IDENTITY = "Linear"
MOVING = Selection | Pool | Reduce | Resize
FINEST = 1 / 256  # parts of spikes that weights may read: finer ones take more bits of the grid than weights can spare


@dataclass(frozen=True)
class SpikesBetweenLayers(BasePass):
    """Insert ``Linear`` activations where a layer would read currents."""

    name: ClassVar[str] = "spikes-between-layers"

    def apply(self, network: Network) -> int:
        """Return the number of activations inserted."""
        graph = network.graph
        regions, offenders = survey(graph, network.events)
        if offenders:
            return 0
        core = _Core(graph, regions)
        for node in list(graph.nodes):
            while (tensor := core.lacks_spikes(node)) is not None:
                core.insert(tensor)
        tidy(graph)
        return core.inserted


class _Spikes(NamedTuple):
    """What a tensor holds that is made of spikes alone: `factor` times `parts` of them; None if not exactly those."""

    factor: Factor
    parts: Parts | None


class _Core:
    """The core of an ANN, and which of its tensors will hold spikes."""

    def __init__(self, graph: gs.Graph, regions: Regions) -> None:
        self.inserted = 0
        self._graph = graph
        self._roles = {name: role for name, role in regions.roles.items() if role in CORE_ROLES}
        self._known: dict[int, _Spikes | None] = {}
        self._exact = in_front_of_neurons(graph, self._roles, exact=True)

    def lacks_spikes(self, node: gs.Node) -> gs.Tensor | None:
        """The first current that must become spikes for what the node reads; None if all is well."""
        role, activation = self._roles.get(node.name), ACTIVATIONS.get(node.op)
        if role == "weighted":
            rule = LINEAR[node.op]
            assert isinstance(rule, WeightedOp)
            tensor = node.inputs[rule.data_index(node)]
            spikes = self._spikes(tensor)
            absorbed = spikes and along(spikes.factor, rank_of(tensor), rule.input_axis(node)) is not None
            coarse = spikes and spikes.parts and spikes.parts.finest / spikes.parts.largest >= FINEST
            well = absorbed and (coarse or id(node) not in self._exact)
            return None if well else self._source(tensor)
        if role == "neuron" and activation is not None and activation.exact:
            factor = self._amplitude(node.outputs[0], activation.scope) if activation.homogeneous else None
            obstacles = (self._obstacle(t, factor) for t in node.inputs[: activation.inputs])
            return next((t for t in obstacles if t is not None), None)
        return None

    def insert(self, tensor: gs.Tensor) -> None:
        """Let all that reads a current read the spikes of a neuron; an output of the graph keeps its name."""
        graph, maker = self._graph, producer(tensor)
        assert maker is not None
        assert isinstance(tensor, gs.Variable)
        current, spikes = tensor, tensor
        if is_output(graph, tensor):
            current = gs.Variable(unique_name(graph, f"{tensor.name}_current"), np.float32, tensor.shape)
            maker.outputs[next(i for i, t in enumerate(maker.outputs) if t is tensor)] = current
        else:
            spikes = gs.Variable(unique_name(graph, f"{tensor.name}_spikes"), np.float32, tensor.shape)
            replace_readers(current, spikes)
        name = unique_name(graph, f"{tensor.name}_linear")
        place = next(i for i, n in enumerate(graph.nodes) if n is maker) + 1
        graph.nodes.insert(place, gs.Node(IDENTITY, name, {}, [current], [spikes], ACTIVATION_DOMAIN))
        self._roles[name] = "neuron"
        self._known.clear()
        self.inserted += 1

    def _spikes(self, tensor: gs.Tensor) -> _Spikes | None:
        """What the tensor will hold of spikes; None if it is a current."""
        if id(tensor) not in self._known:
            self._known[id(tensor)] = self._made(tensor)
        return self._known[id(tensor)]

    def _made(self, tensor: gs.Tensor) -> _Spikes | None:
        node = producer(tensor)
        role = None if node is None else self._roles.get(node.name)
        if node is None or role in (None, "neuron"):
            return _Spikes(ONE, SPIKES)
        rule = LINEAR[node.op]
        if isinstance(rule, Concat):
            return self._joined(node, rule)
        if role == "weighted" or not isinstance(rule, Scale | MOVING):
            return None
        index = _computed(node)[0]
        source = self._spikes(node.inputs[index])
        if source is None:
            return None
        if isinstance(rule, Scale):
            return source._replace(factor=compress(source.factor * rule.factor(node)))
        if isinstance(rule, Selection):
            each = rule.push_each(node, source.factor)
            factor = None if each is None else each[next(i for i, t in enumerate(node.outputs) if t is tensor)]
        else:
            factor = rule.push(self._graph, node, index, source.factor)
        return None if factor is None else _Spikes(factor, source.parts and passed_on(node, source.parts))

    def _joined(self, node: gs.Node, rule: Concat) -> _Spikes | None:
        found = [self._spikes(t) for t in node.inputs]
        known = [spikes for spikes in found if spikes is not None]
        factor = rule.join(node, [s.factor for s in known]) if len(known) == len(found) else None
        if factor is None:
            return None
        parts = [s.parts for s in known if s.parts is not None]
        united = (
            Parts(min(p.finest for p in parts), max(p.largest for p in parts)) if len(parts) == len(known) else None
        )
        return _Spikes(factor, united)

    def _source(self, tensor: gs.Tensor) -> gs.Tensor:
        """Where a neuron must stand so that `tensor` holds spikes: in front of what only moves them about."""
        node = producer(tensor)
        if (
            node is not None
            and self._roles.get(node.name) == "linear"
            and isinstance(LINEAR[node.op], Selection | Concat)
        ):
            current = next((t for t in _tensors(node) if self._spikes(t) is None), None)
            if current is not None:
                return self._source(current)
        return self._obstacle(tensor, self._amplitude(tensor, "element")) or tensor

    def _obstacle(self, tensor: gs.Tensor, factor: Factor | None) -> gs.Tensor | None:
        """The current that keeps a neuron's from being an exact sum; None if none does.

        `factor` stands for the neuron's amplitude, which must reach the weights that make the current; None for a
        neuron that keeps the units of the ANN.
        """
        node = producer(tensor)
        if node is None or self._spikes(tensor) is not None:
            return None
        rule, parts = LINEAR[node.op], self._taken_up(node, factor)
        if not isinstance(rule, WeightedOp) and parts is None:
            moved = [] if isinstance(rule, Sum) else _tensors(node)
            return next((self._source(t) for t in moved if self._spikes(t) is None), None)
        found = (self._obstacle(node.inputs[i], part) for i, part in (parts or {}).items())
        shared = factor is not None and (len(tensor.outputs) > 1 or is_output(self._graph, tensor))
        return next((t for t in found if t is not None), tensor if shared or parts is None else None)

    def _taken_up(self, node: gs.Node, factor: Factor | None) -> dict[int, Factor | None] | None:
        """The factor of each input in place of one after the node; None where it does not pass."""
        rule, unchanged = LINEAR[node.op], dict[int, Factor | None].fromkeys(_computed(node))
        if isinstance(rule, WeightedOp):
            passes = factor is None or along(factor, rank_of(node.outputs[0]), rule.output_axis(node)) is not None
            return {} if passes else None
        if isinstance(rule, Scale) and (factor is not None or node.op != "Neg"):
            return dict.fromkeys(unchanged, compress(rule.factor(node) * (ONE if factor is None else factor)))
        if factor is None or not isinstance(rule, Sum | Concat | MOVING):
            return unchanged
        taken = rule.parts(node, factor) if isinstance(rule, Sum) else rule.pull(self._graph, node, factor)
        return None if taken is None else {**taken}

    @staticmethod
    def _amplitude(tensor: gs.Tensor, scope: Scope) -> Factor:
        """A factor that varies as the amplitudes of neurons that send `tensor` may."""
        axis = amplitude_axis(tensor, scope)
        size = None if axis is None else shape_of(tensor)[axis]
        return spread(np.arange(1.0, size + 1), rank_of(tensor), axis) if axis and isinstance(size, int) else ONE


def _computed(node: gs.Node) -> list[int]:
    """Indices of the inputs that are no constants."""
    return [i for i, t in enumerate(node.inputs) if t.name and not isinstance(t, gs.Constant)]


def _tensors(node: gs.Node) -> list[gs.Tensor]:
    return [node.inputs[i] for i in _computed(node)]


def in_front_of_neurons(graph: gs.Graph, roles: Mapping[str, Role], *, exact: bool) -> set[int]:
    """Core nodes, by id, between which and a neuron lie linear operators alone; with `exact`, one that is `exact`."""
    found: set[int] = set()
    for node in reversed(toposort(graph).nodes):
        for reader in (r for t in node.outputs for r in t.outputs):
            role = roles.get(reader.name)
            receives = role == "neuron" and (ACTIVATIONS[reader.op].exact or not exact)
            if receives or (role in ("linear", "weighted") and id(reader) in found):
                found.add(id(node))
    return found
