"""Round the weights so that every sum of spikes is exact, and all runtimes send the same spikes.

A current is a sum of weights with signs. Runtimes add in different orders and round differently; near a threshold
that flips a spike, and each flip moves a few more in the next layer: after twenty layers one spike in forty differs.
If the weights that meet in one neuron are multiples of ``2**-k`` and their magnitudes add up to less than
``2**(24-k)``, every partial sum in any order is a float32, so no sum is ever rounded.

    w'' = round(w' * 2**k) / 2**k,   k = 23 - ceil(log2(sum |w'| * sum(w))) + log2(r)    per output channel

where w are the weights with which a neuron receives its first steps as one sum (`Schedule.merged`) and r their
resolution: one bit for a silent step at beta = 1.5, six for three at beta = 3. For typical layers k is 12 to 18: the
rounding is a hundredth of the spike's own resolution, or less. It needs currents that are sums of spikes: weighted
operators and factors that read spikes (or selections of them, sums, or averages over a power of two), added up, or
selections and averages of those. The pass `SpikesBetweenLayers` sees to it, as far as neurons can. A neuron whose
current is made in another way is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.coding.schedule import ROOM, Head, Schedule, resolution
from csscc.dialect.network import Network
from csscc.dialect.rewrite import constant, producer, rank_of, set_constant, values_of
from csscc.dialect.spiking import DOMAIN, Spiking, neurons, set_schedule, spiking
from csscc.memory import release
from csscc.passes.base import BasePass
from csscc.passes.convert.rescale import is_factor
from csscc.passes.linear import LINEAR
from csscc.passes.linear.arithmetic import Sum, operand_factor
from csscc.passes.linear.factors import ONE, ZERO, Factor, along, spread
from csscc.passes.linear.layout import Selection
from csscc.passes.linear.mixing import Pool, Reduce, Resize
from csscc.passes.linear.parts import BURSTS, SPIKES, Parts, passed_on
from csscc.passes.linear.weighted import WeightedOp

MANTISSA_BITS = 23
LEFT = "between runtimes a spike may differ now and then, and its silent steps are not merged"


@dataclass(frozen=True)
class SnapWeights(BasePass):
    """Make the sums of spikes exact."""

    name: ClassVar[str] = "snap-weights"

    def apply(self, network: Network) -> int:
        """Return the number of neuron inputs in front of which weights were rounded."""
        snapped = 0
        for node, view in neurons(network.graph):
            currents: list[tuple[gs.Tensor, list[Term]]] = []
            inexact = None
            for current in view.current:
                try:
                    currents.append((current, _terms(current)))
                except _InexactError as error:
                    inexact = error
                    text = f"sums in front of it cannot be made exact, because of an operator {error.op} there"
                    network.report(self.name, node.name, f"{text}: {LEFT}")
            terms = [found for _, found in currents]
            head = view.schedule.head((1.0,)) if inexact else _mergeable(view.schedule, terms)
            set_schedule(node, replace(view.schedule, merged=head.weights))
            snapped += sum(_snap(network.graph, current, found, head) for current, found in currents)
        release()  # weights before rescaling, after it, and in between
        return snapped


@dataclass(frozen=True)
class Term:
    """A node whose result enters a current.

    Attributes:
        node: a weighted operator, a factor or a sum with a constant; None for spikes that nothing multiplies.
        parts: of the values that it multiplies; after it, averages divide and sums multiply its result, which counts
            here too.
        aligned: whether its channels are the current's; not where a selection lies between.
    """

    node: gs.Node | None
    parts: Parts
    aligned: bool = True


class _InexactError(Exception):
    """A current is no sum of spikes, or of parts of them, times weights; `op` makes it so."""

    def __init__(self, op: str) -> None:
        super().__init__(op)
        self.op = op


def sums_are_exact(view: Spiking[gs.Tensor]) -> bool:
    """Whether the pass makes every sum exact that a layer of neurons receives."""
    try:
        return all(_terms(current) for current in view.current)
    except _InexactError:
        return False


def _terms(tensor: gs.Tensor) -> list[Term]:
    """Nodes whose results add up to `tensor`, with the spikes they read.

    Raises:
        _InexactError: something else adds to it.
    """
    bare = spike_parts(tensor)
    if bare is not None:
        return [Term(None, bare)]  # as on an identity shortcut
    node = producer(tensor)
    if node is None or node.domain == DOMAIN or node.op not in LINEAR:
        raise _InexactError(node.op if node else "input")
    rule = LINEAR[node.op]
    if isinstance(rule, WeightedOp) or is_factor(node):
        source = node.inputs[data_index(node)]
        parts = spike_parts(source)
        if parts is None:
            maker = producer(source)
            raise _InexactError(maker.op if maker else node.op)
        return [Term(node, parts)]
    sources = [t for t in node.inputs if t.name and not isinstance(t, gs.Constant)]
    terms = [term for t in sources for term in _terms(t)]
    if isinstance(rule, Sum):
        return terms + [Term(node, SPIKES)] * (len(sources) < len(node.inputs))
    if node.op in ("Neg", "Concat"):
        return [replace(term, aligned=term.aligned and node.op == "Neg") for term in terms]
    after = [(term, passed_on(node, term.parts)) for term in terms]
    if any(parts is None for _, parts in after):
        raise _InexactError(node.op)
    return [Term(term.node, parts, aligned=False) for term, parts in after if parts is not None]


def data_index(node: gs.Node) -> int:
    """Index of what weights or a factor multiply."""
    rule = LINEAR[node.op]
    if isinstance(rule, WeightedOp):
        return rule.data_index(node)
    return next(i for i in (0, 1) if constant(node, i) is None)


def _operands(node: gs.Node) -> list[int]:
    """Indices of what a factor multiplies by or a sum adds."""
    return [i for i in range(len(node.inputs)) if constant(node, i) is not None]


def spike_parts(tensor: gs.Tensor) -> Parts | None:
    """What `tensor` holds if that is parts of spikes, moved about, averaged or added up; else None."""
    node = producer(tensor)
    if node is None:
        return None
    if node.domain == DOMAIN:
        view = spiking(node)
        if view is None or not view.makes_spikes:
            return None
        return BURSTS if view.schedule.burst else SPIKES
    if node.op == "Concat":
        found = [spike_parts(t) for t in node.inputs]
        parts = [p for p in found if p is not None]
        return Parts(min(p.finest for p in parts), max(p.largest for p in parts)) if len(parts) == len(found) else None
    if not isinstance(LINEAR.get(node.op), Selection | Pool | Reduce | Resize):
        return None
    source = spike_parts(node.inputs[0])
    return None if source is None else passed_on(node, source)


def _magnitude(node: gs.Node | None) -> Factor:
    """Largest magnitude the node's result can have for spikes of at most 1, per output channel."""
    if node is None:
        return ONE
    rule = LINEAR[node.op]
    if isinstance(rule, WeightedOp):
        return spread(rule.output_magnitude(node), rank_of(node.outputs[0]), rule.output_axis(node))
    return np.asarray(sum(np.abs(operand_factor(node, i)) for i in _operands(node)))


