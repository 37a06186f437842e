"""Compare a spiking network with the ANN it came from, on data: accuracy, errors, spikes, operations, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from csscc.dialect.macs import behind_batch, multiply_accumulates, samples_at_once
from csscc.dialect.metadata import read as read_facts
from csscc.dialect.model import attributes_of, copy_of, spike_sources, with_residuals
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions, open_source
from csscc.measure.agreement import Agreement
from csscc.measure.comparison import source_session
from csscc.passes.canonical.load import read_model
from csscc.passes.lower.steps import by_layer
from csscc.runtime.session import Session

TIMED_BATCHES = 5
SPIKE_TRAINS = 512 << 20  # bytes of spikes, of all layers and steps, that are held at once
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


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


@dataclass(frozen=True)
class Evaluation:
    """ANN against SNN on the same samples. Accuracies and losses are percent and percentage points.

    `native` names the spiking operators that native kernels ran.
    """

    samples: int
    ann_accuracy: float | None
    snn_accuracy: float | None
    loss: float | None
    expected_loss: float | None
    cautious_loss: float | None
    agreement: float | None
    output_error: dict[str, float]
    steps: int
    latency: int
    spikes_per_neuron: float
    synaptic_operations: float
    ann_operations: float
    encoded: float
    ann_milliseconds: float
    snn_milliseconds: float
    native: tuple[str, ...] = ()
    layers: tuple[LayerActivity, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate(
    ann: str | Path | onnx.ModelProto,
    snn: str | Path | onnx.ModelProto,
    data: Any,
    *,
    images: ImageOptions | None = None,
    limit: int | None = None,
    native: bool = True,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Run both networks on `data` and compare them.

    Args:
        ann: the source network.
        snn: the spiking network made from it.
        data: samples, with labels under ``y`` for accuracies.
        images: how image files become inputs.
        limit: use at most so many samples.
        native: use native kernels where they are compiled.
        progress: told the samples done and their total, where it is known.

    Raises:
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    ann_model = ann if isinstance(ann, onnx.ModelProto) else read_model(ann)
    given = snn if isinstance(snn, onnx.ModelProto) else read_model(snn)
    snn_model = by_layer(given)
    facts = read_facts(
        {p.key: p.value for p in snn_model.metadata_props}, str(snn) if isinstance(snn, str | Path) else "the model"
    )
    ann_session, plain = source_session(ann_model), Session(given, native=native)
    _check_pair(ann_session, plain)
    source = open_source(data, plain.specs, images=images, limit=limit)
    fixed = ann_session.fixed_batch
    meter, compared = _Meter(snn_model, native), Agreement(source.labels)
    seconds: list[tuple[float, float]] = []
    at_once = max(fixed or 1, plain.fixed_batch or 1)
    trains = 4 * facts.coding.T * sum(layer.neurons for layer in facts.layers)  # bytes; counters read them at the end
    size = samples_at_once(snn_model, facts.coding.T, min(32, SPIKE_TRAINS // max(trains, 1)))
    for feeds in source.batches(max(at_once, size - size % at_once)):
        number = len(next(iter(feeds.values())))
        if number % at_once:
            raise RefusedError(f"the networks take {at_once} samples at a time; give a multiple of that, not {number}")
        expected, ann_seconds = _timed(partial(_run, ann_session, feeds, fixed))
        got = meter.run(feeds, plain.fixed_batch)
        if len(seconds) < TIMED_BATCHES:
            _, snn_seconds = _timed(partial(_run, plain, feeds, plain.fixed_batch))
            seconds.append((ann_seconds / number, snn_seconds / number))
        compared.add(expected, got, number)
        if progress is not None:
            progress(compared.samples, source.size)
    layers = meter.activities(compared.samples)
    ann_seconds, snn_seconds = np.median(seconds, axis=0)
    return Evaluation(
        samples=compared.samples,
        ann_accuracy=compared.ann_accuracy,
        snn_accuracy=compared.snn_accuracy,
        loss=compared.loss,
        expected_loss=compared.expected_loss,
        cautious_loss=compared.cautious_loss,
        agreement=compared.agreement,
        output_error=compared.output_error,
        steps=facts.coding.T,
        latency=facts.latency,
        spikes_per_neuron=meter.spikes_per_neuron(compared.samples),
        synaptic_operations=meter.operations / compared.samples,
        ann_operations=meter.ann_operations,
        encoded=min((a.encoded for a in layers), default=1.0),
        ann_milliseconds=1000 * float(ann_seconds),
        snn_milliseconds=1000 * float(snn_seconds),
        native=tuple(sorted(plain.native)),
        layers=layers,
    )


def _check_pair(ann: Session, snn: Session) -> None:
    if sorted(ann.output_names) != sorted(snn.output_names) or sorted(ann.input_names) != sorted(snn.input_names):
        raise RefusedError(
            f"the networks do not belong together: the ANN maps {ann.input_names} to {ann.output_names}, "
            f"the SNN {snn.input_names} to {snn.output_names}"
        )


def _run(session: Session, feeds: Any, fixed: int | None) -> dict[str, NDArray[Any]]:
    """Outputs for a batch, `fixed` samples at a time where the network takes no other number."""
    number = len(next(iter(feeds.values())))
    if fixed is None or fixed == number:
        return session.run(feeds)
    parts = [session.run({n: a[i : i + fixed] for n, a in feeds.items()}) for i in range(0, number - fixed + 1, fixed)]
    return {n: _joined([p[n] for p in parts]) for n in parts[0]}


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if parts[0].ndim else np.stack(parts)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


class _Meter:
    """The spiking network with counters in its graph: spikes, residuals, and what the weights had to do."""

    def __init__(self, model: onnx.ModelProto, native: bool) -> None:
        model = copy_of(model)
        self._outputs = [o.name for o in model.graph.output]
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
            self._count(model, f"top:{name}", [("Abs", tensor), ("ReduceMax", "")])
            self._count(model, f"cells:{name}", [("Size", tensor)])
        self._fan_out = _fan_outs(model)
        trains = {tensor: name for name, tensor in self._spikes.items()}
        for name, (tensor, _) in self._fan_out.items():
            if tensor in trains:  # of spikes that are 1 or -1 each
                self._counters[f"work:{name}"] = self._counters[f"all:{trains[tensor]}"]
            else:
                self._count(model, f"work:{name}", [("Sign", tensor), ("ReduceL1", "")])
        model.graph.initializer.append(helper.make_tensor("csscc_one", TensorProto.FLOAT, [], [1.0]))
        self._session = Session(model, native=native)
        self._sums: dict[str, float] = {}
        self.ann_operations = float(sum(m for _, m in _weighted(model)))

    def _count(self, model: onnx.ModelProto, key: str, chain: list[tuple[str, str]]) -> None:
        """Append nodes that reduce a tensor to one number; the first operator names the tensor it reads."""
        last = chain[0][1]
        for op, _ in chain:
            output = f"csscc_count_{len(model.graph.node)}"
            inputs = [last, "csscc_one"] if op == "Greater" else [last]
            attributes: dict[str, Any] = {"to": TensorProto.FLOAT} if op == "Cast" else {}
            if op.startswith("Reduce"):
                attributes["keepdims"] = 0
            model.graph.node.append(helper.make_node(op, inputs, [output], **attributes))
            last = output
        model.graph.output.append(onnx.ValueInfoProto(name=last))
        self._counters[key] = last

    def run(self, feeds: Any, fixed: int | None) -> dict[str, NDArray[Any]]:
        """Outputs of a batch; the counters go to the sums."""
        number = len(next(iter(feeds.values())))
        size = fixed or number
        results = []
        for start in range(0, number - size + 1, size):
            values = self._session.run({n: a[start : start + size] for n, a in feeds.items()})
            for key, output in self._counters.items():
                value = float(values[output])
                old = self._sums.get(key, 0.0)
                self._sums[key] = max(old, value) if key.startswith("top:") else old + value
            results.append({n: values[n] for n in self._outputs})
        return results[0] if len(results) == 1 else {n: _joined([r[n] for r in results]) for n in self._outputs}

    @property
    def operations(self) -> float:
        """Synaptic operations so far: for each spike that weights read, the multiply-accumulates it causes."""
        return sum(self._sums[f"work:{n}"] * fan_out for n, (_, fan_out) in self._fan_out.items())

    def spikes_per_neuron(self, samples: int) -> float:
        """Spikes per neuron and inference over all layers, encoders included."""
        spikes = sum(self._sums[f"all:{n}"] for n in self._spikes)
        return spikes / max(sum(self._neurons(n, samples) for n in self._spikes) * samples, 1.0)

    def _neurons(self, name: str, samples: int) -> float:
        steps = float(attributes_of(self._kinds[name])["T"])
        return self._sums[f"size:{name}"] / steps / samples

    def activities(self, samples: int) -> tuple[LayerActivity, ...]:
        """Per layer, in order."""
        result = []
        for name, node in self._kinds.items():
            total, signed = self._sums[f"all:{name}"], self._sums[f"sum:{name}"]
            cells = self._neurons(name, samples) * samples
            kind = "encoder" if node.op_type == "Encode" else node.op_type.removeprefix("TSA")
            positive, negative = (total + signed) / 2 / cells, (total - signed) / 2 / cells
            if f"over:{name}" not in self._sums:
                result.append(LayerActivity(name, kind, positive, negative))
                continue
            over = self._sums[f"over:{name}"] / self._sums[f"cells:{name}"]
            result.append(LayerActivity(name, kind, positive, negative, 1 - over, self._sums[f"top:{name}"]))
        return tuple(result)


def _shapes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {
        v.name: [d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim]
        for v in values
        if v.type.tensor_type.HasField("shape")
    }


def _weighted(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, int]]:
    """Nodes with constant weights, and their multiply-accumulates for one sample."""
    shapes = _shapes(model)
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.domain or node.op_type not in WEIGHTED:
            continue
        index = next((i for i in (1, 0) if node.input[i] in weights), None)
        if index is not None:
            data = shapes.get(node.input[1 - index])
            shape = weights[node.input[index]]
            found.append(
                (node, multiply_accumulates(node.op_type, attributes_of(node), data, shapes.get(node.output[0]), shape))
            )
    return found


def _fan_outs(model: onnx.ModelProto) -> dict[str, tuple[str, float]]:
    """For each node with weights that reads spikes: the tensor, and the operations one spike causes."""
    shapes = _shapes(model)
    weights = {t.name for t in model.graph.initializer}
    result = {}
    for node, macs in _weighted(model):
        data = next(i for i in node.input[:2] if i not in weights)
        cells = behind_batch(shapes.get(data))
        if cells and macs:
            result[node.name] = (data, macs / cells)
    return result
