"""Calibration without data: seeded synthetic inputs, brought to the statistics that BatchNormalization remembers.

A BatchNormalization layer knows mean and standard deviation of its output over the training data: its shift and its
scale. Where a network has such layers, synthetic activations are standardised to them after each one, so that the
noise that goes in matters little; the input's own mean and scale follow from the first such layer. Where it has none,
the amplitudes are those of noise, and csscc states that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import sized_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    Shape,
    attribute,
    constant,
    constant_tensor,
    producer,
    rank_of,
    replace_readers,
    sizes_after_batch,
)
from csscc.io.arrays import refuse_to_make_up
from csscc.io.batches import Arrays
from csscc.io.data import InputSpec, Source
from csscc.passes.linear.factors import spread
from csscc.runtime.numpy_ops import convolve, paddings

SAMPLES = 64
FEWEST, NUMBERS = 8, 2**24  # of samples so large that SAMPLES of them would be more numbers, fewer are made
CHANNEL_CORRELATION = 0.8
AS_IT_IS = frozenset(["Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"])


def synthetic_source(network: Network, specs: tuple[InputSpec, ...], seed: int) -> Source:
    """Seeded noise for every input: smooth in space, standard normal.

    Integers that choose rows of a table are drawn from its rows, as token ids are; others are ones, so that a mask lets
    everything through. What `specs` leave free after the batch, `Network.sizes` must state.
    """
    fixed = network.graph.inputs[0].shape[0] if network.graph.inputs[0].shape else None
    rows = {t.name: _rows_chosen(t) for t in network.graph.inputs}
    after = {s.name: tuple(network.sizes.get(s.name, s.shape)[1:]) for s in specs}
    largest = max((math.prod(d for d in shape if isinstance(d, int)) for shape in after.values()), default=1)
    samples = min(SAMPLES, max(FEWEST, NUMBERS // max(1, largest)))
    number = fixed if isinstance(fixed, int) else samples
    shapes = {name: (number, *shape) for name, shape in after.items()}
    for spec in specs:
        refuse_to_make_up(spec.name, [d for d in shapes[spec.name] if isinstance(d, int)], spec.dtype)

    def chunks() -> Iterator[Arrays]:
        rng = np.random.default_rng(seed)
        for _ in range(max(1, samples // number)):
            yield {s.name: _noise(s, shapes[s.name], rows.get(s.name, 0), rng) for s in specs}

    return Source(specs, chunks, "synthetic inputs", None, synthetic=True)


def _rows_chosen(tensor: gs.Tensor) -> int:
    """Of how many rows the values of a tensor choose, as indices of a Gather from a constant; 0 if they do not."""
    for reader in tensor.outputs:
        table = constant(reader, 0)
        if reader.op == "Gather" and reader.inputs[1] is tensor and table is not None:
            return int(table.shape[attribute(reader, "axis", 0)])
        rows = _rows_chosen(reader.outputs[0]) if reader.op in AS_IT_IS and reader.inputs[0] is tensor else 0
        if rows:
            return rows
    return 0


def _noise(spec: InputSpec, sizes: Shape, rows: int, rng: np.random.Generator) -> NDArray[np.generic]:
    shape = tuple(d for d in sizes if isinstance(d, int))
    assert len(shape) == len(sizes), f"a size of '{spec.name}' is free"
    dtype = np.dtype(spec.dtype)
    if dtype.kind != "f":
        return (rng.integers(0, rows, shape) if rows else np.ones(shape)).astype(dtype)
    return smooth_noise(shape, rng).astype(dtype)


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal noise whose power falls with spatial frequency, as in images; white for short axes."""
    spatial = [i for i in np.argsort(shape[1:])[::-1][:2] + 1 if shape[i] >= 8] if len(shape) >= 4 else []
    total = np.zeros(shape)
    size = 1
    while True:
        grid = list(shape)
        for axis in spatial:
            grid[axis] = -(-shape[axis] // size)
        noise = rng.standard_normal(grid)
        for axis in spatial:
            noise = np.repeat(noise, size, axis=axis).take(range(shape[axis]), axis=axis)
        total += noise
        size *= 2
        if not spatial or size > min(shape[a] for a in spatial):
            break
    return np.asarray(total / total.std())


def standardised(network: Network) -> gs.Graph:
    """A copy of the graph in which every tensor with known statistics is brought to them, batch by batch."""
    graph = network.graph.copy()
    tensors = graph.tensors()
    statistics = dict(network.statistics)
    assert network.regions is not None
    shapes = sized_shapes(network)
    for name in network.regions.encoded:
        known = _input_statistics(tensors[name], shapes.get(name, tensors[name].shape), statistics)
        if known is not None:
            statistics[name] = known
    for name, (mean, deviation) in statistics.items():
        tensor = tensors.get(name)
        if tensor is not None and tensor.shape is not None:
            _standardise(graph, tensor, mean, deviation)
    tidy(graph)
    return graph


def _standardise(graph: gs.Graph, tensor: gs.Tensor, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
    """``(x - mean(x)) / std(x) * deviation + mean`` over batch and space; the result takes the tensor's name."""
    rank = rank_of(tensor)
    axes = constant_tensor(graph, f"{tensor.name}_axes", np.array([0, *range(2, rank)], np.int64))
    raw, node = tensor, producer(tensor)
    if node is not None:
        position = next(i for i, t in enumerate(node.outputs) if t is tensor)
        target = node.outputs[position]
        raw = node.outputs[position] = gs.Variable(f"{tensor.name}_raw", dtype=np.float32, shape=tensor.shape)
    else:
        target = gs.Variable(f"{tensor.name}_standard", dtype=np.float32, shape=tensor.shape)
        replace_readers(tensor, target)

    def add(op: str, inputs: Sequence[gs.Tensor], out: gs.Variable | None = None, **attrs: object) -> gs.Variable:
        out = out if out is not None else gs.Variable(f"{tensor.name}_{len(graph.nodes)}", dtype=np.float32)
        graph.nodes.append(gs.Node(op, f"{tensor.name}_standard_{len(graph.nodes)}", attrs, inputs, [out]))
        return out

    centred = add("Sub", [raw, add("ReduceMean", [raw, axes], keepdims=1)])
    variance = add("ReduceMean", [add("Mul", [centred, centred]), axes], keepdims=1)
    spread_out = add("Sqrt", [add("Add", [variance, constant_tensor(graph, "tiny", np.float32(1e-12))])])
    scale = constant_tensor(graph, f"{tensor.name}_deviation", spread(deviation, rank, 1))
    shift = constant_tensor(graph, f"{tensor.name}_mean", spread(mean, rank, 1))
    add("Add", [add("Mul", [add("Div", [centred, spread_out]), scale]), shift], target)


def _input_statistics(
    tensor: gs.Tensor, shape: Shape | None, statistics: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mean and deviation per channel of what a convolution reads, from those of what it makes."""
    reader = next((r for r in tensor.outputs if r.op == "Conv" and r.outputs[0].name in statistics), None)
    size = sizes_after_batch(shape)
    if reader is None or size is None or len(size) != 3:
        return None
    weights = np.asarray(constant(reader, 1), np.float64)
    bias = constant(reader, 2)
    channels = weights.shape[1]
    if channels != size[0]:
        return None
    size = size[1:]
    mean_out, deviation_out = statistics[reader.outputs[0].name]
    offset = np.zeros(len(weights)) if bias is None else np.asarray(bias, np.float64)
    mean = np.linalg.lstsq(weights.sum(axis=(2, 3)), mean_out - offset, rcond=1e-2)[0]
    rng = np.random.default_rng(0)
    shared = smooth_noise((8, 1, *size), rng)
    own = smooth_noise((8, channels, *size), rng)
    noise = np.sqrt(CHANNEL_CORRELATION) * shared + np.sqrt(1 - CHANNEL_CORRELATION) * own
    strides, dilations = attribute(reader, "strides", [1, 1]), attribute(reader, "dilations", [1, 1])
    auto_pad, pads = attribute(reader, "auto_pad", "NOTSET"), attribute(reader, "pads", [0] * 4)
    around = paddings(auto_pad, pads, size, weights.shape[2:], strides, dilations)
    made = convolve(noise, weights, None, pads=around, strides=strides, dilations=dilations, group=1)
    ratios = deviation_out / np.maximum(made.std(axis=(0, 2, 3)), 1e-9)
    return mean, np.full(channels, float(np.median(ratios)))
