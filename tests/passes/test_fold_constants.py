"""FoldConstants: what does not depend on inputs becomes an initializer."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import onnx_graphsurgeon as gs
import pytest

from csscc.dialect.adapter import export_model, import_model
from csscc.passes.canonical.fold_constants import FoldConstants
from tests.helpers import assert_same_network, ops, parse, settles

TRANSPOSED_WEIGHTS = """
g (float[N,4] x) => (float[N,3] y) <float[3,4] W>
{
  Wt = Transpose <perm = [1, 0]> (W)
  two = Constant <value = float {2}> ()
  W2 = Mul(Wt, two)
  y = MatMul(x, W2)
}
"""

SHAPE_ARITHMETIC = """
g (float[N,2,3,4] x) => (float[N,24] y, float[N,6,4] z)
{
  shape = Shape(x)
  first = Constant <value = int64[1] {0}> ()
  batch = Gather(shape, first)
  rest = Constant <value = int64[1] {-1}> ()
  target = Concat <axis = 0> (batch, rest)
  y = Reshape(x, target)
  six = Constant <value = int64[2] {6, 4}> ()
  target2 = Concat <axis = 0> (batch, six)
  z = Reshape(x, target2)
}
"""

PADS = """
g (float[N,1,4,4] x) => (float[N,1,6,6] y)
{
  half = Constant <value = int64[4] {0, 0, 1, 1}> ()
  pads = Concat <axis = 0> (half, half)
  y = Pad(x, pads)
}
"""

KNOWN_CONDITION = """
g (float[N,4] x) => (float[N,4] y)
{
  yes = Constant <value = bool {1}> ()
  y = If (yes) <then_branch = a () => (float[N,4] p) { p = Relu(x) }, else_branch = b () => (float[N,4] q) { q = Neg(x) }>
}
"""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (TRANSPOSED_WEIGHTS, ["MatMul"]),
        (SHAPE_ARITHMETIC, ["Reshape", "Reshape"]),
        (PADS, ["Pad"]),
        (KNOWN_CONDITION, ["Relu"]),
    ],
)
def test_folds_and_keeps_the_result(text, left):
    model = parse(text)
    network = import_model(model)
    assert settles(FoldConstants(), network)
    assert ops(network) == left
    assert_same_network(model, network)
    assert_same_network(model, network, batch=1)


def test_targets_of_reshape_are_constant_behind_a_free_batch():
    network = import_model(parse(SHAPE_ARITHMETIC))
    FoldConstants().apply(network)
    targets = [n.inputs[1].values.tolist() for n in network.graph.nodes]
    assert targets == [[-1, 24], [-1, 6, 4]]


def test_a_target_that_depends_on_two_free_dimensions_stays_computed():
    model = parse("""
    g (float[N,L,4] x) => (float[N,M] y)
    {
      shape = Shape(x)
      first = Constant <value = int64[1] {0}> ()
      batch = Gather(shape, first)
      rest = Constant <value = int64[1] {-1}> ()
      target = Concat <axis = 0> (batch, rest)
      y = Reshape(x, target)
    }
    """)
    network = import_model(model)
    FoldConstants().apply(network)
    (reshape,) = (n for n in network.graph.nodes if n.op == "Reshape")
    assert not isinstance(reshape.inputs[1], gs.Constant)
    assert_same_network(model, network)


def test_what_depends_on_an_input_stays():
    model = parse("g (float[N,4] x) => (float[N,4] y) <float[4] c> { h = Mul(x, c) y = Add(h, c) }")
    network = import_model(model)
    assert FoldConstants().apply(network) == 0
    assert ops(network) == ["Mul", "Add"]
    assert_same_network(model, network)


def test_shapes_are_known_afterwards_and_names_kept():
    network = import_model(parse(TRANSPOSED_WEIGHTS))
    FoldConstants().apply(network)
    assert network.graph.nodes[0].outputs[0].shape == ["N", 3]
    assert [o.name for o in export_model(network).graph.output] == ["y"]
