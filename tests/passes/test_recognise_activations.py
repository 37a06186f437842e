"""Activations spelled in several nodes are recognised by what they compute."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.load import load
from csscc.passes.canonical.recognise_activations import RecogniseActivations
from csscc.runtime.session import Session

CONSTANTS = (
    "float half = {0.5}, float one = {1}, float root = {1.41421356}, float three = {3}, float six = {6}, "
    "float zero = {0}, float slope = {1.702}, float other = {1.1}"
)
SPELLINGS = {
    "Gelu": "d = Div(x, root) e = Erf(d) f = Add(e, one) m = Mul(x, f) y = Mul(m, half)",
    "Silu": "s = Sigmoid(x) y = Mul(s, x)",
    "QuickGelu": "m = Mul(x, slope) s = Sigmoid(m) y = Mul(x, s)",
    "HardSwish": "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    "Mish": "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
    "Relu": "y = Max(x, zero)",
}


def recognised(body: str, outputs: str = "float[N,7] y") -> tuple[int, list[str]]:
    text = f'<ir_version: 8, opset_import: ["": 20]> g (float[N,7] x) => ({outputs}) <{CONSTANTS}> {{ {body} }}'
    model = onnx.parser.parse_model(text)
    network = load(model)
    changed = RecogniseActivations().apply(network)
    x = 3 * np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    before, after = Session(model).run({"x": x}), Session(export_model(network)).run({"x": x})
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-5)
    assert RecogniseActivations().apply(network) == 0
    return changed, [n.op for n in network.graph.nodes]


@pytest.mark.parametrize("op", SPELLINGS)
def test_a_spelling_becomes_one_node(op: str) -> None:
    assert recognised(SPELLINGS[op]) == (1, [op])


def test_a_part_of_a_spelling_is_not_another_activation() -> None:
    body = "a = Add(x, three) b = Max(a, zero) c = Min(b, six) m = Mul(x, c) y = Div(m, six)"
    assert recognised(body) == (1, ["HardSwish"])


def test_a_function_that_is_almost_one_is_left_alone() -> None:
    assert recognised("s = Sigmoid(x) m = Mul(s, x) y = Mul(m, other)")[1] == ["Silu", "Mul"]
    assert recognised("m = Mul(x, other) s = Sigmoid(m) y = Mul(x, s)")[0] == 0


def test_a_tensor_in_between_that_others_read_stays() -> None:
    _, ops = recognised("s = Sigmoid(x) y = Mul(s, x) z = Neg(s)", "float[N,7] y, float[N,7] z")
    assert sorted(ops) == ["Neg", "Sigmoid", "Silu"]
