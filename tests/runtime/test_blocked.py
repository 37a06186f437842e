"""Spikes in the layout of onnxruntime's convolutions: the same outputs, without passes that change the layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import csscc
from csscc.dialect.model import copy_of, spike_sources, with_outputs
from csscc.passes.lower.folded import folded
from csscc.passes.lower.images import images_convolved
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.nchwc import in_blocks, uses_blocks
from csscc.runtime import native
from csscc.runtime.session import Session
from tests.helpers import QUICK, parse, random_feeds
from tests.runtime.test_native import assert_same

RESIDUAL = """g (float[N,3,9,9] x) => (float[N,4] y)
<float[32,3,3,3] w1, float[32] b1, float[32,32,3,3] w2, float[32] b2, float[32,32,3,3] w3, float[4,32] w4>
{ a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(a) b = Conv <pads = [1,1,1,1]> (r, w2, b2) s = Relu(b)
  c = Conv <pads = [1,1,1,1]> (s, w3) d = Add(c, r) t = Relu(d) p = GlobalAveragePool(t) f = Flatten(p)
  y = Gemm <transB = 1> (f, w4) }"""
FIRE = """g (float[N,16,9,9] x) => (float[N,16,4,4] y)
<float[16,16,1,1] w1, float[32,16,1,1] w2, float[32,16,3,3] w3, float[16,64,3,3] w4>
{ a = Conv(x, w1) r = Relu(a) b = Conv(r, w2) s = Relu(b) c = Conv <pads = [1,1,1,1]> (r, w3) t = Relu(c)
  d = Concat <axis = 1> (s, t) m = MaxPool <kernel_shape = [3,3], strides = [2,2]> (d)
  y = Conv <pads = [1,1,1,1]> (m, w4) }"""
ODD = """g (float[N,16,6,6] x) => (float[N,5,6,6] y)
<float[20,16,3,3] w1, float[20] b1, float[12,20,3,3] w2, float[20,1,1] slope, float[5,12,1,1] w3>
{ a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = PRelu(a, slope) b = Conv <pads = [1,1,1,1]> (r, w2) s = HardSwish(b)
  y = Conv(s, w3) }"""
GATE = """g (float[N,16,6,6] x) => (float[N,16,6,6] y)
<float[16,16,3,3] w1, float[16,16,1,1] w2, float[16,16,3,3] w3, float[16,16,3,3] w4>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) p = GlobalAveragePool(r) b = Conv(p, w2) h = HardSigmoid(b)
  c = Conv <pads = [1,1,1,1]> (r, w3) s = Relu(c) m = Mul(s, h) y = Conv <pads = [1,1,1,1]> (m, w4) }"""
BRANCHES = """g (float[N,16,6,6] x) => (float[N,16,6,6] y)
<float[16,16,3,3] w1, float[16,16,3,3] w2, float[16,16,3,3] w3, float[16,16,3,3] w4>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) t = Transpose <perm = [0,1,3,2]> (r)
  b = Conv <pads = [1,1,1,1]> (t, w2) c = Conv <pads = [1,1,1,1]> (r, w3) d = Max(b, c)
  y = Conv <pads = [1,1,1,1]> (d, w4) }"""
CROPPED = """g (float[N,16,6,6] x) => (float[N,32,3,3] y)
<float[16,16,3,3] w1, float[32,16,3,3] w2, float[32,32,1,1] w3, int64[2] first = {0, 0}, int64[2] last = {6, 6},
 int64[2] axes = {2, 3}, int64[2] every = {2, 2}, int64[8] pads = {0, 8, 0, 0, 0, 8, 0, 0}, float zero = {0.0}>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) b = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w2)
  i = Slice(r, first, last, axes, every) j = Pad(i, pads, zero) c = Add(b, j) s = Relu(c) y = Conv(s, w3) }"""
BESIDE = """g (float[N,16,6,6] x) => (float[N,16,6,12] y)
<float[16,16,3,3] w1, float[16,16,3,3] w2, float[16,16,3,3] w3>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) b = Conv <pads = [1,1,1,1]> (r, w2) s = Relu(b)
  c = Concat <axis = -1> (r, s) y = Conv <pads = [1,1,1,1]> (c, w3) }"""
NETWORKS = {"residual": RESIDUAL, "fire": FIRE, "odd channels": ODD, "gate": GATE, "branches": BRANCHES}
NETWORKS |= {"cropped": CROPPED}
WITH_OTHERS = NETWORKS | {"side by side": BESIDE}


@pytest.fixture(params=WITH_OTHERS, scope="module")
def network(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """A spiking network of one shape or another."""
    model = parse(WITH_OTHERS[request.param])
    return csscc.compile(model, random_feeds(model, batch=16), T=6, **QUICK).model


def optimised(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """What onnxruntime makes of a spiking network with kernels registered."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(native.library())
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def reorders(model: onnx.ModelProto) -> int:
    return sum(n.op_type.startswith("Reorder") for n in model.graph.node)


