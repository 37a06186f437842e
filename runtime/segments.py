"""A spiking network cut into its layers, which run one after another over all samples.

A segment is one encoder, neuron layer or readout with the linear operators in front of it: from the spikes of earlier
segments to its own. Run in order, each segment sees what it will see in the whole network, so a layer can be corrected
once all layers before it are, at the cost of one run of the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from csscc.coding.schedule import Schedule
from csscc.dialect.biases import constant_names
from csscc.dialect.model import with_outputs, with_residuals
from csscc.dialect.spiking import Spiking, set_schedule, spiking_nodes, view_of
from csscc.errors import RefusedError
from csscc.runtime.session import Session, by_layer_session
from csscc.statistics import Feeds

ROUNDING = 1e-9  # of a root mean square that is compared
SENT, RESIDUAL = 0, 1  # outputs of a segment's neurons


@dataclass(frozen=True)
class Segment:
    """One spiking node and what lies between it and earlier spikes.

    Attributes:
        node: the encoder, neuron or readout.
        network: the whole network.
        nodes: the operators in front of the node, in order: linear ones, and what biases are computed with.
        inputs: graph inputs and spike trains that it reads.
        biases: a name for the constant in the bias of each current, which the network may share.
    """

    node: onnx.NodeProto
    network: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    biases: tuple[str, ...] = ()

    @property
    def view(self) -> Spiking[str]:
        """The node as what it is."""
        return view_of(self.node)

    @property
    def made(self) -> tuple[str, ...]:
        """The currents that are computed: all that are no spike trains as they come."""
        return tuple(dict.fromkeys(name for name in self.view.current if name not in self.inputs))

    def linear(self) -> onnx.ModelProto:
        """A model of the linear operators alone: it gives the currents that are `made`."""
        nodes, inputs = _in_front_of(self.made, self.nodes, {*self.inputs})
        return self._model(nodes, inputs, self.made)

    def neurons(self, schedule: Schedule) -> onnx.ModelProto:
        """A model of the node alone, with this schedule: it gives what the node sends and, of neurons, their residuals.

        It takes the currents, `biases`, and what else of `inputs` biases and parameters are computed from.
        """
        node = onnx.NodeProto()
        node.CopyFrom(self.node)
        if schedule != self.view.schedule:
            set_schedule(node, schedule)
        view = view_of(node)
        front, inputs = _in_front_of(node.input, self.nodes, {*view.current, *self.inputs})
        nodes = [*front, node]
        made_at = {n.output[0]: i for i, n in enumerate(front)}
        for i, (name, bias) in enumerate(zip(self.biases, view.biases, strict=True)):
            if bias in made_at:
                total = onnx.NodeProto()
                total.CopyFrom(nodes[made_at[bias]])
                total.input[1] = name
                nodes[made_at[bias]] = total
            else:
                view.set_bias(i, name)
        made = self._model(nodes, (*inputs, *self.biases), node.output[:1])
        return with_outputs(made, with_residuals(made).values())

    def _model(self, nodes: Iterable[onnx.NodeProto], inputs: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
        """Some of the nodes as a model, with their own weights.

        It is made anew each time, since the models of all segments together are as large as the network.
        """
        made = onnx.ModelProto(ir_version=self.network.ir_version, opset_import=self.network.opset_import)
        made.functions.extend(self.network.functions)
        made.graph.name = self.node.name
        made.graph.node.extend(nodes)
        read = {name for n in made.graph.node for name in n.input}
        given = {i.name: i for i in self.network.graph.input}
        made.graph.initializer.extend(t for t in self.network.graph.initializer if t.name in read)
        made.graph.input.extend(given.get(n) or _float(n) for n in inputs)
        return with_outputs(made, outputs)


def segments(model: onnx.ModelProto) -> list[Segment]:
    """The segments of a time-folded spiking network, each after those it reads from."""
    spiking = [node for node, _ in spiking_nodes(model.graph)]
    borders = {name for node in spiking for name in node.output} | {i.name for i in model.graph.input}
    return [_segment(model, node, borders) for node in spiking]


def _segment(model: onnx.ModelProto, node: onnx.NodeProto, borders: set[str]) -> Segment:
    nodes, inputs = _in_front_of(node.input, model.graph.node, borders)
    biases = tuple(f"{node.name}_bias_{i}_of_{c}" for i, c in enumerate(view_of(node).current, 1))
    return Segment(node, model, nodes, inputs, biases)


def _in_front_of(
    names: Iterable[str], nodes: Iterable[onnx.NodeProto], borders: set[str]
) -> tuple[tuple[onnx.NodeProto, ...], tuple[str, ...]]:
    """Those of the nodes that lie between `borders` and the named tensors, in order, and which borders they read."""
    nodes = tuple(nodes)
    makers = {name: node for node in nodes for name in node.output}
    wanted, stack = set[int](), list(names)
    inputs: dict[str, None] = {}
    while stack:
        name = stack.pop()
        if name in borders:
            inputs[name] = None
        elif name in makers and id(makers[name]) not in wanted:
            wanted.add(id(makers[name]))
            stack.extend(makers[name].input)
    return tuple(n for n in nodes if id(n) in wanted), tuple(inputs)


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


@dataclass
class LayerRuns:
    """Runs the segments of a network in order, and keeps what later ones need.

    Attributes:
        model: the spiking network.
        batches: samples, in batches; spike trains are kept as int8, batch by batch, until their last reader has run.
    """

    model: onnx.ModelProto
    batches: list[Feeds]
    _spikes: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    _means: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many runs there are."""
        return len(spiking_nodes(self.model.graph))

    def __iter__(self) -> Iterator[LayerRun]:
        """One run a segment; the segment has run over all samples when the next one is asked for."""
        found = segments(self.model)
        last = {name: index for index, segment in enumerate(found) for name in segment.inputs}
        for index, segment in enumerate(found):
            run = LayerRun(segment, self)
            yield run
            if segment.node.output[0] in last:
                run.complete()
            for name in [n for n in segment.inputs if last[n] == index]:
                self._spikes.pop(name, None)
                self._means.pop(name, None)


