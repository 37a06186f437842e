"""csscc verify: each layer by itself, and what rounding decides apart from what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import csscc
from csscc.coding.schedule import Schedule
from csscc.dialect.model import copy_of, spike_sources
from csscc.dialect.spiking import Spiking, view_of
from csscc.measure.ties import Ties
from csscc.measure.verify import _Sent, verify
from csscc.passes.lower.folded import with_trains
from tests.helpers import carried, parse, run, small_classifier

BLOCKS = 3
WEIGHTS = ", ".join(f"float[32,32] w{i}, float[32,32] v{i}, float[32] s{i}" for i in range(BLOCKS))
LAYERS = " ".join(
    f"a{i} = MatMul(x{i}, w{i}) g{i} = Gelu(a{i}) b{i} = MatMul(g{i}, v{i}) h{i} = Softmax <axis = -1> (b{i}) "
    f"c{i} = Add(x{i}, h{i}) x{i + 1} = LayerNormalization(c{i}, s{i})"
    for i in range(BLOCKS)
)
DEEP = f"g (float[N,8,32] x0) => (float[N,8,32] y) <{WEIGHTS}> {{ {LAYERS} y = Identity(x{BLOCKS}) }}"


@pytest.fixture(scope="module")
def deep() -> onnx.ModelProto:
    """A file of many layers whose activations are computed in roundings."""
    model = parse(DEEP, **{f"s{i}": np.ones(32) for i in range(BLOCKS)})
    x = np.random.default_rng(1).standard_normal((16, 8, 32)).astype(np.float32)
    return csscc.compile(model, x, T=18, beta=1.5, form="unrolled", check_samples=0).file


def with_factor(model: onnx.ModelProto, op: str, factor: float) -> onnx.ModelProto:
    """The file with what an operator makes in its neurons multiplied by a number."""
    made = copy_of(model)
    for function in made.functions:
        nodes = list(function.node)
        del function.node[:]
        for node in nodes:
            function.node.append(node)
            if node.op_type == op and op in function.name:
                result = node.output[0]
                function.node[-1].output[0] = before = f"{result}_before"
                number = helper.make_node("Constant", [], [f"{result}_factor"], value_float=factor)
                function.node.extend([number, helper.make_node("Mul", [before, number.output[0]], [result])])
    return made


def test_roundings_in_a_layer_are_reported_and_count_once(deep: onnx.ModelProto) -> None:
    other = with_factor(deep, "LayerNormalization", 1 + 2.0**-21)
    x = {"x0": np.random.default_rng(0).standard_normal((32, 8, 32)).astype(np.float32)}
    found = verify(other, x, limit=32)
    assert found.holds
    assert 0 < found.different == found.ties < 1e-4 * found.spikes
    # Left to themselves, the layers of the two files differ in ever more spikes.
    trains = [node.output[0] for node in spike_sources(deep)]
    a, b = (run(with_trains(copy_of(m), trains), x) for m in (deep, other))
    assert sum((a[t] != b[t]).sum() for t in trains) > 5 * found.different


@pytest.mark.parametrize(
    ("op", "factor"), [("LayerNormalization", 1.001), ("Gelu", 1.001), ("Softmax", 0.9), ("Gelu", np.nan)]
)
def test_other_functions_than_the_neurons_are_reported(op: str, factor: float, deep: onnx.ModelProto) -> None:
    found = verify(with_factor(deep, op, factor))
    assert not found.holds
    assert found.different - found.ties > 10 * 1e-6 * found.spikes
    changed = {name for name, number in found.layers.items() if number > 1e-4 * found.spikes}
    kinds = {n.name: n.op_type for n in deep.graph.node}
    assert op in kinds[next(name for name in found.layers if name in changed)]
    if np.isfinite(factor):  # only the layers that were changed, since those after them read what they sent
        assert all(op in kinds[name] for name in changed)


def test_exact_activations_leave_nothing_to_rounding() -> None:
    model, data = small_classifier(64)
    file = csscc.compile(model, data["x"], T=16, form="unrolled", check_samples=0).file
    assert verify(file, data["x"], limit=64).different == 0
    found = verify(with_factor(file, "Relu", 1 + 2.0**-21), data["x"], limit=64)
    assert found.different > 0
    assert found.ties == 0
    assert not found.holds


def test_sums_that_are_not_exact_are_rounded() -> None:
    """Interpolation at thirds, in front of ReLU: see `csscc.passes.convert.snap_weights`."""
    model = parse(
        "g (float[N,2,4,4] x) => (float[N,2,12,12] y) <float[2,2,1,1] w, float[2,2,1,1] v, float[4] scales>"
        '{ a = Conv(x, w) r = Relu(a) b = Resize <mode = "linear"> (r, , scales) s = Relu(b) y = Conv(s, v) }',
        scales=[1, 1, 3, 3],
    )
    x = np.random.default_rng(0).standard_normal((64, 2, 4, 4)).astype(np.float32)
    snn = csscc.compile(model, x, T=16, form="unrolled", check_samples=0)
    layers = [n for n in snn.model.graph.node if n.op_type.startswith("TSARelu")]
    views = [view_of(n) for n in layers]
    differ, potentials = np.ones((16, 1, 1), bool), np.array(views[0].schedule.thresholds)[:, None, None]
    potentials = (potentials / np.array(views[0].schedule.weights)[:, None, None]).astype(np.float32)
    ties = Ties(snn.model)
    assert [ties.count(view, differ, potentials) for view in views] == [0, 16]


BETA_2 = Schedule((8.0, 4.0, 2.0, 1.0), silent=1, merged=(2.0, 1.0))


@pytest.mark.parametrize(
    ("differ", "off", "ties"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 0),
        ([0, 0, 1, 1], [9, 9, 1e-6, 9], 2),  # the last spike makes up for the one in front of it
        ([0, 0, 1, 1], [9, 9, -1e-6, 9], 2),
        ([0, 0, 1, 1], [9, 9, 1e-3, 0], 0),
        ([0, 1, 0, 1], [0, 9, 0, 0], 0),
        ([0, 1], [9, 9, 9, 0], 1),  # three steps as one sum
        ([1, 0], [9, 0, 9, 9], 1),
        ([1, 0], [9, 9, 9, 0], 0),
        ([1, 1], [9, np.nan, 9, 0], 0),
    ],
)
def test_ties_by_hand(differ: list[int], off: list[float], ties: int) -> None:
    """Potentials that are `off` the threshold, half of the weight of a spike."""
    view: Spiking[Any] = Spiking("n", "TSAGelu", [], BETA_2)
    weights = np.array(BETA_2.weights)
    for sign in (1, -1):
        potentials = (sign * (0.5 + np.array(off) / weights)).astype(np.float32)
        assert Ties(onnx.ModelProto()).count(view, np.array(differ, bool)[:, None], potentials[:, None]) == ties


def test_bursts_have_a_threshold_more_of_each_sign_and_neurons_without_negative_spikes_one_less() -> None:
    differ = np.array([[True], [False]])

    def at(potential: float, **stated: Any) -> int:
        view: Spiking[Any] = Spiking("n", "TSAGelu", [], Schedule((2.0, 1.0), **stated))
        return Ties(onnx.ModelProto()).count(view, differ, np.array([[potential], [9]], np.float32))

    assert [at(p) for p in (-1.5, -0.5, 0.5, 1.5)] == [0, 1, 1, 0]
    assert [at(p, burst=True) for p in (-1.5, -0.5, 0.5, 1.5)] == [1, 1, 1, 1]
    assert [at(p, negative=False) for p in (-1.5, -0.5, 0.5, 1.5)] == [0, 0, 1, 0]


def test_readers_receive_what_the_file_sent() -> None:
    own = np.random.default_rng(0).integers(-1, 2, (4, 2, 3)).astype(np.float32)
    for merged in ((1.0,), (2.25, 1.5, 1.0)):
        slabs = carried(own, merged)
        assert np.array_equal(_Sent({"n": slabs}, {"n": merged}).steps("n", own), own)
        slabs[0, 1, 2] += 1
        slabs[-1, 0, 0] += 1
        sent = _Sent({"n": slabs.reshape(-1, 3)}, {"n": merged})
        assert np.argwhere(sent.differ("n", own)).tolist() == [[0, 1, 2], [len(slabs) - 1, 0, 0]]
        assert np.allclose(carried(sent.steps("n", own), merged), slabs, atol=0, rtol=0)
        assert np.array_equal(sent.steps("another", own), own)


def test_trains_of_another_size_and_spikes_that_are_nan_differ() -> None:
    own = np.array([[[1.0, 0.0]], [[-1.0, 1.0]]])
    for slabs, number in ((own, 0), (np.array([[1.0, np.nan], [-1.0, 0.0]]), 2), (np.ones((3, 2)), 4), (own[:1], 4)):
        sent = _Sent({"n": slabs}, {})
        assert sent.differ("n", own).sum() == number
    assert sent.steps("n", own) is own
