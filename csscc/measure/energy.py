"""An estimate of the energy of one inference, what it rests on, and what follows from it.

It prices operations that were counted (`csscc.measure.work`) at published energies (`csscc.measure.energy_costs`), as
`csscc.measure.energy_table` describes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from csscc.coding.coding import Coding
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.energy_table import Energy, Table, arithmetics
from csscc.measure.work import NeuronWork, SynapseWork

ASSUMPTIONS = (
    "Integers: weights and activations of 8 bits, sums and membrane potentials of 32 bits. csscc writes float32; "
    "whether the spiking network keeps its accuracy with weights of 8 bits is not measured here.",
    "A spike of 1 or -1 adds or subtracts a weight; a burst, a spike of 2 or -2, counts as two spikes wherever spikes "
    "are counted: it adds a weight twice, and is two addresses. The weight of a spike is multiplied in the membrane, "
    "once a neuron and step: one multiplication in float32; in integers a shift, an addition or both where beta is "
    "1.5, 2, 2.5 or 3.",
    "At each of T steps a neuron adds its current, compares (its activation), subtracts what was sent, compares with "
    "the threshold and adds the spike; with bursts there is a second threshold. A comparison costs an addition. An "
    "activation that needs more than comparisons is computed anew at each step.",
    "Weights read once a step: a layer reads its weights once a step (the ANN once) and uses them for all positions; a "
    "neuron reads and writes its membrane potential and what was sent once a step; a spike or silence takes 2 bits, 3 "
    "where bursts are sent.",
    "Weights read for each spike: a synaptic operation reads its weight, and reads and writes the membrane potential "
    "that it changes; a spike is an address of 32 bits. The ANN reads a weight and an activation for each "
    "multiply-accumulate.",
    "All memory is on the chip. For DRAM, set weight_byte to 162 to 325.",
)
LEFT_OUT = (
    "static power, clocks, control, and the routing of spikes between cores",
    "reading the input and writing the output; operators before the first and after the last layer",
    "biases, and pooling and other sums of spikes without weights",
    "silent steps merged into one, which save passes where time is simulated",
    "fewer synaptic operations at the border of padded convolutions; those of the ANN are counted in the same way",
)


@dataclass(frozen=True)
class EnergyEstimate:
    """ANN and SNN, each in float32 and in 8-bit integers, with two kinds of memory traffic; picojoules an inference.

    Attributes:
        per_step: weights are read once a step. ANN float32, ANN int8, SNN float32, SNN int8.
        per_spike: weights are read for each spike; the same designs.
        macs: multiply-accumulates of the ANN.
        additions, multiplications: synaptic operations by what they are, see `SynapseWork`; together they are
            `Evaluation.synaptic_operations`.
        membrane_updates: of all neurons and encoders at all steps.
        spikes_per_synapse: synaptic operations for one multiply-accumulate of the ANN.
        break_even: spikes per synapse below which additions cost less than multiply-accumulates, in float32 and int8.
        not_local: share of neurons that need inputs of a whole row, 0 to 1.
        not_local_kinds: their activations.
        synapses, neurons: the counts that it prices, by node.
        costs: prices.
        sentences: what follows from it.
        assumptions, left_out: what was assumed, and what is not in it.
    """

    per_step: tuple[Energy, ...]
    per_spike: tuple[Energy, ...]
    macs: float
    additions: float
    multiplications: float
    membrane_updates: float
    spikes_per_synapse: float
    break_even: tuple[float, float]
    not_local: float
    not_local_kinds: tuple[str, ...]
    synapses: tuple[SynapseWork, ...]
    neurons: tuple[NeuronWork, ...]
    costs: EnergyCosts
    sentences: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ASSUMPTIONS
    left_out: tuple[str, ...] = LEFT_OUT


def estimate(
    synapses: Sequence[SynapseWork], neurons: Sequence[NeuronWork], coding: Coding, costs: EnergyCosts
) -> EnergyEstimate:
    """Price what was counted for one input.

    Args:
        synapses: nodes with weights.
        neurons: encoders and neurons.
        coding: of the network: its T, and whether the weights of its spikes are shifts.
        costs: prices.
    """
    kinds = arithmetics(costs, coding)
    macs, additions = float(sum(s.macs for s in synapses)), sum(s.additions for s in synapses)
    multiplications, number = sum(s.multiplications for s in synapses), sum(n.neurons for n in neurons)
    rows = [n for n in neurons if not n.local]
    tables = [Table(synapses, neurons, coding.T, costs, per_spike) for per_spike in (False, True)]
    per_step, per_spike = (tuple(design(k) for design in (t.ann, t.snn) for k in kinds) for t in tables)
    made = EnergyEstimate(
        per_step=per_step,
        per_spike=per_spike,
        macs=macs,
        additions=additions,
        multiplications=multiplications,
        membrane_updates=sum(n.neurons * n.steps for n in neurons),
        spikes_per_synapse=(additions + multiplications) / macs if macs else 0.0,
        break_even=(kinds[0].multiply_accumulate / kinds[0].add, kinds[1].multiply_accumulate / kinds[1].add),
        not_local=sum(n.neurons for n in rows) / number if number else 0.0,
        not_local_kinds=tuple(dict.fromkeys(n.kind for n in rows)),
        synapses=tuple(synapses),
        neurons=tuple(neurons),
        costs=costs,
    )
    return replace(made, sentences=_sentences(made, coding))


def _sentences(made: EnergyEstimate, coding: Coding) -> tuple[str, ...]:
    number = sum(n.neurons for n in made.neurons)
    spikes = sum(n.spikes for n in made.neurons) / number if number else 0.0
    sparsity = f"A neuron sends {spikes:.2f} spikes in {coding.T} steps on average."
    if coding.beta > 1 and not coding.linear:
        sparsity = (
            f"CSS coding is not sparse by design: a neuron sends its value as digits, {spikes:.2f} spikes in "
            f"{coding.T} steps on average. It saves energy where additions replace multiplications, not by sparsity."
        )
    return (
        sparsity,
        _synapses(made),
        _totals(made),
        _layers(made),
        _not_local(made),
    )


def _synapses(made: EnergyEstimate) -> str:
    cost = {e.design: e.synapses for e in made.per_step}
    verdicts = (
        f"{'less' if cost[f'SNN {kind}'] < cost[f'ANN {kind}'] else 'no less'} in {kind}, where a multiply-accumulate "
        f"costs as much as {limit:.2f} additions"
        for limit, kind in zip(made.break_even, ("float32", "int8"), strict=True)
    )
    return (
        f"A synapse carries {made.spikes_per_synapse:.2f} spikes in place of one multiply-accumulate. Memory aside, "
        f"synapses cost {', and '.join(verdicts)}."
    )


def _totals(made: EnergyEstimate) -> str:
    """The SNN against the ANN of its own precision, memory included."""
    parts = []
    for designs, when in ((made.per_step, "once a step"), (made.per_spike, "for each spike")):
        total = {e.design: e.total for e in designs}
        ratios = (
            f"{total[f'SNN {kind}'] / max(total[f'ANN {kind}'], 1e-30):.2f} times the energy of the ANN in {kind}"
            for kind in ("float32", "int8")
        )
        parts.append(f"{' and '.join(ratios)} where weights are read {when}")
    return f"With neurons and memory, the SNN takes {'; '.join(parts)}."


def against_ann(work: SynapseWork, multiply: float, add: float) -> float:
    """Energy of a node's synaptic operations in units of that of the ANN's multiply-accumulates, at these prices."""
    return (work.additions * add + work.multiplications * (multiply + add)) / (work.macs * (multiply + add))


def _layers(made: EnergyEstimate) -> str:
    """In how many layers the synapses cost less than those of the ANN in integers."""
    layers = made.synapses
    if not layers:
        return "No node with weights reads spikes."
    ratio = {s.name: against_ann(s, made.costs.int8_multiply, made.costs.int32_add) for s in layers}
    best, worst = min(ratio, key=lambda n: ratio[n]), max(ratio, key=lambda n: ratio[n])
    wins = sum(r < 1 for r in ratio.values())
    return (
        f"The synapses of {wins} of {len(layers)} nodes with weights cost less than in the int8 ANN: from "
        f"{ratio[best]:.2f} times as much ('{best}') to {ratio[worst]:.2f} times ('{worst}')."
    )


def _not_local(made: EnergyEstimate) -> str:
    if not made.not_local_kinds:
        return "All neurons are local: none needs the inputs of others, as softmax and normalisation do."
    kinds = ", ".join(made.not_local_kinds)
    return (
        f"{made.not_local:.1%} of the neurons are not local: each needs the inputs of a whole row ({kinds}), which "
        "few chips for spikes can do."
    )