class LayerRun:
    """One segment on its turn: its mean currents, and its schedule and biases, which may be changed before it fires."""

    def __init__(self, segment: Segment, runs: LayerRuns) -> None:
        self.segment, self.schedule = segment, segment.view.schedule
        values = {t.name: t for t in runs.model.graph.initializer}
        makers = {n.output[0]: n for n in segment.nodes}
        pairs = zip(segment.biases, constant_names(segment.view, makers), strict=True)
        self.biases = {name: onnx.numpy_helper.to_array(values[constant]) for name, constant in pairs}
        self._runs = runs
        self._linear = by_layer_session(segment.linear()) if segment.made else None
        self._neurons: dict[Schedule, Session] = {}
        self._first: dict[str, NDArray[Any]] = {}

    def residual_rms(self, schedule: Schedule, limit: float = math.inf) -> float:
        """RMS of the neurons' residuals over all samples, in units of theta, with another schedule.

        Infinite where it exceeds `limit`: most often the first samples show it, and the others need not run.
        """
        squares, number, most = 0.0, 0, (limit * (1 + ROUNDING)) ** 2
        sizes = [len(next(iter(feeds.values()))) for feeds in self._runs.batches]
        for index in range(len(sizes)):
            values = self._fired(schedule, index, RESIDUAL)
            squares += float(np.square(values, dtype=np.float64).sum())
            number += values.size
            part = sum(sizes[: index + 1]) / sum(sizes)
            if squares * part > most * number:
                return math.inf
        return math.sqrt(squares / number)

    def mean_currents(self) -> list[NDArray[np.float64]]:
        """Mean over all samples of each current, ``[T, ...]``: what the segment makes of the mean spikes.

        All operators in front of the node are linear (or affine), so the mean goes through them. The network's own
        inputs are given as in the first samples: only biases are computed of them.
        """
        first = self._runs.model.graph.input[0].type.tensor_type.shape.dim
        batch = (first[0].dim_value if first else 0) or 1
        means, feeds = self._runs._means, self._runs.batches[0]
        given = {n: np.repeat(means[n], batch, axis=0) if n in means else feeds[n][:batch] for n in self.segment.inputs}
        values = given
        if self._linear is not None:
            values = given | self._linear.run({n: given[n] for n in self._linear.input_names})
        return [np.asarray(values[c][::batch], np.float64) for c in self.segment.view.current]

    def complete(self) -> None:
        """Fire: run over all samples with the schedule and the biases as they are now."""
        self._neurons = {s: n for s, n in self._neurons.items() if s == self.schedule}  # the others hold memory
        output = self.segment.node.output[0]
        spikes_only = self.segment.view.makes_spikes
        kept: list[NDArray[Any]] = []
        total: NDArray[Any] | None = None
        samples = 0
        for index, feeds in enumerate(self._runs.batches):
            spikes = self._fired(self.schedule, index, SENT)
            kept.append(spikes.astype(np.int8) if spikes_only else spikes)
            batch = len(next(iter(feeds.values())))
            if len(spikes) % batch:
                name = self.segment.view.name
                raise RefusedError(
                    f"'{name}' has {len(spikes)} rows in all its steps for {batch} samples: what is in front of the "
                    "spiking layers mixes samples; export the network with the batch in front"
                )
            here = spikes.reshape(-1, batch, *spikes.shape[1:]).sum(axis=1)
            total = here if total is None else np.add(total, here, out=total)
            samples += batch
        self._runs._spikes[output] = kept
        assert total is not None
        self._runs._means[output] = np.asarray(total / samples, np.float32)

    def _fired(self, schedule: Schedule, index: int, which: int) -> NDArray[Any]:
        """What the node makes of a batch: what it has `SENT`, or the `RESIDUAL` of neurons."""
        session = self._neurons.get(schedule)
        if session is None:
            session = self._neurons[schedule] = by_layer_session(self.segment.neurons(schedule))
        known = self.biases | self._currents(index)
        given = {n: known[n] if n in known else self._batch(n, index) for n in session.input_names}
        wanted = session.output_names[which]
        return session.run(given, [wanted])[wanted]

    def _currents(self, index: int) -> dict[str, NDArray[Any]]:
        """The currents of a batch; those of the first one are kept: most schedules that are tried see no other."""
        if self._linear is None:
            return {}
        if index == 0 and self._first:
            return self._first
        made = self._linear.run({n: self._batch(n, index) for n in self._linear.input_names})
        if index == 0:
            self._first = made
        return made

    def _batch(self, name: str, index: int) -> NDArray[Any]:
        """An input of the segment, of one batch."""
        spikes = self._runs._spikes
        return spikes[name][index].astype(np.float32) if name in spikes else self._runs.batches[index][name]
