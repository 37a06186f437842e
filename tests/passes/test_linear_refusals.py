"""What the rules of linear operators refuse, and with which reason."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import pytest

from csscc.dialect.rewrite import constant
from csscc.passes.linear import LINEAR
from tests.helpers import network_of, node_of, parse

REFUSED = {
    "weights computed": (
        "Conv",
        "g (float[N,4,6,6] x, float[5,4,3,3] W) => (float[N,5,4,4] y) { y = Conv(x, W) }",
        "computed",
    ),
    "transA": (
        "Gemm",
        "g (float[4,N] x) => (float[N,5] y) <float[4,5] W> { y = Gemm <transA = 1> (x, W) }",
        "batch axis",
    ),
    "C per sample": (
        "Gemm",
        "g (float[3,4] x) => (float[3,5] y) <float[4,5] W, float[3,5] c> { y = Gemm(x, W, c) }",
        "batch axis",
    ),
    "two computed sides": (
        "MatMul",
        "g (float[N,4,4] x, float[N,4,4] z) => (float[N,4,4] y) { y = MatMul(x, z) }",
        "both sides",
    ),
    "left product of the batch": (
        "MatMul",
        "g (float[N,4] x) => (float[5,4] y) <float[5,3] W> { y = MatMul(W, x) }",
        "mixes the batch",
    ),
    "weights with a batch": (
        "MatMul",
        "g (float[2,3,4] x) => (float[2,3,5] y) <float[2,4,5] W> { y = MatMul(x, W) }",
        "axis for the batch",
    ),
    "add along the batch": (
        "Add",
        "g (float[3,4] x) => (float[3,4] y) <float[3,4] c> { y = Add(x, c) }",
        "batch axis",
    ),
    "multiply along the batch": (
        "Mul",
        "g (float[3,4] x) => (float[3,4] y) <float[3,4] c> { y = Mul(c, x) }",
        "batch axis",
    ),
    "more axes": (
        "Mul",
        "g (float[N,4] x) => (float[A,N,4] y) <float[1,1,4] c> { y = Mul(c, x) }",
        "batch axis",
    ),
    "repeats channels": (
        "Mul",
        "g (float[N,1,4,4] x) => (float[N,3,4,4] y) <float[3,1,1] c> { y = Mul(c, x) }",
        "repeats",
    ),
    "different ranks": (
        "Add",
        "g (float[N,4] x, float[N,2,4] z) => (float[A,B,4] y) { y = Add(x, z) }",
        "different rank",
    ),
    "divides by it": (
        "Div",
        "g (float[N,4] x) => (float[N,4] y) <float[4] c> { y = Div(c, x) }",
        "not linear",
    ),
    "reduces the batch": (
        "ReduceMean",
        "g (float[N,4] x) => (float[1,4] y) <int64[1] a = {0}> { y = ReduceMean(x, a) }",
        "batch axis",
    ),
    "reduces the batch from the end": (
        "ReduceSum",
        "g (float[N,4] x) => (float[1,4] y) <int64[1] a = {-2}> { y = ReduceSum(x, a) }",
        "batch axis",
    ),
    "reduces all": (
        "ReduceMean",
        "g (float[N,4] x) => (float y) { y = ReduceMean <keepdims = 0> (x) }",
        "batch axis",
    ),
    "reduces all, no axes named": (
        "ReduceMean",
        "g (float[N,4] x) => (float[1,1] y) <int64[0] a = {}> { y = ReduceMean (x, a) }",
        "batch axis",
    ),
    "transposes the batch": (
        "Transpose",
        "g (float[N,4] x) => (float[4,N] y) { y = Transpose <perm = [1, 0]> (x) }",
        "batch",
    ),
    "folds into the batch": (
        "Reshape",
        "g (float[N,4] x) => (float[M,2] y) <int64[2] s = {-1, 2}> { y = Reshape(x, s) }",
        "batch",
    ),
    "states the batch": (
        "Reshape",
        "g (float[2,4] x) => (float[2,2,2] y) <int64[3] s = {2, 2, 2}> { y = Reshape(x, s) }",
        "batch",
    ),
    "slices the batch": (
        "Slice",
        "g (float[N,4] x) => (float[M,4] y) <int64[1] a = {0}, int64[1] b = {1}> { y = Slice(x, a, b, a) }",
        "batch",
    ),
    "gathers samples": (
        "Gather",
        "g (float[N,4] x) => (float[1,4] y) <int64[1] i = {0}> { y = Gather(x, i) }",
        "batch",
    ),
    "pads the batch": (
        "Pad",
        "g (float[N,4] x) => (float[M,4] y) <int64[4] p = {1,0,0,0}> { y = Pad(x, p) }",
        "batch",
    ),
    "pads with one": (
        "Pad",
        "g (float[N,4] x) => (float[N,5] y) <int64[4] p = {0,1,0,0}, float v = {1}> { y = Pad(x, p, v) }",
        "other than zero",
    ),
    "parameters computed": (
        "Reshape",
        "g (float[N,4] x, int64[2] s) => (float[N,4] y) { y = Reshape(x, s) }",
        "computed",
    ),
    "concatenates the batch": (
        "Concat",
        "g (float[N,4] x, float[N,4] z) => (float[M,4] y) { y = Concat <axis = 0> (x, z) }",
        "batch axis",
    ),
    "concatenates a constant": (
        "Concat",
        "g (float[1,4] x) => (float[1,6] y) <float[1,2] c> { y = Concat <axis = 1> (x, c) }",
        "constant",
    ),
    "resizes channels": (
        "Resize",
        "g (float[N,4,6,6] x) => (float[N,8,6,6] y) <float[4] s = {1,2,1,1}> { y = Resize(x, , s) }",
        "channels",
    ),
    "resizes the batch": (
        "Resize",
        "g (float[N,4,6,6] x) => (float[M,4,6,6] y) <float[4] s = {2,1,1,1}> { y = Resize(x, , s) }",
        "batch",
    ),
    "resizes to sizes": (
        "Resize",
        "g (float[2,4,6,6] x) => (float[2,4,9,9] y) <int64[4] s = {2,4,9,9}> { y = Resize(x, , , s) }",
        "sizes",
    ),
    "blocks of computed sizes": (
        "Col2Im",
        "g (float[N,4,9] x, int64[2] b) => (float[N,1,4,4] y) <int64[2] i = {4,4}> { y = Col2Im(x, i, b) }",
        "computed",
    ),
    "crops": (
        "Resize",
        'g (float[N,4,6,6] x) => (float[N,4,6,6] y) <float[8] r = {0,0,0,0,1,1,1,1}, float[4] s = {1,1,1,1}> { y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, r, s) }',
        "outside",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    op, text, reason = REFUSED[case]
    network = network_of(parse(text))
    node = node_of(network, op)
    core = [i for i, t in enumerate(node.inputs) if t.name and constant(node, i) is None and t.dtype == np.float32]
    assert reason in LINEAR[op].refuse(node, core)
