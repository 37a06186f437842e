"""Notes: what a pass did that a user may want to know, or why it declined, as ``compile -v`` prints them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest

import csscc
from csscc.dialect.network import Event
from csscc.passes.base import BasePass
from csscc.passes.canonical.activations_as_floats import ActivationsAsFloats
from csscc.passes.canonical.batch_first import BatchFirst
from csscc.passes.canonical.batch_place import Fronts, UnfitError
from csscc.passes.canonical.free_batch import FreeBatch
from csscc.passes.canonical.fuse_batchnorm import FuseBatchNorm
from csscc.passes.canonical.recognise_quantisers import RecogniseQuantisers
from tests.helpers import network_of, parse
from tests.messages.commands import raising

Notes = Mapping[str, Callable[[], Iterable[Event]]]  # a note, as it is printed, and the smallest network that has it

NORM = """g (float[N,4,3,3] x) => (float[N,4,3,3] y)
<float[4] g, float[4] b, float[4] m, float[4] var, float[4,4,1,1] w, float[4,4,3,3] k, float[3,3] u> { %s }"""
FLAT = """g (float[N,4] x, float[4] p) => (float[2,N,3] y)
<float[4] g, float[4] b, float[4] m, float[4] var, float[2,4,3] w> { %s y = MatMul(h, w) }"""
QUANTISER = """g (float[N,4] x) => (float[N,2] y) <float[4,4] w, float[4,2] v, uint8 z = {0}, uint8[4] zs = {1,2,3,4},
float s = {0.1}, float t = {0.2}, float[4] ss = {1,2,3,4}> { a = MatMul(x, w) %s y = MatMul(d, v) }"""
LAYERS = """g (float[N,16] x) => (float[N,2] y) <float[16,8] w, float[8,8] k, float[8] b, float[8,2] v>
{ a = MatMul(x, w) [one] r = Relu(a) c = Gemm(r, k, b) [two] s = Relu(c) y = MatMul(s, v) }"""
QUANTISED = """g (float[N,16] x) => (float[N,2] y)
<float s = {0.1}, uint8 z = {0}, float[16,4] w, float[4,4] k, float[4,2] v>
{ a = MatMul(x, w) r = Relu(a) q = QuantizeLinear(r, s, z) d = DequantizeLinear(q, s, z) c = MatMul(d, k) m = Relu(c)
  p = QuantizeLinear(m, s, z) e = DequantizeLinear(p, s, z) y = MatMul(e, v) }"""
FOLDED = """g (float[N,6,8] x) => (float[N,6,5] y) <float[8,24] w, float[8,5] v, int64[4] three = {-1,6,3,8},
int64[3] fold = {-1,6,8}, int64[4] back = {3,-1,6,8}, int64[1] zero = {0}>
{ h = MatMul(x, w) a = Reshape(h, three) t = Transpose <perm = [2,0,1,3]> (a) f = Reshape(t, fold) r = Relu(f)
  k = Reshape(r, back) s = ReduceSum <keepdims = 0> (k, zero) y = MatMul(s, v) }"""
SIZED = """g (float[N,3,H,W] x) => (float[N,M] y)
<float[4,3,3,3] k, float[4,2] v, int64 last = {2}, int64[1] zero = {0}, int64[2] space = {2,3},
int64[7] none = {0,0,0,0,0,0,0}>
{ a = Conv <pads = [1,1,1,1]> (x, k) r = Relu(a) s = Shape(r) h = Gather(s, last) u = Unsqueeze(h, zero)
  t = Concat <axis = 0> (none, u) [p] f = Pad(r, t) q = ReduceMean <keepdims = 0> (f, space) y = MatMul(q, v) }"""
X = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)


def noted(step: BasePass, model: onnx.ModelProto, change: Callable[[Any], object] = lambda graph: None) -> list[Event]:
    """What one pass notes of a network, whose graph something may change before."""
    network = network_of(model)
    change(network.graph)
    step.apply(network)
    return network.events


def norm(nodes: str = "[n] y = BatchNormalization(x, g, b, m, var)", text: str = NORM, **more: Any) -> list[Event]:
    return noted(FuseBatchNorm(), parse(text % nodes), **more)


def quantiser(nodes: str) -> list[Event]:
    return noted(RecogniseQuantisers(), parse(QUANTISER % nodes, opset=21))


def compiled(text: str = LAYERS, samples: Any = X, **options: Any) -> tuple[Event, ...]:
    """What is noted of a compilation."""
    return csscc.compile(parse(text), samples, **{"T": 4, **options}).report.events


def no_shape_after_the_core() -> list[Event]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fronts, "hand_back", raising(UnfitError()))
        return noted(BatchFirst(), parse(FOLDED))


def read_statistics(graph: Any) -> None:
    """Lets the output read a statistic of the first node, as opsets before 14 could."""
    graph.nodes[0].outputs.append(graph.outputs[0].copy())
    graph.nodes[0].outputs[1].name = "statistic"
    graph.layer(op="Identity", inputs=[graph.nodes[0].outputs[1]], outputs=["read"])


def forget_the_rank(graph: Any) -> None:
    graph.inputs[0].shape = None


NOTES: Notes = {
    "activations-as-floats: q: 1 activations are quantised while the network runs: spikes send the values, not their "
    "rounding": lambda: noted(ActivationsAsFloats(), parse("""g (float[N,4] x) => (float[N,4] y)
        { [q] q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z) }""")),
    "adjust-amplitudes: one: amplitude raised by ...%: its residuals were too large": lambda: compiled(T=6, silent=0),
    "batch-first: batch: not brought to the front: a shape after the core cannot be stated": no_shape_after_the_core,
    "fine-weights: ...: 2 layer(s) have weights that are no whole numbers: in two parts, each of which costs a pass":
        lambda: compiled(QUANTISED),
    "free-batch: inputs: the inputs' first dimensions differ ({1, 3}): batch left fixed": lambda:
        noted(FreeBatch(), parse("g (float[1,2] a, float[3,2] b) => (float[3,2] y) { y = Add(a, b) }")),
    "free-batch: inputs: batch left fixed at 2: results of a larger batch differ": lambda:
        noted(FreeBatch(), parse("""g (float[2,2] x) => (float[2,2] y) <int64[1] z = {0}> 
        { m = ReduceMean(x, z) y = Sub(x, m) }""")),
    "free-batch: inputs: batch left fixed at 2: a batch of another size does not run": lambda:
        noted(FreeBatch(), parse("g (float[2,2] x) => (float[4] y) <int64[1] four = {4}> { y = Reshape(x, four) }")),
    "fuse-batchnorm: n: became a per-channel affine: its input has a second reader; something else than one weighted "
    "operator reads its output": lambda:
        norm("h = Conv(x, w) [n] r = BatchNormalization(h, g, b, m, var) y = Add(h, r)"),
    "fuse-batchnorm: n: became a per-channel affine: the channels of MatMul 'h' lie along another axis; something else "
    "than one weighted operator reads its output": lambda:
        norm("[h] h = MatMul(x, u) [n] y = BatchNormalization(h, g, b, m, var)"),
    "fuse-batchnorm: n: became a per-channel affine: no weighted operator makes its input; Conv 'c' pads its input":
        lambda: norm("[n] h = BatchNormalization(x, g, b, m, var) [c] y = Conv <pads = [1,1,1,1]> (h, k)"),
    "fuse-batchnorm: n: became a per-channel affine: no weighted operator makes its input; the channels of MatMul 'c' "
    "lie along another axis": lambda: norm("[n] h = BatchNormalization(x, g, b, m, var) [c] y = MatMul(h, u)"),
    "fuse-batchnorm: n: became a per-channel affine: no weighted operator makes its input; MatMul '...' has no bias":
        lambda: norm("[n] h = BatchNormalization(x, g, b, m, var)", FLAT),
    "fuse-batchnorm: n: not fused: it is in training mode and computes its statistics; export the model in evaluation "
    "mode": lambda: norm("[n] y, a, c = BatchNormalization <training_mode = 1> (x, g, b, m, var)"),
    "fuse-batchnorm: n: not fused: its parameters are computed, not constant": lambda:
        norm("[n] h = BatchNormalization(x, p, b, m, var)", FLAT),
    "fuse-batchnorm: n: not fused: its statistics are read": lambda: norm(change=read_statistics),
    "fuse-batchnorm: n: not fused: the rank of its input is not known": lambda: norm(change=forget_the_rank),
    "leave-analog: one: is left analog: it reads values and sends a constant current": lambda: compiled(analog=["one"]),
    "load: inputs: sizes fixed to those given, since nodes depend on them (Pad 'p', 1 in all)": lambda:
        compiled(SIZED, np.ones((4, 3, 4, 4), np.float32), input_shape={"x": (1, 3, 4, 4)}),
    "merge-silence: one: the silent steps of 2 of 2 layers are not merged, which costs time: sums of spikes need more "
    "bits than float32 has to spare at T=4 and beta=1.7": lambda: compiled(beta=1.7),
    "merge-silence: two: the silent steps of 1 of 2 layers are not merged, which costs time: operators in "
    "front add a constant at every step, or merged sums would not be exact in float32": lambda:
        compiled(beta=1.5, bias_on_first_step=False),
    "recognise-quantisers: d: a quantiser (DequantizeLinear) whose whole numbers no QuantizeLinear makes": lambda:
        quantiser("q = Cast <to = 2> (a) [d] d = DequantizeLinear(q, s, z)"),
    "recognise-quantisers: d: a quantiser whose scale or zero point is computed while the network runs": lambda:
        quantiser("m = ReduceMax <keepdims = 0> (x) q = QuantizeLinear(a, m, z) [d] d = DequantizeLinear(q, m, z)"),
    "recognise-quantisers: d: a quantiser that reads whole numbers with another scale or zero point than it writes "
    "them": lambda: quantiser("q = QuantizeLinear(a, s, z) [d] d = DequantizeLinear(q, t, z)"),
    "recognise-quantisers: d: a quantiser to numbers with an exponent, or with a zero point that varies along an axis":
        lambda: quantiser("q = QuantizeLinear(a, ss, zs) [d] d = DequantizeLinear(q, ss, zs)"),
    "recognise-quantisers: d: a quantiser without a zero point, to a type that is not uint8": lambda:
        quantiser("q = QuantizeLinear <output_dtype = 3> (a, s) [d] d = DequantizeLinear(q, s)"),
    "recognise-quantisers: d: a quantiser whose scale varies along the batch, or within an axis": lambda:
        quantiser("q = QuantizeLinear <axis = 0> (a, ss) [d] d = DequantizeLinear <axis = 0> (q, ss)"),
    "settle-coding: quantised network: at T=8, beta=2 and 7 silent step(s) a layer, spikes send activations of 8 bits "
    "exactly: amplitudes are their scales": lambda: compiled(QUANTISED, T=8),
    "settle-coding: quantised network: at T=4, beta=2 and 3 silent step(s) a layer, spikes send activations of 8 bits "
    "not exactly": lambda: compiled(QUANTISED, T=4),
    "snap-weights: two: sums in front of it cannot be made exact, because of an operator Encode there: between "
    "runtimes a spike may differ now and then, and its silent steps are not merged": lambda: compiled(analog=["one"]),
    "split-inputs: x: more digits than 4 steps can send: sent as 2 trains": lambda:
        compiled(beta=3, silent=3, split=True),
}  # fmt: skip
