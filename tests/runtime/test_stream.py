"""One time step a run: the spikes of the folded network, bit for bit, each layer later by its depth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

import csscc
from csscc import cli
from csscc.dialect.model import copy_of, define_operators, spike_sources, with_outputs
from csscc.measure.evaluation import evaluate
from csscc.measure.verify import verify
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.stream import back, down
from csscc.passes.lower.targets import by_layer
from tests.helpers import QUICK, corrupted, parse, random_feeds, run, session, small_classifier

Steps = list[dict[str, NDArray[Any]]]

DIGITS = Path(__file__).parents[2] / "models"
RESIDUAL = """g (float[N,3,7,7] x) => (float[N,4] y)
<float[6,3,3,3] w1, float[6] b1, float[8,6,3,3] w2, float[8] b2, float[8,8,3,3] w3, float[8,6,1,1] w4, float[4,8] v>
{ a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(a) b = Conv <pads = [1,1,1,1]> (r, w2, b2) s = Relu(b)
  c = Conv <pads = [1,1,1,1]> (s, w3) h = Conv(r, w4) d = Add(c, h) t = Relu(d)
  m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (t) p = GlobalAveragePool(m) f = Flatten(p)
  y = Gemm <transB = 1> (f, v) }"""
GATE = """g (float[N,4,5,5] x) => (float[N,4,5,5] y, float[N,4,5,5] u)
<float[4,4,3,3] w1, float[4,4,1,1] w2, float[4,4,3,3] w3, float[4,4,3,3] w4, float[4] b>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) p = GlobalAveragePool(r) b2 = Conv(p, w2, b) h = HardSigmoid(b2)
  m = Mul(r, h) y = Conv <pads = [1,1,1,1]> (m, w4) c = Conv <pads = [1,1,1,1]> (r, w3) e = Abs(c) u = Add(e, y) }"""
ROWS = """g (float[N,6] x, float[N,6] x2) => (float[N,3] y, float[N,5] z)
<float[6,8] v, float[6] k, float[8,5] w, float[13,3] u, float[8] b>
{ i = Mul(x, k) a = MatMul(i, v) c = Add(a, b) r = Relu(c) d = MatMul(r, w) s = Softmax <axis = -1> (d)
  e = MatMul(x2, v) f = Max(e, r) g = Concat <axis = 1> (s, f) o = MatMul(g, u) y = Sigmoid(o) z = Identity(s) }"""
NETWORKS = {"residual": RESIDUAL, "gate": GATE, "rows": ROWS}
CODINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "digits to a base of three": {"T": 5, "beta": 3.0, "silent": 3, "bursts": False},
    "bursts to a base of three": {"T": 5, "beta": 3.0, "silent": 3},
    "bursts to a base of two": {"T": 6, "beta": 2.0, "silent": 3},
    "bursts that are not rounded": {"T": 5, "beta": 1.5, "silent": 2},
    "digits to a base of two": {"T": 8, "beta": 2.0, "silent": 5},
    "layer by layer": {"coding": "fs", "T": 4},
    "rate": {"coding": "rate", "T": 9},
    "rate without negative spikes": {"coding": "rate", "T": 9, "negative": False},
    "without negative spikes": {"T": 7, "beta": 1.3, "silent": 2, "negative": False, "signed_input": False},
    "time to first spike": {"coding": "ttfs", "T": 9},
    "temporal switch": {"coding": "tsc", "T": 9},
    "no silence": {"T": 6, "silent": 0},
    "one step": {"T": 1, "silent": 1},
    "paper": {"preset": "paper", "T": 8},
    "trimmed": {"T": 6, "beta": 2.0, "silent": "auto"},
}


def compiled(text: str, form: str = "stream", **options: Any) -> csscc.SNN:
    model = parse(text)
    return csscc.compile(model, random_feeds(model, batch=16), form=form, **QUICK, **options)


def trains_of(snn: csscc.SNN) -> dict[str, str]:
    return {node.name: node.output[0] for node in spike_sources(snn.model)}


def stream(model: onnx.ModelProto, feeds: dict[str, Any], steps: int, names: list[str], *, optimise: bool) -> Steps:
    """All `names` at each step, by what docs/format.md says of such a file and nothing else."""
    made = with_outputs(copy_of(model), names)
    outputs = [o.name for o in made.graph.output]
    runtime, batch = session(made, optimise=optimise), len(next(iter(feeds.values())))
    states = {
        i.name: np.zeros([d.dim_value or batch for d in i.type.tensor_type.shape.dim], np.float32)
        for i in model.graph.input
        if f"{i.name}.next" in outputs
    }
    rows = []
    for step in range(1, steps + 1):
        values = runtime.run(outputs, {**feeds, **states, "csscc.step": np.array(step, np.int64)})
        rows.append(dict(zip(outputs, values, strict=True)))
        assert all(rows[-1][f"{n}.next"].shape == v.shape for n, v in states.items())
        states = {name: rows[-1][f"{name}.next"] for name in states}
    return rows


def assert_same_later(snn: csscc.SNN, file: onnx.ModelProto, feeds: dict[str, Any], *, optimise: bool = True) -> None:
    """Every spike of `file`, a stream, is that of the folded network, its layer's depth later; outputs are alike."""
    trains, depths = trains_of(snn), {layer.name: layer.depth for layer in snn.layers}
    whole = run(with_outputs(copy_of(snn.model), trains.values()), feeds, optimise=False)
    steps = stream(file, feeds, snn.latency + 2, list(trains.values()), optimise=optimise)
    spikes = 0
    for name, tensor in trains.items():
        expected = whole[tensor].reshape(snn.facts.coding.T, -1, *whole[tensor].shape[1:])
        got = np.stack([step[tensor] for step in steps])
        before, train, behind = np.split(got, [depths[name], depths[name] + len(expected)])
        assert (train == expected).all(), name
        assert not before.any(), name
        assert not behind.any(), name
        spikes += int(np.abs(expected).sum())
    assert spikes
    for output in (o.name for o in snn.model.graph.output):
        for step in steps[snn.latency - 1 :]:
            scale = float(np.abs(whole[output]).max())
            np.testing.assert_allclose(step[output], whole[output], rtol=1e-5, atol=1e-5 * scale, err_msg=output)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_are_those_of_the_folded_network(name: str, coding: str) -> None:
    snn = compiled(NETWORKS[name], **CODINGS[coding])
    feeds = random_feeds(snn.model, batch=3)
    for optimise in (False, True):
        assert_same_later(snn, snn.file, feeds, optimise=optimise)


