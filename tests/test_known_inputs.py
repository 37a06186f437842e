"""Networks whose masks, tokens and positions are known before time starts, from the model to the spikes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import csscc
from csscc.dialect.adapter import export_model
from csscc.dialect.spiking import spiking_nodes
from csscc.io.data import InputSpec, open_source
from csscc.measure.diagnose import diagnose
from csscc.measure.verify import verify
from csscc.passes.convert.fake_quantise import fake_quantised, mean_name, received_tensors
from csscc.passes.convert.synthetic import synthetic_source
from csscc.passes.lower.targets import by_layer
from tests.helpers import calibrated, network_of, parse, rms, run

SIZES = "int64[1] one = {1}, int64[1] two = {2}, float some = {1.0}, float low = {-3.4e38}, float c = {0.35}"
WEIGHTS = "float[8,8] Q, float[8,8] K, float[8,8] V, float[8,8] W, float[8] g, float[8] b, float[8,8] U"
HEADS = (
    "q = MatMul(x, Q) u = MatMul(x, K) k = Transpose <perm = [0,2,1]> (u) v = MatMul(x, V) "
    "d = MatMul(q, k) e = Mul(d, c)"
)
TAIL = "h = MatMul(a, W) r = Add(h, x) n = LayerNormalization(r, g, b) y = MatMul(n, U)"
INPUTS = "g (float[N,6,8] x, int64[N,6] mask) => (float[N,6,8] y)"
TEXTS = {
    "a mask of -3.4e38": f"{INPUTS} <{WEIGHTS}, {SIZES}> {{ f = Cast <to = 1> (mask) i = Sub(some, f) j = Mul(i, low) "
    f"m = Unsqueeze(j, one) {HEADS} s = Add(e, m) p = Softmax <axis = -1> (s) a = MatMul(p, v) {TAIL} }}",
    "a guarded mask of -inf": f"{INPUTS} <{WEIGHTS}, {SIZES}, float inf, float none = {{0.0}}> "
    f"{{ f = Cast <to = 9> (mask) j = Unsqueeze(f, one) m = Where(j, none, inf) {HEADS} s = Add(e, m) "
    f"p = Softmax <axis = -1> (s) t = IsNaN(p) w = Where(t, none, p) a = MatMul(w, v) {TAIL} }}",
    "scores that something else reads": f"{INPUTS} <{WEIGHTS}, {SIZES}> {{ f = Cast <to = 1> (mask) i = Sub(some, f) "
    f"j = Mul(i, low) m = Unsqueeze(j, one) {HEADS} s = Add(e, m) p = Softmax <axis = -1> (s) z = MatMul(p, v) "
    f"l = ReduceMax <keepdims = 1> (p, two) a = Add(z, l) {TAIL} }}",
    "tokens, positions and a causal mask": f"g (int64[N,6] mask) => (float[N,6,8] y) <{WEIGHTS}, {SIZES}, "
    "float[11,8] table, float[6,8] places, bool[6,6] past, float[8,8] X, float[8,8] Y> "
    "{ t = Gather(table, mask) t0 = Add(t, places) x = LayerNormalization(t0, g, b) "
    f"{HEADS} s = Where(past, e, low) p = Softmax <axis = -1> (s) a = MatMul(p, v) h = MatMul(a, W) r = Add(t0, h) "
    "n = LayerNormalization(r, g, b) i = MatMul(n, X) j = Gelu(i) l = MatMul(j, Y) r2 = Add(r, l) "
    "n2 = LayerNormalization(r2, g, b) y = MatMul(n2, U) }",
    "a mean over what is there": f"{INPUTS.replace('6,8] y', '8] y')} <{WEIGHTS}, {SIZES}> {{ f = Cast <to = 1> (mask) "
    "m = Unsqueeze(f, two) h = MatMul(x, W) n = Relu(h) k = Mul(n, m) s = ReduceSum <keepdims = 0> (k, one) "
    "d = ReduceSum <keepdims = 0> (m, one) q = Div(s, d) y = MatMul(q, U) }",
    "sums in front of a Relu and an output": "g (float[N,6,8] x, float[N,6,4] m) => (float[N,6,8] y, float[N,6,4] z) "
    "<float[8,4] A, float[4,8] B, float[4] c> { h = MatMul(x, A) s = Sub(m, h) t = Mul(s, c) a = Relu(t) "
    "y = MatMul(a, B) u = MatMul(y, A) z = Add(m, u) }",
}
EXACT = {"a mean over what is there", "sums in front of a Relu and an output"}
FORMS = ("unrolled", "scan", "stream", "stepwise")


def case(name: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    given = {"g": 1.0, "inf": -np.inf, "past": np.tril(np.ones((6, 6)))}
    declared = TEXTS[name].split("{ ")[0]
    model = parse(TEXTS[name], **{k: v for k, v in given.items() if f"] {k}," in declared or f"float {k}," in declared})
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((32, 6, 8)).astype(np.float32),
        "m": rng.standard_normal((32, 6, 4)).astype(np.float32),
        "mask": (np.arange(6) < rng.integers(1, 7, (32, 1))).astype(np.int64),
    }
    if "guarded" in name:
        feeds["mask"][3] = 0
    if "tokens" in name:
        feeds["mask"] = rng.integers(0, 11, (32, 6))
    return model, {i.name: feeds[i.name] for i in model.graph.input}


def answers(snn: csscc.SNN, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    got = snn.run(feeds)
    return got if isinstance(got, dict) else {snn.file.graph.output[0].name: got}


@pytest.mark.parametrize("name", TEXTS)
def test_error_falls_with_more_steps(name: str) -> None:
    """Eight more steps leave 1.5**-8 = 1/26 of the error, rounded up here."""
    model, feeds = case(name)
    expected = run(model, feeds)
    errors = []
    for steps in (10, 18):
        got = answers(csscc.compile(model, feeds, T=steps, beta=1.5, silent=3, check_samples=0), feeds)
        errors.append({k: rms(got[k] - v) / rms(v) for k, v in expected.items()})
    for output, error in errors[0].items():
        assert error < 0.06
        assert errors[1][output] < error / 8


@pytest.mark.parametrize("name", TEXTS)
def test_only_what_weights_read_is_encoded(name: str) -> None:
    model, feeds = case(name)
    snn = csscc.compile(model, feeds, T=8, silent=2, check_samples=0)
    encoders = [view.name for _, view in spiking_nodes(snn.model.graph) if view.is_encoder]
    assert encoders == ["x_encode"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TEXTS)
def test_spikes_of_every_form(name: str, form: str) -> None:
    model, feeds = case(name)
    snn = csscc.compile(model, feeds, T=8, silent=2, form=form, check_samples=0)
    for optimise in (False, True):
        result = verify(snn.file, feeds, limit=16, optimise=optimise)
        assert result.different <= (0 if name in EXACT else 0.001 * result.spikes)
        assert result.spikes > 1000
    assert by_layer(snn.file).graph.input == snn.model.graph.input


@pytest.mark.parametrize("options", [{"preset": "paper"}, {"silent": "auto"}, {"bias_on_first_step": False}], ids=str)
def test_every_pass_takes_a_computed_bias(options: dict[str, object]) -> None:
    model, feeds = case("a mask of -3.4e38")
    snn = csscc.compile(model, feeds, T=14, **{"silent": 3, **options})
    got, expected = answers(snn, feeds)["y"], run(model, feeds)["y"]
    assert rms(got - expected) < 0.05 * rms(expected)


def test_rows_of_which_nothing_is_there_are_as_in_the_ann() -> None:
    model, feeds = case("a guarded mask of -inf")
    expected = run(model, feeds)["y"][3]
    got = answers(csscc.compile(model, feeds, T=18, silent=3, check_samples=0), feeds)["y"][3]
    assert np.isfinite(got).all()
    assert rms(got - expected) < 0.01 * rms(expected)


def test_a_free_length_stays_free() -> None:
    """Amplitudes and biases belong to no position."""
    model = parse(
        "g (float[N,S,8] x, float[N,S,1] m) => (float[N,S,8] y) <float[8,8] W, float[8] g, float[8] b, float[8,8] U> "
        "{ h = MatMul(x, W) n = LayerNormalization(h, g, b) k = Mul(n, m) s = Add(k, x) e = Exp(m) t = Mul(s, e) "
        "y = MatMul(t, U) }",
        g=1.0,
    )
    rng = np.random.default_rng(4)
    draw = [{n: rng.uniform(-1, 1, (48, s, c)).astype(np.float32) for n, c in (("x", 8), ("m", 1))} for s in (6, 9)]
    snn = csscc.compile(model, draw[0], T=16, silent=3, check_samples=0)
    expected = run(model, draw[1])["y"]
    assert rms(answers(snn, draw[1])["y"] - expected) < 0.03 * rms(expected)


def test_a_mask_is_no_other_network(tmp_path: Path) -> None:
    model, feeds = case("scores that something else reads")
    onnx.save(model, tmp_path / "ann.onnx")
    csscc.compile(tmp_path / "ann.onnx", feeds, T=14, silent=3).save(tmp_path / "snn.onnx")
    result = diagnose(tmp_path / "ann.onnx", tmp_path / "snn.onnx", feeds)
    assert result.same_source
    assert result.cause == ""


def test_the_fake_quantised_network_receives_no_mask() -> None:
    model, feeds = case("scores that something else reads")
    network = calibrated(model, source=open_source(feeds, _specs(feeds)))
    ann = export_model(network)
    received = received_tensors(network)
    ann.graph.output.extend(
        onnx.ValueInfoProto(name=n) for n in received if n not in {o.name for o in ann.graph.output}
    )
    values = run(ann, feeds)
    means = {mean_name(n): values[n].mean(axis=0) for n in received}
    got = run(export_model(replace(network, graph=fake_quantised(network))), {**feeds, **means})["y"]
    assert rms(got - values["y"]) < 0.05 * rms(values["y"])


def test_integers_without_data() -> None:
    """Token ids are rows of their table, masks let everything through."""
    model = parse(
        "g (int64[N,6] ids, int64[N,6] mask, bool[N,6] b) => (float[N,6,3] y) "
        "<float[11,8] T, float[8,3] W, int64[1] two = {2}> { i = Cast <to = 6> (ids) t = Gather(T, i) "
        "f = Cast <to = 1> (mask) m = Unsqueeze(f, two) c = Cast <to = 1> (b) "
        "d = Unsqueeze(c, two) u = Mul(t, m) v = Mul(u, d) y = MatMul(v, W) }"
    )
    specs = (
        InputSpec("ids", (None, 6), "int64"),
        InputSpec("mask", (None, 6), "int64"),
        InputSpec("b", (None, 6), "bool"),
    )
    feeds = next(iter(synthetic_source(network_of(model), specs, 0).batches(64)))
    assert set(np.unique(feeds["ids"])) == set(range(11))
    assert feeds["mask"].all()
    assert feeds["b"].all()
    assert feeds["b"].dtype == bool


def test_integers_from_a_file(tmp_path: Path) -> None:
    model, feeds = case("tokens, positions and a causal mask")
    np.savez(tmp_path / "tokens.npz", mask=feeds["mask"].astype(np.int32))
    snn = csscc.compile(model, tmp_path / "tokens.npz", T=14, silent=3)
    expected = run(model, feeds)["y"]
    assert rms(answers(snn, feeds)["y"] - expected) < 0.05 * rms(expected)


def _specs(feeds: dict[str, np.ndarray]) -> tuple[InputSpec, ...]:
    return tuple(InputSpec(n, (None, *a.shape[1:]), a.dtype.name) for n, a in feeds.items())
