"""The adapter: import and export lose nothing that matters; names; shapes."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model, import_model, infer_shapes, single_node_model
from csscc.dialect.rewrite import constant_tensor, insert_node, only_reader, set_constant, unique_name
from csscc.errors import RefusedError
from tests.helpers import (
    assert_equal_outputs,
    assert_same_network,
    network_of,
    node_of,
    parse,
    random_feeds,
    run,
    spiking,
)

TEXT = """
g (float[N,3,8,8] x) => (float[N,5,8,8] y, float[N,5,8,8] h) <float[5,3,3,3] W, float[5] b>
{ [conv] h = Conv <pads = [1,1,1,1]> (x, W, b) [relu] y = Relu(h) }
"""
BIG = "g (float[N,64] x) => (float[N,2] y) <float[64,64] W, float[64,2] V> { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }"


def test_there_and_back():
    model = parse(TEXT)
    assert_same_network(model, import_model(model))


def test_metadata_of_model_and_nodes_comes_back():
    model = parse(TEXT)
    onnx.helper.set_model_props(model, {"author": "someone", "labels": "a,b"})
    model.graph.node[0].metadata_props.add(key="layer", value="first")
    exported = export_model(import_model(model))
    assert {p.key: p.value for p in exported.metadata_props} == {"author": "someone", "labels": "a,b"}
    (conv,) = (n for n in exported.graph.node if n.name == "conv")
    assert {p.key: p.value for p in conv.metadata_props} == {"layer": "first"}


def test_node_names_are_made_unique():
    model = parse(
        "g (float[N,4] x) => (float[N,4] y) { [same] a = Relu(x) [same] b = Neg(a) c = Relu(b) [same] y = Neg(c) }"
    )
    names = [n.name for n in import_model(model).graph.nodes]
    assert len(set(names)) == 4
    assert all(names)
    assert names[0] == "same"
    for node in model.graph.node:
        node.name = ""  # onnxruntime refuses names that occur twice
    assert_same_network(model, import_model(model))


def test_export_leaves_the_network_as_it_is():
    network = network_of(parse(BIG))
    first = export_model(network).SerializeToString()
    export_model(network, weights=False)
    assert export_model(network).SerializeToString() == first


def test_export_without_weights():
    network = network_of(parse(BIG))
    light = export_model(network, weights=False)
    onnx.checker.check_model(light, full_check=True)
    assert [i.name for i in light.graph.input] == ["x", "W"]
    assert [t.name for t in light.graph.initializer] == ["V"]
    assert light.ByteSize() < 2000


def test_csscc_functions_come_with_the_model():
    network = spiking(parse(BIG), Coding(T=3))
    model = export_model(network)
    assert {f.name for f in model.functions} == {"Encode", "TSARelu", "Decode"}
    assert {o.domain for o in model.opset_import} >= {"", "csscc"}
    assert len(export_model(network).functions) == 3


def test_shapes_and_types():
    network = import_model(parse(TEXT))
    infer_shapes(network)
    conv = node_of(network, "Conv")
    assert conv.outputs[0].shape == ["N", 5, 8, 8]
    assert conv.outputs[0].dtype == np.float32


def test_shapes_are_inferred_afresh():
    network = network_of(parse(TEXT))
    network.graph.inputs[0].shape = [7, 3, 10, 10]
    infer_shapes(network)
    assert node_of(network, "Relu").outputs[0].shape == [7, 5, 10, 10]


def test_an_inconsistent_graph_is_an_error():
    network = network_of(parse(BIG))
    network.graph.inputs[0].shape = ["N", 63]
    with pytest.raises(RefusedError, match="shapes contradict each other"):
        infer_shapes(network)


def test_one_node_as_a_model():
    network = network_of(parse("g (float[N,4] x) => (float[N,2,2] y) <int64[3] s = {-1, 2, 2}> { y = Reshape(x, s) }"))
    model = single_node_model(network.graph.nodes[0], np.dtype(np.float32))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert_equal_outputs({"y": x.reshape(2, 2, 2)}, run(model, {"data": x}))
    assert len(network.graph.inputs[0].outputs) == 1


def test_unique_names_do_not_meet_names_of_the_graph():
    graph = network_of(parse(TEXT)).graph
    assert unique_name(graph, "new") == "new"
    made = {unique_name(graph, name) for name in ("new", "new", "W", "W", "x", "y", "conv", "h")}
    assert len(made) == 8
    assert not made & {"new", "W", "b", "x", "y", "h", "conv", "relu"}
    assert unique_name(graph.copy(), "W") != "W"


def test_a_shared_constant_is_given_to_one_reader_only():
    model = parse(
        "g (float[N,4] x) => (float[N,4] y, float[N,4] z, float[N,4] q) <float[4] c> { y = Mul(x, c) z = Add(x, c) q = Sub(x, c) }"
    )
    network = network_of(model)
    old = node_of(network, "Mul").inputs[1]
    set_constant(network.graph, node_of(network, "Mul"), 1, 2 * old.values)
    network.graph = network.graph.copy()
    set_constant(network.graph, node_of(network, "Add"), 1, 3 * old.values)
    feeds = random_feeds(model)
    x, c = feeds["x"], old.values
    got = run(export_model(network), feeds)
    assert_equal_outputs({"y": x * (2 * c), "z": x + 3 * c, "q": x - c}, got)
    set_constant(network.graph, node_of(network, "Sub"), 1, 4 * c)
    assert node_of(network, "Sub").inputs[1].name == "c"
    assert_equal_outputs({"y": x * (2 * c), "z": x + 3 * c, "q": x - 4 * c}, run(export_model(network), feeds))


def test_an_absent_input_is_added():
    network = network_of(parse("g (float[N,3,8,8] x) => (float[N,5,6,6] y) <float[5,3,3,3] W> { y = Conv(x, W) }"))
    conv = node_of(network, "Conv")
    set_constant(network.graph, conv, 2, np.ones(5))
    assert conv.inputs[2].values.dtype == np.float32
    model = parse("g (float[N,3,8,8] x) => (float[N,5,6,6] y) <float[5,3,3,3] W> { y = Conv(x, W) }")
    feeds = random_feeds(model)
    assert_equal_outputs({"y": run(model, feeds)["y"] + 1}, run(export_model(network), feeds))


def test_inserted_nodes_and_only_readers():
    network = network_of(parse(TEXT))
    graph = network.graph
    conv, relu = node_of(network, "Conv"), node_of(network, "Relu")
    assert only_reader(graph, conv.outputs[0]) is None, "it is an output"
    assert only_reader(graph, graph.inputs[0]) is conv
    value = insert_node(graph, "Mul", "conv", [conv.outputs[0], constant_tensor(graph, "two", 2.0)])
    assert isinstance(value, gs.Variable)
    assert value.inputs[0].name != "conv"
    relu.inputs[0] = value
    feeds = random_feeds(parse(TEXT))
    expected = run(parse(TEXT), feeds)
    assert_equal_outputs({"y": 2 * expected["y"], "h": expected["h"]}, run(export_model(network), feeds))
