"""A network in steps: the spikes of the reference, bit for bit; back by layer, the network that it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import csscc
from csscc.coding import oracle
from csscc.coding.coding import Coding
from csscc.coding.program import EVERY_STEP
from csscc.dialect.adapter import export_model
from csscc.dialect.model import copy_of, define_operators, spike_sources
from csscc.dialect.spiking import (
    DECODE,
    DOMAIN,
    DOMAIN_VERSION,
    ENCODE,
    STEPS_DOMAIN,
    STEPS_DOMAIN_VERSION,
    attributes,
    neurons,
    operator_of,
    set_schedule,
    spiking_nodes,
)
from csscc.errors import RefusedError
from csscc.measure.evaluation import evaluate
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.passes.lower.blocks import reciprocal
from csscc.passes.lower.folded import folded, is_in_steps, with_trains
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.merge_silence import MergeSilence
from csscc.passes.lower.nchwc import LAYOUT_DOMAIN
from csscc.passes.lower.stepwise import down, is_fastest
from csscc.passes.lower.targets import by_layer
from csscc.runtime import native
from csscc.runtime.reference import ReferenceRuntime
from csscc.runtime.session import Session
from tests.helpers import QUICK, carried, parse, random_feeds, spiking
from tests.runtime.test_blocked import NETWORKS
from tests.runtime.test_functions import LEVELS, near_thresholds

Array = NDArray[Any]

DECODER = """g (float[N,20] x) => (float[N,3,8,8] y)
<float[20,16] v, float[16,8,2,2] u, float[3,8,1,1] w, int64[4] shape = {-1, 1, 4, 4}, float[16,1,3,3] k>
{ a = MatMul(x, v) r = Relu(a) i = Reshape(r, shape) b = Conv <pads = [1,1,1,1]> (i, k) s = Relu(b)
  c = ConvTranspose <strides = [2,2]> (s, u) t = Relu(c) y = Conv(t, w) }"""
HALVES = """g (float[N,16,6,6] x) => (float[N,4] y)
<float[32,16,3,3] w1, float[16,16,1,1] w2, float[16,16,3,3] w3, float[4,16] v>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) p, q = Split <axis = 1, num_outputs = 2> (r)
  b = Conv(p, w2) c = Conv <pads = [1,1,1,1]> (q, w3) d = Add(b, c) s = Relu(d)
  g = GlobalAveragePool(s) f = Flatten(g) y = Gemm <transB = 1> (f, v) }"""
NETWORKS = NETWORKS | {"decoder": DECODER, "halves": HALVES}
DENSE = """g (float[N,6] x) => (float[N,3] y) <float[6,16] v, float[16,3] w>
{ a = MatMul(x, v) r = Relu(a) y = MatMul(r, w) }"""
CODINGS = [
    Coding(5, 1.5, 1),
    Coding(1, 1.5, 0),
    Coding(3, 2.0, 0),
    Coding(4, 3.0, 4),
    Coding(7, 1.3, 2, negative=False),
    Coding(6, 1.0, 0),
    Coding(6, 1.0, 0, negative=False),
    Coding(4, 3.0, 3, bursts=False),  # one slab, which is a rounding
    Coding(4, 3.0, 3),
    Coding(5, 3.0, 3, bursts=False),  # the last spike is a digit of it
    Coding(5, 3.0, 3),
    Coding(6, 2.0, 3, bursts=False),
    Coding(6, 2.0, 3),
    Coding(5, 1.5, 2),  # in bursts, none rounded
    Coding(7, 1.5, 1),  # a product with 1/weight is not exact, and rounded
    Coding(7, 2.5, 3),
    Coding(12, 1.5, 6),
    Coding(4, 4.0, 1),
    Coding(4, 5.0, 3),  # one slab, a rounding, of up to 312
    Coding(5, 4.0, 3),  # the last spike is a digit, to a base for which a number may have two
    Coding(6, 3.5, 1),
]


@cache
def compiled(text: str, coding: Coding = CODINGS[0], form: str = "stepwise") -> csscc.SNN:
    """A spiking network, which many tests look at and none changes."""
    model = parse(text)
    numbers = {n: getattr(coding, n) for n in ("T", "beta", "silent", "negative", "bursts")}
    return csscc.compile(model, random_feeds(model, batch=16), form=form, **QUICK, **numbers)


@pytest.fixture(params=NETWORKS, scope="module")
def snn(request: pytest.FixtureRequest) -> csscc.SNN:
    """A spiking network of one shape or another."""
    return compiled(NETWORKS[request.param])


def spikes(model: onnx.ModelProto, feeds: dict[str, Array], names: list[str], level: Any = LEVELS[-1]) -> list[Array]:
    """Spike trains by onnxruntime alone."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 4
    session = ort.InferenceSession(with_trains(copy_of(model), names).SerializeToString(), options)
    return list(session.run(names, feeds))


