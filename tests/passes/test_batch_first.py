"""BatchFirst: attention as exporters write it keeps the batch in front, and the network keeps its results."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.batch_first import BatchFirst
from csscc.passes.canonical.batch_place import Place, UnfitError, place_after_reshape
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.passes.canonical.known_sizes import KnownSizes
from csscc.passes.canonical.recognise_quantisers import RecogniseQuantisers
from csscc.passes.convert.find_regions import survey
from csscc.pipeline import canonical
from tests.helpers import assert_equal_outputs, assert_same_network, network_of, ops, parse, random_feeds, run, settles

HEAD = "g (float[{n},6,8] x) => (float[{n},{out}] y) <float[8,24] W, float[8,8] V, float[8,5] U, {more}>"
SPLIT = "a = Reshape(h, qkv) t = Transpose <perm = [2,0,3,1,4]> (a) q5, k5, v5 = Split <axis = 0, num_outputs = 3> (t) q = Squeeze(q5, zero) k = Squeeze(k5, zero) v = Squeeze(v5, zero)"
ATTEND = "kt = Transpose <perm = [0,1,3,2]> (k) s = MatMul(q, kt) w = Softmax <axis = -1> (s) o = MatMul(w, v) ot = Transpose <perm = [0,2,1,3]> (o) c = Reshape(ot, cat)"
SIZES = "int64[5] qkv = {-1, 6, 3, 2, 4}, int64[1] zero = {0}, int64[3] cat = {-1, 6, 8}, int64[4] heads = {-1, 6, 2, 4}, int64[3] fold = {-1, 6, 4}, int64[4] unfold = {-1, 2, 6, 4}"


def model_of(body: str, *, n: str = "N", out: str = "6,5", more: str = "", tail: str = "y = MatMul(r, U)", opset: int = 20, **weights):
    head = HEAD.replace("{n}", n).replace("{out}", out).replace("{more}", SIZES + (", " + more if more else ""))
    return parse(f"{head} {{ h = MatMul(x, W) {body} {tail} }}", opset=opset, **weights)


def gathered(index: int) -> str:
    return f"i{index} = Constant <value_int = {index}> () {'qkv'[index]} = Gather <axis = 0> (t, i{index})"


def sliced(index: int) -> str:
    ends = f"b{index} = Constant <value_ints = [{index}]> () e{index} = Constant <value_ints = [{index + 1}]> ()"
    name = "qkv"[index]
    return f"{ends} {name}5 = Slice(t, b{index}, e{index}, zero) {name} = Squeeze({name}5, zero)"


STACKED = "a = Reshape(h, qkv) t = Transpose <perm = [2,0,3,1,4]> (a)"
OUT = "r = MatMul(c, V)"
FOLDED = """
q2, k2, v2 = Split <axis = 2, num_outputs = 3> (h)
q3 = Reshape(q2, heads) q4 = Transpose <perm = [0,2,1,3]> (q3) q = Reshape(q4, fold)
k3 = Reshape(k2, heads) k4 = Transpose <perm = [0,2,1,3]> (k3) k = Reshape(k4, fold)
v3 = Reshape(v2, heads) v4 = Transpose <perm = [0,2,1,3]> (v3) v = Reshape(v4, fold)
kt = Transpose <perm = [0,2,1]> (k) s = MatMul(q, kt) {mask} w = Softmax <axis = 2> (m) o = MatMul(w, v)
o4 = Reshape(o, unfold) ot = Transpose <perm = [0,2,1,3]> (o4) c = Reshape(ot, cat) r = MatMul(c, V)"""
SEQUENCE_FIRST = """
ht = Transpose <perm = [1,0,2]> (h) a = Reshape(ht, thirds) b = Transpose <perm = [2,0,1,3]> (a)
i0 = Constant <value_int = 0> () i1 = Constant <value_int = 1> () i2 = Constant <value_int = 2> ()
q3 = Gather <axis = 0> (b, i0) k3 = Gather <axis = 0> (b, i1) v3 = Gather <axis = 0> (b, i2)
q2 = Reshape(q3, rows) q = Transpose <perm = [1,0,2]> (q2) k2 = Reshape(k3, rows) k = Transpose <perm = [1,0,2]> (k2)
v2 = Reshape(v3, rows) v = Transpose <perm = [1,0,2]> (v2) kt = Transpose <perm = [0,2,1]> (k)
s = MatMul(q, kt) w = Softmax <axis = -1> (s) o = MatMul(w, v) ot = Transpose <perm = [1,0,2]> (o)
f = Reshape(ot, long) g = Gemm <alpha = 0.5, beta = 2.0> (f, V, bias) u = Reshape(g, whole) r = Transpose <perm = [1,0,2]> (u)"""
WINDOWS = """
a = Reshape(h, grid) b = Transpose <perm = [0,2,1,3]> (a) p = Reshape(b, patches) pt = Transpose <perm = [0,2,1]> (p)
s = MatMul(p, pt) m = Add(s, bias) s4 = Reshape(m, apart) sm = Add(s4, mask) s3 = Reshape(sm, flat)
w = Softmax <axis = -1> (s3) o = MatMul(w, p) o4 = Reshape(o, rows) ot = Transpose <perm = [0,2,1,3]> (o4)
c = Reshape(ot, back) l = LayerNormalization(c, scale, shift) j = MatMul(l, Z) d = Relu(j) r = MatMul(d, V)"""
WINDOW_SIZES = "int64[4] grid = {-1, 3, 2, 24}, int64[3] patches = {-1, 3, 24}, int64[4] apart = {-1, 2, 3, 3}, int64[3] flat = {-1, 3, 3}, int64[4] rows = {-1, 2, 3, 24}, int64[3] back = {-1, 6, 24}, float[24,8] Z, float[1,3,3] bias, float[1,2,3,3] mask, float[24] scale, float[24] shift"
OWN_SHAPE = """
n = Shape(h) i0 = Constant <value_int = 0> () i1 = Constant <value_int = 1> () b = Gather(n, i0) l = Gather(n, i1)
b1 = Unsqueeze(b, zero) l1 = Unsqueeze(l, zero) three = Constant <value_ints = [3]> () two = Constant <value_ints = [2]> () rest = Constant <value_ints = [-1]> ()
into = Concat <axis = 0> (b1, l1, three, two, rest) a = Reshape(h, into) t = Transpose <perm = [2,0,3,1,4]> (a)
q5, k5, v5 = Split <axis = 0, num_outputs = 3> (t) q = Squeeze(q5, zero) k = Squeeze(k5, zero) v = Squeeze(v5, zero)
kt = Transpose <perm = [0,1,3,2]> (k) s = MatMul(q, kt) w = Softmax <axis = -1> (s) o = MatMul(w, v) ot = Transpose <perm = [0,2,1,3]> (o)
whole = Concat <axis = 0> (b1, l1, rest) c = Reshape(ot, whole) r = MatMul(c, V)"""

MODELS = {
    "stacked, split": model_of(f"{SPLIT} {ATTEND} {OUT}"),
    "stacked, gathered": model_of(f"{STACKED} {gathered(0)} {gathered(1)} {gathered(2)} {ATTEND} {OUT}"),
    "stacked, sliced": model_of(f"{STACKED} {sliced(0)} {sliced(1)} {sliced(2)} {ATTEND} {OUT}"),
    "heads folded": model_of(FOLDED.replace("{mask}", "m = Identity(s)")),
    "heads folded, masked": model_of(
        FOLDED.replace("{mask}", "m = Add(s, mask)"), more="float[1,6,6] mask", mask=np.tri(6)[None] - 1
    ),
    "sequence first": model_of(
        SEQUENCE_FIRST,
        more="int64[4] thirds = {6, -1, 3, 8}, int64[3] rows = {6, -1, 4}, int64[2] long = {-1, 8}, int64[3] whole = {6, -1, 8}, float[8] bias",
    ),
    "windows": model_of(WINDOWS, more=WINDOW_SIZES),
    "sizes from its own shape": model_of(OWN_SHAPE),
    "reduced, expanded, padded": model_of(
        """a = Reshape(h, qkv) t = Transpose <perm = [2,0,3,1,4]> (a) m = ReduceMean <keepdims = 0> (t, zero) e = Unsqueeze(m, zero)
        f = Expand(e, twice) p = Pad(f, pads) z = Tile(p, reps) s = ReduceSum <keepdims = 0> (z, zero) ot = Transpose <perm = [0,2,1,3]> (s) c = Reshape(ot, cat) r = MatMul(c, V)""",
        more="int64[5] twice = {2, 1, 1, 1, 1}, int64[10] pads = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, int64[5] reps = {2, 1, 1, 1, 1}",
    ),
    "concatenated": model_of(
        "a = Reshape(h, qkv) t = Transpose <perm = [2,0,3,1,4]> (a) u = Relu(t) z = Concat <axis = 0> (u, t) s = ReduceSum <keepdims = 0> (z, zero) ot = Transpose <perm = [0,2,1,3]> (s) c = Reshape(ot, cat) r = MatMul(c, V)"
    ),
    "rows of all samples normalised": model_of(
        "f = Reshape(h, all) b = BatchNormalization <epsilon = 0.5> (f, scale, shift, mean, var) a = Relu(b) g = Reshape(a, back) j = MatMul(g, Z) r = MatMul(j, V)",
        more="int64[2] all = {-1, 24}, int64[3] back = {-1, 6, 24}, float[24] scale, float[24] shift, float[24] mean, float[24] var, float[24,8] Z",
    ),
    "strided views": model_of(
        """d = ReduceMean <keepdims = 1> (h, two) f = Reshape(d, rest) n = Shape <start = 0, end = 1> (x) b = Squeeze(n) i0 = Constant <value_int = 0> () i1 = Constant <value_int = 1> ()
        i = Range(i0, b, i1) l = Constant <value_int = 6> () o = Mul(i, l) o3 = Unsqueeze(o, axes) k = Constant <value_ints = [5,0,1,2,3,4]> () k3 = Unsqueeze(k, outside) j = Add(o3, k3)
        g = Gather(f, j) e = Expand(g, wide) c = Relu(e) r = MatMul(c, V)""",
        more="int64[1] two = {2}, int64[1] rest = {-1}, int64[2] axes = {1, 2}, int64[2] outside = {0, 2}, int64[3] wide = {1, 6, 8}",
    ),
    "operators of later versions": model_of(
        f"h2 = RMSNormalization(h, wide) {SPLIT.replace('(h,', '(h2,').replace('q5, k5, v5', 'q7, k5, v7')} {ATTEND} {OUT}".replace(
            "q = Squeeze", "q5 = RMSNormalization(q7, four) v8 = Swish(v7) v5 = LpNormalization <axis = -1> (v8) q = Squeeze"
        ),
        more="float[24] wide, float[4] four",
        opset=24,
    ),
    "a batch of two": model_of(f"{SPLIT} {ATTEND} {OUT}", n="2"),
    "read by the epilogue": model_of(
        f"{SPLIT} {ATTEND} {OUT}", out="6,8", tail="g = MatMul(r, V) z = ReduceSum <keepdims = 0> (t, zero) zt = Transpose <perm = [0,2,1,3]> (z) u = Reshape(zt, cat) y = Add(g, u)"
    ),
}  # fmt: skip


def brought(model):
    network = network_of(model)
    FoldConstants().apply(network)
    KnownSizes().apply(network)
    return network


@pytest.mark.parametrize("name", MODELS)
def test_attention_as_exporters_write_it(name):
    model = MODELS[name]
    network = brought(model)
    assert survey(network.graph)[1]
    assert settles(BatchFirst(), network)
    FoldConstants().apply(network)
    assert not survey(network.graph)[1]
    for batch in (1, 3, 5):
        assert_same_network(model, network, batch=batch)


@pytest.mark.parametrize("scale", [0.25, [0.25, 0.5, 0.125, 0.25, 0.5, 0.25]], ids=["one", "each row"])
def test_quantisers_where_the_batch_is_folded(scale):
    numbers = scale if isinstance(scale, list) else [scale]
    values = ", ".join(map(str, numbers))
    more = f"float[{len(numbers)}] ps = {{{values}}}, uint8[{len(numbers)}] pz = {{{', '.join(['7'] * len(numbers))}}}"
    mask = "mq = QuantizeLinear <axis = 1> (s, ps, pz) m = DequantizeLinear <axis = 1> (mq, ps, pz)"
    model = model_of(FOLDED.replace("{mask}", mask), more=more)
    network = brought(model)
    assert settles(BatchFirst(), network)
    FoldConstants().apply(network)
    assert RecogniseQuantisers().apply(network) == 1
    assert not survey(network.graph)[1]
    for batch in (1, 3, 5):
        assert_same_network(model, network, batch=batch)


def test_an_output_with_the_batch_elsewhere():
    model = parse(
        """g (float[N,6,8] x) => (float[3,N,6,8] t, float[b,6,8] f, float[N,6,5] y) <float[8,24] W, float[8,5] U, int64[4] three = {-1, 6, 3, 8}, int64[3] fold = {-1, 6, 8}, int64[1] zero = {0}>
    { h = MatMul(x, W) a = Reshape(h, three) t = Transpose <perm = [2,0,1,3]> (a) f = Reshape(t, fold) r = Relu(f) k = Reshape(r, back) s = ReduceSum <keepdims = 0> (k, zero) y = MatMul(s, U) }""".replace(
            "int64[1] zero", "int64[4] back = {3, -1, 6, 8}, int64[1] zero"
        )
    )
    network = brought(model)
    assert settles(BatchFirst(), network)
    assert [t.name for t in network.graph.outputs] == ["t", "f", "y"]
    for batch in (1, 4):
        assert_same_network(model, network, batch=batch)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", ["windows", "heads folded", "sequence first"])
def test_a_batch_of_fixed_size_becomes_free(name, size):
    body, more = {
        "windows": (WINDOWS, WINDOW_SIZES),
        "heads folded": (FOLDED.replace("{mask}", "m = Identity(s)"), ""),
        "sequence first": (
            SEQUENCE_FIRST,
            "int64[4] thirds = {6, -1, 3, 8}, int64[3] rows = {6, -1, 4}, int64[2] long = {-1, 8}, int64[3] whole = {6, -1, 8}, float[8] bias",
        ),
    }[name]
    model = model_of(body, n=str(size), more=more)
    network = canonical(model)
    assert network.batch == "batch"
    assert not survey(network.graph)[1]
    feeds = [random_feeds(model, seed=i) for i in range(3)]
    expected = {"y": np.concatenate([run(model, f)["y"] for f in feeds])}
    together = {"x": np.concatenate([f["x"] for f in feeds])}
    assert_equal_outputs(expected, run(export_model(network), together))


@pytest.mark.parametrize("name", ["heads folded", "stacked"])
def test_free_sequence(name):
    body = FREE[name]
    model = parse(f"""g (float[N,S,8] x) => (float[N,S,5] y) <float[8,24] W, float[8,8] V, float[8,5] U, int64[1] zero = {{0}}, int64[1] two = {{2}}, int64[1] three = {{3}}, int64[1] four = {{4}}, int64[1] rest = {{-1}}, int64[1] one = {{1}}>
    {{ h = MatMul(x, W) n = Shape(h) b = Gather(n, zero) l = Gather(n, one) {body} r = MatMul(c, V) y = MatMul(r, U) }}""")
    network = canonical(model)
    assert not survey(network.graph)[1]
    for batch, length in ((1, 3), (3, 9), (5, 1)):
        feeds = {"x": np.random.default_rng(0).standard_normal((batch, length, 8)).astype(np.float32)}
        assert_equal_outputs(run(model, feeds), run(export_model(network), feeds))


FREE = {
    "stacked": """into = Concat <axis = 0> (b, l, three, two, rest) a = Reshape(h, into) t = Transpose <perm = [2,0,3,1,4]> (a)
    q5, k5, v5 = Split <axis = 0, num_outputs = 3> (t) q = Squeeze(q5, zero) k = Squeeze(k5, zero) v = Squeeze(v5, zero)
    kt = Transpose <perm = [0,1,3,2]> (k) s = MatMul(q, kt) w = Softmax <axis = -1> (s) o = MatMul(w, v) ot = Transpose <perm = [0,2,1,3]> (o)
    whole = Concat <axis = 0> (b, l, rest) c = Reshape(ot, whole)""",
    "heads folded": """q2, k2, v2 = Split <axis = 2, num_outputs = 3> (h) heads = Concat <axis = 0> (b, l, two, four) folded = Mul(b, two) fold = Concat <axis = 0> (folded, l, four)
    q3 = Reshape(q2, heads) q4 = Transpose <perm = [0,2,1,3]> (q3) q = Reshape(q4, fold) k3 = Reshape(k2, heads) k4 = Transpose <perm = [0,2,1,3]> (k3) k = Reshape(k4, fold)
    v3 = Reshape(v2, heads) v4 = Transpose <perm = [0,2,1,3]> (v3) v = Reshape(v4, fold) kt = Transpose <perm = [0,2,1]> (k)
    s = MatMul(q, kt) w = Softmax <axis = -1> (s) o = MatMul(w, v) apart = Concat <axis = 0> (b, two, l, four) o4 = Reshape(o, apart) ot = Transpose <perm = [0,2,1,3]> (o4)
    whole = Concat <axis = 0> (b, l, rest) c = Reshape(ot, whole)""",
}


@pytest.mark.parametrize(
    "body",
    [
        "w = Softmax <axis = 0> (h) z = Slice(w, zero, eight, two) r = MatMul(z, V)",
        "t = Transpose <perm = [1,0,2]> (h) w = Softmax <axis = 1> (t) o = Transpose <perm = [1,0,2]> (w) z = Slice(o, zero, eight, two) r = MatMul(z, V)",
        "t = Transpose <perm = [1,2,0]> (h) d = Relu(t) m = MatMul(d, d2) u = Transpose <perm = [2,0,1]> (d) z = Slice(u, zero, eight, two) r = MatMul(z, V)",
        "t = Transpose <perm = [1,0,2]> (h) c = CumSum(t, zero) o = Transpose <perm = [1,0,2]> (c) z = Slice(o, zero, eight, two) r = MatMul(z, V)",
    ],
    ids=["softmax over the batch", "softmax over the moved batch", "a product of batches", "an operator without rule"],
)  # fmt: skip
def test_what_mixes_the_batch_stays(body):
    more = "int64[1] eight = {8}, int64[1] two = {2}"
    body = body.replace("m = MatMul(d, d2)", "d2 = Transpose <perm = [0,2,1]> (d) m = MatMul(d, d2)")
    model = model_of(body, more=more)
    network = brought(model)
    BatchFirst().apply(network)
    assert_same_network(model, network)
    assert BatchFirst().apply(network) == 0


def test_prologue_and_epilogue_stay():
    model = parse(
        "g (float[N,6,8] x) => (float[5,N,6] y) <float[8,5] W> { a = Transpose <perm = [1,0,2]> (x) b = Relu(a) c = Transpose <perm = [1,0,2]> (b) d = MatMul(c, W) y = Transpose <perm = [2,0,1]> (d) }"
    )
    network = network_of(model)
    assert BatchFirst().apply(network) == 0
    assert ops(network) == ["Transpose", "Relu", "Transpose", "MatMul", "Transpose"]


@pytest.mark.parametrize(
    ("before", "place", "after", "expected"),
    [
        ((7, 4, 5), Place(0), (28, 5), Place(0, inner=(4, 4, 4))),
        ((4, 7, 5), Place(1), (28, 5), Place(0, outer=(4, 4, 4))),
        ((2, 7, 3, 5), Place(1), (42, 5), Place(0, outer=(2, 2, 2), inner=(3, 3, 3))),
        ((28, 5), Place(0, inner=(4, 4, 4)), (7, 2, 10), Place(0)),
        ((28, 5), Place(0, outer=(4, 4, 4)), (2, 2, 7, 5), Place(2)),
    ],
)
def test_place_after_reshape(before, place, after, expected):
    sizes = ([(d,) * 3 for d in shape] for shape in (before, after))
    first, second = sizes
    assert place_after_reshape(first, place, second, (7,) * 3) == expected


def test_a_batch_in_two_axes_has_no_place():
    with pytest.raises(UnfitError):
        place_after_reshape([(6,) * 3, (5,) * 3], Place(0), [(2,) * 3, (15,) * 3], (6,) * 3)
