"""KnownSizes: what is read off the shapes of core tensors becomes constant, or is read off the inputs."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.known_sizes import KnownSizes, expand_target, reshape_target
from csscc.passes.canonical.sizes import BATCHES, divided, is_constant, sizes_of, times
from tests.helpers import assert_equal_outputs, assert_same_network, network_of, ops, parse, run, settles

NUMBERS = "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] eight = {8}, int64[1] rest = {-1}, float half = {0.5}"
CORE = "g (float[N,S,6] x) => (float[N,S,5] y) <float[6,8] W, float[8,5] U, NUMBERS> { h = MatMul(x, W) n = Shape(h) b = Gather(n, zero) l = Gather(n, one) BODY y = MatMul(r, U) }"


def model_of(body: str, inputs: str = "float[N,S,6] x"):
    return parse(CORE.replace("float[N,S,6] x", inputs).replace("NUMBERS", NUMBERS).replace("BODY", body))


CASES = {
    "reshape": (
        "t = Concat <axis = 0> (b, l, two, rest) a = Reshape(h, t) c = Relu(a) u = Concat <axis = 0> (b, l, eight) r = Reshape(c, u)",
        ["MatMul", "Reshape", "Relu", "Reshape", "MatMul"],
    ),
    "slice of all": ("c = Relu(h) r = Slice(c, zero, l, one)", ["MatMul", "Relu", "MatMul"]),
    "scale": (
        "m = Shape <start = -1> (h) f = Cast <to = 1> (m) q = Sqrt(f) c = Div(h, q) r = Relu(c)",
        ["MatMul", "Div", "Relu", "MatMul"],
    ),
    "where": (
        "t = Concat <axis = 0> (b, rest, rest) s = Shape(t) o = ConstantOfShape(s) d = Equal(t, rest) t2 = Where(d, l, t) c = Relu(h) u = Concat <axis = 0> (b, l, eight) r = Reshape(c, u)",
        ["MatMul", "Relu", "Reshape", "MatMul"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fires(name):
    body, left = CASES[name]
    model = model_of(body)
    network = network_of(model)
    assert settles(KnownSizes(), network)
    assert ops(network) == left
    for batch, length in ((1, 4), (3, 70), (5, 1)):
        feeds = {"x": np.random.default_rng(0).standard_normal((batch, length, 6)).astype(np.float32)}
        assert_equal_outputs(run(model, feeds), run(export_model(network), feeds))


def test_a_class_token_is_repeated_as_the_input_states():
    model = parse(
        f"g (float[N,3,6] x) => (float[N,4,5] y) <float[6,8] W, float[8,5] U, float[1,1,8] k, int64[2] row = {{1, 8}}, {NUMBERS}> {{ h = MatMul(x, W) n = Shape(h) b = Gather(n, zero) t = Concat <axis = 0> (b, row) e = Expand(k, t) r = Concat <axis = 1> (e, h) y = MatMul(r, U) }}"
    )
    network = network_of(model)
    assert settles(KnownSizes(), network)
    (shape,) = (n for n in network.graph.nodes if n.op == "Shape")
    assert shape.inputs[0].name == "x"
    for batch in (1, 3, 5):
        assert_same_network(model, network, batch=batch)


def test_products_of_free_sizes():
    model = parse(
        f"g (float[N,S,6] x) => (float[M,5] y) <float[6,8] W, float[8,5] U, {NUMBERS}> {{ h = MatMul(x, W) n = Shape(h) b = Gather(n, zero) l = Gather(n, one) m = Mul(b, l) m2 = Mul(m, two) half_row = Div(eight, two) t = Concat <axis = 0> (m2, half_row) a = Reshape(h, t) c = Relu(a) v = Concat <axis = 0> (m, eight) r = Reshape(c, v) y = MatMul(r, U) }}"
    )
    network = network_of(model)
    assert KnownSizes().apply(network)
    assert all(n.inputs[0].name == "x" for n in network.graph.nodes if n.op == "Shape")
    feeds = {"x": np.ones((3, 7, 6), np.float32)}
    assert_equal_outputs(run(model, feeds), run(export_model(network), feeds))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,4] x) => (float[M,2] y) <float[4,4] W, int64[1] two = {2}, int64[1] rest = {-1}> { h = MatMul(x, W) t = Concat <axis = 0> (rest, two) y = Reshape(h, t) }",
        "g (float[N,4] x, int64[2] t) => (float[M,K] y) <float[4,4] W, float[K2,4] V> { h = MatMul(x, W) a = Reshape(h, t) y = Relu(a) }".replace(", float[K2,4] V", ""),
    ],
    ids=["no size of the core", "sizes given as an input"],
)  # fmt: skip
def test_declines(text):
    network = network_of(parse(text))
    before = ops(network)
    assert KnownSizes().apply(network) == 0
    assert ops(network) == before


def test_sizes_follow_strides_and_hold_out():
    model = parse(
        "g (float[N,3,H,W] x) => (float[N,4,A,B] y) <float[4,3,3,3] K> { y = Conv <strides = [8, 8], pads = [1,1,1,1]> (x, K) }"
    )
    sizes = sizes_of(network_of(model).graph)
    graph = network_of(model).graph
    batch, channels, height, width = sizes.shape(graph.outputs[0])
    assert (batch, channels) == (BATCHES, (4, 4, 4))
    assert not is_constant(height)
    assert height != width


def test_inputs_of_one_length_by_their_axes():
    model = parse("g (float[a,b] x, float[c,d] z) => (float[e,f] y) { y = Add(x, z) }")
    network = network_of(model)
    sizes = sizes_of(network.graph)
    assert sizes.shape(network.graph.outputs[0]) is not None


def test_arithmetic_of_sizes():
    batch = BATCHES
    assert divided(times(batch, (4, 4, 4)), batch) == (4, 4, 4)
    assert divided((4, 4, 4), batch) is None
    assert times() == (1, 1, 1)


LENGTH = (61, 149, 17)


@pytest.mark.parametrize(
    ("before", "after", "target"),
    [
        ([BATCHES, (8,) * 3], [BATCHES, (2,) * 3, (4,) * 3], [-1, 2, 4]),
        ([BATCHES, LENGTH, (8,) * 3], [BATCHES, LENGTH, (2,) * 3, (4,) * 3], [0, 0, 2, 4]),
        ([BATCHES, (2,) * 3, LENGTH, (4,) * 3], [BATCHES, LENGTH, (8,) * 3], [0, -1, 8]),
        ([BATCHES, LENGTH, LENGTH], [BATCHES, (1,) * 3, LENGTH, LENGTH], [0, 1, 0, -1]),
        ([BATCHES, LENGTH, (4,) * 3, LENGTH], [BATCHES, (4,) * 3, LENGTH, (1,) * 3, LENGTH], None),
    ],
)  # fmt: skip
def test_reshape_target(before, after, target):
    assert reshape_target(before, after) == target


def test_expand_target():
    assert expand_target([BATCHES, (1,) * 3, LENGTH], [BATCHES, (5,) * 3, LENGTH]) == [1, 5, 1]
    assert expand_target([BATCHES, (1,) * 3], [BATCHES, LENGTH]) is None


@pytest.mark.parametrize(("rows", "found"), [("nine", "sizes"), ("twice", "scales"), ("plus", "")])
def test_a_resize_to_sizes_of_a_free_batch_states_those_of_its_maps(rows, found):
    """Rows that are always nine, or twice those before; one more is no constant."""
    text = """
    g (float[N,3,H,6] x) => (float[N,2,I,5] y) <float[2,3,1,1] W, float[2,2,1,1] U, int64[1] two = {2}, int64[1] one = {1}, int64[1] nine = {9}, int64[1] five = {5}>
    { h = Conv(x, W) b = Shape <end = 1> (h) c = Shape <start = 1, end = 2> (h) i = Shape <start = 2, end = 3> (h)
      twice = Mul(i, two) plus = Add(i, one) t = Concat <axis = 0> (b, c, ROWS, WIDTH) e = Resize (h, , , t) r = Relu(e) y = Conv(r, U) }
    """
    width = {"nine": "five", "twice": "six", "plus": "five"}[rows]
    model = parse(text.replace("ROWS", rows).replace("WIDTH", width).replace("five = {5}>", "five = {5}, int64[1] six = {6}>"))
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_param = "V"
    network = network_of(model)
    assert settles(KnownSizes(), network)
    (resize,) = (n for n in network.graph.nodes if n.op == "Resize")
    constants = [index for index, t in enumerate(resize.inputs) if hasattr(t, "values")]
    assert constants == {"sizes": [3], "scales": [2], "": []}[found]
    for batch, height in ((1, 4), (3, 7)):
        feeds = {"x": np.random.default_rng(0).standard_normal((batch, 3, height, 6)).astype(np.float32)}
        assert_equal_outputs(run(model, feeds), run(export_model(network), feeds))