@pytest.mark.parametrize("options", [{}, {"T": 5, "beta": 3.0, "silent": 3}], ids=["default", "base of three"])
def test_digits(options: dict[str, Any]) -> None:
    data = np.load(DIGITS / "digits.npz")
    snn = csscc.compile(DIGITS / "digits_resnet.onnx", data["x_calib"][:64], form="stream", **options)
    assert snn.report.comparison.samples == 16
    assert not snn.report.warnings
    feeds = {"image": data["x"][:8]}
    for optimise in (False, True):
        assert_same_later(snn, snn.file, feeds, optimise=optimise)
    checked = verify(snn.file, feeds["image"])
    assert checked.holds
    assert checked.different == 0
    assert checked.spikes > 0


def wrong_weights(snn: csscc.SNN) -> onnx.ModelProto:
    (name,) = (t.name for t in snn.file.graph.initializer if list(t.dims) == [4, 8])
    return corrupted(snn.file, name, lambda values: -values)


def wrong_depth(snn: csscc.SNN) -> onnx.ModelProto:
    file = copy_of(snn.file)
    last = [node for node in file.graph.node if node.op_type == "TSARelu"][-1]
    (depth,) = (a for a in last.attribute if a.name == "depth")
    depth.i += 1
    return file


def no_delay(snn: csscc.SNN) -> onnx.ModelProto:
    file = copy_of(snn.file)
    later = {n.output[0]: n.input[0] for n in file.graph.node if n.op_type == "Delay"}
    for node in (n for n in file.graph.node if n.op_type == "Add"):
        node.input[:] = [later.get(name, name) for name in node.input]
    return file


@pytest.mark.parametrize("change", [wrong_weights, wrong_depth, no_delay])
def test_the_comparison_fails_on_a_wrong_model(change: Any) -> None:
    snn = compiled(RESIDUAL)
    feeds = random_feeds(snn.model, batch=3)
    assert_same_later(snn, snn.file, feeds)
    with pytest.raises(AssertionError):
        assert_same_later(snn, change(snn), feeds)


@pytest.mark.parametrize("name", NETWORKS)
def test_back_by_layer_it_is_the_network_that_it_was(name: str) -> None:
    network = define_operators(copy_of(compiled(NETWORKS[name], form="scan").model))
    streamed = down(copy_of(network))
    assert streamed.graph != network.graph
    onnx.checker.check_model(streamed, full_check=True)
    assert back(streamed) == network
    assert back(network) is network
    assert compiled(NETWORKS[name]).model.graph == network.graph
    assert by_layer(streamed).graph == network.graph


