"""The functions of the csscc operators in onnxruntime, at every optimisation level, against NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.coding import Coding
from csscc.dialect.model import copy_of, define_operators, with_residuals
from csscc.dialect.spiking import DECODE, DOMAIN, DOMAIN_VERSION, ENCODE, attributes, numbers, tsa_op, view_of
from csscc.passes.lower.scan import scanned_function
from csscc.runtime.reference import ReferenceRuntime

LEVELS = sorted(
    {
        level
        for name, level in ort.GraphOptimizationLevel.__members__.items()
        if name.startswith(("ORT_DISABLE", "ORT_ENABLE"))
    },
    key=lambda level: level.value,
)
OPSET = 20
FLIPS = 1e-3
BATCHES = (1, 2, 7)
IMAGE = (4, 6, 6)
# What csscc calls an operator on a tensor and a constant, in ONNX.
ON_CONSTANTS = {
    "Times": ("Mul", ["x0", "p0"]),
    "AtLeast": ("Max", ["x0", "p0"]),
    "AtMost": ("Min", ["x0", "p0"]),
    "DividedInto": ("Div", ["p0", "x0"]),
    "PowerOf": ("Pow", ["p0", "x0"]),
}
Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """How to exercise one activation.

    `exact` says that all its arithmetic is exact or correctly rounded, so no spike may differ; `positive`
    that it is defined for positive inputs only.
    """

    op: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Array | None, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    exact: bool = False
    positive: bool = False
    opset: int = OPSET


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


POOL = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
TWO = (IMAGE, IMAGE)
HIDDEN = np.where(np.arange(54).reshape(6, 9) % 7 == 3, -3.4e38, 0.25).astype(np.float32)
CASES = (
    Case("Linear", exact=True),
    Case("Relu", exact=True),
    Case("LeakyRelu", {"alpha": 0.125}, exact=True),
    Case("LeakyRelu", {"alpha": 0.1}, exact=True),
    Case("PRelu", parameters=(f32(0.1, 0.2, -0.3, 0.0).reshape(4, 1, 1),), exact=True),
    Case("Abs", exact=True),
    Case("Max", shapes=TWO, exact=True),
    Case("Min", shapes=TWO, exact=True),
    Case("MaxPool", POOL, exact=True),
    Case("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, exact=True),
    Case("GlobalMaxPool", exact=True),
    Case("ReluMaxPool", POOL, exact=True),
    Case("LpPool", {**POOL, "p": 1}),
    Case("LpPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("ReduceMax", {"keepdims": 1}, (np.array([1, 2], np.int64),), exact=True),
    Case("ReduceMin", {"keepdims": 0}, (np.array([-1], np.int64),), exact=True),
    Case("ReduceL1", {"keepdims": 1}, (np.array([1, 2], np.int64),), exact=True),
    Case("Times", parameters=(f32(0.5, 1.0, 0.0, -0.75).reshape(4, 1, 1),), exact=True),
    Case("AtLeast", parameters=(f32(0.1, 0.2, -0.3, 0.0).reshape(4, 1, 1),), exact=True),
    Case("AtMost", parameters=(scalar(0.2),), exact=True),
    Case("Quantise", parameters=(scalar(10.0), scalar(0.1), scalar(-3.0), scalar(12.0)), exact=True),
    Case("Quantise", parameters=(f32(7, 10, 3, 20).reshape(4, 1, 1), *map(scalar, (0.07, 0.0, 15.0))), exact=True),
    Case("QuantiseSum2", {}, tuple(map(scalar, (0.3, 0.9, 0.06, -8.0, 7.0))), shapes=TWO, exact=True),
    Case("QuantiseSum3", {}, tuple(map(scalar, (0.3, 0.9, 1.0, 0.06, -8.0, 7.0))), shapes=(IMAGE,) * 3, exact=True),
    Case("QuantiseSum4", {}, tuple(map(scalar, (0.3, 1.0, 1.0, 0.7, 0.06, 0.0, 9.0))), shapes=(IMAGE,) * 4, exact=True),
    Case("ThresholdedRelu", {"alpha": 0.3}, exact=True),
    Case("Clip", parameters=(scalar(0.0), scalar(0.6)), exact=True),
    Case("Clip", parameters=(scalar(-0.2),), exact=True),
    Case("Clip", parameters=(None, scalar(0.5)), exact=True),
    Case("HardSigmoid"),
    Case("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    Case("HardSwish"),
    Case("Sigmoid"),
    Case("Silu"),
    Case("QuickGelu"),
    Case("Swish", {"alpha": 1.5}, opset=24),
    Case("Shrink", {"bias": 0.25, "lambd": 0.25}, exact=True),
    Case("Tanh"),
    Case("Elu", {"alpha": 1.2}),
    Case("Selu"),
    Case("Celu", {"alpha": 0.7}),
    Case("Softplus"),
    Case("Softsign"),
    Case("Mish"),
    Case("Gelu"),
    Case("Gelu", {"approximate": "tanh"}),
    Case("Erf"),
    Case("Exp"),
    Case("Log", positive=True),
    Case("Sqrt", positive=True, exact=True),
    Case("Reciprocal", positive=True),
    Case("Pow", parameters=(scalar(2.0),)),
    Case("DividedInto", parameters=(f32(0.1, 0.2, -0.3, 0.5).reshape(4, 1, 1),), positive=True, exact=True),
    Case("PowerOf", parameters=(scalar(2.0),)),
    Case("Mul", shapes=TWO, exact=True),
    Case("Div", shapes=TWO, positive=True, exact=True),
    Case("MatMul", shapes=((2, 6, 9), (2, 9, 6))),
    Case("Attention", shapes=((2, 6, 8), (2, 9, 8), (2, 9, 5)), opset=23),
    Case("Attention", {"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1}, shapes=((6, 8),) * 3, opset=23),
    Case("Softmax", {"axis": -1}),
    Case("SoftmaxOrZero"),
    Case("Attend", parameters=(HIDDEN,), shapes=((2, 6, 8), (2, 8, 9), (2, 9, 5))),
    Case("AttendOrZero", parameters=(HIDDEN,), shapes=((2, 6, 8), (2, 8, 9), (2, 9, 5))),
    Case("LogSoftmax", {"axis": 1}),
    Case(
        "LayerNormalization",
        {"axis": -1, "epsilon": 1e-3},
        (np.linspace(0.5, 1.5, 6, dtype=np.float32), np.full(6, 0.1, np.float32)),
    ),
    Case("RMSNormalization", {"axis": -1, "epsilon": 1e-3}, (np.linspace(0.5, 1.5, 6, dtype=np.float32),), opset=23),
    Case("Rms", parameters=(scalar(1e-3),)),
    Case("InstanceNormalization", {"epsilon": 1e-2}, (f32(1, 0.5, 2, 1), f32(0, 0.2, -0.3, 1))),
    Case(
        "GroupNormalization",
        {"num_groups": 2, "epsilon": 1e-2},
        (f32(1, 0.5, 2, 1), f32(0, 0.2, -0.3, 1)),
        opset=21,
    ),
    Case("LpNormalization", {"axis": 1, "p": 2}, positive=True),
    Case("LRN", {"size": 3, "alpha": 0.5, "bias": 1.0}),
    Case("LRN", {"size": 5, "alpha": 0.5, "beta": 0.6}),
    Case("ReduceL2", {"keepdims": 1}, (np.array([2, 3], np.int64),)),
    Case("ReduceSumSquare", {"keepdims": 0}, (np.array([1], np.int64),)),
    Case("ReduceLogSum", {"keepdims": 1}, (np.array([1], np.int64),), positive=True),
    Case("ReduceLogSumExp", {"keepdims": 1}, (np.array([3], np.int64),)),
)
# Every T, beta, L and sign occurs with every activation; pairs are spread over the activations.
SETTINGS = (
    ((1, 1.5, 0, True), (2, 2.0, 1, False), (5, 3.0, 2, True), (12, 1.5, 1, True), (12, 2.0, 0, False)),
    ((1, 2.0, 1, False), (2, 3.0, 2, True), (5, 1.5, 0, False), (12, 1.5, 2, True), (12, 3.0, 1, True)),
    ((1, 3.0, 0, True), (2, 1.5, 1, True), (5, 2.0, 1, True), (12, 3.0, 2, False), (12, 1.5, 0, True)),
)


def names() -> Iterator[Any]:
    for i, case in enumerate(CASES):
        yield pytest.param(i, case, id=f"{case.op}-{i}")


def in_bursts(negative: bool, number: int) -> bool:
    """Whether a neuron of a test sends bursts: every second one that may send spikes of either sign."""
    return negative and number % 2 == 1


def levels_sum(T: int, beta: float) -> float:
    return float(sum(beta**k for k in range(T)))


def dims(name: str, rank: int) -> list[str]:
    return [f"{name}_{i}" for i in range(rank)]


def tensor(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims(name, rank))


def neuron_model(
    case: Case, coding: Coding, *, opset: int | None = None, theta_rank: int = 0, burst: bool = False
) -> onnx.ModelProto:
    """One neuron; its parameters are initializers, its currents, biases and theta are inputs."""
    ranks = [len(s) + 1 for s in case.shapes]
    inputs, node_inputs = [], []
    for k, rank in enumerate(ranks):
        inputs += [tensor(f"z{k}", rank), tensor(f"b{k}", rank)]
        node_inputs += [f"z{k}", f"b{k}"]
    inputs.append(tensor("theta", theta_rank))
    node_inputs.append("theta")
    node_inputs += [f"p{i}" if p is not None else "" for i, p in enumerate(case.parameters)]
    stated = {**case.attributes, **attributes(coding.neuron(burst=burst), tsa_op(case.op))}
    node = helper.make_node(tsa_op(case.op), node_inputs, ["spikes"], "neuron", domain=DOMAIN, **stated)
    constants = [numpy_helper.from_array(p, f"p{i}") for i, p in enumerate(case.parameters) if p is not None]
    dropped = 1 if case.attributes.get("keepdims") == 0 else 0
    return finished([node], inputs, [tensor("spikes", ranks[0] - dropped)], constants, opset or case.opset)


def finished(nodes: Any, inputs: Any, outputs: Any, constants: Any, opset: int = OPSET) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    return define_operators(helper.make_model(graph, opset_imports=imports, ir_version=10))


def feeds_for(case: Case, coding: Coding, batch: int, seed: int) -> dict[str, Array]:
    """Random currents; where theta is explicit, such that the whole input is of order one."""
    rng = np.random.default_rng(seed)
    homogeneous = ACTIVATIONS[case.op].homogeneous
    top = levels_sum(coding.T, coding.beta)
    scale = 1.0 if homogeneous else 1.5 / top
    feeds: dict[str, Array] = {}
    for k, shape in enumerate(case.shapes):
        z = rng.standard_normal((coding.T * batch, *shape))
        z = np.abs(z) + 0.2 if case.positive else z
        feeds[f"z{k}"] = (z * scale).astype(np.float32)
        channels = (1, shape[0], *(1,) * (len(shape) - 1))
        bias = rng.uniform(0.1, 0.5, channels) * (top * 0.2 if homogeneous else 1.0)
        feeds[f"b{k}"] = bias.astype(np.float32)
    feeds["theta"] = scalar(1.0 if homogeneous else 2.5 / top)
    return feeds


def run_at(model: onnx.ModelProto, feeds: Mapping[str, Array], level: Any) -> list[Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def plain_value(case: Case, values: list[Array]) -> Array:
    """The ANN's operator on the whole input, by onnxruntime without optimisations: no line of csscc in it."""
    names = [f"x{k}" for k in range(len(values))]
    params = [f"p{i}" if p is not None else "" for i, p in enumerate(case.parameters)]
    if case.op == "Linear":
        nodes = [helper.make_node("Identity", ["x0"], ["y"])]
    elif case.op == "Silu":
        nodes = [helper.make_node("Sigmoid", ["x0"], ["s"]), helper.make_node("Mul", ["x0", "s"], ["y"])]
    elif case.op == "QuickGelu":
        nodes = [
            helper.make_node("Constant", [], ["c"], value_float=1.702),
            helper.make_node("Mul", ["x0", "c"], ["m"]),
            helper.make_node("Sigmoid", ["m"], ["s"]),
            helper.make_node("Mul", ["x0", "s"], ["y"]),
        ]
    elif case.op == "Rms":
        nodes = [
            helper.make_node("Constant", [], ["axes"], value_ints=[-1]),
            helper.make_node("Mul", ["x0", "x0"], ["s"]),
            helper.make_node("ReduceMean", ["s", "axes"], ["m"]),
            helper.make_node("Add", ["m", "p0"], ["e"]),
            helper.make_node("Sqrt", ["e"], ["r"]),
            helper.make_node("Div", ["x0", "r"], ["y"]),
        ]
    elif case.op.startswith("Quantise"):
        return staircase(case, values)
    elif case.op == "SoftmaxOrZero":
        nodes = [helper.make_node("Softmax", ["x0"], ["y"], axis=-1)]
    elif case.op in ("Attend", "AttendOrZero"):
        nodes = [
            helper.make_node("MatMul", ["x0", "x1"], ["s"]),
            helper.make_node("Add", ["s", "p0"], ["m"]),
            helper.make_node("Softmax", ["m"], ["p"], axis=-1),
            helper.make_node("MatMul", ["p", "x2"], ["y"]),
        ]
    elif case.op == "ReluMaxPool":
        nodes = [
            helper.make_node("Relu", ["x0"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["y"], **case.attributes),
        ]
    else:
        op, arguments = ON_CONSTANTS.get(case.op, (case.op, [*names, *params]))
        nodes = [helper.make_node(op, arguments, ["y"], **case.attributes)]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in zip(names, values, strict=True)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(p, f"p{i}") for i, p in enumerate(case.parameters) if p is not None]
    graph = helper.make_graph(nodes, "plain", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)
    feeds = {n: v.astype(np.float32) for n, v in zip(names, values, strict=True)}
    return run_at(model, feeds, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)[0]


