"""load: from a file or a model to a network that means the same."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from csscc.dialect.adapter import MIN_OPSET, export_model
from csscc.errors import RefusedError, RefusedModelError
from csscc.passes.canonical.load import load, opset_of, read_model
from tests.helpers import assert_same_network, ops, parse, random_feeds, run

TEXT = (
    "g (float[N,4] x) => (float[N,2] y) <float[4,3] W, float[3,2] V> { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }"
)


def test_a_model_and_its_facts():
    model = parse(TEXT)
    model.producer_name, model.producer_version = "trainer", "2.1"
    given = model.SerializeToString()
    network = load(model)
    assert network.origin == {
        "name": "model",
        "producer": "trainer 2.1",
        "opset": "20",
        "sha256": hashlib.sha256(given).hexdigest(),
    }
    assert model.SerializeToString() == given
    assert_same_network(model, network)


def test_a_file_and_its_facts(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(parse(TEXT), path)
    network = load(path)
    assert network.origin["name"] == "net.onnx"
    assert network.origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(str(path)).origin == network.origin
    assert_same_network(parse(TEXT), network)


def test_external_data(tmp_path):
    model = parse(TEXT)
    expected = onnx.ModelProto()
    expected.CopyFrom(model)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert_same_network(expected, load(path))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(RefusedError, match="weights in other files cannot be read"):
        load(path)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_older_opsets_are_raised(opset):
    model = parse(
        """
        g (float[N,1,6,6] x) => (float[N,3] p)
        <float[2,1,3,3] W, float[32,3] V, float[2] gamma, float[2] beta, float[2] mean, float[2] var, int64[2] s = {-1, 32}>
        {
          h = Conv(x, W) n = BatchNormalization(h, gamma, beta, mean, var) r = Relu(n)
          c = Clip(r) f = Reshape(c, s) y = MatMul(f, V) p = Softmax <axis = 1> (y)
        }
        """,
        opset=opset,
    )
    network = load(model)
    assert network.graph.opset == MIN_OPSET
    assert network.origin["opset"] == str(opset)
    assert_same_network(model, network)


def test_a_newer_opset_stays():
    model = parse(TEXT, opset=21)
    assert load(model).graph.opset == 21


def test_functions_are_inlined():
    function = onnx.parser.parse_function('<domain: "own", opset_import: ["": 20]> Twice (a) => (b) { b = Add(a, a) }')
    model = parse("g (float[N,4] x) => (float[N,4] y) { h = Relu(x) y = Neg(h) }")
    model.graph.node[1].op_type, model.graph.node[1].domain = "Twice", "own"
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(function)
    onnx.checker.check_model(model)
    network = load(model)
    assert ops(network) == ["Relu", "Add"]
    assert_same_network(model, network)


def test_initializers_listed_as_inputs_are_constants():
    model = parse(TEXT)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))
    model.ir_version = 3
    network = load(model)
    assert [t.name for t in network.graph.inputs] == ["x"]
    assert len(model.graph.input) == 3
    assert_same_network(model, network)


def test_sixteen_bit_weights_become_float32():
    model = parse(
        "g (float16[N,4] x) => (float16[N,2] y) <float16[4,3] W, float16[3,2] V> { h = MatMul(x, W) r = Relu(h) y = MatMul(r, V) }"
    )
    network = load(model)
    kinds = {t.dtype for n in network.graph.nodes for t in n.inputs if hasattr(t, "values")}
    assert kinds == {np.dtype(np.float32)}
    feeds = random_feeds(model)
    got = run(
        export_model(network),
        {n: v.astype(i.dtype or v.dtype) for (n, v), i in zip(feeds.items(), network.graph.inputs, strict=True)},
    )
    weights = [numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer]
    wanted = np.maximum(feeds["x"].astype(np.float64) @ weights[0], 0) @ weights[1]
    np.testing.assert_allclose(got["y"].astype(np.float64), wanted, rtol=2e-3, atol=2e-3)


def test_foreign_operators_are_all_named():
    model = parse("g (float[N,4] x) => (float[N,4] y) { [one] h = Relu(x) [two] k = Neg(h) y = Relu(k) }")
    for node in model.graph.node[:2]:
        node.domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(RefusedModelError) as refusal:
        load(model)
    assert [(o.node, o.op) for o in refusal.value.offenders] == [
        ("one", "com.example::Relu"),
        ("two", "com.example::Neg"),
    ]


def test_what_is_no_model(tmp_path):
    with pytest.raises(RefusedError, match="no such file"):
        read_model(tmp_path / "absent.onnx")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\xff\xfe not protobuf at all" * 10)
    with pytest.raises(RefusedError, match="not a"):
        read_model(garbage)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(RefusedError, match="not an ONNX model"):
        read_model(empty)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(parse(TEXT).SerializeToString()[:-20])
    with pytest.raises(RefusedError):
        load(cut)


def test_the_opset_of_a_model():
    assert opset_of(parse(TEXT, opset=17)) == 17
    assert opset_of(onnx.ModelProto()) == 1
