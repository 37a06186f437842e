"""Whether samples are of the range that calibration gave to the encoders of a spiking network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from csscc.dialect.spiking import Spiking, spiking_nodes
from csscc.runtime.batches import in_parts
from csscc.runtime.session import Session

BEYOND = 0.01  # share of values that an encoder cuts off, at which there is a warning
FACTOR = 1.1  # values as little beyond the range are those of other samples
DIGITS = ("Concat", "Mul", "Clip", "Round", "Div")  # what makes the high digits of a value, the last first
SMALL = 1 / 16  # of the range: then most of the steps carry nothing


def _read(encoder: Spiking[str], makers: Mapping[str, onnx.NodeProto]) -> str:
    """What an encoder reads; of several trains, what their digits are made of, see `split_inputs`."""
    name: str = encoder.inputs[0]
    for op in DIGITS if encoder.trains > 1 else ():
        node = makers.get(name)
        if node is None or node.op_type != op:
            break
        name = node.input[0]
    return name


def _part(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The part of the model that makes `names` of its inputs."""
    wanted, nodes = set(names), list[onnx.NodeProto]()
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(_names_in(node))
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = helper.make_graph(
        nodes[::-1],
        "prologue",
        [i for i in model.graph.input if i.name in wanted],
        outputs,
        [t for t in model.graph.initializer if t.name in wanted],
    )
    return helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=model.ir_version
    )


def _names_in(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, in its branches too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _names_in(inner)
            yield from (output.name for output in graph.output)


class InputRange:
    """What encoders read, over all batches: inputs as they are, or what a scaler or a Transpose in front makes of them.

    Args:
        model: the time-folded spiking network.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        constants = {t.name: t for t in model.graph.initializer}
        inputs = {t.name for t in model.graph.input}
        makers = {name: node for node in model.graph.node for name in node.output}
        encoders = [(_read(view, makers), view) for _, view in spiking_nodes(model.graph) if view.is_encoder]
        read = [name for name, _ in encoders]
        self._ranges, self._called = dict[str, float](), dict[str, str]()
        for name, view in encoders:
            if read.count(name) == 1 and view.theta in constants:
                theta = numpy_helper.to_array(constants[view.theta])
                self._ranges[name] = float(theta.max()) * view.schedule.levels
                self._called[name] = f"input '{name}'" if name in inputs else f"what encoder '{view.name}' reads"
        made = [name for name in self._ranges if name not in inputs]
        self._before = Session(_part(model, made)) if made else None
        self._largest = dict.fromkeys(self._ranges, 0.0)
        self._beyond = dict.fromkeys(self._ranges, 0)
        self._seen = dict.fromkeys(self._ranges, 0)

    def add(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Look at a batch."""
        read = {**feeds, **self._made(feeds)}
        for name, limit in self._ranges.items():
            values = np.abs(read[name])
            self._largest[name] = max(self._largest[name], float(values.max(initial=0.0)))
            self._beyond[name] += int(np.count_nonzero(values > FACTOR * limit))
            self._seen[name] += values.size

    def _made(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self._before is None:
            return {}
        own = {name: feeds[name] for name in self._before.input_names}
        number = len(next(iter(feeds.values())))
        return in_parts(self._before, own, number, self._before.fixed_batch or number)

    def merge(self, other: InputRange) -> None:
        """Add what another one has seen of the same inputs."""
        for name in self._ranges:
            self._largest[name] = max(self._largest[name], other._largest[name])
            self._beyond[name] += other._beyond[name]
            self._seen[name] += other._seen[name]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One text for each input that was calibrated for another range."""
        return tuple(filter(None, map(self._warning, self._ranges)))

    def _warning(self, name: str) -> str:
        limit, largest = self._ranges[name], self._largest[name]
        share = self._beyond[name] / max(self._seen[name], 1)
        calibrated = f"the spiking network was calibrated for up to {limit:.4g}"
        reached = f"{self._called[name]} reaches {largest:.4g}, and {calibrated}"
        advice = "prepare these samples as those of the calibration, or calibrate with samples such as these"
        if share > BEYOND:
            return f"{reached}: {share:.1%} of the values are cut off; {advice}"
        if 0 < largest < SMALL * limit:
            return f"{reached}: it hardly sends a spike; {advice}"
        return ""