def test_what_a_file_declares() -> None:
    """Inputs of the network, the step, and states that come back under their names with ``.next``."""
    file = compiled(RESIDUAL).file
    onnx.checker.check_model(file, full_check=True)
    inputs, outputs = {i.name: i for i in file.graph.input}, {o.name: o for o in file.graph.output}
    assert list(inputs)[:2] == ["x", "csscc.step"]
    assert next(iter(outputs)) == "y"
    assert inputs["csscc.step"].type.tensor_type.elem_type == TensorProto.INT64
    states = list(inputs)[2:]
    assert {n.rsplit(".", 1)[1] for n in states} == {"rest", "membrane1", "sent", "held", "total"}
    assert list(outputs)[1:] == [f"{name}.next" for name in states]
    for name in states:
        assert inputs[name].type == outputs[f"{name}.next"].type
        dims = inputs[name].type.tensor_type.shape.dim
        assert sum(not d.dim_value for d in dims) == 1, name  # the batch
    delays = [n for n in file.graph.node if n.op_type == "Delay"]
    assert len(delays) == 1
    assert inputs[delays[0].input[1]].type.tensor_type.shape.dim[0].dim_value == 1


def test_a_layer_with_two_delays_of_one_train() -> None:
    text = """g (float[N,6] x) => (float[N,3] y) <float[6,6] v, float[6,6] w, float[6,6] u, float[6,3] o>
    { a = MatMul(x, v) r = Relu(a) b = MatMul(r, w) s = Relu(b) c = Add(s, r) t = Relu(c)
      d = MatMul(t, u) e = Add(d, r) f = Relu(e) y = MatMul(f, o) }"""
    snn = compiled(text, T=6, beta=2.0, silent=2)
    held = {i.name: i.type.tensor_type.shape.dim[0].dim_value for i in snn.file.graph.input if i.name.endswith("held")}
    assert sorted(held.values()) == [2, 4]
    assert_same_later(snn, snn.file, random_feeds(snn.model, batch=3))


def test_a_session_answers_at_once() -> None:
    """Zeros for one sample begin any batch, and trains come folded."""
    snn = compiled(ROWS)
    trains = list(trains_of(snn).values())
    feeds = random_feeds(snn.model, batch=5)
    whole = run(with_outputs(copy_of(snn.model), trains), feeds)
    at_once = open_session(with_outputs(copy_of(snn.file), trains))
    assert at_once.input_names == ["x", "x2"]
    assert at_once.output_names == ["y", "z", *trains]
    got = at_once.run(feeds)
    for name in trains:
        assert got[name].shape == whole[name].shape
        assert (got[name] == whole[name]).all()
    for name, value in snn.run(feeds).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(snn.run(feeds, runtime="numpy")[name], whole[name], rtol=1e-3, atol=1e-3)


def test_tools_take_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.load(DIGITS / "digits.npz")
    np.savez(tmp_path / "d.npz", x=data["x"][:16], y=data["y"][:16])
    path, ann = tmp_path / "snn.onnx", str(DIGITS / "digits_resnet.onnx")
    csscc.compile(ann, data["x_calib"][:64], form="stream", check_samples=0, T=6, beta=2.0).save(path)
    assert csscc.load(path).facts.options["form"] == "stream"
    for runtime in ("onnxruntime", "numpy"):
        answers = tmp_path / f"{runtime}.npz"
        arguments = ["run", path, "--data", tmp_path / "d.npz", "--runtime", runtime, "-o", answers, "--quiet"]
        monkeypatch.setattr(sys, "argv", ["csscc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
    answers_of = [np.load(tmp_path / f"{runtime}.npz")["logits"] for runtime in ("onnxruntime", "numpy")]
    np.testing.assert_allclose(*answers_of, rtol=1e-4, atol=1e-4)
    folded = evaluate(ann, csscc.load(path).model, str(tmp_path / "d.npz"), native=False)
    found = evaluate(ann, path, str(tmp_path / "d.npz"), native=False)
    assert found.snn_accuracy == folded.snn_accuracy
    assert found.spikes_per_neuron == folded.spikes_per_neuron


def test_a_file_that_states_too_late_a_run_is_refused() -> None:
    model, data = small_classifier(4)
    file = csscc.compile(model, data["x"], T=4, form="stream", check_samples=0).file
    node = next(
        n for n in file.graph.node if n.domain == "csscc.stream" and any(a.name == "depth" for a in n.attribute)
    )
    next(a for a in node.attribute if a.name == "depth").i = 10**6
    with pytest.raises(csscc.RefusedError, match="begins in run 1,000"):
        open_session(file)
