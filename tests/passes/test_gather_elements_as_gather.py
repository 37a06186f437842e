"""GatherElementsAsGather: positions chosen from the rows of each sample, by constant indices."""

from __future__ import annotations

import numpy as np
import pytest

import csscc
from csscc.passes.canonical.gather_elements_as_gather import GatherElementsAsGather
from csscc.passes.convert.find_regions import survey
from csscc.pipeline import canonical
from tests.helpers import assert_same_network, network_of, ops, parse, settles

SPREAD = "b = Shape <start = 0, end = 1> (x) s = Concat <axis = 0> (b, rest) i = Expand(at, s)"
CHOSEN = """g (float[{batch},5,4] x) => (float[n,m,2] y)
    <float[4,6] w, int64[{shape}] at, int64[2] rest = {{{rows},{columns}}}, float[{columns},2] v>
    {{ h = MatMul(x, w) a = Relu(h) {index} c = GatherElements <axis = {axis}> (a, {read}) y = MatMul(c, v) }}"""
# Query, key and a table of relative positions, whose heads are folded into the batch: attention of DeBERTa.
HEADS = """g (float[N,5,6] x) => (float[N,5,2] y)
    <float[6,6] wq, float[6,6] wk, float[2,3,9] table, int64[1,5,5] at, int64[4] apart = {0,5,2,3},
    int64[3] folded = {-1,5,3}, int64[3] turned = {-1,3,5}, int64[1] two = {2}, int64[2] ones = {1,1},
    int64[2] rest = {5,5}, int64[4] back = {-1,2,5,5}, int64[3] flat = {0,5,10}, float[10,2] v>
    { q0 = MatMul(x, wq) q1 = Reshape(q0, apart) q2 = Transpose <perm = [0,2,1,3]> (q1) q = Reshape(q2, folded)
      k0 = MatMul(x, wk) k1 = Reshape(k0, apart) k2 = Transpose <perm = [0,2,3,1]> (k1)
      k3 = Reshape(k2, turned) b = Shape <start = 0, end = 1> (x) bh = Mul(b, two)
      repeats = Concat <axis = 0> (b, ones) p = Tile(table, repeats) r = MatMul(q, p)
      s = Concat <axis = 0> (bh, rest) i = Expand(at, s) c = GatherElements <axis = -1> (r, i)
      m = MatMul(q, k3) z = Add(m, c) e = Reshape(z, back) t = Transpose <perm = [0,2,1,3]> (e) f = Reshape(t, flat)
      o = Relu(f) y = MatMul(o, v) }"""


def chosen(axis: int, indices: np.ndarray, *, batch: str = "N") -> str:
    """A network that chooses from ``[batch, 5, 6]`` along an axis."""
    given = {"batch": batch, "shape": ",".join(map(str, indices.shape)), "axis": axis}
    rows, columns = indices.shape[-2:]
    spread = indices.shape[0] == 1 or indices.ndim == 2
    return CHOSEN.format(
        **given, rows=rows, columns=columns, index=SPREAD if spread else "", read="i" if spread else "at"
    )


@pytest.mark.parametrize(
    ("axis", "shape"), [(2, (1, 5, 3)), (-1, (1, 5, 8)), (1, (1, 7, 6)), (1, (2, 4)), (2, (4, 2))]
)
def test_the_same_elements_of_each_sample(axis: int, shape: tuple[int, ...]) -> None:
    size = 6 if axis in (2, -1) else 5
    indices = np.random.default_rng(0).integers(-size, size, shape)
    model = parse(chosen(axis, indices), at=indices)
    network = network_of(model)
    assert settles(GatherElementsAsGather(), network)
    assert "GatherElements" not in ops(network)
    for batch in (1, 3):
        assert_same_network(model, network, batch=batch)
    assert not survey(canonical(model).graph)[1]


def test_indices_that_are_written_out_for_a_batch() -> None:
    indices = np.repeat(np.random.default_rng(0).integers(0, 6, (1, 5, 3)), 3, axis=0)
    model = parse(chosen(2, indices, batch="3"), at=indices)
    network = network_of(model)
    assert settles(GatherElementsAsGather(), network)
    assert_same_network(model, network)


def test_relative_positions_of_heads_that_are_folded_into_the_batch() -> None:
    at = np.clip(np.arange(5)[:, None] - np.arange(5) + 4, 0, 8)[None]
    model = parse(HEADS, at=at)
    network = canonical(model)
    assert not survey(network.graph)[1]
    assert_same_network(model, network)
    x = np.random.default_rng(0).standard_normal((64, 5, 6)).astype(np.float32)
    comparison = csscc.compile(model, calibration=x).report.comparison
    assert comparison is not None
    assert max(comparison.errors.values()) < 0.01


@pytest.mark.parametrize(
    ("axis", "indices", "batch"),
    [
        (2, np.arange(45).reshape(3, 5, 3) % 6, "3"),
        (0, np.zeros((3, 5, 6), np.int64), "3"),
        (2, np.full((1, 5, 3), 6), "N"),
    ],
    ids=["of each sample", "samples", "none there"],
)
def test_declines(axis: int, indices: np.ndarray, batch: str) -> None:
    network = network_of(parse(chosen(axis, indices, batch=batch), at=indices))
    assert GatherElementsAsGather().apply(network) == 0
    assert "GatherElements" in ops(network)


def test_declines_what_is_computed() -> None:
    text = chosen(2, np.zeros((1, 5, 3), np.int64))
    text = text.replace("float[N,5,4] x)", "float[N,5,4] x, float[1,5,3] f)")
    text = text.replace("Expand(at, s)", "Cast <to = 7> (f)")
    network = network_of(parse(text))
    assert GatherElementsAsGather().apply(network) == 0
