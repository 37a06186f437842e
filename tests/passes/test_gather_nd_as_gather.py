"""GatherNDAsGather: chosen elements of a matrix of each sample, with constant indices."""

from __future__ import annotations

import numpy as np
import pytest

import csscc
from csscc.passes.canonical.gather_nd_as_gather import GatherNDAsGather
from csscc.passes.convert.find_regions import survey
from csscc.pipeline import canonical
from tests.helpers import assert_same_network, network_of, ops, parse, settles

PAIRS = """g (float[N,5,4] x) => (float[N,2] y) <float[4,6] w, int64[6,2] pairs, float[6,2] v>
{{ h = MatMul(x, w) a = Relu(h) t = Transpose <perm = [0,2,1]> (a) d = MatMul(a, t)
   e = Transpose <perm = [1,2,0]> (d) g0 = GatherND{} (e, pairs) f = Transpose <perm = [1,0]> (g0)
   y = MatMul(f, v) }}"""
INDICES = [[0, 1], [0, 2], [1, 4], [-1, 0], [2, -2], [3, 3]]


@pytest.mark.parametrize("given", ["", " <batch_dims = 0>"])
def test_chosen_pairs(given: str) -> None:
    model = parse(PAIRS.format(given), pairs=INDICES)
    network = network_of(model)
    assert settles(GatherNDAsGather(), network)
    assert "GatherND" not in ops(network)
    for batch in (1, 3):
        assert_same_network(model, network, batch=batch)
    network = canonical(model)
    assert not survey(network.graph)[1]
    assert_same_network(model, network)


@pytest.mark.parametrize(
    ("perm", "size", "indices", "result"),
    [([1, 0, 2], "6,1", [[0], [4], [-2], [1], [1], [2]], [1, 0, 2]), ([1, 2, 0], "3,2,2", INDICES, [2, 0, 1])],
    ids=["one axis", "a table of indices"],
)
def test_other_numbers_of_axes(perm: list[int], size: str, indices: list[list[int]], result: list[int]) -> None:
    last = 2 if len(perm) == 3 and perm[2] == 0 else 4
    model = parse(
        f"""g (float[N,5,4] x) => (float[N,n,2] y) <float[4,4] w, int64[{size}] at, float[{last},2] v>
        {{ h = MatMul(x, w) a = Relu(h) t = Transpose <perm = {perm}> (a) g0 = GatherND(t, at)
           f = Transpose <perm = {result}> (g0) y = MatMul(f, v) }}""",
        at=np.reshape(np.minimum(indices, 3), [int(d) for d in size.split(",")]),
    )
    network = network_of(model)
    assert settles(GatherNDAsGather(), network)
    assert_same_network(model, network)
    assert not survey(canonical(model).graph)[1]


@pytest.mark.parametrize(
    "body",
    [
        "g0 = GatherND <batch_dims = 1> (a, same)",
        "k = Cast <to = 7> (c) g0 = GatherND(a, k)",
    ],
    ids=["of each sample", "computed"],
)
def test_declines(body: str) -> None:
    model = parse(
        f"""g (float[3,5,4] x, float[2,1] c) => (float[a,b,2] y) <float[4,4] w, int64[3,2,1] same = {{0,1,2,3,4,0}},
        float[4,2] v> {{ h = MatMul(x, w) a = Relu(h) {body} y = MatMul(g0, v) }}"""
    )
    network = network_of(model)
    assert GatherNDAsGather().apply(network) == 0
    assert "GatherND" in ops(network)


def test_compiles() -> None:
    model = parse(PAIRS.format(""), pairs=INDICES)
    x = np.random.default_rng(0).standard_normal((64, 5, 4)).astype(np.float32)
    snn = csscc.compile(model, calibration=x)
    assert snn.report.comparison is not None
    assert max(snn.report.comparison.errors.values()) < 0.01
