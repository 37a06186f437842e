"""Operators on images that convolutions compute as well: what onnxruntime makes of the operator itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from csscc.dialect.spiking import STEPS_DOMAIN, STEPS_DOMAIN_VERSION
from csscc.passes.lower.convolved import Convolved, Images
from csscc.passes.lower.step_functions import StepsSignature, convolved_in_steps
from tests.runtime.test_functions import LEVELS

SHAPE = (3, 16, 7, 5)
FAR = 2**63 - 1


def ints(*values):
    return np.array(values, np.int64)


def f32(*values):
    return np.array(values, np.float32)


CONVOLVED = {
    "every second row and column": ("Slice", [ints(0, 0), ints(7, 5), ints(2, 3), ints(2, 2)]),
    "ends beyond the image": ("Slice", [ints(0, 0), ints(FAR, 2**31 - 1), ints(2, 3), ints(3, 1)]),
    "one axis, counted from the end": ("Slice", [ints(0), ints(FAR), ints(-1), ints(2)]),
    "all of it": ("Slice", [ints(0), ints(9), ints(2)]),
    "channels on both sides": ("Pad", [ints(0, 8, 0, 0, 0, 8, 0, 0)]),
    "channels after": ("Pad", [ints(0, 0, 0, 0, 0, 16, 0, 0), f32(0).reshape(())]),
    "channels before": ("Pad", [ints(16, 0), f32(0).reshape(()), ints(1)]),
    "no channels": ("Pad", [ints(0, 0, 0, 0, 0, 0, 0, 0)]),
    "one factor": ("Mul", [f32(1.25).reshape(())]),
    "a factor a channel": ("Mul", [np.linspace(-1, 1, 16, dtype=np.float32).reshape(16, 1, 1)]),
}
OTHERS = {
    "from the second row": ("Slice", [ints(1), ints(7), ints(2), ints(2)]),
    "not to the last row": ("Slice", [ints(0), ints(6), ints(2), ints(2)]),
    "an end counted from the end": ("Slice", [ints(0), ints(-1), ints(2)]),
    "backwards": ("Slice", [ints(-1), ints(-FAR), ints(2), ints(-1)]),
    "channels": ("Slice", [ints(0), ints(16), ints(1), ints(2)]),
    "samples": ("Slice", [ints(0), ints(FAR)]),
    "ones around": ("Pad", [ints(0, 8, 0, 0, 0, 8, 0, 0), f32(1).reshape(())]),
    "rows": ("Pad", [ints(0, 8, 1, 0, 0, 8, 1, 0)]),
    "channels that fill no block": ("Pad", [ints(0, 8, 0, 0, 0, 0, 0, 0)]),
    "fewer channels": ("Pad", [ints(0, -8, 0, 0, 0, 24, 0, 0)]),
    "a factor a row": ("Mul", [np.ones((7, 1), np.float32)]),
}


def _node(op, operands, **attributes):
    """A standard node on the image "x", its constants, and what is known of the images."""
    names = [f"c{i}" for i in range(len(operands))]
    node = helper.make_node(op, ["x", *names], ["y"], **attributes)
    constants = {n: numpy_helper.from_array(v, n) for n, v in zip(names, operands, strict=True)}
    return node, constants, Images(constants, {"x": SHAPE[1:]})


def _run(node, constants, functions, x, level):
    values = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:], list(constants.values()))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(STEPS_DOMAIN, STEPS_DOMAIN_VERSION)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10, functions=functions)
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def _in_steps(node, convolved: Convolved):
    """The node as one of a network in steps, of a single slab, and its function."""
    signature = StepsSignature(node.op_type, tuple("stepped" if n == "x" else "plain" for n in node.input), 1, ())
    function = convolved_in_steps(signature, 1, 18, convolved)
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.domain = STEPS_DOMAIN
    given = {"channels": SHAPE[1], "slabs": 1, "stepped": [1]}
    made.attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
    return made, function


@pytest.mark.parametrize("case", CONVOLVED)
def test_the_same_numbers(case: str) -> None:
    node, constants, images = _node(*CONVOLVED[case])
    convolved = images.convolved(node, 0)
    assert convolved is not None
    made, function = _in_steps(node, convolved)
    assert "Conv" in {n.op_type for n in function.node}
    assert node.op_type not in {n.op_type for n in function.node}
    x = np.random.default_rng(0).integers(-2, 3, SHAPE).astype(np.float32)
    for level in LEVELS:
        expected = _run(node, constants, [], x, LEVELS[0])
        np.testing.assert_array_equal(_run(made, constants, [function], x, level), expected)


def test_the_factor_may_stand_in_front() -> None:
    node, constants, images = _node(*CONVOLVED["a factor a channel"])
    node.input[:] = node.input[::-1]
    convolved = images.convolved(node, 1)
    assert convolved is not None
    made, function = _in_steps(node, convolved)
    x = np.random.default_rng(0).integers(-2, 3, SHAPE).astype(np.float32)
    expected = x * numpy_helper.to_array(constants["c0"])
    np.testing.assert_array_equal(_run(made, constants, [function], x, LEVELS[0]), expected)


@pytest.mark.parametrize("case", OTHERS)
def test_what_no_convolution_computes_stays(case: str) -> None:
    node, _, images = _node(*OTHERS[case])
    assert images.convolved(node, 0) is None


def test_what_is_not_known_stays() -> None:
    node, constants, _ = _node(*CONVOLVED["every second row and column"])
    assert Images(constants, {"x": (16, 0, 0)}).convolved(node, 0) is None  # it may be larger than it ends
    assert Images(constants, {"x": (12, 7, 5)}).convolved(node, 0) is None
    assert Images({}, {"x": SHAPE[1:]}).convolved(node, 0) is None
    assert Images(constants, {}).convolved(node, 0) is None
    far, constants, _ = _node(*CONVOLVED["ends beyond the image"])
    assert Images(constants, {"x": (16, 0, 0)}).convolved(far, 0) is not None
    mirrored, _, images = _node(*CONVOLVED["channels on both sides"], mode="reflect")
    assert images.convolved(mirrored, 0) is None
