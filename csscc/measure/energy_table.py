"""Prices times counts: one inference of the ANN and of the spiking network, in float32 and in 8-bit integers.

With T steps, the currents c of a neuron, and A and M synaptic operations whose spike is 1 or -1 and any other number::

    synapses   SNN  A + M additions, M multiplications                   ANN  one of each for a multiply-accumulate
    neurons    SNN  c*T amplifications, (c + 4)*T additions, T values    ANN  one value of the activation
               of the activation; encoders: 1 multiplication, 2*T additions;
               both: T additions more where up to two spikes are sent at a step
    weights    read once a step, or for each synaptic operation          ANN  once, or for each multiply-accumulate
    state      membrane potentials, what was sent, spikes                ANN  activations

An amplification is the product of a current, or of a membrane, with the weight of a spike. In integers it is a shift,
an addition or both where beta is 1.5, 2, 2.5 or 3 or a spike's weight falls by one a step, and priced as an addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from csscc.coding.coding import Coding
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.work import NeuronWork, SynapseWork

WORD = 4  # bytes of a float32, of a membrane potential in integers, and of the address that stands for a spike
ADDITIONS = 4  # of a neuron at each step, besides its currents: the activation's comparison, minus what was sent,
# the comparison with the threshold, plus the spike; for bursts there is a second threshold
SPIKE_OR_SILENCE, BURST_OR_SILENCE = 0.25, 0.375  # bytes, of three values and of five


@dataclass(frozen=True)
class Energy:
    """Energy of one inference in picojoules, by what it is spent on."""

    design: str
    synapses: float
    neurons: float
    weights: float
    state: float
    total: float


@dataclass(frozen=True)
class Arithmetic:
    """What operations of one precision take, in picojoules, and its bytes.

    Attributes:
        name: of the precision.
        multiply: a weight times what arrives.
        add: sums and membranes, and a comparison.
        scale: a multiplication in the membrane.
        amplify: the product with a spike's weight; 0 where all weights are 1.
        bytes: of a weight or an activation.
    """

    name: str
    multiply: float
    add: float
    scale: float
    amplify: float
    bytes: int

    @property
    def multiply_accumulate(self) -> float:
        """A multiplication and an addition."""
        return self.multiply + self.add


def arithmetics(costs: EnergyCosts, coding: Coding) -> tuple[Arithmetic, Arithmetic]:
    """Float32 and 8-bit integers."""
    ones = coding.beta == 1 and not coding.linear
    shifts = coding.linear or (2 * coding.beta).is_integer()
    multiply, in_int8 = costs.float32_multiply, costs.int32_add if shifts else costs.int32_multiply
    return (
        Arithmetic("float32", multiply, costs.float32_add, multiply, 0.0 if ones else multiply, WORD),
        Arithmetic("int8", costs.int8_multiply, costs.int32_add, costs.int32_multiply, 0.0 if ones else in_int8, 1),
    )


@dataclass(frozen=True)
class Table:
    """Designs at one kind of memory traffic; `per_spike`: weights are read for each spike, not once a step."""

    synapses: Sequence[SynapseWork]
    neurons: Sequence[NeuronWork]
    steps: int
    costs: EnergyCosts
    per_spike: bool

    def ann(self, kind: Arithmetic) -> Energy:
        """The ANN in one precision."""
        macs, weights = sum(s.macs for s in self.synapses), sum(s.weights // s.trains for s in self.synapses)
        values = 2 * sum(n.neurons / n.trains for n in self.neurons)  # written once, read once
        return self._energy(
            f"ANN {kind.name}",
            synapses=macs * kind.multiply_accumulate,
            neurons=sum(self._ann_neurons(n, kind) for n in self.neurons),
            weight_bytes=(macs if self.per_spike else weights) * kind.bytes,
            state_bytes=(values + (macs if self.per_spike else 0)) * kind.bytes,
        )

    def snn(self, kind: Arithmetic) -> Energy:
        """The spiking network in one precision."""
        operations = sum(s.additions + s.multiplications for s in self.synapses)
        multiplied = sum(s.multiplications for s in self.synapses)
        fetched = operations if self.per_spike else self.steps * sum(s.weights for s in self.synapses)
        words = sum(self._words(n) for n in self.neurons) + (2 * operations if self.per_spike else 0)
        sent = sum(n.spikes * WORD if self.per_spike else n.neurons * n.steps * _at_a_step(n) for n in self.neurons)
        return self._energy(
            f"SNN {kind.name}",
            synapses=operations * kind.add + multiplied * kind.multiply,
            neurons=sum(self._snn_neurons(n, kind) for n in self.neurons),
            weight_bytes=fetched * kind.bytes,
            state_bytes=words * WORD + 2 * sent,  # and received
        )

    def _energy(
        self, design: str, *, synapses: float, neurons: float, weight_bytes: float, state_bytes: float
    ) -> Energy:
        weights, state = weight_bytes * self.costs.weight_byte, state_bytes * self.costs.state_byte
        return Energy(design, synapses, neurons, weights, state, synapses + neurons + weights + state)

    def _ann_neurons(self, layer: NeuronWork, kind: Arithmetic) -> float:
        if layer.is_encoder:
            return 0.0
        return layer.neurons * kind.add + self._multiplied(layer) * kind.multiply_accumulate

    def _snn_neurons(self, layer: NeuronWork, kind: Arithmetic) -> float:
        if layer.is_encoder:
            return layer.neurons * (kind.scale + (2 + layer.burst) * layer.steps * kind.add)
        step = layer.currents * kind.amplify + (layer.currents + ADDITIONS + layer.burst) * kind.add
        scaled = kind.scale if layer.scaled else 0.0
        activation = self._multiplied(layer) * (kind.scale + kind.add)
        return layer.steps * (layer.neurons * (step + scaled) + activation)

    def _multiplied(self, layer: NeuronWork) -> float:
        """Multiplications, each with an addition, of one evaluation of the activation in all neurons."""
        return layer.multiplications + self.costs.function_multiplications * layer.functions

    def _words(self, layer: NeuronWork) -> float:
        """Words of membrane potentials, and of what was sent, that are read and written."""
        if layer.is_encoder:
            return 2 * layer.neurons * layer.steps
        membranes = layer.currents if self.per_spike else 2 * layer.currents  # by spike: written as spikes arrive
        return (membranes + 2) * layer.neurons * layer.steps


def _at_a_step(layer: NeuronWork) -> float:
    """Bytes that state what a neuron sends at one step."""
    return BURST_OR_SILENCE if layer.burst else SPIKE_OR_SILENCE
