"""ConstantsAfterLayers: a layer that reads spikes and a constant reads the spikes; its neurons know the constant."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import pytest

from csscc.passes.canonical.load import load
from csscc.passes.convert.constants_after_layers import ConstantsAfterLayers
from csscc.passes.convert.rescale import Rescale
from csscc.pipeline import canonical
from tests.helpers import assert_same_network, error, ops, parse, spiking

HEAD = "g (float[N,3,6,6] x) => (float[a,b,c,d] y)"
WEIGHTS = (
    "<float[4,3,3,3] W, float[4] b, float[4,4,3,3] A, float[4,1,3,3] D, float[4,4,1,1] V, float[4] s, float[4] t, "
    "float[4] m, float[4] var, float[4,1,1] c>"
)
NORMALISED = "h = Conv(x, W, b) r = Relu(h) n = BatchNormalization(r, s, t, m, var)"


@pytest.mark.parametrize(
    "body",
    [
        f"{NORMALISED} k = Conv <pads = [1,1,1,1]> (n, A, b) q = Relu(k) y = Conv(q, V)",
        f"{NORMALISED} k = Conv <pads = [1,0,1,0], group = 4, strides = [2,1]> (n, D) q = Relu(k) y = Conv(q, V)",
        "h = Conv(x, W, b) r = Relu(h) n = Sub(r, c) k = Conv <pads = [1,1,1,1]> (n, A) l = Conv <pads = [1,1,1,1]> (n, D0) "
        "o = Add(k, l) q = Relu(o) y = Conv(q, V)",
    ],
    ids=["batch norm", "depthwise", "two readers"],
)
def test_the_constant_goes_behind(body):
    model = parse(f"{HEAD} {WEIGHTS[:-1]}, float[4,4,3,3] D0> {{ {body} }}")
    network = canonical(model)
    assert "Linear" not in ops(network)
    assert_same_network(model, network)
    assert ConstantsAfterLayers().apply(network) == 0
    assert error(model, spiking(model, None, Rescale()))["y"] < 0.05


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, W, b) n = Add(h, c) r = Relu(n) k = Conv(r, A) y = Relu(k)",
        "h = Conv(x, W, b) r = Relu(h) n = Add(r, c) k = Conv <pads = [1,1,1,1]> (n, A) o = Mul(n, k) y = Conv(o, V)",
        "h = Conv(x, W, b) r = Relu(h) n = Add(r, h) k = Conv <pads = [1,1,1,1]> (n, A) y = Conv(k, V)",
        "h = Conv(x, W, b) k = Conv(h, V) n = Add(k, c) y = Conv <pads = [1,1,1,1]> (n, A)",
        "h = Conv(x, W, b) r = Relu(h) n = Add(r, c) m0 = MatMul(n, r) y = Conv(m0, V)",
    ],
    ids=["a neuron reads it", "another reader", "no constant", "of a current", "a product of two"],
)
def test_declines(body):
    network = load(parse(f"{HEAD} {WEIGHTS} {{ {body} }}"))
    before = ops(network)
    assert ConstantsAfterLayers().apply(network) == 0
    assert ops(network) == before
