"""What exporters make: each shape of graph compiles, and agrees with the ANN in onnxruntime to 1 %."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import csscc
from csscc.errors import RefusedModelError
from csscc.io import weights
from tests.helpers import parse, random_feeds, rms, run

TOLERANCE = 0.01


def newest_opset() -> int:
    """The newest standard opset that the installed onnxruntime and onnx both read."""
    newest = 20
    for version in range(21, onnx.defs.onnx_opset_version() + 1):
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["": {version}]> g (float[1] x) => (float[1] y) {{ y = Relu(x) }}'
        )
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:
            return newest
        newest = version
    return newest


def compiled(model: onnx.ModelProto, *, batch: int = 48, **options: Any) -> csscc.SNN:
    """The spiking network, within 1 % of the ANN on every output over the calibration inputs."""
    feeds = random_feeds(model, batch=batch)
    snn = csscc.compile(model, calibration=feeds, T=18, check_samples=0, **options)
    expected, actual = run(model, feeds), run(snn.file, feeds)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        assert actual[name].dtype == value.dtype
        assert rms(actual[name].astype(np.float64) - value) <= TOLERANCE * rms(value), name
    return snn


def kinds(snn: csscc.SNN) -> list[str]:
    return [layer.kind for layer in snn.layers if layer.kind not in ("encoder", "readout")]


GRAPHS = {
    "NHWC with Transposes": """
        g (float[N,6,6,3] x) => (float[N,6,6,2] y) <float[4,3,3,3] W, float[2,4,1,1] V>
        { a = Transpose <perm = [0,3,1,2]> (x) h = Conv <pads = [1,1,1,1]> (a, W) b = Transpose <perm = [0,2,3,1]> (h)
          r = Relu(b) c = Transpose <perm = [0,3,1,2]> (r) k = Conv(c, V) y = Transpose <perm = [0,2,3,1]> (k) }""",
    "BatchNormalization as Mul and Add": """
        g (float[N,3,6,6] x) => (float[N,2,6,6] y) <float[4,3,3,3] W, float[4,1,1] vars, float[1,4,1,1] shift, float[2,4,1,1] V>
        { h = Conv <pads = [1,1,1,1]> (x, W) m = Mul(h, vars) a = Add(m, shift) r = Relu(a) y = Conv(r, V) }""",
    "MatMul and Add": """
        g (float[N,6] x) => (float[N,2] y) <float[6,5] W, float[5] b, float[5,2] V, float[2] c>
        { h = MatMul(x, W) a = Add(b, h) r = Relu(a) k = MatMul(r, V) y = Add(k, c) }""",
    "Gemm with transB, alpha and beta": """
        g (float[N,6] x) => (float[N,2] y) <float[5,6] W, float[1,5] b, float[5,2] V, float c>
        { h = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, W, b) r = Relu(h) y = Gemm <alpha = 1.5> (r, V, c) }""",
    "Constant nodes": """
        g (float[N,3] x) => (float[N,2] y) <float[3,2] V>
        { W = Constant <value = float[3,3] {1,-1,0.5, 0.25,1,-1, 0.5,0.5,1}> () s = Constant <value_float = 0.5> ()
          h = MatMul(x, W) m = Mul(h, s) r = Relu(m) y = MatMul(r, V) }""",
    "Shape, Gather and Concat": """
        g (float[N,3,4,4] x) => (float[N,5] y)
        <float[2,3,3,3] W, float[32,5] V, int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {-1}>
        { h = Conv <pads = [1,1,1,1]> (x, W) r = Relu(h) s = Shape(r) n = Gather(s, zero) u = Unsqueeze(n, axis)
          t = Concat <axis = 0> (u, rest) f = Reshape(r, t) y = MatMul(f, V) }""",
    "several inputs and outputs": """
        g (float[N,4] a, float[N,3,4,4] b) => (float[N,2] y, float[N,2,4,4] z, float[N,5] r)
        <float[4,5] U, float[2,3,1,1] W, float[5,2] V, float[2,2,1,1] K>
        { h = MatMul(a, U) r = Relu(h) c = Conv(b, W) q = Relu(c) z = Conv(q, K)
          axes = Constant <value = int64[2] {2, 3}> () p = ReduceMean <keepdims = 0> (q, axes)
          v = MatMul(r, V) y = Add(v, p) }""",
    "weights that two layers share": """
        g (float[N,4] x) => (float[N,4] y) <float[4,4] W, float[4] b>
        { h = Gemm(x, W, b) r = Relu(h) k = Gemm(r, W, b) s = Relu(k) y = Gemm <transB = 1> (s, W, b) }""",
    "a tensor that several layers read": """
        g (float[N,4] x) => (float[N,2] y) <float[4,5] U, float[5,2] V, float[5,2] W, float[5] b, float[2,2] E>
        { h = MatMul(x, U) r = Relu(h) p = MatMul(r, V) q = MatMul(r, W) s = Sigmoid(q) t = Mul(p, s) w = Add(r, b)
          k = MatMul(w, V) o = Add(t, k) y = MatMul(o, E) }""",
    "dead branches": """
        g (float[N,4] x) => (float[N,2] y) <float[4,5] U, float[5,2] V>
        { h = MatMul(x, U) r = Relu(h) dead = Sin(r) deader = MatMul(dead, V) y = MatMul(r, V) }""",
    "If with a constant condition": """
        g (float[N,4] x) => (float[N,2] y) <float[4,5] U, float[5,2] V, bool yes = {1}>
        { h = MatMul(x, U)
          r = If (yes) <then_branch = t () => (float[N,5] o) { a = Neg(h) o = Relu(a) },
                        else_branch = e () => (float[N,5] o) { o = Sin(h) }>
          y = MatMul(r, V) }""",
    "two If whose branches use the same names": """
        g (float[N,4] x) => (float[N,2] y) <float[4,5] U, float[5,5] K, float[5,2] V, int64 one = {1}, int64 five = {5}>
        { h = MatMul(x, U) s = Shape(h) n = Gather(s, one) c = Equal(n, five)
          r = If (c) <then_branch = t () => (float[N,5] o) { a = Neg(h) o = Relu(a) },
                      else_branch = e () => (float[N,5] o) { o = Sin(h) }>
          k = MatMul(r, K) d = Not(c)
          q = If (d) <then_branch = t () => (float[N,5] o) { o = Sin(k) },
                      else_branch = e () => (float[N,5] o) { a = Neg(k) o = Relu(a) }>
          y = MatMul(q, V) }""",
    "Resize to sizes computed from a shape": """
        g (float[N,3,8,8] x) => (float[N,2,8,8] y)
        <float[4,3,3,3] W, float[2,8,3,3] V, int64[1] zero = {0}, int64[1] two = {2}, int64 height = {2}, int64 width = {3}>
        { h = Conv <pads = [1,1,1,1]> (x, W) r = Relu(h) p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
          s = Shape(r) a = Gather(s, height) b = Gather(s, width) c = Unsqueeze(a, zero) d = Unsqueeze(b, zero)
          t = Shape(p) front = Slice(t, zero, two) sizes = Concat <axis = 0> (front, c, d)
          u = Resize <mode = "nearest"> (p, , , sizes) o = Concat <axis = 1> (u, r) y = Conv <pads = [1,1,1,1]> (o, V) }""",
    "LayerNormalization in primitive nodes": """
        g (float[N,5,6] x) => (float[N,5,3] y)
        <float[6,8] W, float[8] scale, float[8] shift, float[8,3] V, float two = {2}, float eps = {0.00001}, int64[1] last = {-1}>
        { h = MatMul(x, W) m = ReduceMean(h, last) d = Sub(h, m) p = Pow(d, two) v = ReduceMean(p, last) e = Add(v, eps)
          s = Sqrt(e) n = Div(d, s) k = Mul(n, scale) b = Add(k, shift) y = MatMul(b, V) }""",
}
VIT = """
g (float[{batch},3,8,8] x) => (float[{batch},5] y)
<float[16,3,4,4] Wp, float[16] bp, float[1,1,16] token, float[1,5,16] position, float[16] g, float[16] b,
 float[16,16] Wq, float[16,16] Wk, float[16,16] Wv, float[16,16] Wo, float[16,32] W1, float[32] b1, float[32,16] W2,
 float[16,5] Wh, float[5] bh, int64[3] patches = {{{patches},16,-1}}, int64[2] one = {{1,16}}, int64 first = {{0}}, float share = {{0.25}}>
{{ p = Conv <strides = [4,4]> (x, Wp, bp) f = Reshape(p, patches) t = Transpose <perm = [0,2,1]> (f)
  {token} c = Concat <axis = 1> (e, t) z = Add(c, position) n = LayerNormalization(z, g, b)
  q = MatMul(n, Wq) k = MatMul(n, Wk) v = MatMul(n, Wv) {attention} o = MatMul(a, Wo) r = Add(o, z)
  n2 = LayerNormalization(r, g, b) m1 = MatMul(n2, W1) m2 = Add(m1, b1) m3 = Gelu(m2) m4 = MatMul(m3, W2) r2 = Add(m4, r)
  n3 = LayerNormalization(r2, g, b) h = Gather <axis = 1> (n3, first) y = Gemm(h, Wh, bh) }}"""
FREE = {
    "batch": "N",
    "patches": "0",
    "token": "s = Shape <start = 0, end = 1> (x) d = Concat <axis = 0> (s, one) e = Expand(token, d)",
}
FIXED = {"batch": "1", "patches": "1", "token": "e = Identity(token)"}
PRIMITIVE = """kt = Transpose <perm = [0,2,1]> (k) s1 = MatMul(q, kt) s2 = Mul(s1, share) sm = Softmax <axis = -1> (s2)
  a = MatMul(sm, v)"""
NORMALISED = """
g (float[N,3,6,6] x) => (float[N,4,6,6] y) <float[4,3,3,3] W, float[4] scale, float[4] shift, float[4,4,1,1] V>
{ h = Conv <pads = [1,1,1,1]> (x, W) n = GroupNormalization <num_groups = 2, epsilon = 0.001> (h, scale, shift)
  r = Relu(n) y = Conv(r, V) }"""
NEWEST = """
g (float[N,5,8] x) => (float[N,5,3] y) <float[8,8] W, float[8] scale, float[8,8] U, float[8,3] V>
{ h = MatMul(x, W) n = RMSNormalization(h, scale) k = MatMul(n, U) s = Swish(k) y = MatMul(s, V) }"""


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_compiles_for_any_batch(name: str) -> None:
    snn = compiled(parse(GRAPHS[name]))
    for size in (1, 5):
        feeds = random_feeds(snn.model, batch=size)
        assert all(len(v) == size for v in run(snn.file, feeds).values())


@pytest.mark.parametrize("how", [FREE, FIXED], ids=["free batch", "batch of one"])
@pytest.mark.parametrize(
    ("attention", "opset"),
    [(PRIMITIVE, 20), ("a = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)", 23)],
    ids=["primitive nodes", "Attention"],
)
def test_a_vision_transformer(how: dict[str, str], attention: str, opset: int) -> None:
    if opset > newest_opset():
        pytest.skip(f"onnxruntime reads no opset {opset}")
    model = parse(VIT.format(attention=attention, **how), opset=opset)
    x = np.random.default_rng(5).standard_normal((32, 3, 8, 8)).astype(np.float32)
    size = 32 if how is FREE else 1
    expected = np.concatenate([run(model, {"x": x[i : i + size]})["y"] for i in range(0, 32, size)])
    snn = csscc.compile(model, calibration=x, T=18)
    assert rms(snn.run(x) - expected) <= TOLERANCE * rms(expected)


@pytest.mark.parametrize(("text", "opset"), [(NORMALISED, 21), (NEWEST, 24)])
def test_operators_of_newer_opsets(text: str, opset: int) -> None:
    if opset > newest_opset():
        pytest.skip(f"onnxruntime reads no opset {opset}")
    compiled(parse(text, opset=opset))


def test_a_batch_that_cannot_be_freed() -> None:
    """The output has no batch axis; every pass must run on batches of the exported size."""
    model = parse("""
        g (float[3,4] x) => (float[2] y) <float[4,5] W, float[3,5] slopes, float[5,2] V, int64[1] zero = {0}>
        { h = MatMul(x, W) r = PRelu(h, slopes) k = MatMul(r, V) y = ReduceMean <keepdims = 0> (k, zero) }""")
    x = np.random.default_rng(3).standard_normal((24, 4)).astype(np.float32)
    snn = csscc.compile(model, calibration=x, T=18)
    for i in range(0, 24, 3):
        expected = run(model, {"x": x[i : i + 3]})["y"]
        assert rms(snn.run(x[i : i + 3]) - expected) <= TOLERANCE * rms(expected)


CORE = """
g (float[N,3,6,6] x) => (float[N,3,6,6] y) <float[{channels},3,3,3] W, float[3,3,3,3] K, float[3,3,1,1] V,
  float half = {{0.5}}, float zero = {{0}}, float slope = {{0.1}}, float[3,1,1] c, float[1,3,1,1] var4, float[6] row, float[3,6,6] map>
{{ h = Conv <pads = [1,1,1,1]> (x, W) k = Conv <pads = [1,1,1,1]> (x, K) {body} y = Conv(r, V) }}"""
OPERANDS = {
    "r = Max(h, half)": ["Clip"],
    "r = Max(c, h)": ["AtLeast"],
    "r = Min(h, var4)": ["AtMost"],
    "r = Max(h, half, c)": ["AtLeast"],
    "n = Neg(h) r = Max(h, c, n, k)": ["Linear", "Max", "Max", "AtLeast"],
    "n = Neg(h) r = Min(h, n, k)": ["Linear", "Min", "Min"],
    "r = Mean(h, k)": ["Linear"],
    "r = Sum(h, k, c)": ["Linear"],
    "a = Relu(h) r = Min(a, half)": ["Clip"],
    "a = Mul(h, slope) r = Max(a, h)": ["LeakyRelu"],
    "a = Mul(h, slope) g = Greater(h, zero) r = Where(g, h, a)": ["LeakyRelu"],
    "g = LessOrEqual(h, zero) r = Where(g, zero, h)": ["Relu"],
    "t = Sigmoid(h) a = Add(t, half) r = Div(c, a)": ["Sigmoid", "DividedInto"],
    "t = Tanh(h) r = Pow(half, t)": ["Tanh", "PowerOf"],
    "r = PRelu(h, c)": ["PRelu"],
    "r = PRelu(h, var4)": ["PRelu"],
    "r = PRelu(h, slope)": ["PRelu"],
    "r = PRelu(h, row)": ["PRelu"],
    "r = PRelu(h, map)": ["PRelu"],
}
REPEATED = {
    "r = Add(h, c)": ["Linear", "Linear"],
    "r = Sub(c, h)": ["Linear", "Linear"],
    "r = Mul(h, var4)": ["Linear"],
    "r = Max(h, c)": ["AtLeast"],
    "r = Max(k, h)": ["Linear", "Max"],
    "r = Add(h, k)": ["Linear", "Linear"],
    "r = Mul(h, k)": ["Mul"],
}


@pytest.mark.parametrize("body", OPERANDS)
def test_operands(body: str) -> None:
    assert kinds(compiled(parse(CORE.format(channels=3, body=body)))) == OPERANDS[body]


@pytest.mark.parametrize("body", REPEATED)
def test_operands_that_are_repeated_along_the_channels(body: str) -> None:
    assert kinds(compiled(parse(CORE.format(channels=1, body=body)))) == REPEATED[body]


IF = """
g (float[N,4] x) => (float[N,5] y) <float[4,5] U, float[5,5] V, float edge>
{{ h = MatMul(x, U) s = ReduceSum <keepdims = 0> (x) c = Greater(s, edge)
  r = If (c) <then_branch = t () => (float[N,5] o) {{ o = Relu(h) }}, else_branch = e () => (float[N,5] p) {{ p = Neg(h) }}>
  {rest} }}"""


def test_a_computed_condition_between_layers_is_refused() -> None:
    """The branches read what is spiking, though the If has no such input."""
    with pytest.raises(RefusedModelError, match=r"If 'If_\d'.*control flow") as refusal:
        csscc.compile(parse(IF.format(rest="y = MatMul(r, V)")), T=4)
    assert len(refusal.value.offenders) == 1


@pytest.mark.parametrize("edge", [-1e6, 1e6])
def test_a_computed_condition_behind_the_last_layer_stays(edge: float) -> None:
    compiled(parse(IF.format(rest="y = Add(r, h)"), edge=edge))


def across_opsets(opset: int) -> onnx.ModelProto:
    """Operators whose attributes became inputs, or whose meaning changed, between opsets 7 and 20."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["a", *"gbmv"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Clip", ["e"], ["f"], min=0.0, max=2.0)
        if opset < 11
        else helper.make_node("Clip", ["e", "low", "high"], ["f"]),
        helper.make_node("Dropout", ["f"], ["i"]),
        helper.make_node("Pad", ["i"], ["j"], pads=[0, 0, 1, 1, 0, 0, 0, 0])
        if opset < 11
        else helper.make_node("Pad", ["i", "pads"], ["j"]),
        helper.make_node("Slice", ["j"], ["k"], starts=[1], ends=[4], axes=[2])
        if opset < 10
        else helper.make_node("Slice", ["j", "one", "four", "two"], ["k"]),
        helper.make_node("GlobalAveragePool", ["k"], ["p"]),
        helper.make_node("ReduceMax", ["k"], ["t"], axes=[3], keepdims=1)
        if opset < 18
        else helper.make_node("ReduceMax", ["k", "three"], ["t"], keepdims=1),
        helper.make_node("Flatten", ["t"], ["q"]),
        helper.make_node("Squeeze", ["p"], ["s"], axes=[2, 3])
        if opset < 13
        else helper.make_node("Squeeze", ["p", "spatial"], ["s"]),
        helper.make_node("Gemm", ["q", "u", "z"], ["r"], transB=1),
        helper.make_node("LeakyRelu", ["r"], ["l"], alpha=0.1),
        helper.make_node("Concat", ["l", "s"], ["o"], axis=1),
        helper.make_node("MatMul", ["o", "last"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    arrays = {
        "w": rng.normal(0, 0.3, (4, 3, 3, 3)),
        "u": rng.normal(0, 0.3, (6, 12)),
        "z": rng.normal(0, 0.3, 6),
        "last": rng.normal(0, 0.4, (10, 5)),
        **{k: rng.uniform(0.5, 1.5, 4) for k in "gbmv"},
        "low": np.array(0.0),
        "high": np.array(2.0),
    }
    constants = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in arrays.items()]
    integers = {"one": [1], "two": [2], "three": [3], "four": [4], "spatial": [2, 3], "pads": [0, 0, 1, 1, 0, 0, 0, 0]}
    constants += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in integers.items()]
    read = {i for n in nodes for i in n.input}
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 6, 6]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5]),
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [c for c in constants if c.name in read])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


