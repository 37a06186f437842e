"""Random graphs over the whole operator table, compiled and held to the ANN in onnxruntime.

A graph grows node by node: a row of the tables `GROW` reads tensors that are there and makes one more. Ranks and
layouts change on the way, tensors are read several times, some are outputs, and what is left over is joined at the
end. Every operator of csscc's own tables has a row (a test counts), so an operator that is added must be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import csscc
from csscc.coding.activations import ACTIVATIONS
from csscc.passes.linear import LINEAR
from tests.helpers import run

Array = NDArray[Any]
OPSET = 20
LARGEST = 4096  # elements of a sample; larger tensors make slow tests
# Activations that csscc makes of other spellings, and what draws those here.
SPELLED = {"ReluMaxPool": "MaxPool", "AtLeast": "Max", "AtMost": "Min", "DividedInto": "Div", "PowerOf": "Pow"}
SPELLED |= {"Silu": "Silu", "QuickGelu": "QuickGelu", "Linear": "Conv"}
# Not drawn: of another meaning, or none, in this opset; not continuous, so that no error bound holds.
REMOVED = {"GroupNormalization", "RMSNormalization", "Swish", "Attention", "ThresholdedRelu"}
# Nor those of several nodes that drawings do not put in a row, or of a second input: see tests/test_known_inputs.py.
REMOVED |= {"Attend", "AttendOrZero", "SoftmaxOrZero", "Times"}
REMOVED |= {"Quantise", "QuantiseSum2", "QuantiseSum3", "QuantiseSum4"}  # see tests/test_quantised.py
common = settings(
    deadline=None,
    max_examples=12,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Graph:
    """An ANN that grows; `shapes` are those of one sample."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        self.shapes[name] = tuple(int(d) for d in shape)
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        return np.asarray(self.rng.normal(0, scale, shape))

    def per_channel(self, shape: tuple[int, ...], values: Array | None = None) -> str:
        """A constant of shape [1, C, 1, ...], [C, 1, ...] or one number."""
        values = self.normal(shape[0], scale=0.5) if values is None else values
        form = self.rng.integers(3) if len(shape) > 1 else self.rng.integers(1, 3)
        if form == 0:
            return self.constant(values.reshape(1, -1, *(1,) * (len(shape) - 1)))
        return self.constant(values.reshape(-1, *(1,) * (len(shape) - 1)) if form == 1 else values[0])


Row = Callable[[Graph, str], str | None]
GROW: dict[str, list[Row]] = {}


def grows(*ops: str, rank: int | None = None) -> Callable[[Row], Row]:
    """Register a row under the operators it draws; `rank` is that of a sample it can read."""

    def register(row: Row) -> Row:
        def guarded(g: Graph, x: str) -> str | None:
            if rank is not None and len(g.shapes[x]) != rank:
                return None
            return row(g, x)

        for op in ops:
            GROW.setdefault(op, []).append(guarded)
        return row

    return register


