"""EinsumToMatMul: an Einsum of the core becomes a matrix product."""

from __future__ import annotations

import pytest

from csscc.passes.canonical.einsum_to_matmul import EinsumToMatMul
from csscc.passes.convert.find_regions import survey
from csscc.pipeline import canonical
from tests.helpers import assert_same_network, network_of, ops, parse, settles

ONE = """g (float[N,6,8] x) => (float[{result}] y) <float[8,8] Q, float[{weights}] W, float[{last},3] U,
int64[4] heads = {{-1, 6, 2, 4}}> {{ q1 = MatMul(x, Q) q = Reshape(q1, heads) 
   e = Einsum <equation = "{equation}"> (q, W) z = Relu(e) y = MatMul(z, U) }}"""
BOTH = """g (float[N,6,8] x) => (float[{result}] y) <float[8,8] Q, float[8,8] K, float[{last},3] U,
int64[4] heads = {{-1, 6, 2, 4}}> {{ q1 = MatMul(x, Q) k1 = MatMul(x, K) q = Reshape(q1, heads) k = Reshape(k1, heads)
   e = Einsum <equation = "{equation}"> (q, k) z = Relu(e) y = MatMul(z, U) }}"""


@pytest.mark.parametrize(
    ("equation", "result", "last"),
    [
        ("bnhd,bmhd->bhnm", "N,2,6,3", 6),
        ("b n h d, b m h d -> b n m h", "N,6,6,3", 2),
        ("bnhd,bnhe->bhde", "N,2,4,3", 4),
        ("...nhd,...mhd->...hnm", "N,2,6,3", 6),
        ("bnhd,bmgd->bnhmg", "N,6,2,6,3", 2),
        ("bnhd,bmhd->bnm", "N,6,3", 6),
        ("bnhd,bnhd->bnh", "N,6,3", 2),
    ],
)
def test_two_computed_operands(equation, result, last):
    model = parse(BOTH.format(equation=equation, result=result, last=last))
    network = network_of(model)
    assert settles(EinsumToMatMul(), network)
    assert "Einsum" not in ops(network)
    for batch in (1, 3):
        assert_same_network(model, network, batch=batch)
    network = canonical(model)
    assert not survey(network.graph)[1]
    assert_same_network(model, network)


@pytest.mark.parametrize(
    ("equation", "weights", "result", "last"),
    [
        ("bnhd,hde->bne", "2,4,5", "N,6,3", 5),
        ("bnhd,de->bnhe", "4,5", "N,6,2,3", 5),
        ("bnhd,hde->bnhe", "2,4,5", "N,6,2,3", 5),
        ("bnhd,nm->bmhd", "6,7", "N,7,2,3", 4),
        ("bnhd,nhe->bde", "6,2,5", "N,4,3", 5),
        ("bnhd,hdef->bnef", "2,4,5,2", "N,6,5,3", 2),
        ("bnhd,ndhe", "6,4,2,5", "N,3", 5),
    ],
)
def test_a_computed_operand_and_weights(equation, weights, result, last):
    model = parse(ONE.format(equation=equation, weights=weights, result=result, last=last))
    network = network_of(model)
    assert settles(EinsumToMatMul(), network)
    assert_same_network(model, network)
    network = canonical(model)
    assert not survey(network.graph)[1]
    for batch in (1, 3):
        assert_same_network(model, network, batch=batch)


def test_a_transposition():
    model = parse("""g (float[N,6,8] x) => (float[N,8,3] y) <float[8,8] Q, float[6,3] U>
    { q = MatMul(x, Q) e = Einsum <equation = "bij->bji"> (q) y = MatMul(e, U) }""")
    network = network_of(model)
    assert settles(EinsumToMatMul(), network)
    assert ops(network) == ["MatMul", "Transpose", "MatMul"]
    assert_same_network(model, network)


@pytest.mark.parametrize(
    ("equation", "result", "last"),
    [("bnhd,bmhd->bhm", "N,2,3", 6), ("bnhd,bnhd->bnhd", "N,6,2,3", 4), ("bnhd,bnhd->nhd", "6,2,3", 4)],
    ids=["summed in one operand", "nothing is summed", "the batch is summed"],
)
def test_declines_or_stays_right(equation, result, last):
    model = parse(BOTH.format(equation=equation, result=result, last=last))
    network = network_of(model)
    EinsumToMatMul().apply(network)
    assert_same_network(model, network)
    assert EinsumToMatMul().apply(network) == 0


@pytest.mark.parametrize("text", [
    """g (float x) => (float y) { a = Abs(x) e = Einsum <equation = ""> (a) z = Relu(e) y = Abs(z) }""",
    """g (float[N] x) => (float y) { a = Abs(x) e = Einsum <equation = "n,n->"> (a, a) z = Relu(e) y = Abs(z) }""",
])  # fmt: skip
def test_results_without_axes_stay(text):
    network = network_of(parse(text))
    assert EinsumToMatMul().apply(network) == 0
    assert "Einsum" in ops(network)