@pytest.mark.parametrize("opset", range(7, newest_opset() + 1))
def test_every_opset_that_onnxruntime_reads(opset: int) -> None:
    snn = compiled(across_opsets(opset), adjust=False)
    assert {o.domain: o.version for o in snn.model.opset_import}[""] == max(20, opset)


def test_a_batch_of_one_in_a_reshape() -> None:
    model = parse("""
        g (float[1,2,4,4] x) => (float[1,3] y) <float[2,2,3,3] W, float[32,3] V, int64[2] rows = {1, 32}>
        { h = Conv <pads = [1,1,1,1]> (x, W) r = Relu(h) f = Reshape(r, rows) y = MatMul(f, V) }""")
    x = np.random.default_rng(3).standard_normal((32, 2, 4, 4)).astype(np.float32)
    snn = csscc.compile(model, calibration=x, T=18)
    expected = np.concatenate([run(model, {"x": v[None]})["y"] for v in x])
    assert rms(snn.run(x) - expected) <= TOLERANCE * rms(expected)


def test_initializers_listed_as_inputs() -> None:
    model = across_opsets(8)
    expected = compiled(model).run(random_feeds(model, batch=48)["x"])
    listed = onnx.ModelProto()
    listed.CopyFrom(model)
    listed.ir_version = 3
    for tensor in listed.graph.initializer:
        listed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    snn = csscc.compile(listed, calibration=random_feeds(model, batch=48), T=18)
    assert [i.name for i in snn.model.graph.input] == ["x"]
    np.testing.assert_array_equal(snn.run(random_feeds(model, batch=48)["x"]), expected)


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_weights_of_other_precisions(kind: str) -> None:
    """The ANN is that with the same weights in float32, since onnxruntime lacks kernels for some."""
    plain = parse(GRAPHS["several inputs and outputs"])
    other = onnx.ModelProto()
    other.CopyFrom(plain)
    code = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(code)
    for ours, theirs in zip(plain.graph.initializer, other.graph.initializer, strict=True):
        if ours.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(ours).astype(dtype)
            theirs.CopyFrom(numpy_helper.from_array(values, ours.name))
            ours.CopyFrom(numpy_helper.from_array(values.astype(np.float32), ours.name))
    for value in (*other.graph.input, *other.graph.output):
        value.type.tensor_type.elem_type = code
    border = np.float32 if kind == "BFLOAT16" else dtype
    feeds = {n: v.astype(border) for n, v in random_feeds(plain, batch=48).items()}
    expected = run(plain, {n: v.astype(np.float32) for n, v in feeds.items()})
    snn = csscc.compile(other, calibration=feeds, T=18)
    for name, value in snn.run(feeds).items():
        assert value.dtype == border
        assert rms(value.astype(np.float64) - expected[name]) <= TOLERANCE * rms(expected[name])


def test_weights_in_another_file(tmp_path: Path) -> None:
    model = across_opsets(17)
    x = random_feeds(model, batch=32)["x"]
    whole = csscc.compile(model, calibration=x, T=8)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.weights", size_threshold=0)
    parts = csscc.compile(path, calibration=x, T=8)
    parts.save(tmp_path / "snn.onnx")
    (tmp_path / "net.weights").unlink()
    np.testing.assert_array_equal(csscc.load(tmp_path / "snn.onnx").run(x), whole.run(x))


def test_a_network_that_grows_too_large_for_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Layers that share weights get their own, so the spiking network may be larger than the ANN."""
    model = parse(GRAPHS["weights that two layers share"])
    x = random_feeds(model, batch=32)
    whole = csscc.compile(model, calibration=x, T=8)
    monkeypatch.setattr(weights, "MAX_BYTES", 100)
    monkeypatch.setattr(weights, "LARGE", 4)
    csscc.compile(model, calibration=x, T=8).save(tmp_path / "snn.onnx")
    assert len(list(tmp_path.glob("snn.onnx.*.data"))) == 1
    np.testing.assert_array_equal(csscc.load(tmp_path / "snn.onnx").run(x), whole.run(x))
