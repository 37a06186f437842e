"""Native neurons that receive, read and send sums of steps, against their recurrence in NumPy, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from csscc.runtime import native

Array = NDArray[Any]
BETAS = (1.1, 1.5, 2.0, 2.5, 3.0)
VERSIONS = {"csscc": 9, "csscc.steps": 8}
TOGETHER = 16  # neurons in one session, which takes longer to make than to run
F32 = np.float32


pytestmark = pytest.mark.usefixtures("kernels")


@dataclass(frozen=True)
class Schedule:
    """Coding and sums of one node; `received` steps are one sum, `reads` of them one slab, `sends` spikes another."""

    T: int
    beta: float
    silent: int = 0
    received: int = 1
    reads: int = 1
    sends: int = 1
    negative: bool = True
    whole: bool = False
    rounded: bool = False
    fires: float = 0.5  # from which share of its weight on a spike is sent, where not from all of it on
    burst: bool = False

    def head(self, count: int) -> list[float]:
        base = self.beta if self.beta == 1.5 else round(self.beta)  # of few bits, so that sums are exact
        return [float(base ** (count - t)) for t in range(1, count + 1)]

    @property
    def weights(self) -> Array:
        return (self.beta ** np.arange(self.T - 1, -1, -1, dtype=np.float64)).astype(F32)

    @property
    def thresholds(self) -> Array:
        return np.nextafter(self.weights, F32(0)) if self.whole else self.weights * F32(self.fires)

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "weights": self.weights.tolist(),
            "silent": self.silent,
            "negative": int(self.negative),
            "thresholds": self.thresholds.tolist(),
            "rounded": int(self.rounded),
            "burst": int(self.burst),
            "merged": self.head(self.received),
            "reads": self.reads,
            "sends": self.head(self.sends),
        }


def fire(o: Array, q: np.float32, schedule: Schedule) -> Array:
    if schedule.burst:
        return np.clip(np.rint(o * (F32(1) / F32(2 * q * F32(schedule.fires)))), F32(-2), F32(2))
    if schedule.whole:
        return (o >= q).astype(F32)
    least = q * F32(schedule.fires)
    return (o > least).astype(F32) - ((o < -least) & schedule.negative).astype(F32)


def added(spikes: Array, weights: Sequence[float]) -> Array:
    """A train with its first steps in one slab."""
    first = sum(F32(w) * s for w, s in zip(weights, spikes, strict=False))
    return np.concatenate([np.asarray(first)[None], spikes[len(weights) :]])


def arriving(slabs: Array, schedule: Schedule) -> Array:
    """What is received at steps m .. T, of T - reads + 1 slabs."""
    weights = [F32(w) for w in schedule.head(schedule.received)[schedule.reads - 1 :]]
    total = weights[0] * slabs[0]
    for w, slab in zip(weights[1:], slabs[1:], strict=False):
        total = total + w * slab
    return np.concatenate([total[None], slabs[len(weights) :]])


def neuron(
    activation: Callable[..., Array],
    currents: Sequence[Array],
    biases: Sequence[Array],
    schedule: Schedule,
    theta: Array | None,
    *,
    partial: bool,
) -> tuple[Array, Array]:
    """Slabs that a neuron sends, and its residual."""
    q, T, m = schedule.weights, schedule.T, schedule.received
    received = [arriving(z, schedule) for z in currents]
    membranes = [b + z[0] * q[m - 1] for b, z in zip(biases, received, strict=True)]
    now = m
    spikes: list[Array] = []
    sent: Array = np.zeros((), F32)
    left: Array | None = None

    def rest(y: Array) -> Array:
        with np.errstate(all="ignore"):
            o = (y if theta is None else y / theta) - sent
        return np.where(np.isfinite(o), o, F32(0)) if partial else o

    for k in range(1, T + 1):
        for t in range(now + 1, min(k + schedule.silent, T) + 1):
            membranes = [h + z[t - m] * q[t - 1] for h, z in zip(membranes, received, strict=True)]
            now = t
        with np.errstate(all="ignore"):
            y = activation(*membranes)
        if schedule.rounded and k == max(1, T - schedule.silent):
            left = np.rint(rest(y)) * F32(0.5) + rest(y) * F32(0.5)
        spikes.append(fire(rest(y) if left is None else left, q[k - 1], schedule))
        left = None if left is None else left - q[k - 1] * spikes[-1]
        sent = sent + q[k - 1] * spikes[-1]
    return added(np.stack(spikes), schedule.head(schedule.sends)), rest(y)


def pool(x: Array) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


@dataclass(frozen=True)
class Case:
    op: str
    activation: Callable[..., Array]
    inputs: int = 1
    homogeneous: bool = True
    partial: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[float, ...] = ()
    shape: tuple[int, ...] = (3, 31)


IMAGE = (3, 6, 10)
WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}
CASES = (
    Case("Relu", lambda x: np.maximum(x, F32(0))),
    Case("LeakyRelu", lambda x: np.where(x >= 0, x, F32(0.125) * x), attributes={"alpha": 0.125}),
    Case("Clip", lambda x: np.clip(x, F32(-1), F32(6)), homogeneous=False, parameters=(-1.0, 6.0)),
    Case("Max", np.maximum, inputs=2),
    Case("Mul", np.multiply, inputs=2, homogeneous=False),
    Case("Div", np.divide, inputs=2, homogeneous=False, partial=True),
    Case("MaxPool", pool, attributes=WINDOW, shape=IMAGE),
    Case("ReluMaxPool", lambda x: np.maximum(pool(x), F32(0)), attributes=WINDOW, shape=IMAGE),
)


@lru_cache(maxsize=64)  # each holds megabytes of address space, and thousands would leave no room to fork
def session(model: bytes, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(native.library())
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(op: str, feeds: Mapping[str, Array], outputs: Sequence[str], attributes: Mapping[str, Any]) -> list[Array]:
    """What one node makes of its inputs."""
    return run_nodes([helper.make_node(op, list(feeds), outputs, domain="csscc", **attributes)], feeds)


def run_nodes(nodes: Sequence[onnx.NodeProto], feeds: Mapping[str, Array]) -> list[Array]:
    """What nodes side by side make of their inputs: the outputs of each in turn."""
    number = onnx.TensorProto.FLOAT
    ins = [helper.make_tensor_value_info(n, number, [None] * x.ndim) for n, x in feeds.items()]
    outs = [helper.make_tensor_value_info(n, number, None) for node in nodes for n in node.output]
    domains = {node.domain for node in nodes}
    imports = [helper.make_opsetid("", 20), *(helper.make_opsetid(d, VERSIONS[d]) for d in domains)]
    model = helper.make_model(helper.make_graph(nodes, "g", ins, outs), opset_imports=imports, ir_version=10)
    return list(session(model.SerializeToString()).run(None, dict(feeds)))


def folded(train: Array) -> Array:
    return train.reshape(-1, *train.shape[2:])


Draw = tuple[Sequence[Array], Sequence[Array], Schedule]  # currents, biases, and what the neuron does with them


def in_each_form(
    case: Case, draw: Draw, theta: Array, number: int
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """A neuron that shows its residual, one that does not, and one in steps: nodes, and what they read."""
    currents, biases, schedule = draw
    attributes = schedule.attributes | dict(case.attributes)
    rest = {"theta": theta} | {f"p{i}": np.array(p, F32) for i, p in enumerate(case.parameters)}
    layer: dict[str, Array] = {}
    steps: dict[str, Array] = {}
    for i, (z, b) in enumerate(zip(currents, biases, strict=True)):
        layer |= {f"{number}.z{i}": folded(z), f"{number}.b{i}": b}
        steps |= {f"{number}.z{i}@{n}": slab for n, slab in enumerate(z)} | {f"{number}.b{i}": b}
    op, (whole, in_steps) = f"TSA{case.op}", ([*layer, *rest], [*steps, *rest])
    stepped = [f"{number}.s@{n}" for n in range(slabs_of(schedule))]
    nodes = [
        helper.make_node(op, whole, [f"{number}.shown", f"{number}.residual"], domain="csscc", **attributes),
        helper.make_node(op, whole, [f"{number}.hidden"], domain="csscc", **attributes),
        helper.make_node(op, in_steps, stepped, domain="csscc.steps", **attributes),
    ]
    return nodes, layer | steps | rest


def slabs_of(schedule: Schedule) -> int:
    """Slabs of the train that a neuron sends."""
    return schedule.T - schedule.sends + 1


def assert_same(case: Case, *draws: Draw, theta: float = 1.0) -> None:
    """That nodes send what the recurrence does, in each of their forms, side by side in one session."""
    amplitude: Array = np.array(theta, F32)
    own = None if case.homogeneous else amplitude
    made = [in_each_form(case, draw, amplitude, number) for number, draw in enumerate(draws)]
    feeds = {name: array for _, given in made for name, array in given.items()}
    outputs = iter(run_nodes([node for nodes, _ in made for node in nodes], feeds))
    for currents, biases, schedule in draws:
        expected, rest = neuron(case.activation, currents, biases, schedule, own, partial=case.partial)
        shown, residual, hidden = (next(outputs) for _ in range(3))
        steps = np.stack([next(outputs) for _ in range(slabs_of(schedule))])
        for train, wanted in ((shown, folded(expected)), (hidden, folded(expected)), (steps, expected)):
            np.testing.assert_array_equal(train, wanted, str(schedule))
        np.testing.assert_array_equal(residual, rest, str(schedule))


def feeds_for(case: Case, schedule: Schedule, seed: int) -> tuple[list[Array], list[Array]]:
    """Currents and biases whose sums are exact, many of them near thresholds or on them."""
    rng = np.random.default_rng(seed)
    slabs = schedule.T - schedule.reads + 1
    shape = (slabs, 2, *case.shape)
    currents = [(rng.integers(-2048, 2049, shape) / 1024).astype(F32) for _ in range(case.inputs)]
    currents[0][:, :, :1] = np.round(currents[0][:, :, :1] * 2) / 2  # these end on halves
    biases = [(rng.integers(-64, 65, (case.shape[0],) + (1,) * (len(case.shape) - 1)) / 32).astype(F32)] * case.inputs
    return currents, biases


def schedules() -> Iterator[Schedule]:
    """Every T and beta, with silent periods and sums spread over them."""
    rng = np.random.default_rng(5)
    for T, beta in itertools.product(range(1, 13), BETAS):
        for silent in sorted({0, 1, T - 1, T, int(rng.integers(0, T + 1))}):
            received = int(rng.integers(1, min(silent + 1, T) + 1))
            reads, sends = int(rng.integers(1, received + 1)), int(rng.integers(1, T + 1))
            negative = bool(rng.integers(0, 4))
            whole = not negative and bool(rng.integers(0, 2))
            rounded = negative and beta in (2.0, 3.0) and bool(rng.integers(0, 2))
            burst = negative and bool(rng.integers(0, 2))
            yield Schedule(T, beta, silent, received, reads, sends, negative, whole, rounded, burst=burst)
        most = min(4, T)
        for burst in (False, True):
            yield Schedule(T, beta, most - 1, most, most, most, rounded=beta in (2.0, 3.0), burst=burst)
            yield Schedule(T, beta, most - 1, most, most, most, fires=0.8, burst=burst)
    for T, beta, silent in itertools.product(range(1, 7), (3.5, 4.0, 5.0), (0, 1, 3)):  # bases of bursts
        received = min(silent + 1, T)
        rounded = beta > 3.5 and 2 * silent + 1 >= T
        yield Schedule(T, beta, min(silent, T), received, received, received, rounded=rounded, burst=True)


@pytest.mark.parametrize("case", CASES, ids=[c.op for c in CASES])
def test_slabs_and_residuals(case: Case) -> None:
    draws = [(*feeds_for(case, schedule, number), schedule) for number, schedule in enumerate(schedules())]
    for start in range(0, len(draws), TOGETHER):
        assert_same(case, *draws[start : start + TOGETHER], theta=0.75)


def near_thresholds(schedule: Schedule) -> Array:
    """Multiples of a half that a train can reach, up to 2000, half of each weight, and the numbers next to them."""
    top = min(2000, (1 + schedule.burst) * int(np.ceil(schedule.weights.sum())) + 2)
    ties = np.concatenate([np.arange(-2 * top, 2 * top + 1) / 2, [1e-30, 2.0**22 + 0.5, 1e9, -1e9, 3e38]])
    ties = np.concatenate([ties, *(s * schedule.weights / 2 for s in (1, -1))]).astype(F32)
    return np.concatenate([ties, np.nextafter(ties, F32(np.inf)), np.nextafter(ties, F32(-np.inf))])


@pytest.mark.parametrize("burst", [False, True])
@pytest.mark.parametrize(("negative", "rounded"), [(True, False), (False, False), (True, True)])
def test_ties_and_the_numbers_next_to_them(negative: bool, rounded: bool, burst: bool) -> None:
    betas = (2.0, 3.0, *((4.0, 5.0) if burst else ())) if rounded else (2.0, 3.0, 1.5)
    linear = Case("LeakyRelu", lambda h: h, attributes={"alpha": 1.0})
    for T, beta in itertools.product(range(1, 7), betas):
        draws: list[Draw] = []
        for silent, sends in itertools.product(range(T + 1), range(1, T + 1)):
            signs = {"negative": negative, "rounded": rounded, "burst": burst and negative}
            schedule = Schedule(T, beta, silent, sends=sends, **signs)
            x = near_thresholds(schedule)[None, :]
            draws.append(([np.zeros((T, *x.shape), F32)], [x], schedule))
        assert_same(linear, *draws)


@pytest.mark.parametrize("size", [1, 15, 16, 63, 64, 65, 511, 512, 513, 8193])
def test_sizes(size: int) -> None:
    """Chunks and blocks that are full, and that are not; nothing is written behind them."""
    case = Case(CASES[0].op, CASES[0].activation, shape=(size,))
    others = (Schedule(4, 3.0, 3, 4, 4, 4, rounded=True, burst=True), Schedule(6, 2.0, 3, 3, 2, 2, burst=True))
    for schedule in (Schedule(4, 3.0, 3, 4, 4, 4), Schedule(6, 2.0, 2, 3, 2, 2), Schedule(7, 3.0, 6, 7, 7, 6), *others):
        assert_same(case, (*feeds_for(case, schedule, size), schedule))


def test_channels_in_blocks() -> None:
    """``[N, C/8, H, W, 8]`` in memory: biases are one a channel, all else is elementwise."""
    lanes, (n, c, h, w) = 8, (2, 16, 4, 6)
    schedule = Schedule(5, 3.0, 3, 4, 2, 3)
    rng = np.random.default_rng(0)
    z = (rng.integers(-4096, 4097, (schedule.T - 1, n, c, h, w)) / 1024).astype(F32)
    bias = rng.integers(-4, 5, (c, 1, 1)).astype(F32)
    for case in (CASES[0], CASES[-1]):
        expected, _ = neuron(case.activation, [z], [bias], schedule, None, partial=False)
        blocked = z.reshape(-1, n, c // lanes, lanes, h, w).transpose(0, 1, 2, 4, 5, 3).reshape(z.shape)
        feeds = {"z": folded(np.ascontiguousarray(blocked)), "b": bias, "theta": np.array(F32(1))}
        (train,) = run(f"TSA{case.op}", feeds, ["s"], schedule.attributes | dict(case.attributes) | {"lanes": lanes})
        _, _, _, high, wide = expected.shape
        rows = train.reshape(-1, n, c // lanes, high, wide, lanes).transpose(0, 1, 2, 5, 3, 4).reshape(expected.shape)
        np.testing.assert_array_equal(rows, expected)


def test_encoder() -> None:
    theta = F32(0.3)
    for schedule in schedules():
        q = schedule.weights
        x = np.concatenate([near_thresholds(schedule), np.linspace(-9, 9, 700, dtype=F32)])[None, :] * theta
        o, spikes = x / theta, []
        for k in range(schedule.T):
            spikes.append(fire(o, q[k], schedule))
            o = o - q[k] * spikes[-1]
        names = ("weights", "negative", "burst", "thresholds", "sends")
        attributes = {name: schedule.attributes[name] for name in names}
        (train,) = run("Encode", {"x": x, "theta": np.array(theta)}, ["s"], attributes)
        np.testing.assert_array_equal(train, folded(added(np.stack(spikes), schedule.head(schedule.sends))))


def test_a_constant_current() -> None:
    x = np.linspace(-1, 1, 31, dtype=F32)[None, :]
    attributes = {"weights": [1.0] * 5, "negative": 1, "constant": 1}
    (train,) = run("Encode", {"x": x, "theta": np.array(F32(0.3))}, ["s"], attributes)
    np.testing.assert_array_equal(train, np.repeat(x / F32(0.3) * F32(1 / 5), 5, axis=0))


@pytest.mark.parametrize("lanes", [1, 8])
def test_merge(lanes: int) -> None:
    rng = np.random.default_rng(2)
    for T in range(1, 7):
        for received in range(1, T + 1):
            for reads in range(1, received + 1):
                schedule = Schedule(T, 3.0, received=received, reads=reads)
                train = rng.integers(-9, 10, (T - reads + 1, 2, 8, 5, 15)).astype(F32)
                attributes = {name: schedule.attributes[name] for name in ("weights", "merged", "reads")}
                (merged,) = run("Merge", {"s": folded(train)}, ["m"], attributes | {"lanes": lanes})
                np.testing.assert_array_equal(merged, folded(arriving(train, schedule)))


@pytest.mark.parametrize("counts", [(3, 3), (3, 4), (4, 2), (4, 1)], ids=str)
def test_in_place_only_where_as_many_slabs_leave_as_come(counts: tuple[int, int]) -> None:
    """Three neurons in a row, the second of which may write over what the first sent."""
    reads, sends = counts
    schedules = [Schedule(5, 3.0, 3, 4, r, s) for r, s in ((1, reads), counts, (min(sends, 4), 1))]
    z = (np.random.default_rng(1).integers(-2048, 2049, (5, 2, 700)) / 1024).astype(F32)
    zero = np.zeros((), F32)
    number = onnx.TensorProto.FLOAT
    names = ["z", "s0", "s1", "y"]
    nodes, expected = [], z
    for i, schedule in enumerate(schedules):
        expected, _ = neuron(CASES[0].activation, [expected], [zero], schedule, None, partial=False)
        inputs = [names[i], "b", "b"]
        nodes.append(helper.make_node("TSARelu", inputs, [names[i + 1]], domain="csscc", **schedule.attributes))
    ins = [helper.make_tensor_value_info(n, number, dims) for n, dims in (("z", [10, 700]), ("b", []))]
    outs = [helper.make_tensor_value_info("y", number, None)]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("csscc", VERSIONS["csscc"])]
    model = helper.make_model(helper.make_graph(nodes, "g", ins, outs), opset_imports=imports, ir_version=10)
    (y,) = session(model.SerializeToString(), 2).run(None, {"z": folded(z), "b": zero})
    np.testing.assert_array_equal(y, folded(expected))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "one weight a step"),
        ({"reads": 0}, "reads"),
        ({"reads": 4}, "reads"),
        ({"merged": [1.0] * 6}, "more merged steps"),
        ({"sends": [1.0] * 6}, "sends"),
        ({"silent": 1}, "before it received"),
    ],
    ids=str,
)
def test_a_node_without_a_valid_coding_is_refused(change: Mapping[str, Any], message: str) -> None:
    attributes = Schedule(5, 3.0, 2, 3, 3, 3).attributes | dict(change)
    feeds = {"z": np.zeros((3, 4), F32), "b": np.zeros((), F32), "theta": np.ones((), F32)}
    with pytest.raises(Exception, match=message):
        run("TSARelu", feeds, ["s"], {name: value for name, value in attributes.items() if value is not None})


@pytest.mark.parametrize("weight", [1e-38, 0.7, 3.0, 1e38])
def test_where_bursts_turn(weight: float) -> None:
    """At the numbers next to every turn, of small and of large weights; no search walks through all numbers."""
    q = F32(weight)
    around = np.concatenate([q * F32(turn) * (1 + np.arange(-4, 5) * F32(2**-23)) for turn in (-1.5, -0.5, 0.5, 1.5)])
    x = np.concatenate([around, [0, 3e38, -3e38]]).astype(F32)[None]
    feeds = {"z": np.zeros_like(x), "b": x, "theta": np.array(F32(1))}
    (train,) = run("TSALinear", feeds, ["s"], {"weights": [float(q)], "burst": 1})
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(train, np.clip(np.rint(x * (F32(1) / q)), -2, 2))
