"""Attention and RotaryEmbedding of ONNX 23: written as products, networks keep what onnxruntime's own operators give."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

import csscc
from csscc.passes.canonical.attention_as_products import AttentionAsProducts
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.passes.canonical.known_sizes import KnownSizes
from csscc.passes.canonical.rotary_as_products import RotaryAsProducts
from csscc.passes.convert.find_regions import survey
from csscc.pipeline import canonical
from tests.helpers import assert_same_network, network_of, ops, parse, settles

SIZES = "int64[4] apart = {0, 0, 4, 2}, int64[4] pair = {0, 0, 2, 2}, int64[3] whole = {0, 0, 8}"
HEAD = "g (float[{n},{s},8] x{inputs}) => (float[B,S,5] y) <float[8,8] Q, float[8,{k}] K, float[8,{k}] V, float[8,5] O, {more}>"
ROWS = "q = MatMul(x, Q) k = MatMul(x, K) v = MatMul(x, V)"
HEADS = """q3 = MatMul(x, Q) q4 = Reshape(q3, apart) q = Transpose <perm = [0,2,1,3]> (q4)
k3 = MatMul(x, K) k4 = Reshape(k3, {few}) k = Transpose <perm = [0,2,1,3]> (k4)
v3 = MatMul(x, V) v4 = Reshape(v3, {few}) v = Transpose <perm = [0,2,1,3]> (v4)"""
BACK = "at = Transpose <perm = [0,2,1,3]> (a) r = Reshape(at, whole) y = MatMul(r, O)"


def of(before, attention, after="y = MatMul(a, O)", *, s="6", k="8", inputs="", more="", opset=23, **weights):
    head = HEAD.format(n="N", s=s, k=k, inputs=inputs, more=SIZES + (", " + more if more else ""))
    return parse(f"{head} {{ {before} {attention} {after} }}", opset=opset, **weights)


MASK = np.random.default_rng(3).random((6, 6)) < 0.6
MASK[2] = False  # nothing of a row is there
FOUR, TWO = HEADS.replace("{few}", "apart"), HEADS.replace("{few}", "pair")
ATTENTION = {
    "heads": of(FOUR, "a = Attention(q, k, v)", BACK),
    "scaled": of(FOUR, "a = Attention <scale = 0.3> (q, k, v)", BACK, opset=24),
    "rows": of(ROWS, "a = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)"),
    "fewer heads of keys": of(TWO, "a = Attention(q, k, v)", BACK, k="4"),
    "rows, one head of keys": of(ROWS, "a = Attention <q_num_heads = 4, kv_num_heads = 1> (q, k, v)", k="2"),
    "causal": of(FOUR, "a = Attention <is_causal = 1> (q, k, v)", BACK),
    "causal, free length": of(FOUR, "a = Attention <is_causal = 1> (q, k, v)", BACK, s="L"),
    "truth values": of(FOUR, "a = Attention(q, k, v, there)", BACK, more="bool[6,6] there", there=MASK),
    "numbers": of(FOUR, "a = Attention(q, k, v, bias)", BACK, more="float[1,4,6,6] bias"),
    "a mask as input": of(FOUR, "a = Attention(q, k, v, there)", BACK, inputs=", bool[N,1,6,6] there"),
    "both masks": of(FOUR, "a = Attention <is_causal = 1> (q, k, v, bias)", BACK, more="float[6,6] bias"),
}  # fmt: skip
TURNED = "float[9,{h}] cos, float[9,{h}] sin, int64[1,6] places = {{0,1,2,3,4,8}}, int64[1] rows = {{0}}"
POSITIONS = "b = Shape <start = 0, end = 1> (x) l = Constant <value_ints = [6]> () bl = Concat <axis = 0> (b, l) p = Expand(places, bl)"
ROTARY = {
    "heads": of(FOUR, f"{POSITIONS} t = RotaryEmbedding(q, cos, sin, p) a = Add(t, v)", BACK, more=TURNED.format(h=1)),
    "rows": of(ROWS, f"{POSITIONS} t = RotaryEmbedding <num_heads = 2> (q, cos, sin, p) a = Add(t, v)", more=TURNED.format(h=2)),
    "part of a row": of(ROWS, f"{POSITIONS} t = RotaryEmbedding <num_heads = 2, rotary_embedding_dim = 2> (q, cos, sin, p) a = Add(t, v)", more=TURNED.format(h=1)),
    "without positions": of(ROWS, "b = Shape <start = 0, end = 1> (x) r2 = Constant <value_ints = [6, 2]> () s = Concat <axis = 0> (b, r2) c = Expand(cosine, s) d = Expand(sine, s) t = RotaryEmbedding <num_heads = 2> (q, c, d) a = Add(t, v)", more="float[1,6,2] cosine, float[1,6,2] sine"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    model = ATTENTION[name]
    network = network_of(model)
    assert settles(AttentionAsProducts(), network)
    assert "Attention" not in ops(network)
    for batch in (1, 3):
        assert_same_network(model, network, batch=batch)
    assert not survey(canonical(model).graph)[1]


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_embedding(name):
    model = ROTARY[name]
    network = network_of(model)
    FoldConstants().apply(network)
    KnownSizes().apply(network)
    assert settles(RotaryAsProducts(), network)
    assert "RotaryEmbedding" not in ops(network)
    for batch in (1, 3):
        assert_same_network(model, network, batch=batch)
    assert not survey(canonical(model).graph)[1]


@pytest.mark.parametrize(
    ("before", "attention"),
    [
        (FOUR, "a = Attention <softcap = 2.0> (q, k, v)"),
        (FOUR, "a, key, value = Attention(q, k, v, , k, v)"),
        (FOUR, "a, key, value, scores = Attention(q, k, v) "),
    ],
)  # fmt: skip
def test_what_stays(before, attention):
    network = network_of(of(before, attention, BACK))
    assert AttentionAsProducts().apply(network) == 0
    assert "Attention" in ops(network)


def test_pairs_that_are_interleaved_stay():
    model = of(ROWS, f"{POSITIONS} t = RotaryEmbedding <num_heads = 2, interleaved = 1> (q, cos, sin, p) a = Add(t, v)", more=TURNED.format(h=2))
    network = network_of(model)
    assert RotaryAsProducts().apply(network) == 0


def test_a_compiled_decoder_is_close_to_onnxruntimes():
    import onnxruntime as ort

    model = of(FOUR, f"{POSITIONS} t = RotaryEmbedding(q, cos, sin, p) a = Attention <is_causal = 1> (t, k, v)", BACK, more=TURNED.format(h=1))
    x = np.random.default_rng(0).standard_normal((32, 6, 8)).astype(np.float32)
    snn = csscc.compile(model, x, T=16)
    (ann,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (out,) = ort.InferenceSession(snn.file.SerializeToString()).run(None, {"x": x})
    assert np.sqrt(((out - ann) ** 2).mean() / (ann**2).mean()) < 0.01
