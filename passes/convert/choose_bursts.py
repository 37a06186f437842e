"""Choose what sends bursts: all neurons and encoders, where the coding allows bursts.

    before:  values up to p, sends S = -1, 0 or 1 a step        theta = p / levels
    after:   values up to p, sends S = -2 .. 2 a step           theta = p / (2 * levels)

See `csscc.coding.coding.Coding.sends_bursts`. What a quantiser rounds stays as it is, unless beta is
so large that single spikes leave gaps, and so do encoders that send no negative spikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from csscc.dialect.network import Network
from csscc.passes.base import BasePass
from csscc.passes.convert.insert_neurons import amplitude_names
from csscc.passes.convert.known_amplitudes import known_grids


@dataclass(frozen=True)
class ChooseBursts(BasePass):
    """Let the neurons and encoders of a network send bursts."""

    name: ClassVar[str] = "choose-bursts"

    def apply(self, network: Network) -> int:
        """Return the number of layers that are new among those that do."""
        assert network.regions is not None
        before, chosen = network.bursts, frozenset[str]()
        if network.coding.sends_bursts:
            chosen = frozenset(amplitude_names(network.graph, network.regions))
            if not network.coding.needs_bursts:
                chosen -= known_grids(network).keys()
            if not network.coding.signed_input:
                chosen = chosen.difference(network.regions.encoded)
        network.bursts = chosen
        return len(chosen - before)
