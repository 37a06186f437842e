"""RepeatedConstants and BroadcastConstants: learned queries are constants, and operators repeat them for the batch."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

import csscc
from csscc.passes.canonical.batch_first import BatchFirst
from csscc.passes.canonical.broadcast_constants import BroadcastConstants
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.passes.canonical.known_sizes import KnownSizes
from csscc.passes.canonical.repeated_constants import RepeatedConstants
from csscc.passes.convert.find_regions import survey
from tests.helpers import assert_same_network, network_of, ops, parse, random_feeds, rms, run, settles

HEAD = "g (float[N,6,8] x) => (float[{out}] y) <float[8,8] W, float[8,8] Q, float[8,8] V, float[8,5] U, float[2,1,8] probe, float[8] bias, {sizes}>"
SIZES = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4}, int64[2] ones = {1, 1}, "
    "int64[4] heads = {0, 0, 2, 4}, int64[3] narrow = {-1, 6, 4}, int64[3] long = {0, 2, 8}"
)
# 2 queries for each sample, of 2 heads of 4 each: the batch is in the middle, then folded with the heads
QUERIES = """
n = Shape <start = 0, end = 1> (x) times = Concat <axis = 0> (one, n, one) p = Tile(probe, times)
pq = MatMul(p, Q) pb = Add(pq, bias)
rows = Mul(n, two) wide = Concat <axis = 0> (two, rows, four) q3 = Reshape(pb, wide) q = Transpose <perm = [1,0,2]> (q3)"""
ATTEND = """
h = MatMul(x, W) h4 = Reshape(h, heads) ht = Transpose <perm = [0,2,1,3]> (h4) k = Reshape(ht, narrow)
kt = Transpose <perm = [0,2,1]> (k) s = MatMul(q, kt) w = Softmax <axis = -1> (s) o = MatMul(w, k)
batched = Concat <axis = 0> (n, two, two, four) o4 = Reshape(o, batched) ot = Transpose <perm = [0,2,1,3]> (o4)
c = Reshape(ot, long) v = MatMul(c, V) r = Relu(v) y = MatMul(r, U)"""


def model_of(body: str, *, out: str = "N,2,5", more: str = ""):
    return parse(f"{HEAD.replace('{out}', out).replace('{sizes}', SIZES + more)} {{ {body} }}")


def brought(model):
    network = network_of(model)
    for known in (FoldConstants(), KnownSizes(), FoldConstants()):
        known.apply(network)
    return network


def test_learned_queries_of_a_folded_attention():
    model = model_of(QUERIES + ATTEND)
    network = brought(model)
    assert settles(RepeatedConstants(), network)
    assert ops(network).count("MatMul") == ops(network_of(model)).count("MatMul") - 1
    assert "Tile" not in ops(network)
    for batch in (1, 2, 5):
        assert_same_network(model, network, batch=batch)
    BatchFirst().apply(network)
    assert settles(BroadcastConstants(), network)
    FoldConstants().apply(network)
    assert "Expand" not in ops(network)
    assert not survey(network.graph)[1]
    for batch in (1, 2, 5):
        assert_same_network(model, network, batch=batch)


def test_a_network_with_learned_queries_becomes_spiking():
    model = model_of(QUERIES + ATTEND)
    x = random_feeds(model, batch=96)["x"]
    snn = csscc.compile(model, x[:64], T=16)
    expected = run(model, {"x": x[64:]})["y"]
    assert rms(snn.run(x[64:]) - expected) < 0.02 * rms(expected)


@pytest.mark.parametrize(
    "body",
    [
        "n = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (n, ones) z = ConstantOfShape(t) e = Exp(z) "
        "h = MatMul(x, W) s = Add(h, e) r = Relu(s) y = MatMul(r, U)",
        "n = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (ones, n) z = Expand(bias1, t) e = Exp(z) "
        "p = Transpose <perm = [2,0,1]> (e) h = MatMul(x, W) s = Mul(h, p) r = Relu(s) y = MatMul(r, U)",
    ],
    ids=["in front", "behind"],
)
def test_wherever_the_batch_is(body):
    model = model_of(body, out="N,6,5", more=", float[1,1,1] bias1")
    network = brought(model)
    assert settles(RepeatedConstants(), network)
    assert "Exp" not in ops(network)
    for batch in (1, 2, 5):
        assert_same_network(model, network, batch=batch)


@pytest.mark.parametrize(
    "body",
    [
        # differs between samples
        "n = Shape <start = 0, end = 1> (x) b = Squeeze(n) i0 = Constant <value_int = 0> () i1 = Constant <value_int = 1> () "
        "i = Range(i0, b, i1) f = Cast <to = 1> (i) e = Exp(f) p = Unsqueeze(e, axes) h = MatMul(x, W) s = Add(h, p) "
        "r = Relu(s) y = MatMul(r, U)",
        # depends on the batch
        "n = Shape <start = 0, end = 1> (x) f = Cast <to = 1> (n) e = Sqrt(f) t = Concat <axis = 0> (n, ones) p = Expand(e, t) "
        "h = MatMul(x, W) s = Add(h, p) r = Relu(s) y = MatMul(r, U)",
        # of a sample
        "m = ReduceMean <keepdims = 1> (x, axes) e = Exp(m) h = MatMul(x, W) s = Add(h, e) r = Relu(s) y = MatMul(r, U)",
        # random
        "n = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (n, ones) z = Expand(bias, t) e = RandomNormalLike(z) "
        "h = MatMul(x, W) s = Add(h, e) r = Relu(s) y = MatMul(r, U)",
        # only moved: other passes read it as it is
        "n = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (n, ones) p = Expand(bias, t) "
        "h = MatMul(x, W) s = Add(h, p) r = Relu(s) y = MatMul(r, U)",
    ],
    ids=["places", "batch", "sample", "random", "moved"],
)
def test_what_is_not_the_same_stays(body):
    network = brought(model_of(body, out="N,6,5", more=", int64[2] axes = {1, 2}"))
    before = sorted(ops(network))
    assert RepeatedConstants().apply(network) == 0
    assert sorted(ops(network)) == before


def test_other_sizes_that_are_free_stay():
    model = parse(
        """g (float[N,L,8] x) => (float[N,L,5] y) <float[8,8] W, float[8,5] U, int64[1] one = {1}>
        { n = Shape <start = 0, end = 2> (x) t = Concat <axis = 0> (n, one) z = ConstantOfShape(t) e = Exp(z)
          h = MatMul(x, W) s = Add(h, e) r = Relu(s) y = MatMul(r, U) }"""
    )
    assert RepeatedConstants().apply(brought(model)) == 0


@pytest.mark.parametrize(
    ("body", "fires"),
    [
        ("p = Expand(k, t) s = Add(h, p)", True),
        ("p = Expand(k, t) s = Sub(p, h)", True),
        ("p = Expand(row, t) s = Add(h, p)", False),  # it repeats more than the batch
        ("p = Expand(k, t) s = Where(c, h, p)", False),
    ],
)
def test_operators_repeat_for_the_batch(body, fires):
    model = parse(
        f"""g (float[N,6,8] x) => (float[N,6,5] y)
        <float[8,8] W, float[8,5] U, float[1,6,8] k, float[1,1,8] row, bool[1] c = {{1}}, int64[2] size = {{6, 8}}>
        {{ n = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (n, size) h = MatMul(x, W) {body}
           r = Relu(s) y = MatMul(r, U) }}"""
    )
    network = network_of(model)
    assert settles(BroadcastConstants(), network) == fires
    assert ("Expand" in ops(network)) != fires
    for batch in (1, 4):
        assert_same_network(model, network, batch=batch)


def test_samples_that_differ_are_distinguished():
    from csscc.passes.canonical.repeated_constants import _of_one_sample

    same = np.arange(12.0).reshape(2, 6)
    values = [np.repeat(same[:, None], batch, axis=1).reshape(2, batch * 6) for batch in (2, 3)]
    found = _of_one_sample(values, 1)
    assert found is not None
    assert np.array_equal(found, same)
    values[1] = values[1].copy()
    values[1][0, 7] += 1
    assert _of_one_sample(values, 1) is None
    values = [np.full((2, batch * 6), float(batch)) for batch in (2, 3)]
    assert _of_one_sample(values, 1) is None
    assert _of_one_sample([np.full((2, batch * 6), np.nan) for batch in (2, 3)], 1) is None