def spelled(model: onnx.ModelProto) -> list[str]:
    """The nodes as text, in which an empty domain is none."""
    return [onnx.printer.to_text(n) for n in model.graph.node]


def sent(model: onnx.ModelProto) -> dict[str, tuple[float, ...]]:
    """With which weights the first steps of each train are one sum, by the name of the node that sends it."""
    return {view.name: view.sends.merged for _, view in spiking_nodes(folded(model).graph)}


def assert_same_spikes(file: onnx.ModelProto, *, exact: bool = True) -> None:
    model, merged = by_layer(file), sent(file)
    feeds = random_feeds(model, batch=3)
    trace = ReferenceRuntime(model).trace(feeds)
    sources = spike_sources(model)
    assert is_in_steps(file)
    for level in LEVELS:
        trains = spikes(file, feeds, [n.output[0] for n in sources], level)
        for node, train in zip(sources, trains, strict=True):
            expected = carried(trace.spikes[node.name], merged[node.name])
            differing = float((train.reshape(expected.shape) != expected).mean())
            assert differing <= (0 if exact else 1e-3), (node.name, level)


def test_the_spikes_are_those_of_the_reference(snn: csscc.SNN) -> None:
    assert_same_spikes(snn.file)


@pytest.mark.parametrize("coding", CODINGS[1:], ids=str)
@pytest.mark.parametrize("name", ["residual", "fire"])
def test_in_any_coding(name: str, coding: Coding) -> None:
    exact = coding.beta != 1  # a constant current is no plain sum
    assert_same_spikes(compiled(NETWORKS[name], coding).file, exact=exact)


def test_outputs_in_stock_onnxruntime(snn: csscc.SNN, tmp_path: Path) -> None:
    """In any batch, each sample as it comes alone; the file as anyone runs it."""
    snn.save(tmp_path / "snn.onnx")
    session = ort.InferenceSession(tmp_path / "snn.onnx")
    feeds = random_feeds(snn.model, batch=5)
    expected = ReferenceRuntime(snn.model).run(feeds)
    for name, value in zip(expected, session.run(list(expected), feeds), strict=True):
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)
        alone = [session.run([name], {k: v[i : i + 1] for k, v in feeds.items()})[0] for i in range(5)]
        np.testing.assert_array_equal(np.concatenate(alone), value)


@pytest.mark.parametrize("name", NETWORKS)
def test_back_by_layer_it_is_the_network_it_was(name: str) -> None:
    """Which a target that merges nothing and has no steps writes as it is."""
    plain = compiled(NETWORKS[name], form="scan").file
    again = by_layer(compiled(NETWORKS[name]).file)
    assert spelled(again) == spelled(plain)
    assert again.graph.initializer == plain.graph.initializer
    assert sorted(v.SerializeToString() for v in again.graph.value_info) == sorted(
        v.SerializeToString() for v in plain.graph.value_info
    )
    assert again.opset_import == plain.opset_import
    functions = [sorted(f.SerializeToString() for f in m.functions) for m in (again, define_operators(copy_of(again)))]
    assert functions[0] == functions[1]


def test_the_graph_has_as_many_nodes(snn: csscc.SNN) -> None:
    """But for those where tensors begin or cease to be in steps."""
    count = Counter(map(operator_of, snn.file.graph.node))
    extra = count.pop("Stack", 0) + count.pop("Unstack", 0)
    assert count == Counter(map(operator_of, folded(snn.file).graph.node))
    assert count.pop("Merge", 0) <= 1
    assert count == Counter(map(operator_of, snn.model.graph.node))
    assert extra <= 2
    onnx.checker.check_model(snn.file, full_check=True)


def test_what_is_no_image_stays_in_one_tensor() -> None:
    dense = compiled(DENSE)
    assert not is_in_steps(dense.file)
    assert not is_fastest(dense.model)
    decoder = compiled(DECODER).file
    domains = [(n.op_type, n.domain) for n in decoder.graph.node]
    assert ("MatMul", "") in domains
    assert ("TSARelu", DOMAIN) in domains
    assert ("Unstack", STEPS_DOMAIN) in domains
    assert ("ConvTranspose", STEPS_DOMAIN) in domains


