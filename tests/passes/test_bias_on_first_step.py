"""BiasOnFirstStep: constants move from the linear operators to the neurons."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.order import toposort
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from tests.helpers import check, error, initializer, names, node_of, parse, random_feeds, run, source_of, spiking

CODING = Coding(T=16)
HEAD = "g (float[N,3,8,8] x) => (float[A,B,C,D] y)"


def _moved(text, **options):
    """The network behind the pass, as near the ANN as before it."""
    model = parse(text)
    source = source_of(model, samples=16, seed=1)
    network = spiking(model, CODING, Rescale(), source=source, **options)
    before = error(model, network)
    count = BiasOnFirstStep().apply(network)
    second = BiasOnFirstStep().apply(network)
    assert second == 0
    check(network)
    assert names(network.graph.outputs) == ["y"]
    after = error(model, network)
    assert after["y"] < 0.01
    assert before["y"] < 0.01
    return network, count


def _neurons(network):
    return [n for n in network.graph.nodes if n.op.startswith("TSA")]


def _bias(neuron, index=1):
    return np.asarray(neuron.inputs[index].values, np.float64)


def test_the_bias_of_a_convolution():
    text = f"{HEAD} <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V, float[2] c> {{ h = Conv(x, W, b) r = Relu(h) y = Conv(r, V, c) }}"
    network, count = _moved(text)
    assert count == 2
    assert all(len(n.inputs) == 2 for n in network.graph.nodes if n.op == "Conv")
    (neuron,) = _neurons(network)
    wanted = initializer(parse(text), "b").reshape(5, 1, 1) / network.amplitudes["r"]
    np.testing.assert_allclose(_bias(neuron), wanted, rtol=1e-5)
    readout = node_of(network, "Decode")
    np.testing.assert_allclose(_bias(readout), initializer(parse(text), "c").reshape(2, 1, 1), rtol=1e-5)


def test_readouts_alone():
    text = f"{HEAD} <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V, float[2] c> {{ h = Conv(x, W, b) r = Relu(h) y = Conv(r, V, c) }}"
    network = spiking(parse(text), CODING, Rescale())
    assert BiasOnFirstStep(neurons=False).apply(network) == 1
    assert [len(n.inputs) for n in network.graph.nodes if n.op == "Conv"] == [3, 2]
    assert not np.any(_bias(_neurons(network)[0]))


def test_the_sum_is_the_same_in_float64():
    """A neuron's whole input: the bias once, or its T-th part weighted with q at each step."""
    text = f"{HEAD} <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V> {{ h = Conv(x, W, b) r = Relu(h) y = Conv(r, V) }}"
    parts = spiking(parse(text), CODING, Rescale())
    once = spiking(parse(text), CODING, Rescale(), BiasOnFirstStep())
    weights = 1.5 ** np.arange(15, -1, -1)
    (conv, *_) = (n for n in parts.graph.nodes if n.op == "Conv")
    np.testing.assert_allclose(
        np.asarray(conv.inputs[2].values, np.float64) * weights.sum(),
        _bias(_neurons(once)[0]).reshape(-1),
        rtol=1e-5,
    )


BODIES = {
    "two branches": "h = Conv(x, W, b) g = Conv(x, U, d) s = Add(h, g) r = Relu(s) y = Conv(r, V)",
    "difference": "h = Conv(x, W, b) g = Conv(x, U, d) s = Sub(h, g) r = Relu(s) y = Conv(r, V)",
    "added constant": "h = Conv(x, W, b) m = AveragePool <kernel_shape = [2,2]> (h) s = Add(c, m) r = Relu(s) y = Conv(r, V)",
    "constant minus": "h = Conv(x, W, b) m = AveragePool <kernel_shape = [2,2]> (h) s = Sub(c, m) r = Relu(s) y = Conv(r, V)",
    "average": "h = Conv(x, W, b) m = AveragePool <kernel_shape = [2,2]> (h) r = Relu(m) y = Conv(r, V)",
    "negated": "h = Conv(x, W, b) m = Neg(h) r = Relu(m) y = Conv(r, V)",
    "transposed": "h = Conv(x, W, b) t = Transpose <perm = [0,1,3,2]> (h) r = Relu(t) y = Conv(r, V)",
    "resized": 'h = Conv(x, W, b) t = Resize <mode = "linear"> (h, , scales) r = Relu(t) y = Conv(r, V)',
    "concatenated": "h = Conv(x, W, b) g = Conv(x, U, d) s = Concat <axis = 1> (h, g) r = Relu(s) y = Conv(r, V2)",
    "two inputs": "h = Conv(x, W, b) g = Conv(x, U, d) r = Max(h, g) y = Conv(r, V)",
    "sigmoid": "h = Conv(x, W, b) r = Sigmoid(h) y = Conv(r, V)",
}
WEIGHTS = "<float[5,3,3,3] W, float[5,3,3,3] U, float[5] b, float[5] d, float[5,1,1] c, float[2,5,1,1] V, float[2,10,1,1] V2, float[4] scales = {1,1,2,2}>"


