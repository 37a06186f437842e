"""Leave activations analog that cost too much accuracy as spikes.

    before:  z -> Conv -> Relu -> Conv            the Relu becomes TSARelu: spikes go in, spikes come out
    after:   z -> Conv -> [decoded] Relu [encoded] -> Conv

The activation stays as it is. It reads the value that all T steps of its input add up to, and what it makes is sent to
the next layers as a constant current, without being rounded to spikes. So it errs no more than its input does. But it
needs multiplications there, and it waits for its whole input: T time steps of latency.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from csscc.dialect.network import Network
from csscc.errors import UsageError
from csscc.passes.base import BasePass
from csscc.passes.convert.find_regions import CORE_ROLES, set_borders


@dataclass(frozen=True)
class LeaveAnalog(BasePass):
    """Take the activations of these names out of the spiking core."""

    layers: tuple[str, ...]
    name: ClassVar[str] = "leave-analog"

    def apply(self, network: Network) -> int:
        """Return the number of activations left analog.

        Raises:
            UsageError: a name is none of a layer of neurons.
        """
        assert network.regions is not None
        regions = network.regions
        nodes = {n.name: n for n in regions.nodes(network.graph, "neuron", "analog")}
        for layer in self.layers:
            if layer not in nodes:
                known = ", ".join(nodes) or "none"
                raise UsageError(f"'{layer}' is no layer of neurons, so it cannot be left analog; there are {known}")
        left = [nodes[layer] for layer in dict.fromkeys(self.layers) if regions.roles[layer] == "neuron"]
        network.regions = made = replace(
            regions,
            roles={**regions.roles, **{n.name: "analog" for n in left}},
            core_inputs={name: read for name, read in regions.core_inputs.items() if name not in self.layers},
            analog={*regions.analog, *(n.outputs[0].name for n in left)},
        )
        set_borders(network.graph, {id(n) for n in made.nodes(network.graph, *CORE_ROLES)}, made)
        for node in left:
            network.report(self.name, node.name, "is left analog: it reads values and sends a constant current")
        return len(left)
