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


def test_the_model_given_stays_as_it_is() -> None:
    model = model_of("com.microsoft", "N")
    before = model.SerializeToString(deterministic=True)
    csscc.compile(model, np.ones((4, 8), np.float32))
    assert model.SerializeToString(deterministic=True) == before
