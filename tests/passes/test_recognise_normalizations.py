"""Normalisations spelled in several nodes are recognised by what they compute."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.passes.canonical.load import load
from csscc.passes.canonical.recognise_normalizations import RecogniseNormalizations
from csscc.runtime.session import Session
from tests.helpers import node_of

CONSTANTS = "float two = {{2}}, float one = {{1}}, float epsilon = {{{epsilon}}}, float half = {{0.5}}, "
CONSTANTS += "float[8] gamma = {{1,0.5,2,-1,1,1.5,0.25,3}}, float[8] beta = {{0,0.5,-2,1,0.1,0.2,0.3,0.4}}"
CENTRED = "m = ReduceMean <axes = [-1]> (x) d = Sub(x, m)"
SPELLINGS = {
    "PyTorch": (
        "LayerNormalization",
        f"{CENTRED} p = Pow(d, two) v = ReduceMean <axes = [-1]> (p) e = Add(v, epsilon) s = Sqrt(e) y = Div(d, s)",
    ),
    "axis from the front, square as a product, inverse root": (
        "LayerNormalization",
        "m = ReduceMean <axes = [2]> (x) d = Sub(x, m) p = Mul(d, d) v = ReduceMean <axes = [2]> (p) "
        "e = Add(epsilon, v) s = Sqrt(e) i = Reciprocal(s) y = Mul(i, d)",
    ),
    "PyTorch with scale and shift": (
        "LayerNormalization",
        f"{CENTRED} p = Pow(d, two) v = ReduceMean <axes = [-1]> (p) e = Add(v, epsilon) s = Sqrt(e) n = Div(d, s) "
        "k = Mul(n, gamma) y = Add(k, beta)",
    ),
    "TensorFlow": (
        "LayerNormalization",
        f"{CENTRED} p = Mul(d, d) v = ReduceMean <axes = [-1]> (p) e = Add(v, epsilon) s = Sqrt(e) i = Reciprocal(s) "
        "k = Mul(i, gamma) a = Mul(x, k) b = Mul(m, k) c = Sub(beta, b) y = Add(a, c)",
    ),
    "Llama": (
        "Rms",
        "p = Pow(x, two) v = ReduceMean <axes = [-1]> (p) e = Add(v, epsilon) s = Sqrt(e) i = Div(one, s) y = Mul(x, i)",
    ),
}


def recognised(body: str, epsilon: float = 1e-5):
    text = f"""<ir_version: 8, opset_import: ["": 13]> g (float[N,3,8] x) => (float[N,3,8] y)
    <{CONSTANTS.format(epsilon=epsilon)}> {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    network = load(model)
    FoldConstants().apply(network)
    changed = RecogniseNormalizations().apply(network)
    x = np.random.default_rng(0).standard_normal((5, 3, 8)) * np.array([1e-3, 0.1, 1, 1, 30])[:, None, None]
    x = (x + np.array([0, 0, 0, 2, -3])[:, None, None]).astype(np.float32)
    before, after = Session(model).run({"x": x})["y"], Session(export_model(network)).run({"x": x})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4)
    assert RecogniseNormalizations().apply(network) == 0
    return changed, network


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-12])
def test_a_spelling_becomes_one_node(name: str, epsilon: float) -> None:
    op, body = SPELLINGS[name]
    changed, network = recognised(body, epsilon)
    assert changed == 1
    assert [n.op for n in network.graph.nodes] == [op]
    if op == "LayerNormalization":
        assert node_of(network, op).attrs["epsilon"] == pytest.approx(epsilon, rel=0.01, abs=1e-11)


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean <axes = [1]> (x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean <axes = [1]> (p) e = Add(v, epsilon) s = Sqrt(e) y = Div(d, s)",
        f"{CENTRED} p = Pow(d, two) v = ReduceMean <axes = [-1]> (p) e = Add(v, epsilon) y = Div(d, e)",
        f"{CENTRED} y = Mul(d, half)",
    ],
    ids=["another axis", "no root", "only centred"],
)  # fmt: skip
def test_declines(body: str) -> None:
    assert recognised(body)[0] == 0


def test_a_shortcut_around_it_stays() -> None:
    _, body = SPELLINGS["PyTorch"]
    changed, network = recognised(body.replace("y = Div(d, s)", "n = Div(d, s) y = Add(n, x)"))
    assert changed == 1
    assert [n.op for n in network.graph.nodes] == ["LayerNormalization", "Add"]