@grows("Conv", rank=3)
def conv(g: Graph, x: str) -> str:
    c, h, w = g.shapes[x]
    group = c if g.rng.random() < 0.3 else 1
    out = c if group > 1 else int(g.rng.integers(1, 6))
    k = 3 if min(h, w) >= 2 else 1
    stride = 2 if min(h, w) >= 4 and g.rng.random() < 0.3 else 1
    weights = g.constant(g.normal(out, c // group, k, k, scale=(1.5 / (c // group * k * k)) ** 0.5))
    inputs = [x, weights] + ([g.constant(g.normal(out, scale=0.2))] if g.rng.random() < 0.7 else [])
    size = [(d + 2 * (k // 2) - k) // stride + 1 for d in (h, w)]
    return g.add("Conv", inputs, (out, *size), pads=[k // 2] * 4, strides=[stride] * 2, group=group)


@grows("ConvTranspose", rank=3)
def conv_transpose(g: Graph, x: str) -> str | None:
    c, h, w = g.shapes[x]
    if h > 6:
        return None
    out = int(g.rng.integers(1, 5))
    weights = g.constant(g.normal(c, out, 2, 2, scale=(1 / c) ** 0.5))
    return g.add(
        "ConvTranspose", [x, weights, g.constant(g.normal(out, scale=0.2))], (out, 2 * h, 2 * w), strides=[2, 2]
    )


@grows("Gemm", rank=1)
def gemm(g: Graph, x: str) -> str:
    (n,) = g.shapes[x]
    out, trans = int(g.rng.integers(2, 9)), int(g.rng.integers(2))
    weights = g.normal(n, out, scale=n**-0.5)
    c = [g.constant(g.normal(out, scale=0.3) if g.rng.random() < 0.5 else 0.2)]
    inputs = [x, g.constant(weights.T if trans else weights), *c]
    return g.add("Gemm", inputs, (out,), transB=trans, alpha=float(g.rng.uniform(0.5, 1.5)), beta=0.7)


@grows("MatMul")
def matmul(g: Graph, x: str) -> str:
    *rest, n = g.shapes[x]
    out = int(g.rng.integers(2, 8))
    if rest and g.rng.random() < 0.3:
        rows = int(g.rng.integers(2, 6))
        weights = g.constant(g.normal(rows, rest[-1], scale=rest[-1] ** -0.5))
        return g.add("MatMul", [weights, x], (*rest[:-1], rows, n))
    return g.add("MatMul", [x, g.constant(g.normal(n, out, scale=n**-0.5))], (*rest, out))


@grows("MatMul")
def matmul_of_two(g: Graph, x: str) -> str | None:
    """x times its own transpose, over a nonlinear copy."""
    shape = g.shapes[x]
    if len(shape) < 2:
        return None
    y = g.add("Tanh", [x], shape)
    order = [*range(len(shape) - 1), len(shape), len(shape) - 1]
    turned = g.add("Transpose", [y], (*shape[:-2], shape[-1], shape[-2]), perm=order)
    return g.add("MatMul", [x, turned], (*shape[:-1], shape[-2]))


@grows("BatchNormalization")
def batch_norm(g: Graph, x: str) -> str | None:
    if len(g.shapes[x]) < 2:
        return None
    c = g.shapes[x][0]
    parts = [g.rng.uniform(0.6, 1.4, c), g.normal(c, scale=0.3), g.normal(c, scale=0.3), g.rng.uniform(0.5, 1.5, c)]
    return g.add("BatchNormalization", [x, *(g.constant(p) for p in parts)], g.shapes[x])


@grows("Add", "Sub", "Mul", "Div", "Max", "Min")
def with_constant(g: Graph, x: str) -> str:
    shape = g.shapes[x]
    op = g.rng.choice(["Add", "Sub", "Mul", "Div", "Max", "Min"])
    values = g.rng.choice([-1, 1], shape[0]) * g.rng.uniform(0.4, 1.2, shape[0])
    other = g.per_channel(shape, values)
    pair = [x, other] if op == "Div" or g.rng.random() < 0.6 else [other, x]
    return g.add(str(op), pair, shape)


@grows("Add", "Mul", "Max", rank=3)
def growing(g: Graph, x: str) -> str | None:
    """A constant that repeats the tensor along its channels."""
    c, h, w = g.shapes[x]
    if c != 1:
        return None
    op = str(g.rng.choice(["Add", "Mul", "Max", "Sub"]))
    return g.add(op, [x, g.constant(g.normal(3, 1, 1, scale=0.5))], (3, h, w))


@grows("Add", "Sub", "Sum", "Mean", "Max", "Min", "Mul")
def residual(g: Graph, x: str) -> str:
    """Two or three tensors of one shape: x, and something made of it."""
    y = g.add("Relu", [x], g.shapes[x])
    op = str(g.rng.choice(["Add", "Sub", "Sum", "Mean", "Max", "Min", "Mul"]))
    more = [g.add("Neg", [x], g.shapes[x])] if op in ("Sum", "Mean", "Max", "Min") and g.rng.random() < 0.5 else []
    return g.add(op, [x, y, *more], g.shapes[x])


@grows("Mul", "Add", "Max", "GlobalAveragePool", "GlobalMaxPool", rank=3)
def squeeze_and_excite(g: Graph, x: str) -> str:
    """A pooled tensor spread over the map it came from."""
    c, h, w = g.shapes[x]
    pool = str(g.rng.choice(["GlobalAveragePool", "GlobalMaxPool"]))
    small = g.add("Sigmoid", [g.add(pool, [x], (c, 1, 1))], (c, 1, 1))
    pair = [x, small] if g.rng.random() < 0.5 else [small, x]
    return g.add(str(g.rng.choice(["Mul", "Add", "Max"])), pair, (c, h, w))


@grows("Div", "Pow", "Reciprocal", "Sqrt", "Log", "Exp", "Div", "PowerOf", "DividedInto", "ReduceLogSum")
def away_from_zero(g: Graph, x: str) -> str:
    """Functions that are steep near zero read what is at least 0.6."""
    shape = g.shapes[x]
    op = str(g.rng.choice(["Div", "Pow", "Reciprocal", "Sqrt", "Log", "DivTwo", "PowerOf", "Exp", "ReduceLogSum"]))
    small = g.add("Tanh", [x], shape)
    if op == "Exp":
        return g.add("Exp", [small], shape)
    if op == "PowerOf":
        return g.add("Pow", [g.constant(2.0), small], shape)
    positive = g.add("Add", [small, g.constant(1.6)], shape)
    if op == "ReduceLogSum":
        return g.add(op, [positive, g.constant([-1], np.int64)], (*shape[:-1], 1))
    if op == "Div":
        return g.add("Div", [g.per_channel(shape), positive], shape)
    if op == "DivTwo":
        return g.add("Div", [small, positive], shape)
    return g.add(op, [positive, g.constant(2.0)] if op == "Pow" else [positive], shape)


ELEMENTWISE: dict[str, dict[str, Any]] = {
    "Neg": {}, "Relu": {}, "LeakyRelu": {"alpha": 0.1}, "Abs": {}, "HardSigmoid": {"alpha": 0.3}, "HardSwish": {},
    "Sigmoid": {}, "Tanh": {}, "Elu": {}, "Selu": {}, "Celu": {"alpha": 0.8}, "Softplus": {}, "Softsign": {},
    "Mish": {}, "Gelu": {"approximate": "tanh"}, "Erf": {}, "Identity": {}, "Dropout": {},
    "Shrink": {"bias": 0.2, "lambd": 0.2},
}  # fmt: skip


@grows(*ELEMENTWISE)
def elementwise(g: Graph, x: str) -> str:
    op = str(g.rng.choice(list(ELEMENTWISE)))
    return g.add(op, [x], g.shapes[x], **ELEMENTWISE[op])


@grows("Clip")
def clip(g: Graph, x: str) -> str:
    low, high = (g.constant(v) for v in (-0.4, 1.5))
    form = int(g.rng.integers(3))
    return g.add("Clip", [[x, low], [x, "", high], [x, low, high]][form], g.shapes[x])


@grows("PRelu")
def prelu(g: Graph, x: str) -> str:
    return g.add("PRelu", [x, g.per_channel(g.shapes[x], g.normal(g.shapes[x][0], scale=0.3))], g.shapes[x])


@grows("Silu", "QuickGelu")
def gated(g: Graph, x: str) -> str:
    gate = x if g.rng.random() < 0.5 else g.add("Mul", [x, g.constant(1.702)], g.shapes[x])
    return g.add("Mul", [x, g.add("Sigmoid", [gate], g.shapes[x])], g.shapes[x])


@grows("MaxPool", "LpPool", "AveragePool", rank=3)
def pool(g: Graph, x: str) -> str | None:
    c, h, w = g.shapes[x]
    if min(h, w) < 2:
        return None
    op = str(g.rng.choice(["MaxPool", "LpPool", "AveragePool"]))
    if g.rng.random() < 0.5:
        return g.add(op, [x], (c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])
    return g.add(op, [x], (c, h, w), kernel_shape=[3, 3], pads=[1] * 4)


REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
REDUCTIONS += ("ReduceSumSquare", "ReduceLogSumExp")


@grows(*REDUCTIONS)
def reduction(g: Graph, x: str) -> str | None:
    shape = g.shapes[x]
    if len(shape) < 2:
        return None
    axis, keep = int(g.rng.integers(len(shape))), int(g.rng.integers(2))
    after = [*shape[:axis], *([1] if keep else []), *shape[axis + 1 :]]
    named = axis + 1 if g.rng.random() < 0.5 else axis - len(shape)
    return g.add(str(g.rng.choice(REDUCTIONS)), [x, g.constant([named], np.int64)], tuple(after), keepdims=keep)


@grows("Softmax", "LogSoftmax", "LpNormalization")
def rows(g: Graph, x: str) -> str:
    op = str(g.rng.choice(["Softmax", "LogSoftmax", "LpNormalization"]))
    if op == "LpNormalization":
        x = g.add("Add", [g.add("Sigmoid", [x], g.shapes[x]), g.constant(0.3)], g.shapes[x])
    return g.add(op, [x], g.shapes[x], axis=int(g.rng.integers(1, len(g.shapes[x]) + 1)))


@grows("LayerNormalization", "InstanceNormalization", "LRN")
def normalisation(g: Graph, x: str) -> str | None:
    shape = g.shapes[x]
    op = str(g.rng.choice(["LayerNormalization", "InstanceNormalization", "LRN"]))
    last = shape[-1]
    if op == "LayerNormalization" and last > 2:
        scale, bias = g.constant(g.rng.uniform(0.6, 1.4, last)), g.constant(g.normal(last, scale=0.2))
        return g.add(op, [x, scale, bias], shape, axis=-1, epsilon=0.1)
    if len(shape) != 3 or shape[1] * shape[2] < 4:
        return None
    if op == "LRN":
        return g.add(op, [x], shape, size=3, alpha=0.5)
    parts = g.rng.uniform(0.6, 1.4, shape[0]), g.normal(shape[0], scale=0.2)
    return g.add("InstanceNormalization", [x, *(g.constant(p) for p in parts)], shape, epsilon=0.1)


@grows("Rms")
def root_mean_square(g: Graph, x: str) -> str | None:
    shape = g.shapes[x]
    if shape[-1] < 2:
        return None
    square = g.add("Mul", [x, x], shape)
    mean = g.add("ReduceMean", [square, g.constant([-1], np.int64)], (*shape[:-1], 1))
    root = g.add("Sqrt", [g.add("Add", [mean, g.constant(0.1)], (*shape[:-1], 1))], (*shape[:-1], 1))
    return g.add("Div", [x, root], shape)


@grows("Concat", "Split")
def split_and_concat(g: Graph, x: str) -> str | None:
    shape = g.shapes[x]
    if shape[0] < 2:
        return None
    cut = int(g.rng.integers(1, shape[0]))
    names = [f"part{len(g.nodes)}a", f"part{len(g.nodes)}b"]
    sizes = g.constant([cut, shape[0] - cut], np.int64)
    g.nodes.append(helper.make_node("Split", [x, sizes], names, names[0], axis=1))
    g.shapes[names[0]], g.shapes[names[1]] = (cut, *shape[1:]), (shape[0] - cut, *shape[1:])
    first = g.add("Relu", [names[0]], g.shapes[names[0]])
    return g.add("Concat", [names[1], first, x], (2 * shape[0], *shape[1:]), axis=1)


@grows("Slice", "Gather", "Pad", "Tile", "Expand")
def pick(g: Graph, x: str) -> str | None:
    shape = g.shapes[x]
    op = str(g.rng.choice(["Slice", "Gather", "Pad", "Tile", "Expand"]))
    if op == "Slice" and shape[-1] > 1:
        ends = [g.constant([v], np.int64) for v in (1, 2**31, -1)]
        return g.add(op, [x, *ends], (*shape[:-1], shape[-1] - 1))
    if op == "Gather":
        order = g.rng.integers(0, shape[0], 3)
        return g.add(op, [x, g.constant(order, np.int64)], (3, *shape[1:]), axis=1)
    if op == "Tile":
        times = [1] * len(shape) + [2]
        return g.add(op, [x, g.constant(times, np.int64)], (*shape[:-1], 2 * shape[-1]))
    if op == "Expand" and shape[0] == 1:
        return g.add(op, [x, g.constant([1, 3, *(1,) * (len(shape) - 1)], np.int64)], (3, *shape[1:]))
    modes = ["constant", "edge"] + (["reflect"] if shape[-1] > 1 else [])
    pads = [0] * len(shape) + [1] + [0] * len(shape) + [1]
    mode = str(g.rng.choice(modes))
    return g.add("Pad", [x, g.constant(pads, np.int64)], (*shape[:-1], shape[-1] + 2), mode=mode)


@grows("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
def layout(g: Graph, x: str) -> str | None:
    shape = g.shapes[x]
    op = str(g.rng.choice(["Transpose", "Reshape", "Flatten", "Unsqueeze"]))
    if op == "Flatten":
        return g.add(op, [x], (int(np.prod(shape)),))
    if op == "Transpose":
        order = g.rng.permutation(len(shape))
        return g.add(op, [x], tuple(shape[i] for i in order), perm=[0, *(int(i) + 1 for i in order)])
    if op == "Reshape" and len(shape) == 3:
        return g.add(op, [x, g.constant([0, shape[0], -1], np.int64)], (shape[0], shape[1] * shape[2]))
    if len(shape) == 1 and shape[0] % 2 == 0:
        return g.add("Reshape", [x, g.constant([-1, shape[0] // 2, 2, 1], np.int64)], (shape[0] // 2, 2, 1))
    if shape[-1] == 1 and len(shape) > 1:
        return g.add("Squeeze", [x, g.constant([-1], np.int64)], shape[:-1])
    return g.add("Unsqueeze", [x, g.constant([-1], np.int64)], (*shape, 1)) if len(shape) < 3 else None


@grows("Col2Im", rank=2)
def blocks(g: Graph, x: str) -> str | None:
    """Blocks of 2x2 side by side or overlapping, where their number and elements allow it."""
    c, positions = g.shapes[x]
    if c % 4 or positions not in (1, 4, 9, 16):
        return None
    side, step = math.isqrt(positions), int(g.rng.integers(1, 3))
    size = (side - 1) * step + 2
    given = [g.constant([n, n], np.int64) for n in (size, 2)]
    return g.add("Col2Im", [x, *given], (c // 4, size, size), strides=[step, step])


@grows("DepthToSpace", "SpaceToDepth", "Resize", rank=3)
def spatial(g: Graph, x: str) -> str | None:
    c, h, w = g.shapes[x]
    if c % 4 == 0 and g.rng.random() < 0.7:
        return g.add("DepthToSpace", [x], (c // 4, 2 * h, 2 * w), blocksize=2)
    if h % 2 == 0 and w % 2 == 0 and g.rng.random() < 0.5:
        return g.add("SpaceToDepth", [x], (4 * c, h // 2, w // 2), blocksize=2)
    mode = str(g.rng.choice(["nearest", "linear"]))
    return g.add("Resize", [x, "", g.constant([1, 1, 2, 2])], (c, 2 * h, 2 * w), mode=mode)


def head(g: Graph, x: str) -> str:
    """A last layer, so that what comes before it is core."""
    n = int(np.prod(g.shapes[x]))
    flat = g.add("Flatten", [x], (n,))
    w, b = g.constant(g.normal(n, 4, scale=n**-0.5)), g.constant(g.normal(4, scale=0.2))
    return g.add("Gemm", [flat, w, b], (4,))


KINDS = sorted(GROW)
Drawn = tuple[list[str], int, int]
drawings = st.tuples(st.lists(st.sampled_from(KINDS), min_size=1, max_size=7), st.integers(1, 2), st.integers(0, 2**20))


def build(drawn: Drawn) -> onnx.ModelProto:
    kinds, inputs, seed = drawn
    g = Graph(np.random.default_rng(seed))
    for i in range(inputs):
        g.shapes[f"x{i}"] = (3, 6, 6)
    g.inputs = [f"x{i}" for i in range(inputs)]
    open_ends = [conv(g, x) for x in g.inputs]
    outputs: list[str] = []
    for kind in kinds:
        # The newest tensor mostly, an older one now and then: branches.
        position = -1 if g.rng.random() < 0.8 else int(g.rng.integers(len(open_ends)))
        source = open_ends[position]
        made = GROW[kind][int(g.rng.integers(len(GROW[kind])))](g, source)
        if made is None:
            continue
        if int(np.prod(g.shapes[made])) > LARGEST:
            made = g.add("ReduceMean", [made, g.constant([-1], np.int64)], g.shapes[made][:-1], keepdims=0)
        if g.rng.random() < 0.3:
            open_ends.append(made)
        else:
            open_ends[position] = made
        if g.rng.random() < 0.1:
            outputs.append(made)
    ends = [head(g, x) for x in dict.fromkeys(open_ends)]
    outputs += [g.add("Sum", ends, (4,)) if len(ends) > 1 else ends[0]]
    values = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", *g.shapes[x]]) for x in g.inputs]
    results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", *g.shapes[o]]) for o in dict.fromkeys(outputs)]
    graph = helper.make_graph(g.nodes, "drawn", values, results, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def samples(model: onnx.ModelProto, number: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {i.name: rng.uniform(-1, 1, (number, 3, 6, 6)).astype(np.float32) for i in model.graph.input}


def relative_rms(actual: Array, expected: Array) -> float:
    assert actual.shape == expected.shape
    wide = expected.astype(np.float64)
    return float(np.sqrt(np.mean((actual - wide) ** 2) / max(np.mean(wide**2), 1e-12)))


def errors(drawn: Drawn, **options: Any) -> dict[str, float]:
    """Relative RMS error of every output, on samples that calibrated nothing."""
    model = build(drawn)
    x = samples(model, 48, 1)
    snn = csscc.compile(model, calibration=samples(model, 256, 0), form="stepwise", check_samples=0, **options)
    onnx.checker.check_model(snn.file, full_check=True)
    expected = run(model, x, optimise=False)
    actual = run(snn.file, x)
    assert list(actual) == list(expected)
    return {n: relative_rms(actual[n], v) for n, v in expected.items()}


def test_every_operator_of_the_tables_is_drawn() -> None:
    wanted = {SPELLED.get(op, op) for op in (*LINEAR, *ACTIVATIONS)} - REMOVED
    assert wanted <= set(GROW), wanted - set(GROW)


def test_the_measure_notices_another_network() -> None:
    one, other = build((["Conv", "Relu"], 1, 1)), build((["Conv", "Relu"], 1, 2))
    x = samples(one, 16, 0)
    a, b = (next(reversed(run(m, x).values())) for m in (one, other))
    assert relative_rms(a, b) > 0.5
    assert relative_rms(b * 1.05, b) > 0.04


@common
@given(drawings)
def test_a_drawn_graph_compiles_and_agrees_with_its_ann(drawn: Drawn) -> None:
    for name, error in errors(drawn, T=20, silent=2, method="max").items():
        assert error < 0.02, name
