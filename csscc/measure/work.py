"""What the parts of a spiking network do for one input, counted: the operations that an energy estimate prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from csscc.dialect.macs import after_batch
from csscc.dialect.spiking import Spiking

PRODUCTS = ("MatMul", "Attention", "Attend", "AttendOrZero")  # of two inputs that are both computed


@dataclass(frozen=True)
class SynapseWork:
    """A node with weights, for one input.

    Attributes:
        name: of the node.
        macs: multiply-accumulates of the ANN.
        weights: numbers that it holds; `trains` times those of the ANN, where so many trains send what it reads.
        additions: synaptic operations in which a spike of 1 or -1 adds or subtracts a weight; two for two spikes.
        multiplications: synaptic operations in which what arrives is another number, such as an average of spikes or a
            value that was never encoded, so that the weight is multiplied and then added.
    """

    name: str
    macs: int
    weights: int
    additions: float
    multiplications: float
    trains: int = 1


@dataclass(frozen=True)
class NeuronWork:
    """A layer of encoders or neurons, for one input.

    Attributes:
        name: of the node.
        kind: ``encoder`` or the activation that the neurons send.
        neurons: how many.
        steps: coding steps T.
        currents: inputs of the activation, each with a membrane potential of its own.
        spikes: sent by all of them.
        multiplications, functions: of one evaluation of the activation in all neurons: products, and values of a
            function such as exp; comparisons are none.
        scaled: whether each evaluation multiplies by 1 / theta, since the activation is not positively homogeneous.
        local: whether a neuron needs its own inputs only, not those of a whole row as a softmax does.
        trains: how many neurons side by side send one value of the ANN; only encoders may have several.
        burst: whether up to two spikes are sent at a step.
    """

    name: str
    kind: str
    neurons: float
    steps: int
    currents: int
    spikes: float
    multiplications: float
    functions: float
    scaled: bool
    local: bool
    trains: int = 1
    burst: bool = False

    @property
    def is_encoder(self) -> bool:
        """Whether the layer makes spikes of values."""
        return self.kind == "encoder"


def neuron_work(
    view: Spiking[str], neurons: float, spikes: float, shapes: Mapping[str, Sequence[int | None]]
) -> NeuronWork:
    """What a layer does that has so many neurons and sends so many spikes for one input.

    Args:
        view: of its node.
        neurons: number of neurons.
        spikes: sent for one input.
        shapes: of the tensors of the time-folded network.
    """
    if view.is_encoder:
        return NeuronWork(
            view.name, view.kind, neurons, view.schedule.T, 0, spikes, 0.0, 0.0, False, True, view.trains,
            view.schedule.burst,
        )  # fmt: skip
    activation = view.activation
    multiplications, functions = 0.0, 0.0
    if view.kind in PRODUCTS:
        multiplications, functions = _products(view, neurons, shapes)
    elif view.kind in ("Mul", "Times"):
        multiplications = neurons
    elif not activation.exact:
        functions = neurons
        multiplications = 2 * neurons if activation.scope == "row" else 0.0  # a square or a sum, and a scale
    return NeuronWork(
        view.name,
        view.kind,
        neurons,
        view.schedule.T,
        activation.inputs,
        spikes,
        multiplications,
        functions,
        scaled=not activation.homogeneous,
        local=activation.scope != "row",
        burst=view.schedule.burst,
    )


def _products(view: Spiking[str], neurons: float, shapes: Mapping[str, Sequence[int | None]]) -> tuple[float, float]:
    """Multiplications and functions of a product of computed inputs, or of attention; 0 where no shapes are known."""
    first, second = (shapes.get(name) or [None] for name in view.current[:2])
    contracted, keys = first[-1], second[-2 if view.kind == "Attention" else -1] if len(second) > 1 else None
    if contracted is None or keys is None:
        return 0.0, 0.0
    if view.kind == "MatMul":
        return neurons * contracted, 0.0
    scores = after_batch(first) / contracted * keys
    return scores * contracted + neurons * keys, scores
