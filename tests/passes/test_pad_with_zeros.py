"""PadWithZeros: padding with another value is padding with zeros and a sum."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import csscc
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.passes.canonical.pad_with_zeros import PadWithZeros
from tests.helpers import assert_same_network, network_of, ops, parse, run, settles

CORE = """
g (float[N,3,{rows}] x) => (float[N,a,2] z)
<float[3,4] V, float[4,5] W, float[{width},2] U, float one = {{{value}}}, int64[{n}] pads = {{{pads}}}, int64[1] last = {{-1}}>
{{ t = Transpose <perm = [0,2,1]> (x) u = MatMul(t, V) h = MatMul(u, W) c = Pad{mode} (h, pads, one{axes})
   y = Abs(c) z = MatMul(y, U) }}
"""  # noqa: E501


def model_of(
    pads: str = "0,1,0,0,0,2", *, value: float = 1.5, axes: str = "", mode: str = "", rows: str = "7", width: int = 7
) -> onnx.ModelProto:
    number = len(pads.split(","))
    return parse(CORE.format(pads=pads, value=value, axes=axes, mode=mode, n=number, rows=rows, width=width))


@pytest.mark.parametrize(
    "model",
    [model_of(), model_of("1,1", axes=", last"), model_of(value=-3.0), model_of("0,0,1,0,0,0", width=6)],
    ids=["on both sides", "along named axes", "a negative value", "in front"],
)
def test_fires(model: onnx.ModelProto) -> None:
    network = network_of(model)
    FoldConstants().apply(network)
    assert settles(PadWithZeros(), network)
    assert "Add" in ops(network)
    assert_same_network(model, network)


@pytest.mark.parametrize(
    "model",
    [
        model_of("1,0,0,0,0,0", width=5),
        model_of("0,-1,0,0,0,0", width=5),
        model_of(value=0.0),
        model_of(mode=' <mode = "edge">'),
        model_of(rows="R"),
    ],
    ids=["the batch", "cuts off", "zeros", "another mode", "free sizes"],
)
def test_declines(model: onnx.ModelProto) -> None:
    network = network_of(model)
    FoldConstants().apply(network)
    before = ops(network)
    assert "Pad" in before
    assert PadWithZeros().apply(network) == 0
    assert ops(network) == before


LINEAR_ATTENTION = """g (float[N,6,4] x) => (float[N,6,4] y)
<float[4,4] q, float[4,4] k, float[4,4] v, float[4,4] w, int64[6] pads = {0,0,0,0,0,1}, float one = {1.0},
 int64[1] zero = {0}, int64[1] four = {4}, int64[1] five = {5}, int64[1] last = {2}>
{ a = MatMul(x, q) b = Relu(a) c = MatMul(x, k) d = Relu(c) e = MatMul(x, v) f = Pad(e, pads, one)
  g1 = Transpose <perm = [0,2,1]> (d) s = MatMul(g1, f) o = MatMul(b, s)
  n = Slice(o, zero, four, last) m = Slice(o, four, five, last) r = Div(n, m) y = MatMul(r, w) }"""


def test_linear_attention_compiles_and_is_close() -> None:
    model = parse(LINEAR_ATTENTION)
    for name in "qk":
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = np.abs(onnx.numpy_helper.to_array(tensor)) + 0.1
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    feeds = {"x": np.random.default_rng(0).uniform(0.1, 1, (64, 6, 4)).astype(np.float32)}
    snn = csscc.compile(model, feeds, T=16)
    wanted, got = run(model, feeds)["y"], snn.run(feeds)
    assert np.sqrt(np.square(got - wanted).mean() / np.square(wanted).mean()) < 0.02
