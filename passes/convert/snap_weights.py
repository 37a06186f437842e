"""Round the weights so that every sum of spikes is exact, and all runtimes send the same spikes.

A current is a sum of weights with signs. Runtimes add in different orders and round differently; near a threshold
that flips a spike, and each flip moves a few more in the next layer: after twenty layers one spike in forty differs.
If the weights that meet in one neuron are multiples of ``2**-k`` and their magnitudes add up to less than
``2**(24-k)``, every partial sum in any order is a float32, so no sum is ever rounded.

    w'' = round(w' * 2**k) / 2**k,   k = 23 - ceil(log2(sum |w'| * sum(w))) + log2(r)    per output channel

where w are the weights with which a neuron hears its first steps as one sum (`Schedule.merged`) and r their resolution:
one bit for a silent step at beta = 1.5, six for three at beta = 3. For typical layers k is 12 to 18: the rounding is a
hundredth of the spike's own resolution, or less. It needs currents that
are sums of spikes: weighted operators and factors that read spikes (or selections of them, or averages over a power
of two), added up. A neuron whose current is made in another way is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.coding.schedule import ROOM, bits_of, resolution
from csscc.dialect.network import Network
from csscc.dialect.rewrite import constant, only_reader, producer, set_constant, values_of
from csscc.dialect.spiking import DOMAIN, neurons, set_schedule, spiking
from csscc.memory import release
from csscc.passes.base import BasePass
from csscc.passes.convert.rescale import is_factor
from csscc.passes.linear import LINEAR
from csscc.passes.linear.factors import ONE, ZERO, Factor, along, spread
from csscc.passes.linear.layout import Concat, Selection
from csscc.passes.linear.mixing import Pool
from csscc.passes.linear.weighted import WeightedOp

MANTISSA_BITS = 23


@dataclass(frozen=True)
class SnapWeights(BasePass):
    """Make the sums of spikes exact."""

    name: ClassVar[str] = "snap-weights"

    def apply(self, network: Network) -> int:
        """Return the number of neuron inputs in front of which weights were rounded."""
        snapped = 0
        for node, view in neurons(network.graph):
            currents = [(current, terms_of(network.graph, current)) for current in view.current]
            merged = _mergeable(view.schedule.merged, [t for _, t in currents])
            set_schedule(node, replace(view.schedule, merged=merged))
            for current, terms in currents:
                if terms is None:
                    network.report(self.name, node.name, "its current is no plain sum of spikes: left as it is")
                    continue
                snapped += _snap(network.graph, current, terms, merged)
        release()  # weights before rescaling, behind it, and in between
        return snapped


@dataclass(frozen=True)
class Term:
    """A node whose result enters a current.

    Attributes:
        node: a weighted operator or a factor; None for spikes that nothing multiplies.
        resolution: of the spikes it reads, see `spike_resolution`.
        aligned: whether its channels are the current's; not where a selection lies between.
    """

    node: Any
    resolution: float
    aligned: bool = True


def terms_of(graph: Any, tensor: Any) -> list[Term] | None:
    """Nodes whose results add up to `tensor`, with the resolution of the spikes they read; None if others do too."""
    node = producer(tensor)
    if node is None or node.domain == DOMAIN or only_reader(graph, tensor) is None:
        return _bare(tensor)
    if node.op == "Add" and all(constant(node, i) is None for i in (0, 1)):
        parts = [terms_of(graph, t) for t in node.inputs]
        return None if any(p is None for p in parts) else [term for p in parts if p is not None for term in p]
    rule = LINEAR.get(node.op)
    if isinstance(rule, WeightedOp) or is_factor(node):
        index = rule.data_index(node) if isinstance(rule, WeightedOp) else data_index(node)
        resolution = spike_resolution(node.inputs[index])
        return None if resolution is None else [Term(node, resolution)]
    if isinstance(rule, Selection | Concat):
        found = [terms_of(graph, t) for t in (node.inputs if isinstance(rule, Concat) else node.inputs[:1])]
        if any(f is None for f in found):
            return None
        return [replace(term, aligned=False) for f in found if f is not None for term in f]
    return _bare(tensor)


def _bare(tensor: Any) -> list[Term] | None:
    """Spikes, or averages of them, that enter a current as they are, as on an identity shortcut."""
    resolution = spike_resolution(tensor)
    return None if resolution is None else [Term(None, resolution)]


def data_index(node: Any) -> int:
    """Index of what a factor multiplies."""
    return next(i for i in (0, 1) if constant(node, i) is None)


def spike_resolution(tensor: Any) -> float | None:
    """R if every value of `tensor` is a multiple of r of magnitude at most 1, r a power of two; else None."""
    node = producer(tensor)
    if node is None:
        return None
    if node.domain == DOMAIN:
        view = spiking(node)
        return 1.0 if view is not None and view.makes_spikes else None
    rule = LINEAR.get(node.op)
    if node.op == "Concat":
        parts = [spike_resolution(t) for t in node.inputs]
        return None if any(p is None for p in parts) else min(p for p in parts if p is not None)
    if isinstance(rule, Selection):
        return spike_resolution(node.inputs[0])
    size = _averaged(node) if isinstance(rule, Pool) else None
    source = spike_resolution(node.inputs[0]) if size else None
    return None if source is None or size is None or size & (size - 1) else source / size


def _averaged(pool: Any) -> int | None:
    """How many elements each average of a pool is over; None if they differ or are not known."""
    if pool.op == "GlobalAveragePool":
        sizes = pool.inputs[0].shape[2:]
        return int(np.prod(sizes)) if all(isinstance(d, int) for d in sizes) else None
    padded = any(pool.attrs.get("pads", [])) or pool.attrs.get("ceil_mode", 0)
    padded = padded or pool.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return None if padded else int(np.prod(pool.attrs["kernel_shape"]))


def _magnitude(node: Any) -> Factor:
    """Largest magnitude the node's result can have for spikes of at most 1, per output channel."""
    if node is None:
        return ONE
    rank = len(node.outputs[0].shape)
    if is_factor(node):
        return np.abs(LINEAR["Mul"].factor(node))  # type: ignore[attr-defined, no-any-return]
    rule = LINEAR[node.op]
    assert isinstance(rule, WeightedOp)
    return spread(rule.output_magnitude(node), rank, rule.output_axis(node))


