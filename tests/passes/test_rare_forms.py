"""Forms that few exporters write: behind the canonical passes the network computes what onnxruntime makes of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from csscc.dialect.adapter import export_model
from csscc.pipeline import canonical
from tests.helpers import assert_equal_outputs, assert_same_network, ops, parse, random_feeds, run

X4, WHOLE = "g (float[N,4] x) => (float[N,4] y)", "uint8 z = {0}, float s = {0.05}"
CASES = {
    "weights whose scale is computed from them": (
        f"{X4} <float[4,4] w, float[4,4] v, float n = {{127}}, int8 z = {{0}}> {{ a = Abs(w) "
        "m = ReduceMax <keepdims = 0> (a) s = Div(m, n) q = QuantizeLinear(w, s, z) d = DequantizeLinear(q, s, z) "
        "h = MatMul(x, d) r = Relu(h) y = MatMul(r, v) }"
    ),
    "a guard against NaN in front of an output": (
        "g (float[N,4] x) => (float[N,4] y, float[N,4] z) <float[4,4] w, float[4,4] v, float o = {0}> "
        "{ h = MatMul(x, w) p = Sigmoid(h) n = IsNaN(p) y = Where(n, o, p) z = MatMul(y, v) }"
    ),
    "whole numbers that move, and are an output's": (
        "g (float[N,4] x) => (float[N,2,2] y) <float[4,4] w, int64[3] t = {0,2,2}, uint8 z = {0}, float s = {0.05}> "
        "{ h = MatMul(x, w) r = Relu(h) q = QuantizeLinear(r, s, z) m = Reshape(q, t) y = DequantizeLinear(m, s, z) }"
    ),
    "whole numbers beside constants": (
        "g (float[N,4] x) => (float[N,4] y) <float[4,4] w, float[6,4] v, uint8[1,2] k = {3,7}, "
        "int64[1] one = {1}, int64[1] o = {0}, uint8 z = {0}, float s = {0.05}> { h = MatMul(x, w) r = Relu(h) "
        "q = QuantizeLinear(r, s, z) sh = Shape(q) n = Slice(sh, o, one) t = Concat <axis = 0> (n, one) "
        "kk = Tile(k, t) m = Concat <axis = 1> (q, kk) d = DequantizeLinear(m, s, z) y = MatMul(d, v) }"
    ),
    "two equal dequantisers of one tensor": (
        f"{X4} <float[4,4] w, float[4,4] u, float[4,4] v, {WHOLE}> {{ h = MatMul(x, w) r = Relu(h) "
        "q = QuantizeLinear(r, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(q, s, z) "
        "a = MatMul(d, u) b = MatMul(e, v) y = Add(a, b) }"
    ),
    "a quantiser between Max and Min": (
        f"{X4} <float[4,4] w, float[4,4] v, float s = {{8}}, float o = {{0}}, float k = {{15}}> {{ h = MatMul(x, w) "
        "a = Mul(h, s) b = Max(a, o) c = Min(b, k) d = Round(c) e = Div(d, s) y = MatMul(e, v) }"
    ),
    "a quantiser behind Relu and Min": (
        f"{X4} <float[4,4] w, float[4,4] v, float s = {{8}}, float k = {{15}}> {{ h = MatMul(x, w) "
        "a = Mul(h, s) b = Relu(a) c = Min(b, k) d = Round(c) e = Div(d, s) y = MatMul(e, v) }"
    ),
    "a sum over a diagonal": (
        "g (float[N,4,4] x) => (float[N,4] y) <float[4,4] w, float[4,4] v> "
        '{ h = MatMul(x, w) r = Relu(h) d = Einsum <equation = "nii->ni"> (r) y = MatMul(d, v) }'
    ),
    "a product of three": (
        f"{X4} <float[4,4] w, float[4,5] u, float[5,4] v> "
        '{ h = MatMul(x, w) r = Relu(h) t = Einsum <equation = "ni,ij,jk->nk"> (r, u, v) y = MatMul(t, w) }'
    ),
    "a sum of everything": (
        "g (float[2,4] x) => (float[2,4] y) <float[4,4] w, float[4,4] v> { h = MatMul(x, w) r = Relu(h) "
        'k = Einsum <equation = "ni,ni->"> (r, h) m = Mul(r, k) y = MatMul(m, v) }'
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_network_stays_what_it_is(case: str) -> None:
    model = parse(CASES[case])
    assert_same_network(model, canonical(model), rtol=1e-5)


def test_weights_with_a_computed_scale_are_floats() -> None:
    network = canonical(parse(CASES["weights whose scale is computed from them"]))
    assert ops(network) == ["MatMul", "Relu", "MatMul"]


def test_types_of_tensors_inside_that_nobody_knows_are_forgotten() -> None:
    model = parse(f"{X4} <float[4,4] w> {{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, w) }}")
    expected = run(model, random_feeds(model))
    model.graph.value_info.append(helper.make_tensor_value_info("r", 99, None))
    model.graph.value_info.append(onnx.ValueInfoProto(name="h"))
    assert_equal_outputs(expected, run(export_model(canonical(model)), random_feeds(model)))


def test_half_floats_inside_become_floats() -> None:
    """What is cast to 16 bits on the way is cast to 32."""
    model = parse(
        "g (float16[N,4] x) => (float16[N,4] y) <float[4,4] w> "
        "{ f = Cast <to = 1> (x) h = MatMul(f, w) r = Relu(h) c = Cast <to = 10> (r) y = Relu(c) }"
    )
    network = canonical(model)
    kinds = {a.i for n in export_model(network).graph.node if n.op_type == "Cast" for a in n.attribute}
    assert kinds <= {TensorProto.FLOAT, TensorProto.FLOAT16}
    feeds = {"x": np.random.default_rng(0).standard_normal((5, 4)).astype(np.float16)}
    assert_equal_outputs(run(model, feeds), run(export_model(network), feeds), rtol=1e-3, atol=1e-3)