@pytest.mark.parametrize("case", BODIES)
def test_a_constant_is_followed_to_its_neuron(case):
    network, count = _moved(f"{HEAD} {WEIGHTS} {{ {BODIES[case]} }}")
    (neuron,) = _neurons(network)
    assert count == (2 if case == "two inputs" else 1)
    for node in network.graph.nodes:
        if node.op == "Conv" and node.outputs[0].name != "y":
            assert len(node.inputs) == 2
        if node.op == "Add":
            assert not any(hasattr(t, "values") for t in node.inputs)
    assert np.any(_bias(neuron) != 0)


@pytest.mark.parametrize(
    "body",
    [
        # Padding brings in zeros where the constant should be.
        "h = Conv(x, W, b) m = Pad(h, pads) r = Relu(m) y = Conv(r, V)",
        "h = Conv(x, W, b) m = AveragePool <kernel_shape = [2,2], pads = [1,1,1,1], count_include_pad = 1> (h) r = Relu(m) y = Conv(r, V)",
    ],
)
def test_a_bias_that_must_stay_stays(body):
    text = f"{HEAD} <float[5,3,3,3] W, float[5] b, float[2,5,1,1] V, float[2] two, int64[8] pads = {{0,0,1,1,0,0,1,1}}> {{ {body} }}"
    model = parse(text)
    network = spiking(model, CODING, Rescale())
    before = export_model(network)
    assert BiasOnFirstStep().apply(network) == 0
    feeds = random_feeds(model)
    assert np.array_equal(run(before, feeds)["y"], run(export_model(network), feeds)["y"])


def test_a_second_reader_keeps_the_bias_where_it_is():
    model = parse(
        f"{HEAD} {WEIGHTS} {{ h = Conv(x, W, b) r = Relu(h) s = Neg(h) t = Relu(s) u = Add(r, t) v = Relu(u) y = Conv(v, V) }}"
    )
    network = spiking(model, CODING, Rescale(), source=source_of(model, samples=16, seed=1))
    BiasOnFirstStep().apply(network)
    assert error(model, network)["y"] < 0.01


@pytest.mark.parametrize(
    "body",
    [
        "h = Conv(x, W, b) s = Add(h, map) m = AveragePool <kernel_shape = [2,2]> (s) r = Relu(m) y = Conv(r, V)",
        "h = Conv(x, W, b) s = Add(h, map) g = Conv(x, U, d) m = Concat <axis = 1> (s, g) r = Relu(m) y = Conv(r, V2)",
        "h = Conv(x, W, b) s = Add(h, map) m = Resize(s, , scales) r = Relu(m) y = Conv(r, V)",
    ],
)
def test_a_constant_that_varies_over_space_is_left_where_it_cannot_pass(body):
    """The convolution's bias still moves; the map stays."""
    text = f"{HEAD} {WEIGHTS.replace('float[5,1,1] c', 'float[6,6] map')} {{ {body} }}"
    network, count = _moved(text)
    assert count == 1
    kept = [n for n in network.graph.nodes if n.op == "Add" and any(hasattr(t, "values") for t in n.inputs)]
    assert len(kept) == 1


def test_a_map_moves_where_nothing_mixes_it():
    text = f"{HEAD} {WEIGHTS.replace('float[5,1,1] c', 'float[6,6] map')} {{ h = Conv(x, W, b) s = Add(h, map) r = Relu(s) y = Conv(r, V) }}"
    network, count = _moved(text)
    assert count == 1
    assert _bias(_neurons(network)[0]).shape == (5, 6, 6)


def test_nothing_to_move():
    model = parse(f"{HEAD} {WEIGHTS} {{ h = Conv(x, W) r = Relu(h) y = Conv(r, V) }}")
    network = spiking(model, CODING, Rescale())
    assert BiasOnFirstStep().apply(network) == 0


def test_no_constant_behind_a_factor_that_a_concat_cannot_pass():
    """As rotary positions have it: factors that vary from head to head in front of halves that are joined."""
    text = """
    g (float[N,2,5,4] x) => (float[N,2,5,3] y) <float[4,4] W, float[4,3] V, int64[1] axis = {-1}>
    { h = MatMul(x, W) a, b = Split <axis = -1, num_outputs = 2> (h) c = Concat <axis = -1> (b, a) r = Relu(c) y = MatMul(r, V) }
    """
    network = spiking(parse(text), CODING, Rescale())
    joined = node_of(network, "Concat")
    for index, half in enumerate(joined.inputs):
        factors = gs.Constant(f"k{index}", np.float32([[[1, 2]], [[3, 4]]]))
        scaled = gs.Variable(f"scaled{index}", np.float32, half.shape)
        network.graph.nodes.append(gs.Node("Mul", inputs=[half, factors], outputs=[scaled]))
        joined.inputs[index] = scaled
    toposort(network.graph)
    assert BiasOnFirstStep().apply(network) == 0
    check(network)
