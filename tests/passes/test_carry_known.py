"""CarryKnown: what is known before time starts comes to stand in front of the neurons and readouts that take it."""

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.carry_known import CarryKnown
from csscc.passes.convert.find_regions import survey
from tests.helpers import assert_same_network, network_of, ops, parse, settles

HEAD = "g (float[N,4,6] x, float[N,4,6] m) => (float[N,4,3] y) <float[6,6] W, float[6,3] V"
MOVED = {
    "a sum": "float[6,6] U> { h = MatMul(x, W) r = Relu(h) w = MatMul(r, U) s = Add(h, m) t = Add(s, w) a = Relu(t)",
    "a difference": "float[6] c> { h = MatMul(x, W) s = Sub(h, m) t = Sub(c, s) a = Relu(t)",
    "taken from": "> { h = MatMul(x, W) s = Sub(m, h) a = Relu(s)",
    "a factor": "float[6] c> { h = MatMul(x, W) s = Add(m, h) t = Mul(c, s) u = Neg(t) v = Div(u, c) a = Relu(v)",
    "two of them": "> { h = MatMul(x, W) s = Add(h, m) q = Exp(m) t = Sub(s, q) a = Relu(t)",
    "layout": "int64[4] d = {0,4,2,3}, int64[3] e = {0,4,6}> { h = MatMul(x, W) s = Add(h, m) t = Reshape(s, d) "
    "u = Transpose <perm = [0,2,1,3]> (t) z = Transpose <perm = [0,2,1,3]> (u) v = Reshape(z, e) a = Relu(v)",
    "parts": "> { h = MatMul(x, W) s = Add(h, m) t, u = Split <axis = 2, num_outputs = 2> (s) n = Neg(u) "
    "v = Concat <axis = 2> (t, n) a = Relu(v)",
    "a mean": "int64[1] l = {2}> { h = MatMul(x, W) s = Add(h, m) t = ReduceMean <keepdims = 1> (s, l) v = Add(h, t) "
    "a = Relu(v)",
    "beside a core tensor": "> { h = MatMul(x, W) t = Concat <axis = 1> (h, m) "
    "u, v = Split <axis = 1, num_outputs = 2> (t) s = Add(u, v) a = Relu(s)",
    "one that is read twice": "float[6,6] U> { h = MatMul(x, W) s = Add(h, m) r = Relu(s) w = MatMul(r, U) "
    "t = Add(s, w) a = Relu(t)",
    "numbers that are not there": "float[4,6] k, float[6] c> { h = MatMul(x, W) s = Add(h, k) t = Mul(s, c) "
    "p = Softmax(t) q = Relu(m) a = Add(p, q)",
}


def model_of(text: str, **weights):
    return parse(f"{HEAD}, {text} y = MatMul(a, V) }}".replace(", >", ">"), **weights)


@pytest.mark.parametrize("case", MOVED)
def test_fires(case):
    weights = {"k": np.where(np.arange(24).reshape(4, 6) % 5 == 0, -3.4e38, 0.0)} if "k," in MOVED[case] else {}
    if weights:
        weights["c"] = np.full(6, 0.5)
    model = model_of(MOVED[case], **weights)
    network = network_of(model)
    assert settles(CarryKnown(), network)
    assert_same_network(model, network)
    regions, offenders = survey(network.graph)
    assert not offenders
    assert regions.known
    encoded = {"x"} | ({"q"} if weights else set())
    assert set(regions.encoded) <= encoded


@pytest.mark.parametrize(
    "body",
    [
        "float[6,6] U> { h = MatMul(x, W) s = Add(h, m) a = MatMul(s, U)",
        "float[8,4] U> { h = MatMul(x, W) r = Relu(h) s = Concat <axis = 1> (m, r) t = Neg(s) "
        "u = Transpose <perm = [0,2,1]> (t) v = MatMul(u, U) a = Transpose <perm = [0,2,1]> (v)",
    ],
)
def test_what_feeds_weights_stays(body):
    model = model_of(body)
    network = network_of(model)
    before = ops(network)
    assert CarryKnown().apply(network) == 0
    assert ops(network) == before
    assert survey(network.graph)[0].encoded == ["x", "m"]


def test_weights_and_a_neuron_get_a_sum_each():
    text = "float[6,6] U> { h = MatMul(x, W) s = Add(h, m) w = MatMul(s, U) r = Relu(s) t = Add(r, w) a = Relu(t)"
    model = model_of(text)
    network = network_of(model)
    assert settles(CarryKnown(), network)
    assert_same_network(model, network)
    regions, _ = survey(network.graph)
    assert regions.encoded == ["x", "m"]
    assert len(regions.known) == 1


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,1,6] x, float[N,4,6] m) => (float[N,4,3] y) <float[6,6] W, float[6,3] V> "
        "{ h = MatMul(x, W) s = Add(h, m) a = Relu(s) y = MatMul(a, V) }",
        "g (float[N,S,6] x, float[N,S,6] m) => (float[N,6,S] y) <float[6,6] W, float[6,6] V> "
        "{ h = MatMul(x, W) s = Add(h, m) t = Transpose <perm = [0,2,1]> (s) y = MatMul(V, t) }",
    ],
    ids=["it repeats the core tensor", "nothing but weights behind it"],
)
def test_declines(text):
    network = network_of(parse(text))
    before = ops(network)
    assert CarryKnown().apply(network) == 0
    assert ops(network) == before
    assert survey(network.graph)[0].known == {}
    assert export_model(network)