def test_steps_pay_where_most_neurons_are_in_blocks() -> None:
    expected = {"residual": True, "fire": True, "cropped": True, "odd channels": False}
    for name, fastest in expected.items():
        model = parse(NETWORKS[name])
        snn = csscc.compile(model, random_feeds(model, batch=16), check_samples=0, T=5)
        assert is_fastest(snn.model) == fastest
        assert is_in_steps(snn.file) == fastest
        assert snn.facts.options["form"] == ("stepwise" if fastest else "unrolled")


def test_heads_of_an_attention_are_no_images() -> None:
    model = parse(
        """g (float[N,3,8,8] x) => (float[N,5] y)
        <float[16,3,4,4] w, float[16,16] q, float[16,16] k, float[16,16] v, float[16,5] o,
         int64[3] tokens = {0, 16, -1}, int64[4] heads = {0, -1, 2, 8}, int64[3] whole = {0, -1, 16},
         int64[1] axes = {1}>
        { c = Conv <strides = [4,4]> (x, w) r = Relu(c) f = Reshape(r, tokens) t = Transpose <perm = [0,2,1]> (f)
          q0 = MatMul(t, q) q1 = Reshape(q0, heads) q2 = Transpose <perm = [0,2,1,3]> (q1)
          k0 = MatMul(t, k) k1 = Reshape(k0, heads) k2 = Transpose <perm = [0,2,3,1]> (k1)
          v0 = MatMul(t, v) v1 = Reshape(v0, heads) v2 = Transpose <perm = [0,2,1,3]> (v1)
          s = MatMul(q2, k2) p = Softmax <axis = -1> (s) a = MatMul(p, v2) a1 = Transpose <perm = [0,2,1,3]> (a)
          a2 = Reshape(a1, whole) m = ReduceMean <keepdims = 0> (a2, axes) y = MatMul(m, o) }"""
    )
    snn = csscc.compile(model, random_feeds(model, batch=16), T=5, form="stepwise")
    domains = {n.name: n.domain for n in snn.file.graph.node if n.op_type in ("Conv", "TSAAttend")}
    assert sorted(domains.values()) == [DOMAIN, STEPS_DOMAIN]


def optimised(snn: csscc.SNN, path: Path) -> Counter[str]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path / "optimised.onnx")
    ort.InferenceSession(snn.file.SerializeToString(), options)
    nodes = onnx.load(path / "optimised.onnx").graph.node
    if not any(n.domain == LAYOUT_DOMAIN for n in nodes):
        pytest.skip("onnxruntime has no blocks here")
    return Counter(n.op_type for n in nodes)


@pytest.mark.parametrize("batch", ["N", "4", "?"])
def test_neurons_stay_in_the_layout_of_convolutions(tmp_path: Path, batch: str) -> None:
    """Nothing is reordered between two convolutions, and their sums need no operator of their own."""
    text = NETWORKS["residual"].replace("[N,3", f"[{batch},3")
    coding = CODINGS[0]
    count = optimised(compiled(text, coding), tmp_path)
    assert count["ReorderInput"] == 0
    assert count["ReorderOutput"] <= 1  # for the readout
    assert count["Reshape"] <= 4
    fallbacks = 3 * sum(reciprocal(q) is None for q in coding.weights)
    others = 3 * coding.silent + 2  # of targets that are read again; what the encoder sent, and the readout's bias
    assert count["Add"] == fallbacks + others  # those of membranes, potentials and shortcuts are in convolutions


