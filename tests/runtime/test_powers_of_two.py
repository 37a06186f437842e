"""Neurons in blocks whose spikes are powers of two: those of the reference, where sums land next to a threshold."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from csscc.coding import oracle
from csscc.coding.coding import Coding
from csscc.coding.schedule import Schedule
from csscc.dialect.spiking import STEPS_DOMAIN, STEPS_DOMAIN_VERSION
from csscc.passes.lower.powers_of_two import applies
from csscc.passes.lower.stepwise import down
from tests.runtime.test_functions import LEVELS
from tests.runtime.test_stepwise import one_neuron

Array = NDArray[np.float32]
CHANNELS, WIDTH = 32, 64
FUNCTIONS = {"TSARelu": lambda h: np.maximum(h, np.float32(0)), "TSAMaxPool": lambda h: h}
CODINGS = [
    Coding(3, 2.0, 0),
    Coding(6, 2.0, 0),
    Coding(6, 2.0, 1),
    Coding(8, 2.0, 2),
    Coding(12, 2.0, 1),
    Coding(4, 4.0, 1),
    Coding(20, 2.0, 3),
]


def currents_to_thresholds(schedule: Schedule, bias: Array) -> Array:
    """Inputs after which a membrane lies next to a threshold, as seen from what was sent, at one step or another."""
    rng = np.random.default_rng(schedule.T)
    shape = (2, CHANNELS, 1, WIDTH)
    levels = rng.integers(0, 2 ** min(schedule.T, 12), shape) * rng.choice([0, 0.25, 1, 1], shape)
    halves = rng.choice([-1.5, -0.5, -0.25, 0, 0.5, 1.5], shape)
    tiny = rng.choice([0, 0, 2.0**-24, -(2.0**-24), 2.0**-20, -(2.0**-20)], shape)
    z = np.zeros((schedule.T, *shape), np.float32)
    membrane = np.broadcast_to(bias, shape).astype(np.float32)
    for t, weight in enumerate(map(np.float32, schedule.weights)):
        wanted = (np.floor(levels / weight) + halves) * weight * (1 + tiny)
        hit = rng.random(shape) < 0.5
        z[t] = np.where(hit, (wanted - membrane) / weight, rng.normal(0, 0.3, shape))
        membrane = membrane + z[t] * weight
    return z


def one_node(model: onnx.ModelProto, op: str) -> onnx.ModelProto:
    """The neuron of a model in steps alone, its slabs as inputs."""
    node = next(n for n in model.graph.node if n.op_type == op)
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.input]
    outputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in node.output]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(STEPS_DOMAIN, STEPS_DOMAIN_VERSION)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=list(model.functions))


def sent_at(level: ort.GraphOptimizationLevel, model: onnx.ModelProto, values: list[Array]) -> Array:
    """What the neuron sends, at one level of optimisation; operands are constants, as in a file."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    slabs = len(model.graph.output)
    for value, array in list(zip(model.graph.input, values, strict=True))[slabs:]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        model.graph.input.remove(value)
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.stack(session.run(None, dict(zip([i.name for i in model.graph.input], values, strict=False))))


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_sums_next_to_a_threshold(coding: Coding, op: str) -> None:
    schedule = coding.neuron()
    assert applies(schedule), schedule
    bias = np.random.default_rng(1).normal(0, 1, (CHANNELS, 1, 1)).astype(np.float32)
    bias[::2] = 0
    z = currents_to_thresholds(schedule, bias)
    expected = oracle.tsa([z], FUNCTIONS[op], schedule, [bias]).spikes
    model, _ = one_neuron(op, coding, bias.ravel())
    stepwise = one_node(down(model), op)
    for level in LEVELS:
        actual = sent_at(level, stepwise, [*z, bias, np.ones((), np.float32)])
        np.testing.assert_array_equal(actual, expected)


def test_the_membranes_are_next_to_thresholds() -> None:
    """Of a potential, in units of the weight, what is left of a half: often next to nothing, on either side."""
    schedule = Coding(8, 2.0, 1).neuron()
    z = currents_to_thresholds(schedule, np.zeros((CHANNELS, 1, 1), np.float32))
    potentials = oracle.tsa([z], FUNCTIONS["TSARelu"], schedule).potentials
    off = np.abs(np.stack(potentials)) % 1 - 0.5
    assert (off == 0).mean() > 0.01
    assert ((off != 0) & (np.abs(off) < 1e-5)).mean() > 0.01


def test_other_schedules_are_left_to_the_other_blocks() -> None:
    weights = (4.0, 2.0, 1.0)
    assert applies(Schedule(weights))
    assert not applies(Schedule((9.0, 3.0, 1.0)))
    assert not applies(Schedule((2.25, 1.5, 1.0)))
    assert not applies(Schedule((1.0, 1.0, 1.0)))  # what was sent may be one weight: half of it is next to a threshold
    assert not applies(Schedule((1.0, 2.0, 4.0)))
    assert not applies(Schedule(weights, thresholds=(3.0, 1.0, 0.5)))
    assert not applies(Schedule(weights, rounded=True))
    assert not applies(Schedule(weights, burst=True))


def test_why_bursts_are_left_to_the_other_blocks() -> None:
    """What was sent is twice the weight of a spike: the oracle rounds the difference to a tie, one sum does not."""
    weight, sent, magic = np.float32(16), np.float32(32), np.float32(1.5 * 2**23)
    target = np.nextafter(np.float32(8), np.float32(9))
    schedule = Schedule((16.0, 8.0), burst=True)
    at_once = np.clip((magic * weight - sent + target) / weight - magic, *schedule.counts)
    assert oracle.decided(target - sent, schedule, 1) == -2
    assert at_once == -1
    assert not applies(Schedule(tuple(2.0**k for k in range(21, -1, -1))))  # more than is added to round
