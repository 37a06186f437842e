"""Whether samples look like those that a network was trained on: their range, their means, the order of channels.

A BatchNormalization remembers mean and deviation of what it read in training. The first ones after the inputs, run on
the samples, show how far these are from that; inputs that were prepared in another way, such as the same samples
scaled, are tried in turn. Without BatchNormalization, the first layer shows a little: what it makes of zeros (in most
networks its biases) is of the size of the sums that it makes of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import only_reader
from csscc.io.data import InputSpec, Source
from csscc.io.images import PRESETS
from csscc.passes.linear.core import is_weighted
from csscc.runtime.session import Session

SAMPLES, NUMBERS = 128, 1 << 22  # looked at, at most; numbers in all of them
FAR = 0.5  # distance of inputs that are not those of the training: right ones are below 0.3, others above 0.9
CLOSER = 0.5  # of the deviation, at which other inputs are named
REVERSED, LEAST = 0.85, 0.03  # of the distance of means, and by how much, where channels are in reverse order
DEAD = 0.05  # of the median deviation: channels that vary less show nothing
LOUD, QUIET = 10.0, 0.02  # deviation of the first layer's sums, in units of its biases; found are 0.3 to 40
PIXELS_LOUD = 4.0  # of pixels; of those of networks trained on 0..255 1.1 is found, else 70 to 900
PIXELS, IMAGE_RANK = 255, 4
AFTER = ("Add", "Sub", "Mul", "Div", "Transpose", "Reshape", "BatchNormalization")  # of a layer's sums, each channel
MANY = 64  # inputs of a sample from which they may be pixels


@dataclass(frozen=True)
class _Way:
    """Another way to prepare the same samples."""

    make: Callable[[NDArray[Any]], NDArray[Any]]
    text: str


@dataclass(frozen=True)
class Fit:
    """How what a network remembers and what samples make of it are apart.

    Attributes:
        means: RMS over channels of the difference of means, in remembered deviations.
        ratio: geometric mean over channels of the deviations, in remembered ones.
        spread: RMS over channels of the logarithm of that ratio.
    """

    means: float
    ratio: float
    spread: float

    @property
    def distance(self) -> float:
        """0 where both are the same."""
        return math.hypot(self.means, self.spread)

    def __str__(self) -> str:
        """In words."""
        return f"deviations {self.ratio:.3g} times those remembered, means off by {self.means:.3g} of them"


def input_warnings(network: Network, source: Source) -> tuple[str, ...]:
    """Warnings about the samples of `source` beside what the ANN in `network` remembers; nothing where they fit.

    A network with several inputs, or none of floats, is not looked at.

    Args:
        network: a calibrated ANN, or the spiking network that it became.
        source: samples for it.
    """
    network = replace(network, graph=network.graph if network.ann is None else network.ann)
    floats = [spec for spec in source.specs if np.dtype(spec.dtype).kind == "f"]
    if source.synthetic or len(floats) != 1 or len(source.specs) != 1:
        return ()
    one = next(source.first(1).batches(1))[floats[0].name]
    number = max(1, min(SAMPLES, NUMBERS // max(one.size, 1)))
    samples = next(source.first(number).batches(number))[floats[0].name]
    remembering = _first_remembered(network)
    if remembering:
        text = _beside_memory(network, remembering, samples, floats[0])
    else:
        text = _beside_biases(network, samples, floats[0])
    return (text,) if text else ()


def _beside_memory(network: Network, names: Sequence[str], samples: NDArray[Any], spec: InputSpec) -> str:
    run = _Runner(network, names, spec)
    if len(samples) < 2 * run.at_once:
        return ""

    def fit(values: NDArray[Any]) -> Fit:
        return _fit(run(values), network.statistics)

    now, axis = fit(samples), _channel_axis(samples)
    if now.distance < FAR:
        halves = [samples[0::2], samples[1::2]]
        if axis is None or any(len(h) == 0 or fit(np.flip(h, axis)).means > REVERSED * fit(h).means for h in halves):
            return ""
        turned = fit(np.flip(samples, axis))
        if now.means - turned.means < LEAST:
            return ""
        return (
            f"the channels of input '{spec.name}' may be in reverse order, RGB for BGR: as they are, the means of "
            f"{_which(names)} are off by {now.means:.2g} of the deviations it remembers, turned round by "
            f"{turned.means:.2g}; pass {_turning(axis)}"
        )
    ways = [(fit(way.make(samples)), way.text) for way in _ways(samples, axis)]
    best, text = min(ways, key=lambda pair: pair[0].distance, default=(now, ""))
    advice = "prepare the samples as in training"
    if best.distance < CLOSER * now.distance and best.distance < 2 * FAR:
        advice = f"{text} fits better ({best}); prepare the samples as in training"
    return (
        f"these are not inputs as the network was trained on: {_ranges(samples, spec, axis)}, and {_which(names)} "
        f"gets {now}; {advice}"
    )


def _beside_biases(network: Network, samples: NDArray[Any], spec: InputSpec) -> str:
    layer = next((n for n in toposort(network.graph).nodes if is_weighted(n)), None)
    if layer is None or samples[0].size < MANY:
        return ""
    name = _sums(network.graph, layer).name
    run = _Runner(network, [name], spec)
    if len(samples) < run.at_once:
        return ""
    size = _rms(run(np.zeros_like(samples[: run.at_once]))[name].astype(np.float64))
    if not size:
        return ""
    deviation = float(np.median(_by_channel(run(samples)[name]).std(axis=1)))
    seen = f"{_ranges(samples, spec, _channel_axis(samples))}, and make sums in layer '{layer.name}'"
    numbers = f"deviation {deviation:.3g}, biases {size:.2g}"
    largest, pixels = samples.max(), samples.ndim == IMAGE_RANK or bool((samples == np.round(samples)).all())
    if deviation > PIXELS_LOUD * size and samples.min() >= 0 and PIXELS / 2 < largest <= PIXELS and pixels:
        return (
            f"are these pixels as the network takes them? {seen} beside which its biases matter little ({numbers}): "
            "if it was trained on 0..1, pass x / 255 (of image files: --scale 255, --preprocess); if on 0..255, all is "
            "well"
        )
    if deviation > LOUD * size and largest > PIXELS:
        return (
            f"are these inputs as the network takes them? {seen} beside which its biases matter little ({numbers}): "
            "pixels are divided by 255 before a mean and a deviation of 0..1 are applied"
        )
    if 0 < deviation < QUIET * size:
        return (
            f"these inputs hardly move the network: {seen} that do not matter beside its biases ({numbers}); if it was "
            "trained on 0..255, pass x * 255 (of image files: --scale 1)"
        )
    return ""


def _ways(samples: NDArray[Any], axis: int | None) -> list[_Way]:
    """Other ways to prepare the samples: channels in reverse order, and of 0..255 or 0..1 the presets."""
    low, high = float(samples.min()), float(samples.max())
    turned = () if axis is None else (_Way(lambda x: np.flip(x, axis), _turning(axis)),)
    if low < 0:
        return list(turned)
    scale = PIXELS if high > 1 else 1
    over = " / 255" if scale > 1 else ""
    ways = [_Way(lambda x: x * (PIXELS / scale), "x * 255 (of image files: --scale 1)")] if scale == 1 else []
    ways += turned
    ways += [_Way(lambda x: x / scale, "x / 255 (of image files: --scale 255)")] if scale > 1 else []
    for name, preset in PRESETS.items():
        mean, std = (np.asarray(preset.get(key, (default,))) for key, default in (("mean", 0.0), ("std", 1.0)))
        if not preset or (len(mean) == 3 and axis is None):
            continue
        unit, reverse = preset.get("scale", PIXELS), preset.get("channel_order") == "BGR"
        factor = PIXELS / scale / unit
        form = f"(x{over if unit == PIXELS else ' * 255' if scale == 1 else ''} - {_list(mean)}) / {_list(std)}"
        form += " in BGR" if reverse else ""
        ways.append(_Way(_affine(factor, mean, std, axis, reverse), f"{form} (of image files: --preprocess {name})"))
    return ways


def _turning(axis: int) -> str:
    return f"x[{':, ' * axis}::-1] (of image files: --channel-order)"


def _affine(
    factor: float, mean: NDArray[Any], std: NDArray[Any], axis: int | None, reverse: bool
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def make(x: NDArray[Any]) -> NDArray[Any]:
        shape = [1] * x.ndim
        shape[axis or 0] = len(mean) if axis is not None else 1
        x = np.flip(x, axis) if reverse and axis is not None else x
        centred = x * factor - mean.reshape(shape if len(mean) > 1 else -1)
        return np.asarray(centred / std.reshape(shape if len(std) > 1 else -1))

    return make


def _list(values: NDArray[Any]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _ranges(samples: NDArray[Any], spec: InputSpec, axis: int | None) -> str:
    """The range of samples, and the mean of each channel."""
    rows = samples.reshape(1, -1) if axis is None else _by_channel(samples, axis)
    means = ", ".join(f"{mean:.3g}" for mean in rows.mean(axis=1, dtype=np.float64))
    return f"input '{spec.name}' runs from {samples.min():.4g} to {samples.max():.4g}, mean {means}"


def _which(names: Sequence[str]) -> str:
    return f"the first BatchNormalization (of '{names[0]}')"


def _channel_axis(samples: NDArray[Any]) -> int | None:
    """Along which axis of images their three colours lie; None of other arrays."""
    return next((a for a in (1, 3) if samples.ndim == 4 and samples.shape[a] == 3), None)


def _by_channel(values: NDArray[Any], axis: int = 1) -> NDArray[Any]:
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def _fit(
    made: Mapping[str, NDArray[Any]], remembered: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> Fit:
    means, ratios = [], []
    for name, values in made.items():
        mean, deviation = remembered[name]
        alive = deviation > DEAD * np.median(deviation)
        rows = _by_channel(values)[alive]
        means.append((rows.mean(axis=1, dtype=np.float64) - mean[alive]) / deviation[alive])
        ratios.append(np.log(np.maximum(rows.std(axis=1, dtype=np.float64), 1e-12) / deviation[alive]))
    off, logs = np.concatenate(means), np.concatenate(ratios)
    return Fit(_rms(off), float(np.exp(logs.mean())), _rms(logs))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _first_remembered(network: Network) -> list[str]:
    """Tensors whose statistics a BatchNormalization remembers, with no other such tensor in front of them."""
    behind, first = set[str](), list[str]()
    for node in toposort(network.graph).nodes:
        inherits = any(t.name in behind for t in node.inputs)
        for tensor in node.outputs:
            known = tensor.name in network.statistics and tensor.shape is not None and len(tensor.shape) >= 2
            if known and not inherits:
                first.append(tensor.name)
            if known or inherits:
                behind.add(tensor.name)
    return first


def _sums(graph: gs.Graph, layer: gs.Node) -> gs.Tensor:
    """What the first activation after a layer reads: its sums, and a BatchNormalization that is products and sums."""
    made: gs.Tensor = layer.outputs[0]
    reader = only_reader(graph, made)
    while reader is not None and reader.op in AFTER and all(t is made or not t.inputs for t in reader.inputs):
        made = reader.outputs[0]
        reader = only_reader(graph, made)
    return made


class _Runner:
    """The part of the ANN that makes some tensors, as a function of its one input."""

    def __init__(self, network: Network, names: Sequence[str], spec: InputSpec) -> None:
        graph = network.graph.copy()
        tensors = graph.tensors()
        graph.outputs = [tensors[name] for name in names]
        for tensor in graph.outputs:
            if isinstance(tensor, gs.Variable):
                tensor.dtype = tensor.dtype or np.float32
        graph.cleanup()
        self._names, self._spec = list(names), spec
        self._session = Session(export_model(replace(network, graph=graph)))
        self.at_once = self._session.fixed_batch or 1

    def __call__(self, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        size = self._session.fixed_batch or 16
        kept = len(values) - len(values) % self.at_once
        parts = [values[i : i + size].astype(self._spec.dtype) for i in range(0, kept, size)]
        runs = [self._session.run({self._spec.name: part}, self._names) for part in parts]
        return {name: np.concatenate([run[name] for run in runs]) for name in self._names}