def test_lanes(blocks: int) -> None:
    assert blocks in (8, 16)


def test_outputs_and_spikes_are_the_same(blocks: int, network: onnx.ModelProto) -> None:
    feeds = random_feeds(network, batch=5)
    assert_same(network, feeds)
    assert_same(network, feeds, threads=2)
    assert_same(with_outputs(copy_of(network), [n.output[0] for n in spike_sources(network)]), feeds)


def test_fewer_passes_change_the_layout(blocks: int, network: onnx.ModelProto, tmp_path: Path) -> None:
    model = optimised(network, tmp_path / "m.onnx")
    assert uses_blocks(model)
    before = reorders(model)
    converted = in_blocks(model, blocks, native.operators())
    assert converted > 0
    assert reorders(model) < before


def test_a_chain_needs_no_reordering_inside(blocks: int, tmp_path: Path) -> None:
    model = parse(RESIDUAL)
    snn = csscc.compile(model, random_feeds(model, batch=16), T=6, **QUICK).model
    made = optimised(snn, tmp_path / "m.onnx")
    in_blocks(made, blocks, native.operators())
    count = Counter(n.op_type for n in made.graph.node)
    assert count["ReorderInput"] == 0
    assert count["ReorderOutput"] <= 1  # for the pooling that the optimiser left in rows
    assert {a.i for n in made.graph.node for a in n.attribute if a.name == "lanes"} == {blocks}


def test_a_shortcut_of_another_size_stays_in_blocks(blocks: int) -> None:
    """What brings it to that size is a convolution, as is the product with a ratio of amplitudes."""
    model = parse(CROPPED)
    whole = folded(csscc.compile(model, random_feeds(model, batch=16), T=6, **QUICK).file)
    assert {"Slice", "Pad"} <= {n.op_type for n in whole.graph.node}
    images_convolved(whole)
    count = Counter[str]()

    def rewrite(model: onnx.ModelProto) -> bool:
        in_blocks(model, blocks, native.operators())
        count.update(n.op_type for n in model.graph.node)
        return False

    Session(whole, kernels=native.operators(), rewrite=rewrite)
    assert count["TSARelu"] == 2
    assert not {"Slice", "Pad", "Mul"} & set(count)
    assert count["ReorderInput"] <= 1  # of the encoder's spikes
    assert count["ReorderOutput"] <= 1  # of the readout


def test_a_model_of_the_user_stays_as_it_is(blocks: int) -> None:
    model = parse(CROPPED)
    whole = folded(csscc.compile(model, random_feeds(model, batch=16), T=6, **QUICK).file)
    before = whole.SerializeToString(deterministic=True)
    assert open_session(whole).native
    assert whole.SerializeToString(deterministic=True) == before


def test_what_has_no_kernel_stays_in_rows(blocks: int, network: onnx.ModelProto, tmp_path: Path) -> None:
    """Without neurons nothing between two convolutions can be converted."""
    model = optimised(network, tmp_path / "m.onnx")
    in_blocks(model, blocks, frozenset())
    assert not any(a.name == "lanes" for n in model.graph.node if n.op_type.startswith("TSA") for a in n.attribute)


def test_a_network_without_blocks_is_left_alone(blocks: int, tmp_path: Path) -> None:
    model = parse(
        """g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5,3] v>
        { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""
    )
    snn = csscc.compile(model, random_feeds(model, batch=16), T=6, **QUICK).model
    made = optimised(snn, tmp_path / "m.onnx")
    assert not uses_blocks(made)
    before = made.SerializeToString()
    assert in_blocks(made, 16, native.operators()) == 0
    assert made.SerializeToString() == before
    assert_same(snn, random_feeds(model, batch=3))


def test_the_comparison_notices_a_wrong_layout(blocks: int) -> None:
    """A bias read channel by channel as if in rows gives other spikes: the tests above would see it."""
    model = parse(RESIDUAL)
    snn = csscc.compile(model, random_feeds(model, batch=16), T=6, **QUICK).model
    neuron = next(n for n in snn.graph.node if n.op_type == "TSARelu")
    bias = next(t for t in snn.graph.initializer if t.name == neuron.input[1])
    values = numpy_helper.to_array(bias)
    assert values.size == 32
    wrong = copy_of(snn)
    shuffled = values.reshape(2, 16).T.reshape(values.shape)
    next(t for t in wrong.graph.initializer if t.name == bias.name).CopyFrom(
        numpy_helper.from_array(shuffled, bias.name)
    )
    feeds = random_feeds(snn, batch=4)
    assert (open_session(snn).run(feeds)["y"] != open_session(wrong).run(feeds)["y"]).any()


def test_without_optimisations_kernels_run_in_rows(blocks: int, network: onnx.ModelProto) -> None:
    assert_same(network, random_feeds(network), optimise=False)