def _mergeable(merged: tuple[float, ...], currents: list[list[Term] | None]) -> tuple[float, ...]:
    """The steps that a neuron can hear as one sum: all that the coding merges, where sums stay exact, else none.

    What averages of spikes take of the grid is not there for merged steps. Weights that are whole numbers stay what
    they are: as many steps are merged as their sums leave room for.
    """
    if any(terms is None for terms in currents):
        return (1.0,)
    known = [terms for terms in currents if terms is not None]
    if all(_is_whole(term.node) for terms in known for term in terms):
        return next((w for w in _tails(merged) if all(_keeps_whole(terms, w) for terms in known)), (1.0,))
    finest = min((t.resolution for terms in currents for t in terms or []), default=1.0)
    return merged if bits_of(merged) - np.log2(finest) <= ROOM else (1.0,)


def _is_whole(node: Any) -> bool:
    """Whether a term's weights are whole numbers."""
    return node is None or all(np.array_equal(v, np.rint(v)) for v in _constants(node) if v.dtype.kind == "f")


def _tails(merged: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The numbers with which fewer and fewer steps are merged, all of them first."""
    return [merged[start:] for start in range(len(merged))]


def _keeps_whole(terms: list[Term], merged: tuple[float, ...]) -> bool:
    """Whether sums of whole weights are exact for steps merged with these numbers."""
    return bool((step_for(terms, merged) <= 1).all())


def _snap(graph: Any, current: Any, terms: list[Term], merged: tuple[float, ...]) -> bool:
    rank, step = len(current.shape), step_for(terms, merged)
    changed = False
    for node in (term.node for term in terms if term.node is not None):
        before = _constants(node)
        _round(graph, node, step, rank)
        changed |= not all(map(np.array_equal, before, _constants(node)))
    return changed


def step_for(terms: list[Term], merged: tuple[float, ...]) -> Factor:
    """What weights have to be multiples of, so that their sums are exact: per output channel, or for all of them."""
    if all(t.aligned for t in terms):
        total = sum((_magnitude(t.node) for t in terms), ZERO)
    else:
        total = np.asarray(sum(_magnitude(t.node).max() for t in terms))
    total = np.where(total > 0, total, 1.0)
    finest = resolution(merged) * min(t.resolution for t in terms)
    step: Factor = 2.0 ** (np.ceil(np.log2(total * sum(merged))) - MANTISSA_BITS) / finest
    return step


def _constants(node: gs.Node) -> list[NDArray[np.generic]]:
    """Values of the node's constant inputs."""
    return [values_of(t) for t in node.inputs if isinstance(t, gs.Constant)]


def _round(graph: gs.Graph, node: gs.Node, step: Factor, rank: int) -> None:
    """Round what a factor or a weighted operator multiplies by to multiples of `step`, for its output channels."""
    if is_factor(node):
        index = 1 - data_index(node)
        set_constant(graph, node, index, rounded(np.asarray(constant(node, index), np.float64), step))
        return
    rule = LINEAR[node.op]
    assert isinstance(rule, WeightedOp)
    vector = along(step, rank, rule.output_axis(node))
    if vector is not None:
        rule.snap(graph, node, vector)


def rounded(values: NDArray[np.float64], step: Factor) -> NDArray[np.float64]:
    """Multiples of `step` nearest to `values`."""
    return np.rint(values / step) * step
