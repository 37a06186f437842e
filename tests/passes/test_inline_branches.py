"""An `If` with a known condition: its branch stands in its place, and onnxruntime answers the same."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.adapter import export_model
from csscc.passes.canonical.fold_constants import FoldConstants
from csscc.pipeline import canonical
from tests.helpers import assert_same_network, network_of, ops, parse, run, settles

CONDITION = "yes = Constant <value = bool {1}> () no = Constant <value = bool {0}> ()"
CASES = {
    "two outputs, one read inside": """
        y, z = If (yes) <then_branch = a () => (float[N,4] p, float[N,4] q) { p = Relu(x) q = Neg(p) },
                         else_branch = b () => (float[N,4] r, float[N,4] s) { r = Neg(x) s = Neg(r) }>""",
    "the other branch": """
        y, z = If (no) <then_branch = a () => (float[N,4] p, float[N,4] q) { p = Relu(x) q = Neg(p) },
                        else_branch = b () => (float[N,4] r, float[N,4] s) { r = Abs(x) s = Exp(r) }>""",
    "a constant, and a tensor from outside": """
        h = Exp(x)
        y, z = If (yes) <then_branch = a () => (float[1,4] c, float[N,4] p)
                         { c = Constant <value = float[1,4] {1, 2, 3, 4}> () p = Identity(h) },
                         else_branch = b () => (float[N,4] r, float[N,4] s) { r = Neg(x) s = Neg(r) }>""",
    "names used in another branch too": """
        i, j = If (yes) <then_branch = a () => (float[N,4] p, float[N,4] q) { p = Relu(x) q = Neg(p) },
                         else_branch = b () => (float[N,4] p, float[N,4] q) { q = Neg(x) p = Neg(q) }>
        y, z = If (no) <then_branch = c () => (float[N,4] p, float[N,4] q) { p = Relu(i) q = Neg(p) },
                        else_branch = d () => (float[N,4] p, float[N,4] q) { q = Abs(j) p = Exp(q) }>""",
    "one inside another": """
        y, z = If (yes) <then_branch = a () => (float[N,4] p, float[N,4] q) {
                             p, q = If (no) <then_branch = c () => (float[N,4] k, float[N,4] l) { k = Neg(x) l = Exp(k) },
                                             else_branch = d () => (float[N,4] k, float[N,4] l) { k = Abs(x) l = Neg(k) }>},
                         else_branch = b () => (float[N,4] r, float[N,4] s) { r = Neg(x) s = Neg(r) }>""",
}


@pytest.mark.parametrize("name", CASES)
def test_the_branch_takes_the_place_of_the_if(name: str) -> None:
    model = parse(f"g (float[N,4] x) => (float[N,4] y, float[N,4] z) {{ {CONDITION} {CASES[name]} }}")
    network = network_of(model)
    assert settles(FoldConstants(), network)
    assert "If" not in ops(network)
    assert_same_network(model, network)
    assert_same_network(model, canonical(model))


def test_one_result_given_out_twice() -> None:
    """Which onnxruntime loses where it is still in the branch."""
    model = parse(f"""g (float[N,4] x) => (float[N,4] y, float[N,4] z) {{ {CONDITION}
        y, z = If (yes) <then_branch = a () => (float[N,4] p, float[N,4] p) {{ p = Relu(x) }},
                         else_branch = b () => (float[N,4] r, float[N,4] r) {{ r = Neg(x) }}> }}""")
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    got = run(export_model(canonical(model)), {"x": x})
    np.testing.assert_array_equal(got["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(got["z"], np.maximum(x, 0))


OPEN = """
g (float[N,4] x, bool on) => (float[N,4] y)
{
  yes = Constant <value = bool {1}> ()
  h = Relu(x)
  y = If (on) <then_branch = a () => (float[N,4] p) {
                   q = Exp(h)
                   p = If (yes) <then_branch = c () => (float[N,4] k) { k = Neg(q) },
                                 else_branch = d () => (float[N,4] k) { k = Abs(q) }> },
               else_branch = b () => (float[N,4] r) { r = Neg(x) }>
}
"""


def test_an_if_with_a_computed_condition_stays_and_those_inside_go() -> None:
    model = parse(OPEN)
    network = network_of(model)
    assert settles(FoldConstants(), network)
    assert ops(network) == ["Relu", "If"]
    branch = network.graph.nodes[1].attrs["then_branch"]
    assert [n.op for n in branch.nodes] == ["Exp", "Neg"]
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for on in (True, False):
        feeds = {"x": x, "on": np.array(on)}
        np.testing.assert_array_equal(run(export_model(network), feeds)["y"], run(model, feeds)["y"])


LARGE_INSIDE = """
g (float[N,40] x) => (float[N,40] y)
<float[40,40] W>
{
  yes = Constant <value = bool {1}> ()
  y = If (yes) <then_branch = a () => (float[N,40] p) { p = MatMul(x, W) },
                else_branch = b () => (float[N,40] r) { r = Neg(x) }>
}
"""


def test_weights_that_only_a_branch_reads_come_along() -> None:
    model = parse(LARGE_INSIDE)
    network = canonical(model)
    assert ops(network) == ["MatMul"]
    assert_same_network(model, network)


def test_an_output_whose_shape_nobody_knows_keeps_the_declared_one() -> None:
    model = parse("""
        g (float[N,4] x, bool on) => (float[M,4] y)
        { y = If (on) <then_branch = a () => (float[N,4] p) { p = Relu(x) },
                       else_branch = b () => (float[4] r) <int64[1] zero = {0}>
                       { r = ReduceMax <keepdims = 0> (x, zero) }> }""")
    assert canonical(model).graph.outputs[0].shape == ["M", 4]
