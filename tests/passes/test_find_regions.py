"""FindRegions: the role of every node, the borders of the core, and refusals by name."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import pytest

from csscc.errors import RefusedError, RefusedModelError
from csscc.passes.convert.find_regions import FindRegions, survey
from csscc.passes.linear.core import is_weighted
from tests.helpers import assert_same_network, network_of, parse, settles

PARTS = """
g (float[N,6,6,3] x) => (float[N,2] p, int64[N] k)
<float[5,3,3,3] W, float[5] b, float[20,2] V, float[3,1,1] mean, int64[2] rows = {-1, 20}>
{
  [layout] n = Transpose <perm = [0, 3, 1, 2]> (x)
  [centre] c = Sub(n, mean)
  [conv] h = Conv(c, W, b)
  [relu] r = Relu(h)
  [pool] q = AveragePool <kernel_shape = [2,2], strides = [2,2]> (r)
  [rows] f = Reshape(q, rows)
  [dense] y = MatMul(f, V)
  [soft] p = Softmax(y)
  [best] k = ArgMax <axis = 1, keepdims = 0> (p)
}
"""


def _regions(text, **options):
    network = network_of(parse(text, **options))
    count = FindRegions().apply(network)
    assert count == sum(r in ("weighted", "linear", "neuron") for r in network.regions.roles.values())
    return network.regions


def test_prologue_core_and_epilogue():
    regions = _regions(PARTS)
    assert regions.roles == {
        "layout": "prologue",
        "centre": "prologue",
        "conv": "weighted",
        "relu": "neuron",
        "pool": "linear",
        "rows": "linear",
        "dense": "weighted",
        "soft": "epilogue",
        "best": "epilogue",
    }
    assert regions.encoded == ["c"]
    assert regions.decoded == ["y"]
    assert regions.core_inputs == {"conv": [0], "relu": [0], "pool": [0], "rows": [0], "dense": [0]}


def test_it_changes_no_node():
    model = parse(PARTS)
    network = network_of(model)
    assert settles(FindRegions(), network)
    assert_same_network(model, network)


def test_a_tensor_inside_that_is_an_output_is_decoded_too():
    regions = _regions("""
    g (float[N,4] x) => (float[N,3] r, float[N,2] y) <float[4,3] W, float[3,2] V>
    { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }
    """)
    assert regions.decoded == ["r", "y"]


def test_two_inputs_are_two_encoders():
    regions = _regions("""
    g (float[N,4] a, float[N,4] b) => (float[N,3] y) <float[4,3] W>
    { p = MatMul(a, W) q = MatMul(b, W) y = Add(p, q) }
    """)
    assert regions.encoded == ["a", "b"]


def test_an_activation_behind_the_last_weights_is_epilogue():
    regions = _regions("g (float[N,4] x) => (float[N,3] y) <float[4,3] W> { h = MatMul(x, W) y = Relu(h) }")
    assert list(regions.roles.values()) == ["weighted", "epilogue"]
    assert regions.decoded == ["h"]


def test_an_analog_tensor_read_inside_is_encoded():
    regions = _regions("""
    g (float[N,4] x) => (float[N,4] y) <float[4,4] W, float[4,4] V>
    { h = MatMul(x, W) s = Add(h, x) r = Relu(s) y = MatMul(r, V) }
    """)
    assert regions.encoded == ["x"]


@pytest.mark.parametrize(
    ("body", "role"),
    [
        ("r = Mul(h, h)", "neuron"),
        ("r = Mul(h, c)", "linear"),
        ("r = Div(h, c)", "linear"),
        ("r = Max(h, g)", "neuron"),
        ("r = Add(h, g)", "linear"),
        ("r = Softmax(h)", "neuron"),
        ("r = Clip(h)", "neuron"),
    ],
)
def test_roles_of_arithmetic(body, role):
    regions = _regions(f"""
    g (float[N,4] x) => (float[N,2] y) <float[4,4] W, float[4,4] U, float[4,2] V, float[4] c>
    {{ h = MatMul(x, W) g = MatMul(x, U) [it] {body} y = MatMul(r, V) }}
    """)
    assert regions.roles["it"] == role


def test_all_offenders_are_named():
    model = parse("""
    g (float[N,4] x) => (float[N,2] y) <float[4,4] W, float[4,2] V>
    {
      h = MatMul(x, W)
      [rounds] a = Floor(h)
      [sine] b = Sin(a)
      [mixes] c = Softmax <axis = 0> (b)
      y = MatMul(c, V)
    }
    """)
    with pytest.raises(RefusedModelError) as refusal:
        FindRegions().apply(network_of(model))
    assert [o.node for o in refusal.value.offenders] == ["rounds", "sine", "mixes"]
    text = str(refusal.value)
    assert "Floor 'rounds', input Nx4" in text
    assert "neither linear nor an activation" in text
    assert "acts along the batch axis" in text
    assert "opset 20" in text
    assert all(o.advice for o in refusal.value.offenders)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("r = Clip(h, low)", "computed"),
        ("r = ReduceMax <keepdims = 1> (h, zero)", "reduces the batch axis"),
        ("m = ReduceMax <keepdims = 1> (h) r = Add(h, m)", "reduces the batch axis"),
        ("r = Transpose <perm = [1, 0]> (h)", "batch"),
        ("r = Div(c, h)", "division by a core tensor is not linear"),
        ("k = Cast <to = 7> (h) r = Cast <to = 1> (k)", "neither linear"),
    ],
)
def test_refusals(body, reason):
    model = parse(f"""
    g (float[4,4] x, float low) => (float[A,2] y) <float[4,4] W, float[4,2] V, float[4] c, int64[1] zero = {{0}}>
    {{ h = MatMul(x, W) {body} y = MatMul(r, V) }}
    """)
    with pytest.raises(RefusedModelError, match=reason):
        FindRegions().apply(network_of(model))


def test_a_second_output_that_is_read_is_refused():
    model = parse("""
    g (float[N,1,4,4] x) => (float[N,1,2,2] y, int64[N,1,2,2] where) <float[1,1,1,1] W, float[1,1,1,1] V>
    { h = Conv(x, W) m, i = MaxPool <kernel_shape = [2,2], strides = [2,2]> (h) y = Conv(m, V) where = Identity(i) }
    """)
    with pytest.raises(RefusedModelError, match="second output"):
        FindRegions().apply(network_of(model))


def test_nothing_to_convert():
    model = parse("g (float[N,4] x, float[4,4] W) => (float[N,4] y) { h = MatMul(x, W) y = Relu(h) }")
    with pytest.raises(RefusedError, match="no weighted layer"):
        FindRegions().apply(network_of(model))


def test_weighted_means_constant_weights_and_computed_data():
    network = network_of(
        parse("""
        g (float[N,4] x) => (float[N,4] y, float[N,4] z, float[N,4] w) <float[4,4] W>
        { y = MatMul(x, W) c = MatMul(W, W) z = MatMul(x, c) w = Mul(x, x) }
        """)
    )
    assert [is_weighted(n) for n in network.graph.nodes] == [True, False, False, False]


def test_survey_does_not_raise():
    network = network_of(
        parse(
            "g (float[N,4] x) => (float[N,2] y) <float[4,4] W, float[4,2] V> { h = MatMul(x, W) a = Sin(h) y = MatMul(a, V) }"
        )
    )
    regions, offenders = survey(network.graph)
    assert [o.op for o in offenders] == ["Sin"]
    assert len(regions.roles) == 3
