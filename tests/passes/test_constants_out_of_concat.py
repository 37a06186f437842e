"""ConstantsOutOfConcat: constants beside core tensors become padding and a sum."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import pytest

from csscc.passes.canonical.constants_out_of_concat import ConstantsOutOfConcat
from csscc.passes.canonical.fold_constants import FoldConstants
from tests.helpers import assert_same_network, network_of, ops, parse, settles

CORE = """
g (float[{batch},3,4] x) => (float[{batch},{size},2] y) <float[4,5] W, float[5,2] V, float[{k}] k, {more}>
{{ h = MatMul(x, W) {middle} y = MatMul(c, V) }}
"""


def model_of(middle: str, *, k: str = "1,1,5", size: int = 4, batch: str = "1", more: str = "float one = {1.0}"):
    return parse(CORE.format(middle=middle, k=k, size=size, batch=batch, more=more))


@pytest.mark.parametrize(
    ("model", "left"),
    [
        (model_of("c = Concat <axis = 1> (k, h)"), ["MatMul", "Pad", "Add", "MatMul"]),
        (model_of("c = Concat <axis = -2> (h, k)"), ["MatMul", "Pad", "Add", "MatMul"]),
        (model_of("c = Concat <axis = 1> (k, h, k)", size=5), ["MatMul", "Pad", "Add", "MatMul"]),
        (
            model_of(
                "s = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (s, rest) e = Expand(k, t) c = Concat <axis = 1> (e, h)",
                batch="N",
                more="int64[2] rest = {1, 5}",
            ),
            ["MatMul", "Pad", "Add", "MatMul"],
        ),
    ],
    ids=["in front", "behind", "on both sides", "repeated for each sample"],
)  # fmt: skip
def test_fires(model, left):
    network = network_of(model)
    FoldConstants().apply(network)
    assert settles(ConstantsOutOfConcat(), network)
    assert ops(network) == left
    assert_same_network(model, network)


@pytest.mark.parametrize(
    "model",
    [
        model_of("c = Concat <axis = 0> (k, h)", k="1,3,5", size=3, batch="N"),
        model_of("c = Concat <axis = 1> (k, h)", k="2,1,5", batch="2"),
        model_of("r = Relu(h) c = Concat <axis = 1> (r, k, h)", size=7),
    ],
    ids=["the batch", "differs between samples", "two computed tensors"],
)  # fmt: skip
def test_declines(model):
    network = network_of(model)
    before = ops(network)
    assert ConstantsOutOfConcat().apply(network) == 0
    assert ops(network) == before


def test_prologue_and_epilogue_stay():
    model = parse(
        "g (float[1,3,5] x) => (float[1,5,2] y) <float[1,1,5] k, float[5,2] V, float[1,1,2] l> { c = Concat <axis = 1> (x, k) h = MatMul(c, V) y = Concat <axis = 1> (l, h) }"
    )
    network = network_of(model)
    assert ConstantsOutOfConcat().apply(network) == 0