def staircase(case: Case, values: list[Array]) -> Array:
    """What a quantiser makes of a sum of products, by NumPy."""
    factors, (scale, low, high) = case.parameters[: len(values)], case.parameters[len(values) :]
    total = sum(np.float32(v) * f for v, f in zip(values, factors, strict=True))
    steps = total if len(values) == 1 else total / scale
    return np.clip(np.rint(steps), low, high) * scale


def differing(actual: Array, expected: Array) -> float:
    """Share of spikes that differ; NaN differs from everything."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    return float(np.mean(~(actual == expected)))


def test_every_activation_has_a_case() -> None:
    assert {c.op for c in CASES} == set(ACTIVATIONS)


def test_what_counts_on_exact_sums_is_exact() -> None:
    exact = {op for op, activation in ACTIVATIONS.items() if activation.exact}
    assert exact <= {c.op for c in CASES if c.exact} - {c.op for c in CASES if not c.exact}


def test_every_setting_occurs() -> None:
    for group in SETTINGS:
        for position, values in enumerate(((1, 2, 5, 12), (1.5, 2.0, 3.0), (0, 1, 2), (True, False))):
            assert {s[position] for s in group} == set(values)
    assert len(LEVELS) >= 4


@pytest.mark.parametrize(("index", "case"), names())
def test_onnxruntime_sends_the_spikes_of_the_reference_at_every_level(index: int, case: Case) -> None:
    for number, (T, beta, L, negative) in enumerate(SETTINGS[index % len(SETTINGS)]):
        coding = Coding(T, beta, L, negative)
        burst = coding.sends_bursts and in_bursts(negative, index + number)
        model = neuron_model(case, coding, burst=burst)
        onnx.checker.check_model(model, full_check=True)
        with_residuals(model)
        model.graph.output.append(onnx.ValueInfoProto(name="neuron_residual"))
        batch = BATCHES[(index + number) % 3] * (1 if case.exact else 8)  # a share needs enough spikes to be one
        feeds = feeds_for(case, coding, batch, seed=100 * index + number)
        trace = ReferenceRuntime(model).trace(feeds)
        expected, residual = trace.outputs["spikes"], trace.outputs["neuron_residual"]
        assert np.isfinite(expected).all()
        signs = {-1.0, 0.0, 1.0} if negative else {0.0, 1.0}
        assert set(np.unique(expected)) <= (signs | {-2.0, 2.0} if burst else signs)
        for level in LEVELS:
            spikes, left = run_at(model, feeds, level)
            share = differing(spikes, expected)
            assert share <= (0.0 if case.exact else FLIPS), f"{coding} at {level}: {share:.2%} of the spikes differ"
            if case.exact:
                np.testing.assert_array_equal(left, residual)


@pytest.mark.parametrize(("index", "case"), names())
def test_what_was_sent_and_what_is_left_is_the_value_of_the_operator(index: int, case: Case) -> None:
    for number, (T, beta, L, negative) in enumerate(SETTINGS[index % len(SETTINGS)]):
        coding = Coding(T, beta, L, negative)
        model = neuron_model(case, coding, burst=in_bursts(negative, index + number))
        with_residuals(model)
        model.graph.output.append(onnx.ValueInfoProto(name="neuron_residual"))
        batch = BATCHES[number % 3]
        feeds = feeds_for(case, coding, batch, seed=7 + 100 * index + number)
        spikes, left = run_at(model, feeds, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        q = np.array([beta ** (T - t) for t in range(1, T + 1)])
        whole, scale = [], 0.0
        for k in range(len(case.shapes)):
            z = feeds[f"z{k}"].astype(np.float64).reshape(T, batch, *case.shapes[k])
            whole.append(np.tensordot(q, z, axes=1) + feeds[f"b{k}"])
            scale = max(scale, np.abs(whole[-1]).max())
        sent = np.tensordot(q, spikes.astype(np.float64).reshape(T, batch, *spikes.shape[1:]), axes=1)
        target = plain_value(case, whole)
        tolerance = 2e-5 * max(scale, np.abs(target).max())
        np.testing.assert_allclose(float(feeds["theta"]) * (sent + left), target, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("index", "case"), names())
def test_a_scan_over_time_sends_the_same_spikes_at_every_level(index: int, case: Case) -> None:
    others = [(9, 1.0, 0, False), (9, 1.0, 1, True)]  # rate coding
    others += [(4, 2.0, 4, True), (9, 1.0, 9, True, True, True)]  # a silent period of all steps; time to first spike
    others += [(9, 1.0, 9, True, True, True, False, True)]  # temporal switch coding
    for number, setting in enumerate((*SETTINGS[index % len(SETTINGS)], *others)):
        coding = Coding(*setting)
        burst = in_bursts(coding.negative and coding.beta > 1, index + number)
        unrolled = neuron_model(case, coding, burst=burst)
        scanned = define_operators(copy_of(unrolled), write=scanned_function)
        onnx.checker.check_model(scanned, full_check=True)
        by_scan = any(n.op_type == "Scan" for f in scanned.functions for n in f.node)
        assert by_scan == (ACTIVATIONS[case.op].scope == "element")
        if not by_scan:
            assert scanned == unrolled
            continue
        feeds = feeds_for(case, coding, BATCHES[number % 3], seed=300 * index + number)
        for level in LEVELS:
            expected, actual = (run_at(model, feeds, level)[0] for model in (unrolled, scanned))
            np.testing.assert_array_equal(actual, expected)


def opsets(*versions: int) -> list[Any]:
    """Opsets of models that onnxruntime is to run: older releases of it refuse the newest."""

    def known(version: int) -> bool:
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
        try:
            ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception as error:
            return "support for domain ai.onnx is till opset" not in str(error)
        return True

    too_new = pytest.mark.skip(reason="the onnxruntime installed does not know this opset")
    return [pytest.param(v, marks=[] if known(v) else too_new) for v in versions]


@pytest.mark.parametrize("opset", opsets(18, 27, 28))
def test_a_scan_follows_the_opset(opset: int) -> None:
    for coding in (Coding(5, 1.5, 1), Coding(5, 1.5, 1, negative=False), Coding(5, 1.0, 0, negative=False)):
        unrolled = neuron_model(CASES[0], coding, opset=opset)
        scanned = define_operators(copy_of(unrolled), write=scanned_function)
        feeds = feeds_for(CASES[0], coding, 2, 0)
        for level in LEVELS:
            expected, actual = (run_at(model, feeds, level)[0] for model in (unrolled, scanned))
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("op", ["Encode", "TSARelu", "TSAMul"])
def test_a_scan_does_not_grow_with_time(op: str) -> None:
    """But for the numbers it scans: three a step and input at most, of four bytes."""
    sizes = []
    for T in (8, 20):
        coding = Coding(T, 1.5, 1)
        case = Case("Mul", shapes=TWO) if op == "TSAMul" else CASES[0]
        model = encode_model(coding, 0) if op == "Encode" else neuron_model(case, coding)
        (function,) = define_operators(model, write=scanned_function).functions
        sizes.append((len(function.node), function.ByteSize()))
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] < 60 * 3 * 4 + 100


def test_the_comparison_notices_a_wrong_function() -> None:
    """A function for another beta, L, sign or activation is found out, whichever level runs it."""
    case, coding = CASES[0], Coding(5, 1.5, 1)
    right = neuron_model(case, coding)
    feeds = feeds_for(case, coding, 2, 0)
    expected = ReferenceRuntime(right).trace(feeds).outputs["spikes"]
    for wrong in (Coding(5, 1.6, 1), Coding(5, 1.5, 0), Coding(5, 1.5, 1, negative=False)):
        other = neuron_model(case, wrong)
        assert differing(run_at(other, feeds, LEVELS[-1])[0], expected) > 10 * FLIPS
    assert differing(np.full_like(expected, np.nan), expected) == 1


@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("opset", opsets(18, 20, 21, 27, 28))
def test_functions_follow_the_opset(opset: int, negative: bool) -> None:
    case, coding = CASES[0], Coding(5, 1.5, 1, negative)
    model = neuron_model(case, coding, opset=opset)
    assert {o.version for f in model.functions for o in f.opset_import if o.domain == ""} == {opset}
    feeds = feeds_for(case, coding, 2, 0)
    expected = ReferenceRuntime(neuron_model(case, coding)).trace(feeds).outputs["spikes"]
    for level in LEVELS:
        np.testing.assert_array_equal(run_at(model, feeds, level)[0], expected)


def test_theta_of_each_channel() -> None:
    coding = Coding(8, 1.5, 1)
    case = Case("Sigmoid")
    model = neuron_model(case, coding, theta_rank=4)
    feeds = feeds_for(case, coding, 2, 1)
    feeds["theta"] = (f32(1, 2, 3, 4) / 100).reshape(1, 4, 1, 1)
    expected = ReferenceRuntime(model).trace(feeds).outputs["spikes"]
    for level in LEVELS:
        assert differing(run_at(model, feeds, level)[0], expected) <= FLIPS
    for c in range(4):
        single = {**feeds, "theta": feeds["theta"][0, c, 0, 0]}
        alone = ReferenceRuntime(neuron_model(case, coding)).trace(single).outputs["spikes"][:, c]
        np.testing.assert_array_equal(alone, expected[:, c])


TWINS = {
    "pads-on-one": (
        Case("MaxPool", {"kernel_shape": [2, 2]}),
        Case("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ),
    "default-alpha": (Case("LeakyRelu"), Case("LeakyRelu", {"alpha": 0.3})),
    "fewer-parameters": (
        Case("Clip", parameters=(scalar(0.1),)),
        Case("Clip", parameters=(scalar(-1), scalar(0.5))),
    ),
    "gap-in-parameters": (
        Case("Clip", parameters=(None, scalar(0.3))),
        Case("Clip", parameters=(scalar(0.0),)),
    ),
}


@pytest.mark.parametrize("twins", sorted(TWINS))
def test_one_function_serves_neurons_with_different_attributes_and_parameters(twins: str) -> None:
    coding = Coding(5, 1.5, 1)
    parts = [neuron_model(case, coding) for case in TWINS[twins]]
    feeds = feeds_for(TWINS[twins][0], coding, 2, 3)
    joined = onnx.ModelProto()
    joined.CopyFrom(parts[0])
    other = onnx.ModelProto()
    other.CopyFrom(parts[1])
    node = other.graph.node[0]
    node.name, node.output[0] = "second", "spikes2"
    for i, name in enumerate(node.input):
        if name.startswith("p"):
            node.input[i] = f"q{name}"
    for tensor in other.graph.initializer:
        tensor.name = f"q{tensor.name}"
    joined.graph.node.append(node)
    joined.graph.initializer.extend(other.graph.initializer)
    joined.graph.output.append(helper.make_tensor_value_info("spikes2", TensorProto.FLOAT, None))
    define_operators(joined)
    assert len(joined.functions) == 1
    alone = [ReferenceRuntime(p).trace(feeds).outputs["spikes"] for p in parts]
    traced = ReferenceRuntime(joined).trace(feeds).outputs
    for level in LEVELS:
        for expected, actual, reference in zip(alone, run_at(joined, feeds, level), traced.values(), strict=True):
            np.testing.assert_array_equal(actual, expected)
            np.testing.assert_array_equal(reference, expected)


def encode_model(coding: Coding, theta_rank: int, *, burst: bool = False) -> onnx.ModelProto:
    stated = attributes(coding.encoder(burst=burst), ENCODE)
    node = helper.make_node(ENCODE, ["x", "theta"], ["spikes"], "encoder", domain=DOMAIN, **stated)
    return finished([node], [tensor("x", 4), tensor("theta", theta_rank)], [tensor("spikes", 4)], [])


@pytest.mark.parametrize("sends", ["positive", "signed", "bursts"])
@pytest.mark.parametrize("T", [1, 2, 5, 12])
@pytest.mark.parametrize("beta", [1.3, 1.5, 2.0, 3.0])
def test_encode(T: int, beta: float, sends: str) -> None:
    signed = sends != "positive"
    coding = Coding(T, beta, signed_input=signed)
    for batch in BATCHES:
        x = np.random.default_rng(T).uniform(-1 if signed else 0, 1, (batch, *IMAGE)).astype(np.float32)
        for theta in (scalar(1 / levels_sum(T, beta)), f32(0.1, 0.2, 0.3, 0.4).reshape(1, 4, 1, 1)):
            feeds = {"x": x, "theta": theta}
            model = encode_model(coding, theta.ndim, burst=sends == "bursts")
            onnx.checker.check_model(model, full_check=True)
            expected = ReferenceRuntime(model).trace(feeds).outputs["spikes"]
            assert expected.shape == (T * batch, *IMAGE)
            scanned = define_operators(copy_of(model), write=scanned_function)
            onnx.checker.check_model(scanned, full_check=True)
            for level in LEVELS:
                np.testing.assert_array_equal(run_at(model, feeds, level)[0], expected)
                np.testing.assert_array_equal(run_at(scanned, feeds, level)[0], expected)
            if beta <= 2 or signed:
                q = np.array([beta ** (T - t) for t in range(1, T + 1)])
                value = np.tensordot(q, expected.astype(np.float64).reshape(T, batch, *IMAGE), axes=1) * theta
                inside = np.abs(x) <= levels_sum(T, beta) * theta
                bound = (theta / 2 if signed else theta) * np.ones_like(x)
                assert (np.abs(value - x)[inside] <= bound[inside] * (1 + 1e-5) + 1e-6).all()


def near_thresholds(coding: Coding) -> Array:
    """Numbers next to the thresholds, to half and to all of the weight of a spike, both signs, and huge ones."""
    weight = np.array([coding.beta ** (coding.T - t) for t in range(1, coding.T + 1)], np.float32)
    stated = [*coding.neuron().thresholds, *coding.encoder().thresholds]
    near = np.concatenate([stated, weight / 2, weight, weight * np.float32(1.5), [0.0]]).astype(np.float32)
    for _ in range(3):
        near = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))])
    near = np.concatenate([near, f32(200 * weight[0], 1e30, np.inf)])
    return once(np.concatenate([near, -near]))


def once(numbers: Array) -> Array:
    """Every number once, by its bits: minus zero is not zero."""
    return np.unique(numbers.view(np.uint32)).view(np.float32)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("T", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("beta", [1.1, 1.3, 1.5, 2.0, 2.7, 3.0])
def test_spikes_next_to_a_threshold(T: int, beta: float, signed: bool) -> None:
    """The functions divide and round, the reference compares."""
    coding = Coding(T, beta, 0, negative=signed, signed_input=signed)
    x = near_thresholds(coding).reshape(-1, 1, 1, 1)
    currents = {"z0": np.zeros((T * len(x), 1, 1, 1), np.float32), "b0": x, "theta": scalar(1)}
    neuron = neuron_model(Case("LeakyRelu", {"alpha": 1.0}), coding)
    for model, feeds in ((encode_model(coding, 0), {"x": x, "theta": scalar(1)}), (neuron, currents)):
        expected = ReferenceRuntime(model).trace(feeds).outputs["spikes"]
        assert set(np.unique(expected)) == ({-1.0, 0.0, 1.0} if signed else {0.0, 1.0})
        for level in LEVELS:
            np.testing.assert_array_equal(run_at(model, feeds, level)[0], expected)


@pytest.mark.parametrize("T", [1, 5])
def test_rate_coding_without_negative_spikes_fires_above_a_half(T: int) -> None:
    """Neither rounded nor whole: a threshold of its own."""
    coding = Coding(T, 1.0, 0, negative=False)
    x = near_thresholds(coding).reshape(-1, 1, 1, 1)
    feeds = {"z0": np.zeros((T * len(x), 1, 1, 1), np.float32), "b0": x, "theta": scalar(1)}
    model = neuron_model(Case("LeakyRelu", {"alpha": 1.0}), coding)
    expected = ReferenceRuntime(model).trace(feeds).outputs["spikes"]
    np.testing.assert_array_equal(expected[: len(x)], x > 0.5)
    for network in (model, define_operators(copy_of(model), write=scanned_function)):
        for level in LEVELS:
            np.testing.assert_array_equal(run_at(network, feeds, level)[0], expected)


@pytest.mark.parametrize("level", LEVELS)
def test_onnxruntime_quantises_by_a_division_and_rounds_halves_to_even(level: Any) -> None:
    """What the functions fire by; a product with the reciprocal would round otherwise."""
    node = helper.make_node("QuantizeLinear", ["x", "q", "zero"], ["y"])
    y = helper.make_tensor_value_info("y", TensorProto.INT8, ["n"])
    zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
    model = finished([node], [tensor("x", 1), tensor("q", 0)], [y], [zero])
    told_apart = 0
    for beta in (1.1, 1.3, 1.5, 2.7, 3.0):
        for weight in np.array([beta**k for k in range(0, 40, 3)], np.float32):
            halves = weight * np.arange(-4.5, 5, dtype=np.float32)
            x = np.concatenate([np.nextafter(halves, np.float32(to)) for to in (-np.inf, np.inf)] + [halves])
            x = np.concatenate([x, f32(1e30, np.inf, -1e30, -np.inf)])
            expected = np.clip(np.rint(x / weight), -128, 127)
            np.testing.assert_array_equal(run_at(model, {"x": x, "q": np.asarray(weight)}, level)[0], expected)
            told_apart += int((np.clip(np.rint(x * (1 / weight)), -128, 127) != expected).sum())
    assert told_apart > 0


@pytest.mark.parametrize("T", [1, 5])
def test_encode_as_a_constant_current(T: int) -> None:
    model = encode_model(Coding(T, 1.0), 0)
    onnx.checker.check_model(model, full_check=True)
    feeds = {"x": np.random.default_rng(T).standard_normal((3, *IMAGE)).astype(np.float32), "theta": scalar(0.25)}
    expected = ReferenceRuntime(model).trace(feeds).outputs["spikes"]
    np.testing.assert_allclose(expected.reshape(T, 3, *IMAGE), np.stack([feeds["x"] / 0.25 / T] * T), rtol=1e-6)
    for level in LEVELS:
        np.testing.assert_array_equal(run_at(model, feeds, level)[0], expected)


@pytest.mark.parametrize("T", [1, 2, 5, 12])
@pytest.mark.parametrize("beta", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("shape", [(5,), IMAGE, (3, 2, 2, 2, 2)])
def test_decode(T: int, beta: float, shape: tuple[int, ...]) -> None:
    stated = attributes(Coding(T, beta).neuron(), DECODE)
    node = helper.make_node(DECODE, ["z", "bias"], ["y"], "decoder", domain=DOMAIN, **stated)
    rank = len(shape) + 1
    bias = np.linspace(-3, 2, shape[-1], dtype=np.float32)
    constants = [numpy_helper.from_array(bias, "bias")]
    model = finished([node], [tensor("z", rank)], [tensor("y", rank)], constants)
    onnx.checker.check_model(model, full_check=True)
    for batch in BATCHES:
        z = np.random.default_rng(batch).standard_normal((T * batch, *shape)).astype(np.float32)
        by_time = z.astype(np.float64).reshape(T, batch, *shape)
        expected = bias + sum(beta ** (T - 1 - t) * by_time[t] for t in range(T))
        bound = 4e-7 * T * levels_sum(T, beta) * np.abs(z).max()
        np.testing.assert_allclose(ReferenceRuntime(model).run({"z": z})["y"], expected, rtol=0, atol=bound)
        for level in LEVELS:
            np.testing.assert_allclose(run_at(model, {"z": z}, level)[0], expected, rtol=0, atol=bound)


@pytest.mark.parametrize("beta", [1.3, 1.5, 1.618, 2.0, 3.0])
def test_the_coding_a_node_states_is_the_one_it_was_given(beta: float) -> None:
    """Attributes hold float32 numbers; the reference must not compute with others than the function does."""
    coding = Coding(7, beta, signed_input=False)
    model = encode_model(coding, 0)
    stated = view_of(model.graph.node[0]).schedule
    assert (stated.weights, stated.negative) == (numbers(coding.weights), False)
    assert stated.thresholds == tuple(np.nextafter(np.float32(coding.weights), 0))


PARTIAL = (
    Case("Log"),
    Case("Sqrt"),
    Case("Reciprocal"),
    Case("DividedInto", parameters=(scalar(1.0),)),
    Case("Div", shapes=TWO),
    Case("Pow", parameters=(scalar(0.5),)),
    Case("LpNormalization", {"axis": 1, "p": 2}),
)


@pytest.mark.parametrize("case", PARTIAL, ids=lambda c: c.op)
@pytest.mark.parametrize("L", [0, 1])
def test_a_neuron_survives_a_start_outside_its_domain(case: Case, L: int) -> None:
    """The first steps of an input often say zero or less; once enough has arrived, the value is sent."""
    coding = Coding(12, 1.5, L)
    feeds = feeds_for(case, coding, 2, 5)
    q = coding.weights.astype(np.float32)
    for k in range(len(case.shapes)):
        z = feeds[f"z{k}"].reshape(12, 2, *IMAGE)
        z[...] = 0
        z[1] = -0.3 / q[1]
        z[2] = 1.3 / q[2]
        feeds[f"b{k}"] = np.zeros((1, 1, 1, 1), np.float32)
    model = neuron_model(case, coding)
    with_residuals(model)
    model.graph.output.append(onnx.ValueInfoProto(name="neuron_residual"))
    with np.errstate(all="ignore"):
        reference = ReferenceRuntime(model).trace(feeds).outputs
    assert np.isfinite(reference["spikes"]).all()
    if case.op not in ("Reciprocal", "DividedInto"):  # it leaps from one end of the range to the other
        assert np.abs(reference["neuron_residual"]).max() <= (3 if L == 0 else 1)
    for level in LEVELS:
        spikes, _ = run_at(model, feeds, level)
        assert differing(spikes, reference["spikes"]) <= FLIPS
