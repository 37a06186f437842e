"""verify_spiking: every rule of a spiking graph is broken once and noticed."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.verifier import verify_spiking
from csscc.errors import PassError, RefusedError
from csscc.passes.convert.rescale import Rescale
from csscc.passes.linear import LINEAR, WEIGHTED
from tests.helpers import network_of, node_of, parse, spiking

TEXT = """
g (float[N,4] x) => (float[N,2] y) <float[4,3] W, float[3] b, float[3,2] V>
{ h = Gemm(x, W, b) r = Relu(h) y = MatMul(r, V) }
"""


@pytest.fixture
def network():
    made = spiking(parse(TEXT), Coding(T=4), Rescale())
    verify_spiking(made, LINEAR, WEIGHTED)
    return made


def _broken(network, text):
    with pytest.raises(PassError, match=text):
        verify_spiking(network, LINEAR, WEIGHTED)


def test_an_ann_has_nothing_to_check():
    verify_spiking(network_of(parse(TEXT)), LINEAR, WEIGHTED)


def test_unknown_operator(network):
    node_of(network, "TSARelu").op = "TSANothing"
    _broken(network, "TSANothing, which is no csscc operator")


@pytest.mark.parametrize("op", ["TSARelu", "Encode", "Decode"])
@pytest.mark.parametrize("change", [lambda weights: weights[1:], lambda weights: [2 * w for w in weights]])
def test_another_coding(network, op, change):
    node = node_of(network, op)
    for name in {"weights", "thresholds"} & node.attrs.keys():
        node.attrs[name] = change(node.attrs[name])
    _broken(network, "have the weights")


def test_one_threshold_a_step(network):
    node = node_of(network, "TSARelu")
    node.attrs["thresholds"] = node.attrs["thresholds"][1:]
    with pytest.raises(RefusedError, match="3 thresholds for 4 steps"):
        verify_spiking(network, LINEAR, WEIGHTED)


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        ("merged", [4.0, 2.0, 1.0], "receives 3 steps as one and fires after 2"),
        ("reads", 3, "reads 3 steps as one, of 2 that it may"),
        ("reads", 0, "reads 0 steps"),
        ("sends", [2.0], "sends no train"),
        ("sends", [1.0] * 5, "sends no train"),
    ],
)
def test_an_unsound_schedule(network, attribute, value, text):
    node_of(network, "TSARelu").attrs[attribute] = value
    _broken(network, text)


def test_an_analog_operator_reads_spikes(network):
    node_of(network, "MatMul").op = "Sigmoid"
    _broken(network, "neither linear nor a neuron")


@pytest.mark.parametrize("between", ["Add", "MatMul"])
def test_weights_read_currents(network, between):
    matmul = node_of(network, "MatMul")
    current = gs.Variable("current", np.float32, ["N", 3])
    by = gs.Constant("by", np.ones((3, 3) if between == "MatMul" else (3,), np.float32))
    network.graph.nodes.append(gs.Node(between, "between", {}, [matmul.inputs[0], by], [current]))
    matmul.inputs[0] = current
    _broken(network, "has weights and reads currents, not spikes")


def test_analog_values_meet_spikes(network):
    gemm = node_of(network, "Gemm")
    stray = gs.Variable("stray", np.float32, ["N", 3])
    network.graph.inputs.append(stray)
    gemm.inputs[2] = stray
    _broken(network, "mixes spikes with analog values")


def test_a_neuron_reads_analog_values(network):
    node_of(network, "TSARelu").inputs[0] = network.graph.inputs[0]
    _broken(network, "reads analog values")


def test_a_decoder_reads_analog_values(network):
    node_of(network, "Decode").inputs[0] = network.graph.inputs[0]
    _broken(network, "reads analog values")


def test_spikes_are_encoded_again(network):
    spikes = node_of(network, "TSARelu").outputs[0]
    encode = node_of(network, "Encode")
    again = gs.Variable("again", np.float32)
    network.graph.nodes.append(
        gs.Node("Encode", "twice", dict(encode.attrs), [spikes, encode.inputs[1]], [again], "csscc")
    )
    _broken(network, "encodes spikes")


def test_an_output_is_not_decoded(network):
    network.graph.outputs.append(node_of(network, "TSARelu").outputs[0])
    _broken(network, "is not decoded")


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_an_amplitude_is_not_positive(network, value):
    network.amplitudes["r"] = np.array([1.0, value])
    _broken(network, "amplitude of 'r' is not positive")


def test_all_that_is_broken_is_listed(network):
    network.amplitudes["r"] = np.asarray(0.0)
    node_of(network, "TSARelu").attrs["reads"] = 0
    _broken(network, "(?s)reads 0 steps.*not positive")
