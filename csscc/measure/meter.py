"""Counters in the graph of a spiking network: spikes, residuals, and what the weights had to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from csscc.dialect.macs import shapes_of, weighted_nodes
from csscc.dialect.model import copy_of, spike_sources, with_outputs, with_residuals
from csscc.dialect.spiking import spiking_nodes, view_of
from csscc.measure.work import NeuronWork, SynapseWork, neuron_work
from csscc.passes.lower.kernels import open_session
from csscc.runtime.batches import joined


@dataclass(frozen=True)
class LayerActivity:
    """What one layer did, averaged over the samples.

    Attributes:
        name: node name.
        kind: ``encoder`` or the activation the neurons send.
        positive, negative: spikes per neuron and inference.
        encoded: share of residuals with |u| <= 1, in units of theta (Theorem 1); 1 for encoders.
        largest: largest |u|.
    """

    name: str
    kind: str
    positive: float
    negative: float
    encoded: float = 1.0
    largest: float = 0.0


class Meter:
    """The spiking network with counters in its graph: spikes, residuals, and what the weights had to do.

    Args:
        model: the time-folded network.
        native: use native kernels where they are compiled.
        shown: trains and currents that `run` returns beside the outputs.

    Attributes:
        sums: what was counted so far.
    """

    def __init__(self, model: onnx.ModelProto, native: bool, shown: Iterable[str] = ()) -> None:
        model, self._shown = copy_of(model), tuple(shown)
        self._outputs = [o.name for o in model.graph.output]
        with_outputs(model, self._shown)
        self._steps = next((view.schedule.T for _, view in spiking_nodes(model.graph)), 1)
        self._kinds = {n.name: n for n in spike_sources(model)}
        self._spikes = {n.name: n.output[0] for n in spike_sources(model)}
        residuals = with_residuals(model)
        self._counters: dict[str, str] = {}
        for name, tensor in self._spikes.items():
            self._count(model, f"sum:{name}", [("ReduceSum", tensor)])
            self._count(model, f"all:{name}", [("ReduceL1", tensor)])
            self._count(model, f"size:{name}", [("Size", tensor)])
        for name, tensor in residuals.items():
            self._count(model, f"over:{name}", [("Abs", tensor), ("Greater", "one"), ("Cast", ""), ("ReduceSum", "")])
            self._count(model, f"largest:{name}", [("Abs", tensor), ("ReduceMax", "")])
            self._count(model, f"cells:{name}", [("Size", tensor)])
        self._weighted, self._shapes = [w for w in weighted_nodes(model) if w.cells and w.macs], shapes_of(model)
        trains = {tensor: name for name, tensor in self._spikes.items()}
        for weighted in self._weighted:
            name, tensor = weighted.node.name, weighted.data
            if tensor in trains:  # of spikes that are 1 or -1 each
                spikes = self._counters[f"all:{trains[tensor]}"]
                self._counters |= {f"work:{name}": spikes, f"ones:{name}": spikes}
            else:
                self._count(model, f"work:{name}", [("Sign", tensor), ("ReduceL1", "")])
                ones = [("Abs", tensor), ("Equal", "one"), ("Cast", ""), ("ReduceSum", "")]
                self._count(model, f"ones:{name}", ones)
        model.graph.initializer.append(helper.make_tensor("csscc_one", TensorProto.FLOAT, [], [1.0]))
        self._session = open_session(model, native=native)
        self.sums: dict[str, float] = {}
        self.ann_operations = float(sum(w.macs // w.trains for w in weighted_nodes(model)))

    def _count(self, model: onnx.ModelProto, key: str, chain: list[tuple[str, str]]) -> None:
        """Append nodes that reduce a tensor to one number; the first operator names the tensor it reads."""
        last = chain[0][1]
        for op, _ in chain:
            output = f"csscc_count_{len(model.graph.node)}"
            inputs = [last, "csscc_one"] if op in ("Greater", "Equal") else [last]
            attributes: dict[str, Any] = {"to": TensorProto.FLOAT} if op == "Cast" else {}
            if op.startswith("Reduce"):
                attributes["keepdims"] = 0
            model.graph.node.append(helper.make_node(op, inputs, [output], **attributes))
            last = output
        model.graph.output.append(onnx.ValueInfoProto(name=last))
        self._counters[key] = last

    def run(self, feeds: Any, fixed: int | None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Outputs of a batch, and what is shown, ``[T, B, ...]``; the counters go to the sums."""
        number = len(next(iter(feeds.values())))
        size = fixed or number
        results, trains = [], []
        for start in range(0, number - size + 1, size):
            values = self._session.run({n: a[start : start + size] for n, a in feeds.items()})
            self.sums = merged(self.sums, {key: float(values[output]) for key, output in self._counters.items()})
            results.append({n: values[n] for n in self._outputs})
            trains.append({n: values[n].reshape(self._steps, -1, *values[n].shape[1:]) for n in self._shown})
        outputs = results[0] if len(results) == 1 else {n: joined([r[n] for r in results]) for n in self._outputs}
        return outputs, {n: np.concatenate([t[n] for t in trains], axis=1) for n in self._shown}

    @property
    def operations(self) -> float:
        """Synaptic operations so far: for each spike that weights read, the multiply-accumulates it causes."""
        return sum(self.sums[f"work:{w.node.name}"] * (w.macs / w.cells) for w in self._weighted)

    def synapses(self, samples: int) -> tuple[SynapseWork, ...]:
        """What each node with weights did for one input, on average, in order."""
        result = []
        for w in self._weighted:
            name, fan_out, ann = w.node.name, w.macs / w.cells / samples, w.macs // w.trains
            ones, all_values = self.sums[f"ones:{name}"], self.sums[f"work:{name}"]
            more = (all_values - ones) * fan_out
            result.append(SynapseWork(name, ann, w.weights, ones * fan_out, more, w.trains))
        return tuple(result)

    def neurons(self, samples: int) -> tuple[NeuronWork, ...]:
        """What each encoder and layer of neurons did for one input, on average, in order."""
        return tuple(
            neuron_work(view_of(node), self._neurons(name, samples), self.sums[f"all:{name}"] / samples, self._shapes)
            for name, node in self._kinds.items()
        )

    def spikes_per_neuron(self, samples: int) -> float:
        """Spikes per neuron and inference over all layers, encoders included."""
        spikes = sum(self.sums[f"all:{n}"] for n in self._spikes)
        return spikes / max(sum(self._neurons(n, samples) for n in self._spikes) * samples, 1.0)

    def _neurons(self, name: str, samples: int) -> float:
        return self.sums[f"size:{name}"] / view_of(self._kinds[name]).schedule.T / samples

    def activities(self, samples: int) -> tuple[LayerActivity, ...]:
        """Per layer, in order."""
        result = []
        for name, node in self._kinds.items():
            total, signed = self.sums[f"all:{name}"], self.sums[f"sum:{name}"]
            cells = self._neurons(name, samples) * samples
            kind = view_of(node).kind
            positive, negative = (total + signed) / 2 / cells, (total - signed) / 2 / cells
            if f"over:{name}" not in self.sums:
                result.append(LayerActivity(name, kind, positive, negative))
                continue
            over = self.sums[f"over:{name}"] / self.sums[f"cells:{name}"]
            result.append(LayerActivity(name, kind, positive, negative, 1 - over, self.sums[f"largest:{name}"]))
        return tuple(result)


def merged(counts: dict[str, float], others: dict[str, float]) -> dict[str, float]:
    """Counts of two parts of the samples: sums, and of the largest residuals the larger."""
    return {
        key: max(counts.get(key, 0.0), value) if key.startswith("largest:") else counts.get(key, 0.0) + value
        for key, value in others.items()
    }