@pytest.mark.parametrize("name", ["residual", "fire", "cropped"])
def test_sums_are_of_tensors_that_are_known_to_have_one_shape(tmp_path: Path, name: str) -> None:
    """Else onnxruntime copies one of them before it adds the other."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "m.onnx")
    ort.InferenceSession(compiled(NETWORKS[name], Coding(6, 2.0, 1)).file.SerializeToString(), options)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "m.onnx"))
    dims = {v.name: v.type.tensor_type.shape.dim for v in model.graph.value_info}
    shapes = {name: [d.dim_value or d.dim_param for d in axes] for name, axes in dims.items()}
    operands = [[shapes.get(n, []) for n in n.input] for n in model.graph.node if n.op_type in ("Sum", "Add")]
    images = [pair for pair in operands if all(len(shape) == 4 for shape in pair)]
    assert images
    assert [pair for pair in images if pair[0] != pair[1] or any(str(d).startswith("unk") for d in pair[0])] == []


def test_convolutions_read_tensors_whose_shape_the_file_states(tmp_path: Path) -> None:
    """In the layout of convolutions shapes are known only from there on."""
    snn = compiled(NETWORKS["residual"], Coding(6, 2.0, 1))
    optimised(snn, tmp_path)
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    read = {name for node in nodes for name in node.input if node.op_type == "Conv"}
    encoder = next(n for n in snn.file.graph.node if operator_of(n) == ENCODE)
    assert set(encoder.output) <= {v.name for v in snn.file.graph.value_info}
    assert set(encoder.output) <= read


def test_the_check_of_the_layout_notices_reorders(tmp_path: Path) -> None:
    snn = compiled(NETWORKS["residual"].replace("32", "24"))
    assert optimised(snn, tmp_path)["ReorderOutput"] >= 3 * (CODINGS[0].T - 1)


APART = """g (float[N,3,8,8] x) => (float[N,8,8,8] y)
<float[{c},3,3,3] w1, float[{c},{c},3,3] w2, float[{c},1,1] slope, float[8,{c},1,1] w3, float low = {{0.1}}>
{{ a = Conv <pads = [1,1,1,1]> (x, w1) r = {f} b = Conv <pads = [1,1,1,1]> (r, w2) s = {g} y = Conv(s, w3) }}"""


@pytest.mark.parametrize(
    ("channels", "f"), [(24, "Relu({})"), (16, "LeakyRelu({})"), (16, "Clip({}, low)"), (16, "PRelu({}, slope)")]
)
def test_weights_stay_as_they_are(tmp_path: Path, channels: int, f: str) -> None:
    """Multiplied by the weight of a step, they would not add up exactly."""
    snn = compiled(APART.format(c=channels, f=f.format("a"), g=f.format("b")))
    assert_same_spikes(snn.file)
    given = {numpy_helper.to_array(t).tobytes() for t in snn.model.graph.initializer if len(t.dims) == 4}
    for level in LEVELS[:3]:  # those behind bring weights into blocks
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(snn.file.SerializeToString(), options)
        graph = onnx.load(tmp_path / "optimised.onnx").graph
        values = {t.name: numpy_helper.to_array(t).tobytes() for t in graph.initializer}
        filters = [n.input[1] for n in graph.node if n.op_type in ("Conv", "FusedConv")]
        assert len(filters) >= 2 * (CODINGS[0].T - 1) + 1
        assert {values.get(name, b"") for name in filters} <= given
        assert all(len(n.input) < 4 for n in graph.node if n.op_type == "FusedConv")


def test_one_bias_for_channels_that_fill_no_block() -> None:
    """Which without a correction of biases is that of a convolution without one."""
    model = parse(APART.format(c=24, f="Relu(a)", g="Relu(b)"))
    snn = csscc.compile(model, random_feeds(model), check_samples=0, correct_bias=False, T=5, form="stepwise")
    assert is_in_steps(snn.file)
    assert not any(a.name == "channels" for node in snn.file.graph.node for a in node.attribute)
    assert_same_spikes(snn.file)


def test_products_of_planes_stay_as_they_are(tmp_path: Path) -> None:
    text = """g (float[N,3,8,8] x) => (float[N,8,8,6] y) <float[8,3,3,3] w1, float[8,6] v, float[8,8,1,1] w3>
    { a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) b = MatMul(r, v) s = Relu(b) y = Conv(s, w3) }"""
    snn = compiled(text)
    assert_same_spikes(snn.file)
    count = optimised(snn, tmp_path)
    assert count["MatMul"] >= CODINGS[0].T - 1
    assert count["FusedMatMul"] == 0


def without_blocks(model: onnx.ModelProto, feeds: dict[str, Array], names: list[str]) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    off = ["NchwcTransformer"]
    shown = with_trains(copy_of(model), names)
    session = ort.InferenceSession(shown.SerializeToString(), options, disabled_optimizers=off)
    return list(session.run(names, feeds))


@pytest.mark.parametrize("name", ["residual", "fire"])
def test_where_onnxruntime_has_no_blocks(name: str) -> None:
    snn = compiled(NETWORKS[name], Coding(12, 1.5, 1))
    feeds = random_feeds(snn.model, batch=32)
    trace = ReferenceRuntime(snn.model).trace(feeds)
    sources = spike_sources(snn.model)
    merged = sent(snn.file)
    for node, train in zip(sources, without_blocks(snn.file, feeds, [n.output[0] for n in sources]), strict=True):
        expected = carried(trace.spikes[node.name], merged[node.name])
        np.testing.assert_array_equal(train.reshape(expected.shape), expected)


TWO = """g (float[N,3,6,6] x, float[M,3,6,6] u) => (float[N,4,6,6] y, float[M,4,6,6] v)
<float[16,3,3,3] w1, float[16,3,3,3] w2, float[4,16,1,1] w3, float[4,16,1,1] w4>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) y = Conv(r, w3)
  b = Conv <pads = [1,1,1,1]> (u, w2) s = Relu(b) v = Conv(s, w4) }"""


def test_a_network_with_two_batches() -> None:
    model = parse(TWO)
    snn = csscc.compile(model, random_feeds(model, batch=16), T=4, check_samples=0, form="stepwise")
    feeds = random_feeds(model, batch=5)
    feeds["u"] = feeds["u"][:2]
    expected = ReferenceRuntime(snn.model).run(feeds)
    for network in (snn.model, snn.file):
        actual = Session(network).run(feeds)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-5)
    firsts = {v.type.tensor_type.shape.dim[0].dim_param for v in snn.file.graph.value_info}
    assert len(firsts) >= 4  # two batches, each with trains of two lengths


@pytest.mark.parametrize(("first", "second"), [("p@1", "p"), ("p", "p@2"), ("x@1", "p@tt1")])
def test_names_that_look_like_steps(first: str, second: str) -> None:
    text = NETWORKS["residual"].replace("a = Conv", f'"{first}" = Conv').replace("Relu(a)", f'Relu("{first}")')
    text = text.replace("b = Conv", f'"{second}" = Conv').replace("Relu(b)", f'Relu("{second}")')
    snn = compiled(text.replace("p = Global", "q = Global").replace("Flatten(p)", "Flatten(q)"))
    onnx.checker.check_model(snn.file, full_check=True)
    assert spelled(by_layer(snn.file)) == spelled(snn.model)
    assert_same_spikes(snn.file)


def test_an_input_that_is_called_as_a_step() -> None:
    text = NETWORKS["residual"].replace("[N,3,9,9] x", '[N,3,9,9] "a@1"').replace("(x, ", '("a@1", ')
    assert '"a@1"' in text
    snn = compiled(text)
    onnx.checker.check_model(snn.file, full_check=True)
    assert_same_spikes(snn.file)


def test_another_version_is_refused() -> None:
    model = copy_of(compiled(NETWORKS["residual"]).file)
    next(o for o in model.opset_import if o.domain == STEPS_DOMAIN).version = 9
    with pytest.raises(RefusedError, match=r"version 9 of the domain csscc\.steps"):
        by_layer(model)


@given(st.floats(1, 2**40, width=32))
def test_a_product_with_the_reciprocal_is_above_a_half_where_the_number_is(weight: float) -> None:
    number = reciprocal(weight)
    if number is None:
        return
    half = np.float32(weight / 2)
    near = [half]
    for to in (0, np.inf):
        number_near = half
        for _ in range(50):
            number_near = np.nextafter(number_near, np.float32(to))
            near.append(number_near)
    x = np.array([*near, 0, half * np.float32(1.5), half * np.float32(0.5), 1e30], np.float32)
    np.testing.assert_array_equal(x * np.float32(number) > np.float32(0.5), x > half)


def test_some_reciprocals_are_not_exact_and_most_are() -> None:
    """So that both ways to fire are tested by codings."""
    found = [reciprocal(q) is None for beta in (1.3, 1.5, 3.0) for q in Coding(16, beta).weights]
    assert 0 < sum(found) < len(found) / 3
    assert reciprocal(1.0) == 1


def one_neuron(op: str, coding: Coding, bias: Array) -> tuple[onnx.ModelProto, str]:
    """A neuron that receives nothing but its bias, by layer, behind a convolution by zero."""
    channels = len(bias)
    own = {"kernel_shape": [1, 1]} if "Pool" in op else {}
    encoder, neuron, readout = (attributes(s, o) for s, o in (
        (coding.encoder(), ENCODE), (coding.neuron(), op), (coding.neuron(), DECODE)
    ))  # fmt: skip
    nodes = [
        helper.make_node(ENCODE, ["x", "theta"], ["s"], "e", domain=DOMAIN, **encoder),
        helper.make_node("Conv", ["s", "w"], ["z"], "c"),
        helper.make_node(op, ["z", "b", "theta"], ["n"], "n", domain=DOMAIN, **neuron, **own),
        helper.make_node(DECODE, ["n", "none"], ["y"], "d", domain=DOMAIN, **readout),
    ]
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1, 1, 2])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", channels, 1, 2])
    inner = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["M", channels, 1, 2]) for n in "zn"]
    inner.append(helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, ["M", 1, 1, 2]))
    weights = {"w": np.zeros((channels, 1, 1, 1)), "b": bias.reshape(-1, 1, 1)}
    weights |= {"theta": np.ones(()), "none": np.zeros(())}
    initializers = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", [image], [result], initializers, value_info=inner)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    return define_operators(helper.make_model(graph, opset_imports=imports, ir_version=10)), "n"


def thresholds(coding: Coding) -> Array:
    values = near_thresholds(coding)
    return np.concatenate([values, np.zeros(-len(values) % 16, np.float32)])


def codings() -> Iterator[Coding]:
    for T in (1, 5, 40):
        for beta in (1.1, 1.5, 2.0, 2.7, 3.0):
            yield from (Coding(T, beta, 0), Coding(T, beta, min(T, 2), negative=False))
    yield from (Coding(9, 1.0, 0, negative=False), Coding(9, 1.0, 1))


@pytest.mark.parametrize("coding", codings(), ids=str)
def test_spikes_next_to_a_threshold(coding: Coding) -> None:
    """Convolutions round, the reference compares."""
    bias = thresholds(coding)
    x = np.zeros((2, 1, 1, 2), np.float32)
    functions = {"TSARelu": lambda h: np.maximum(h, np.float32(0)), "TSAMaxPool": lambda h: h}
    for op, function in functions.items():
        model, train = one_neuron(op, coding, bias)
        stepwise = down(model)
        assert any(f.name == op and any(n.op_type == "Conv" for n in f.node) for f in stepwise.functions)
        currents = np.zeros((coding.T, 2, len(bias), 1, 2), np.float32)
        with np.errstate(invalid="ignore"):
            expected = oracle.tsa([currents], function, coding.neuron(), [bias.reshape(-1, 1, 1)]).spikes
        for level in LEVELS:
            (actual,) = spikes(stepwise, {"x": x}, [train], level)
            np.testing.assert_array_equal(actual.reshape(expected.shape), expected)


def test_the_comparison_of_spikes_notices_a_wrong_function() -> None:
    snn = compiled(NETWORKS["residual"])
    feeds = random_feeds(snn.model, batch=3)
    names = [n.output[0] for n in spike_sources(snn.model)]
    broken = copy_of(snn.file)
    function = next(f for f in broken.functions if f.name == "TSARelu")
    numbers = [n.attribute[0] for n in function.node if n.op_type == "Constant"]
    next(a for a in numbers if a.name == "value_float" and a.f > 1).f *= 1.1
    pairs = zip(spikes(broken, feeds, names), spikes(snn.file, feeds, names), strict=True)
    assert any((a != b).any() for a, b in pairs)


def by_kernels(model: onnx.ModelProto, feeds: dict[str, Array], names: list[str]) -> list[Array]:
    """Spike trains in a session in which kernels were registered by hand."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.register_custom_ops_library(native.library())
    session = ort.InferenceSession(with_trains(copy_of(model), names).SerializeToString(), options)
    return list(session.run(names, feeds))


