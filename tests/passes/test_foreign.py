"""Operators that onnxruntime brings along stand in prologue and epilogue, whatever onnx knows of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import csscc
from csscc.errors import RefusedModelError
from csscc.measure.verify import verify
from csscc.passes.canonical.load import load
from csscc.pipeline import canonical
from tests.helpers import parse, random_feeds, rms, run

TEXT = """
g (float[N,8] x) => (float[N,3] y) <float[8,16] W, float[16,3] V>
{ [before] g = Gelu(x) h = MatMul(g, W) r = Relu(h) z = MatMul(r, V) [behind] y = Gelu(z) }"""


def model_of(domain: str, batch: str) -> onnx.ModelProto:
    model = parse(TEXT.replace("N", batch))
    for node in model.graph.node:
        node.domain = domain if node.op_type == "Gelu" else ""
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


@pytest.mark.parametrize("batch", ["N", "1", "4"])
def test_operators_of_onnxruntime_stay_as_they_are(batch: str) -> None:
    model = model_of("com.microsoft", batch)
    x = random_feeds(parse(TEXT), batch=64)["x"]
    snn = csscc.compile(model, x, T=16)
    assert snn.layers[0].neurons == 8
    assert verify(snn.file, x[:8]).different == 0
    rows = x[: 4 if batch == "4" else 1]
    expected = run(model, {"x": rows})["y"]
    assert rms(snn.run(rows) - expected) < 0.01 * rms(expected)


def test_a_batch_of_one_is_freed_behind_them() -> None:
    network = canonical(model_of("com.microsoft", "1"))
    assert network.batch == "batch"
    assert network.graph.outputs[0].shape == ["batch", 3]


def test_operators_that_nobody_knows_are_refused_wherever_they_stand() -> None:
    with pytest.raises(RefusedModelError, match=r"org.example::Gelu 2 times: 'before', 'behind'"):
        load(model_of("org.example", "N"))


def test_quantised_operators_that_nobody_knows() -> None:
    model = model_of("org.example", "N")
    model.graph.node[0].op_type = "Quant"
    with pytest.raises(RefusedModelError, match="Quant 'before': the network is quantised"):
        load(model)


@pytest.mark.parametrize("norm", ["L2", "L1", "MAX"])
def test_normalised_rows_keep_their_signs(norm: str) -> None:
    """Written over their inputs, as onnxruntime does where it knows that both are equally large, they would not."""
    model = parse(TEXT)
    scaler = helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.1] * 8, scale=[2.0] * 8)
    normalizer = helper.make_node("Normalizer", ["s"], ["g"], domain="ai.onnx.ml", norm=norm)
    rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node[1:]]
    del model.graph.node[:]
    model.graph.node.extend([scaler, normalizer, *rest])
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    x = random_feeds(parse(TEXT), batch=64)["x"]
    scaled = 2 * (x.astype(np.float64) - 0.1)
    sizes = {"L2": np.sqrt((scaled**2).sum(1)), "L1": np.abs(scaled).sum(1), "MAX": scaled.max(1)}[norm]
    w, v = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer)
    z = np.maximum(scaled / sizes[:, None] @ w, 0) @ v
    expected = run(parse("g (float[N,3] z) => (float[N,3] y) { y = Gelu(z) }"), {"z": z.astype(np.float32)})["y"]
    got = csscc.compile(model, x).run(x)
    assert rms(got - expected) < 0.01 * rms(expected)


def test_the_model_given_stays_as_it_is() -> None:
    model = model_of("com.microsoft", "N")
    before = model.SerializeToString(deterministic=True)
    csscc.compile(model, np.ones((4, 8), np.float32))
    assert model.SerializeToString(deterministic=True) == before
