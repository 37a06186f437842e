"""MaxPool moves in front of a concatenation of Relus, and nowhere else."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.fuse_relu_maxpool import FuseReluMaxPool
from csscc.passes.canonical.load import load
from csscc.passes.canonical.pool_before_concat import PoolBeforeConcat
from csscc.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["": 20]> g (float[N,2,7,7] x) => '
POOL = "MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1, pads = [1, 0, 0, 1]>"
PARTS = "m = Neg(x) a = Relu(x) b = Relu(m)"


def moved(body: str) -> tuple[int, list[str]]:
    """Apply the pass and the fusion behind it; all outputs must stay as they were, and a second run change nothing."""
    model = onnx.parser.parse_model(HEAD + body)
    network = load(model)
    changed = PoolBeforeConcat().apply(network)
    assert PoolBeforeConcat().apply(network) == 0
    FuseReluMaxPool().apply(network)
    x = np.random.default_rng(0).standard_normal((3, 2, 7, 7)).astype(np.float32)
    before, after = Session(model).run({"x": x}), Session(export_model(network)).run({"x": x})
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    return changed, sorted(n.op for n in network.graph.nodes)


def test_each_part_is_pooled_as_one_neuron() -> None:
    body = f"(float[N,4,h,w] y) {{ {PARTS} c = Concat <axis = 1> (a, b) y = {POOL} (c) }}"
    assert moved(body) == (1, ["Concat", "Neg", "ReluMaxPool", "ReluMaxPool"])


@pytest.mark.parametrize(
    "body",
    [
        f"(float[N,4,h,w] y, float[N,4,7,7] c) {{ {PARTS} c = Concat <axis = 1> (a, b) y = {POOL} (c) }}",
        f"(float[N,4,h,w] y, float[N,2,7,7] a) {{ {PARTS} c = Concat <axis = 1> (a, b) y = {POOL} (c) }}",
        f"(float[N,4,h,w] y, float[N,2,7,7] z) {{ {PARTS} c = Concat <axis = 1> (a, b) y = {POOL} (c) z = Exp(a) }}",
        f"(float[N,4,h,w] y) {{ m = Neg(x) a = Relu(x) c = Concat <axis = 1> (a, m) y = {POOL} (c) }}",
        f"(float[N,2,h,w] y) {{ {PARTS} c = Concat <axis = 2> (a, b) y = {POOL} (c) }}",
        f"(float[N,4,h,w] y) {{ a = Relu(x) c = Concat <axis = 1> (a, a) y = {POOL} (c) }}",
    ],
    ids=["concat is an output", "part is an output", "part is read", "no Relu", "other axis", "the same part twice"],
)
def test_it_stays_where_it_is(body: str) -> None:
    assert moved(body)[0] == 0