def _mergeable(schedule: Schedule, currents: list[list[Term]]) -> Head:
    """The steps that a neuron can receive as one sum: all that the coding merges, where sums stay exact, else none.

    What averages of spikes take of the grid is not there for merged steps. Weights that are whole numbers stay what
    they are: as many steps are merged as their sums leave room for.
    """
    if all(_is_integer(term.node) for terms in currents for term in terms):
        heads = [schedule.head(schedule.merged[start:]) for start in range(len(schedule.merged))]
        return next((h for h in heads if all(_keeps_whole(terms, h) for terms in currents)), heads[-1])
    finest = min(t.parts.finest / t.parts.largest for terms in currents for t in terms)
    head = schedule.head()
    return head if head.bits - np.log2(finest) <= ROOM else schedule.head((1.0,))


def _is_integer(node: gs.Node | None) -> bool:
    """Whether a term's weights are whole numbers."""
    return node is None or all(np.array_equal(v, np.rint(v)) for v in _constants(node) if v.dtype.kind == "f")


def _keeps_whole(terms: list[Term], head: Head) -> bool:
    """Whether sums of whole weights are exact for steps merged so."""
    return bool((step_for(terms, head) <= 1).all())


def _snap(graph: gs.Graph, current: gs.Tensor, terms: list[Term], head: Head) -> bool:
    rank, step = rank_of(current), step_for(terms, head)
    changed = False
    for node in (term.node for term in terms if term.node is not None):
        before = _constants(node)
        _round(graph, node, step, rank)
        changed |= not all(map(np.array_equal, before, _constants(node)))
    return changed


def step_for(terms: list[Term], head: Head) -> Factor:
    """What weights have to be multiples of, so that their sums are exact: per output channel, or for all of them."""
    if all(t.aligned for t in terms):
        total = sum((_magnitude(t.node) * t.parts.largest for t in terms), ZERO)
    else:
        total = np.asarray(sum(_magnitude(t.node).max() * t.parts.largest for t in terms))
    total = np.where(total > 0, total, 1.0)
    finest = resolution(head.weights) * min(t.parts.finest for t in terms)
    step: Factor = 2.0 ** (np.ceil(np.log2(total * head.largest)) - MANTISSA_BITS) / finest
    return step


def _constants(node: gs.Node) -> list[NDArray[np.generic]]:
    """Values of the node's constant inputs."""
    return [values_of(t) for t in node.inputs if isinstance(t, gs.Constant)]


def _round(graph: gs.Graph, node: gs.Node, step: Factor, rank: int) -> None:
    """Round what a node multiplies by, or adds, to multiples of `step`, for its output channels."""
    if not isinstance(LINEAR[node.op], WeightedOp):
        for index in _operands(node):
            set_constant(graph, node, index, rounded(np.asarray(constant(node, index), np.float64), step))
        return
    rule = LINEAR[node.op]
    assert isinstance(rule, WeightedOp)
    vector = along(step, rank, rule.output_axis(node))
    rule.snap(graph, node, np.asarray(step.max()) if vector is None else vector)


def rounded(values: NDArray[np.float64], step: Factor) -> NDArray[np.float64]:
    """Multiples of `step` nearest to `values`."""
    return np.rint(values / step) * step