def test_kernels_send_the_same_spikes(kernels: frozenset[str], snn: csscc.SNN) -> None:
    """And they run: where functions are wrong, spikes are right."""
    feeds = random_feeds(snn.model, batch=3)
    names = [n.output[0] for n, _ in neurons(snn.model.graph)]
    emitted = copy_of(snn.file)
    expected = spikes(emitted, feeds, names)
    for function in emitted.functions:
        if function.domain == STEPS_DOMAIN and function.name in native.operators() - {"Encode", "Merge"}:
            numbers = [n.attribute[0] for n in function.node if n.op_type == "Constant"]
            next(a for a in numbers if a.name == "value_float" and a.f > 1).f *= 1.5
    assert any((a != b).any() for a, b in zip(spikes(emitted, feeds, names), expected, strict=True))
    for train, right in zip(by_kernels(emitted, feeds, names), expected, strict=True):
        np.testing.assert_array_equal(train, right)


def test_kernels_run_the_same_operators_in_both_forms(kernels: frozenset[str], snn: csscc.SNN) -> None:
    used = open_session(snn.file).native
    assert used > {"Encode"}
    assert used - {"Merge"} == open_session(snn.model).native


def test_a_kernel_reports_what_is_wrong_with_its_inputs(kernels: frozenset[str]) -> None:
    snn = compiled(NETWORKS["residual"])
    node = next(n for n in snn.file.graph.node if n.op_type == "TSARelu")
    slabs = CODINGS[0].T - 1
    names = [*(f"z{t}" for t in range(slabs)), "b", "theta"]
    lone = onnx.NodeProto()
    lone.CopyFrom(node)
    lone.input[:], lone.output[:] = names, [f"s{t}" for t in range(len(node.output))]
    values = {n: np.zeros((2, 16, 1, 1) if n == "z2" else (1, 16, 1, 1), np.float32) for n in names}
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names]
    outputs = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in lone.output]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(STEPS_DOMAIN, STEPS_DOMAIN_VERSION)]
    model = helper.make_model(helper.make_graph([lone], "g", inputs, outputs), opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.register_custom_ops_library(native.library())
    with pytest.raises(Exception, match="slabs of a csscc node's input differ in shape"):
        ort.InferenceSession(model.SerializeToString(), options).run(None, values)


@pytest.mark.parametrize("coding", [Coding(6, 1.5, 2), Coding(6, 2.0, 2), Coding(5, 3.0, 2)], ids=str)
def test_layers_with_silent_steps_of_their_own(coding: Coding) -> None:
    """One function for each silent period; each layer merges as many steps as it listens to."""
    network = spiking(parse(NETWORKS["residual"]), coding, Rescale(), BiasOnFirstStep(), SnapWeights())
    for silent, (node, _) in enumerate(neurons(network.graph)):
        set_schedule(node, coding.neuron(silent))
    plain = export_model(network)
    assert MergeSilence().apply(network) >= 3
    assert MergeSilence().apply(network) == 0
    merged = export_model(network)
    assert {view.reads for _, view in neurons(merged.graph)} == {1, 2, 3}
    file = down(merged)
    assert [f.name for f in file.functions if "TSARelu" in f.name] == ["TSARelu", "TSARelu_2", "TSARelu_3"]
    assert_same_spikes(file)
    assert sorted(spelled(by_layer(file))) == sorted(spelled(plain))


def test_a_train_with_readers_that_merge_different_numbers() -> None:
    """Merges stand in front of those that merge more than the least; readouts merge all."""
    text = """g (float[N,3,8,8] x) => (float[N,8,8,8] y, float[N,8,8,8] z)
    <float[16,3,3,3] w1, float[16,16,3,3] w2, float[8,16,1,1] w3, float[8,16,1,1] w4>
    { a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) z = Conv(r, w4)
      b = Conv <pads = [1,1,1,1]> (r, w2) s = Relu(b) y = Conv(s, w3) }"""
    snn = compiled(text, Coding(6, 2.0, 1))
    merges = [view for _, view in spiking_nodes(snn.file.graph) if view.is_merge]
    assert [(view.reads, len(view.schedule.merged)) for view in merges] == [(2, 6)]
    assert_same_spikes(snn.file)
    assert EVERY_STEP not in {view.sends for _, view in spiking_nodes(snn.file.graph) if not view.is_readout}


def test_a_file_in_steps_and_one_by_layer_are_one_network_to_every_tool(tmp_path: Path) -> None:
    model = parse(NETWORKS["residual"])
    x = random_feeds(model, batch=16)
    made = {form: csscc.compile(model, x, T=6, form=form) for form in ("stepwise", "unrolled")}
    results = {}
    for form, snn in made.items():
        path = tmp_path / f"{form}.onnx"
        snn.save(path)
        assert is_in_steps(onnx.load(path)) == (form == "stepwise")
        assert spelled(csscc.load(path).model) == spelled(snn.model)
        results[form] = evaluate(model, path, x)
    assert results["stepwise"].layers == results["unrolled"].layers
    assert results["stepwise"].output_error == pytest.approx(results["unrolled"].output_error, rel=1e-4)
