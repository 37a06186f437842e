"""One neuron of ReLU and MaxPool."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.fuse_relu_maxpool import FuseReluMaxPool
from csscc.passes.canonical.load import load
from csscc.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["": 20]> g (float[N,2,6,6] x) => '
POOL = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>"


def fused(body: str) -> tuple[int, list[str]]:
    """Apply the pass; all outputs must stay as onnxruntime gave them before, and a second run change nothing."""
    model = onnx.parser.parse_model(HEAD + body)
    network = load(model)
    changed = FuseReluMaxPool().apply(network)
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32)
    before, after = Session(model).run({"x": x}), Session(export_model(network)).run({"x": x})
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert FuseReluMaxPool().apply(network) == 0
    return changed, [n.op for n in network.graph.nodes]


@pytest.mark.parametrize("body", [f"a = Relu(x) y = {POOL} (a)", f"a = {POOL} (x) y = Relu(a)"])
def test_both_orders_become_one_activation(body: str) -> None:
    assert fused(f"(float[N,2,3,3] y) {{ {body} }}") == (1, ["ReluMaxPool"])


@pytest.mark.parametrize(
    "graph",
    [
        f"(float[N,2,3,3] y, float[N,2,6,6] a) {{ a = Relu(x) y = {POOL} (a) }}",
        f"(float[N,2,3,3] y, float[N,2,6,6] b) {{ a = Relu(x) y = {POOL} (a) b = Neg(a) }}",
        f"(float[N,2,3,3] y) {{ a = Sigmoid(x) y = {POOL} (a) }}",
    ],
    ids=["output in between", "second reader", "another activation"],
)
def test_it_declines(graph: str) -> None:
    assert fused(graph)[0] == 0
