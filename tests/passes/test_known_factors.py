"""KnownFactors: products with what is known before time starts are an activation with a computed parameter."""

from __future__ import annotations

import pytest

from csscc.passes.canonical.known_factors import KnownFactors
from csscc.passes.convert.find_regions import survey
from tests.helpers import assert_same_network, network_of, ops, parse, settles

HEAD = "g (float[N,4,6] x, float[N,4,1] m) => (float[N,4,3] y) <float[6,6] W, float[6,3] V"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s = Mul(m, h)", ["Times"]),
        ("s = Mul(h, m)", ["Times"]),
        ("e = Exp(m) s = Div(h, e)", ["Exp", "Reciprocal", "Times"]),
    ],
    ids=["a product", "the other way round", "a quotient"],
)
def test_fires(text, expected):
    model = parse(f"{HEAD}> {{ h = MatMul(x, W) {text} y = MatMul(s, V) }}")
    network = network_of(model)
    assert settles(KnownFactors(), network)
    assert sorted(ops(network)) == sorted([*expected, "MatMul", "MatMul"])
    assert_same_network(model, network)
    regions, offenders = survey(network.graph)
    assert not offenders
    assert regions.encoded == ["x"]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}, float[6] c> {{ h = MatMul(x, W) s = Mul(h, c) y = MatMul(s, V) }}",
        f"{HEAD}> {{ h = MatMul(x, W) s = Mul(h, h) y = MatMul(s, V) }}",
        f"{HEAD}> {{ h = MatMul(x, W) e = Exp(h) s = Div(m, e) y = MatMul(s, V) }}",
        f"{HEAD}> {{ h = Mul(x, m) a = MatMul(h, W) y = MatMul(a, V) }}",
        f"{HEAD}> {{ h = MatMul(x, W) a = MatMul(h, V) y = Mul(a, m) }}",
        "g (float[N,1,6] x, float[N,4,1] m) => (float[N,4,3] y) <float[6,6] W, float[6,3] V> "
        "{ h = MatMul(x, W) s = Mul(h, m) y = MatMul(s, V) }",
    ],
    ids=["a constant", "both computed", "divided by spikes", "in the prologue", "in the epilogue", "it repeats"],
)
def test_declines(text):
    network = network_of(parse(text))
    before = ops(network)
    assert KnownFactors().apply(network) == 0
    assert ops(network) == before
