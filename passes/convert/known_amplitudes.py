"""What a quantised network states of its own spikes: amplitudes, and how many steps send every activation exactly.

A quantised activation is a whole number of steps of its scale. Spikes of integer weights, in as many steps as the
number has bits, represent each of them: theta is the scale, nothing is cut off, and nothing is rounded but where the
network rounds. A neuron that has received all of its input before it fires, ``L = T - 1``, sends exactly the number of
the quantised ANN.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from csscc.coding.coding import Coding
from csscc.dialect.grids import Grid, grid_of
from csscc.dialect.network import Network
from csscc.passes.base import BasePass
from csscc.passes.convert.insert_neurons import amplitude_names


def known_grids(network: Network) -> dict[str, Grid]:
    """Grids of what encoders and neurons send, by the name of the ANN's tensor, where quantisers set them."""
    assert network.regions is not None
    graph = network.ann or network.graph
    tensors, found = graph.tensors(), dict[int, Grid | None]()
    for node in graph.nodes:  # in order, so that no grid is looked for far away
        for tensor in node.outputs:
            grid_of(tensor, network.grids, found)
    names = amplitude_names(graph, network.regions)
    grids = ((name, grid_of(tensors[name], network.grids, found)) for name in names)
    return {name: grid for name, grid in grids if grid is not None}


def sent_as_integers(network: Network) -> set[str]:
    """What is sent as whole numbers by neurons that receive all of it before they fire, as `settled` has them do."""
    coding = network.coding
    waits = coding.is_exact(burst=coding.needs_bursts) and coding.silent >= coding.T - 1
    return set(known_grids(network)) if waits else set()


def is_quantised(network: Network) -> bool:
    """Whether most neurons send whole numbers of known steps."""
    assert network.regions is not None
    neurons = [n.outputs[0].name for n in network.regions.nodes(network.ann or network.graph, "neuron")]
    known = known_grids(network)
    return bool(neurons) and 2 * sum(name in known for name in neurons) >= len(neurons)


def _levels(coding: Coding) -> float:
    """The largest whole number that a quantised activation is sent as."""
    return coding.neuron(burst=coding.needs_bursts).levels


def settled(coding: Coding, stated: Collection[str], grids: Mapping[str, Grid]) -> Coding:
    """The coding that sends whole numbers on `grids` exactly, as far as what was `stated` allows."""
    beta = coding.beta if "beta" in stated else 2.0
    chosen = replace(coding, beta=beta)
    if "T" not in stated:
        span = max(grid.span for grid in grids.values())
        chosen = next((c for T in range(1, 64) if _levels(c := replace(chosen, T=T)) >= span), chosen)
    if "silent" not in stated and chosen.is_exact(burst=chosen.needs_bursts):
        chosen = replace(chosen, silent=chosen.T - 1)
    return replace(chosen, silent=min(chosen.silent, chosen.T))


@dataclass(frozen=True)
class SettleCoding(BasePass):
    """Choose T, beta and silent steps of a quantised network, as far as they were not `stated`."""

    name: ClassVar[str] = "settle-coding"
    stated: frozenset[str] = frozenset()

    def apply(self, network: Network) -> int:
        """Return whether the coding changed."""
        if not is_quantised(network):
            return 0
        assert network.regions is not None
        known, encoded = network.coding, network.regions.encoded  # inputs may get more trains, see `SplitInputs`
        grids = {name: grid for name, grid in known_grids(network).items() if name not in encoded}
        network.coding = coding = settled(known, self.stated, grids)
        span = max(grid.span for grid in grids.values())
        whole = coding.is_exact(burst=coding.needs_bursts) and _levels(coding) >= span
        exact = whole and coding.silent >= coding.T - 1
        bits = max(grid.bits for grid in grids.values())
        network.report(
            self.name,
            "quantised network",
            f"at T={coding.T}, beta={coding.beta:g} and {coding.silent} silent step(s) a layer, spikes send "
            f"activations of {bits} bits {'exactly: amplitudes are their scales' if exact else 'not exactly'}",
            once=True,
        )
        return int(coding != known)
