"""Whether samples are of the range that calibration gave to the encoders of a spiking network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.dialect.spiking import Spiking, spiking_nodes

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


class InputRange:
    """Inputs that encoders read as they are, over all batches.

    Args:
        model: the time-folded spiking network.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        constants = {t.name: t for t in model.graph.initializer}
        inputs = {t.name for t in model.graph.input}
        makers = {name: node for node in model.graph.node for name in node.output}
        encoders = [
            (_read(v, makers), v.theta, v.schedule.levels) for _, v in spiking_nodes(model.graph) if v.is_encoder
        ]
        read = [name for name, _, _ in encoders]
        self._ranges = {
            name: float(numpy_helper.to_array(constants[theta]).max()) * levels
            for name, theta, levels in encoders
            if name in inputs and read.count(name) == 1 and theta in constants
        }
        self._largest = dict.fromkeys(self._ranges, 0.0)
        self._beyond = dict.fromkeys(self._ranges, 0)
        self._seen = dict.fromkeys(self._ranges, 0)

    def add(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Look at a batch."""
        for name, limit in self._ranges.items():
            values = np.abs(feeds[name])
            self._largest[name] = max(self._largest[name], float(values.max(initial=0.0)))
            self._beyond[name] += int(np.count_nonzero(values > FACTOR * limit))
            self._seen[name] += values.size

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
        reached = f"input '{name}' reaches {largest:.4g}, and the spiking network was calibrated for up to {limit:.4g}"
        advice = "prepare these samples as those of the calibration, or calibrate with samples such as these"
        if share > BEYOND:
            return f"{reached}: {share:.1%} of the values are cut off; {advice}"
        if 0 < largest < SMALL * limit:
            return f"{reached}: it hardly sends a spike; {advice}"
        return ""
