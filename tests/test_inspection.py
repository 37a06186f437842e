"""inspect: what becomes of each node of the source, and the summary."""

from __future__ import annotations

import pytest

from csscc.coding.coding import Coding
from csscc.measure.inspection import Inspection, inspect_ann
from tests.helpers import parse

TEXT = """
g (float[N,6,6,3] x) => (float[N,2] p)
<float[4,3,3,3] W, float[4] gamma, float[4] beta, float[4] mean, float[4] var, float[36,2] V, float[2] b,
 int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {-1}>
{
  [layout] n = Transpose <perm = [0,3,1,2]> (x)
  [conv] h = Conv <pads = [1,1,1,1]> (n, W)
  [bn] c = BatchNormalization(h, gamma, beta, mean, var)
  [relu] r = Relu(c)
  [drop] d = Dropout(r)
  [pool] q = MaxPool <kernel_shape = [2,2], strides = [2,2]> (d)
  [gate] s = Sigmoid(q)
  [silu] g = Mul(q, s)
  [constant] two = Constant <value_float = 2.0> ()
  [scale] t = Mul(g, two)
  [shape] sh = Shape(t)
  [first] fi = Gather(sh, zero)
  [batch] bt = Unsqueeze(fi, axis)
  [target] tg = Concat <axis = 0> (bt, rest)
  [rows] f = Reshape(t, tg)
  [dense] y = MatMul(f, V)
  [bias] z = Add(y, b)
  [unread] u = Exp(z)
  [soft] p = Softmax(z)
}
"""
FATES = {
    "layout": ("prologue", "analog", ""),
    "conv": ("weighted", "converted", ""),
    "bn": ("fused", "converted", "part of Conv 'conv'"),
    "relu": ("fused", "converted", "part of ReluMaxPool 'pool'"),
    "drop": ("identity", "folded", ""),
    "pool": ("neuron", "converted", ""),
    "gate": ("fused", "converted", "part of Silu 'silu'"),
    "silu": ("neuron", "converted", ""),
    "constant": ("constant", "folded", ""),
    "scale": ("linear", "passed", ""),
    "shape": ("constant", "folded", ""),
    "first": ("constant", "folded", ""),
    "batch": ("constant", "folded", ""),
    "target": ("constant", "folded", ""),
    "rows": ("linear", "passed", ""),
    "dense": ("weighted", "converted", ""),
    "bias": ("fused", "converted", "part of Gemm 'dense'"),
    "unread": ("dead", "folded", "nothing reads its result"),
    "soft": ("epilogue", "analog", ""),
}


@pytest.fixture(scope="module")
def result() -> Inspection:
    return inspect_ann(parse(TEXT), Coding(T=9, silent=2))


def test_one_row_a_node_in_the_order_of_the_file(result: Inspection) -> None:
    assert [n.name for n in result.nodes] == list(FATES)


@pytest.mark.parametrize("name", FATES)
def test_what_becomes_of_a_node_and_why(result: Inspection, name: str) -> None:
    row = next(n for n in result.nodes if n.name == name)
    role, fate, reason = FATES[name]
    assert (row.role, row.fate) == (role, fate)
    assert row.reason
    assert not reason or row.reason == reason


def test_the_summary_by_hand(result: Inspection) -> None:
    assert result.operations == 4 * 6 * 6 * 3 * 3 * 3 + 36 * 2
    assert result.spiking_share == 1
    assert result.neurons == 3 * 6 * 6 + 2 * 4 * 3 * 3
    assert result.depth == 3
    assert result.latency == 9 + 3 * 2
    assert result.state_bytes == 8 * result.neurons
    assert result.batch
    assert result.opset == 20
    assert not result.offenders


def test_offenders_are_rows_too() -> None:
    model = parse("""
        g (float[N,4] x) => (float[N,2] y) <float[4,4] W, float[4,2] V>
        { h = MatMul(x, W) [sine] a = Sin(h) [round] b = Round(a) y = MatMul(b, V) }""")
    result = inspect_ann(model, Coding())
    assert [n.name for n in result.nodes if n.fate == "refused"] == ["sine", "round"]
    assert [o.node for o in result.offenders] == ["sine", "round"]
