"""A part of a model computes what the whole computes, from tensors that are given."""

from __future__ import annotations

import numpy as np
import onnx

from csscc.dialect.parts import from_tensors
from tests.helpers import parse, random_feeds, run

MODEL = """g (float[N,4] x, bool once) => (float[N,3] y, float[N,4] z)
<float[4,5] w1, float[5,3] w2, float[3] b>
{ a = MatMul(x, w1) r = Relu(a) m = MatMul(r, w2)
  y = If (once) <
    then_branch = t () => (float[N,3] s) { s = Add(m, b) },
    else_branch = e () => (float[N,3] d) { d = Sub(m, b) }>
  z = Exp(x) }"""


def test_what_is_behind_given_tensors_needs_nothing_in_front_of_them() -> None:
    model = parse(MODEL)
    part = from_tensors(model, ["r"])
    assert [n.op_type for n in part.graph.node] == ["MatMul", "If", "Exp"]
    assert [t.name for t in part.graph.initializer] == ["w2", "b"]
    feeds = {"x": random_feeds(model)["x"], "once": np.array(True)}
    r = np.maximum(feeds["x"] @ onnx.numpy_helper.to_array(model.graph.initializer[0]), 0)
    expected, got = run(model, feeds), run(part, {**feeds, "r": r})
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)
    assert np.abs(run(part, {**feeds, "r": 2 * r})["y"] - expected["y"]).max() > 0.1
