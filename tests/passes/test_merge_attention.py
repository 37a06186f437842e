"""MergeAttention: scores, their softmax and what they weigh are one activation."""

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.masks_as_sums import MasksAsSums
from csscc.passes.canonical.merge_attention import MergeAttention
from tests.helpers import assert_equal_outputs, network_of, ops, parse, random_feeds, run, settles

HEAD = "g (float[N,4,6] x, float[N,1,4] m) => (float[N,4,6] y) <float[6,6] Q, float[6,6] K, float[6,6] V, float[6,6] W"
MADE = "q = MatMul(x, Q) u = MatMul(x, K) k = Transpose <perm = [0,2,1]> (u) v = MatMul(x, V)"
CASES = {
    "bare": ("s = MatMul(q, k) p = Softmax(s) a = MatMul(p, v)", ["Attend"]),
    "masked": ("r = MatMul(q, k) s = Add(r, m) p = Softmax <axis = 2> (s) a = MatMul(p, v)", ["Attend"]),
    "scaled": (
        "r = MatMul(q, k) t = Mul(r, c) u1 = Div(t, d) s = Add(m, u1) p = Softmax(s) a = MatMul(p, v)",
        ["Attend", "Mul", "Mul"],
    ),
    "two terms": ("r = MatMul(q, k) t = Add(r, b) s = Add(t, m) p = Softmax(s) a = MatMul(p, v)", ["Add", "Attend"]),
}
REST = "float c = {0.4}, float d = {1.5}, float[4,4] b"


def model_of(text: str):
    return parse(f"{HEAD}, {REST}> {{ {MADE} {text} y = MatMul(a, W) }}")


@pytest.mark.parametrize("case", CASES)
def test_fires(case):
    text, expected = CASES[case]
    model = model_of(text)
    network = network_of(model)
    assert settles(MergeAttention(), network)
    assert sorted(ops(network)) == sorted([*expected, "MatMul", "MatMul", "MatMul", "Transpose", "MatMul"])
    feeds = random_feeds(model)
    feeds["m"][0, 0, 1:3] = -3.4e38
    for optimise in (False, True):
        assert_equal_outputs(run(model, feeds), run(export_model(network), feeds, optimise=optimise))


@pytest.mark.parametrize(
    "text",
    [
        "s = MatMul(q, k) p = Softmax <axis = 1> (s) a = MatMul(p, v)",
        "s = MatMul(q, k) p = Softmax(s) w = MatMul(p, v) n = MatMul(s, v) a = Add(w, n)",
        "s = MatMul(q, k) p = Softmax(s) w = MatMul(p, v) n = ReduceMean(p) a = Add(w, n)",
        "r = MatMul(q, k) e = MatMul(u, k) s = Add(r, e) p = Softmax(s) a = MatMul(p, v)",
        "r = MatMul(q, k) s = Mul(r, b) p = Softmax(s) a = MatMul(p, v)",
        "r = MatMul(q, k) t = Add(r, m) s = Mul(t, c) p = Softmax(s) a = MatMul(p, v)",
    ],
    ids=[
        "along columns",
        "scores are read again",
        "weights are read again",
        "a term of spikes",
        "a factor an element",
        "a factor behind the mask",
    ],
)
def test_declines(text):
    model = model_of(text)
    network = network_of(model)
    before = ops(network)
    assert MergeAttention().apply(network) == 0
    assert ops(network) == before


def test_rows_of_which_nothing_is_there():
    model = parse(
        f"{HEAD}, float none = {{0.0}}> {{ {MADE} r = MatMul(q, k) s = Add(r, m) w = Softmax(s) n = IsNaN(w) "
        "p = Where(n, none, w) a = MatMul(p, v) y = MatMul(a, W) }"
    )
    network = network_of(model)
    assert settles(MasksAsSums(), network)
    assert settles(MergeAttention(), network)
    assert "AttendOrZero" in ops(network)
    feeds = random_feeds(model)
    feeds["m"][1] = -np.inf
    expected = run(model, feeds)
    assert not expected["y"][1].any()
    assert_equal_outputs(expected, run(export_model(network), feeds))
