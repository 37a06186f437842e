"""The diagnosis names the right layer and the right cause, on networks broken on purpose, one way at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import csscc
from csscc import api
from csscc.coding.coding import Coding
from csscc.errors import RefusedError, UsageError
from csscc.measure.causes import JUMP_FACTOR, JUMP_LIMIT, LIMITS, _finer, judged
from csscc.measure.diagnose import diagnose
from csscc.measure.layers import LayerDiagnosis
from csscc.models import digits_data, digits_model
from csscc.options import make_options
from csscc.pipeline import run_pipeline, spiking_passes
from tests.helpers import corrupted, parse, session

LAYER = "/3/Relu"  # the fifth of nine: what is before it is right, what is behind it suffers
HEALTHY = LayerDiagnosis(
    "layer", "Relu", error=0.02, inherited=0.01, own=0.01, range=0, timing=0, rounding=0.01, bias=0, wanted_bias=0,
    correlation=1, saturated=0, peak=1, over_half=0, over_one=0, positive=1, negative=1, positive_by_step=(1.0,),
    negative_by_step=(1.0,),
)  # fmt: skip


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    with np.load(digits_data()) as archive:
        return archive["x"][:24]


@pytest.fixture(scope="module")
def calibrated() -> api.Calibrated:
    with np.load(digits_data()) as archive:
        return api.calibrate(digits_model(), archive["x_calib"][:64])


@pytest.fixture(scope="module")
def healthy(calibrated: api.Calibrated) -> onnx.ModelProto:
    return csscc.compile(calibrated, T=12, beta=1.5, adjust=False).model


def with_amplitude(calibrated: api.Calibrated, layer: str, factor: float) -> onnx.ModelProto:
    """The network with one layer's amplitude multiplied, and weights that fit it."""
    options = make_options(T=12, beta=1.5, adjust=False)
    network = calibrated.copy_for(options)
    network.coding = options.coding
    passes = spiking_passes(options, calibrated.source)
    chosen = 1 + next(i for i, p in enumerate(passes) if p.name.endswith("-amplitudes"))
    others = passes[chosen:]
    run_pipeline(network, passes[:chosen])
    (tensor,) = (n.outputs[0].name for n in network.graph.nodes if n.name == layer)
    network.amplitudes[tensor] = network.amplitudes[tensor] * factor
    run_pipeline(network, tuple(others))
    assert network.file is not None
    return network.file


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def weights_of(model: onnx.ModelProto, layer: str) -> str:
    """The weights of the layer that feeds a neuron directly."""
    maker = next(n for n in model.graph.node if node(model, layer).input[0] in n.output)
    assert maker.op_type == "Conv"
    return maker.input[1]


def test_a_healthy_network_has_nothing_wrong(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    result = diagnose(digits_model(), healthy, x)
    assert result.first is None
    assert result.cause == ""
    assert result.same_source
    assert result.samples == len(x)
    assert result.agreement == 100
    assert "No layer goes wrong" in result.sentences[1]
    assert len(result.layers) == 9


@pytest.mark.parametrize(
    ("factor", "cause", "reported"),
    [(0.2, "range", "--method max"), (60, "headroom", "outliers"), (1e4, "dead", "calibration")],
)
def test_a_wrong_amplitude_is_found_in_its_layer(
    calibrated: api.Calibrated, x: np.ndarray, factor: float, cause: str, reported: str
) -> None:
    result = diagnose(digits_model(), with_amplitude(calibrated, LAYER, factor), x)
    assert (result.first, result.cause) == (LAYER, cause)
    assert LAYER in result.sentences[1]
    assert reported in result.sentences[2]
    broken = next(layer for layer in result.layers if layer.name == LAYER)
    assert (broken.saturated > 0.01) == (cause == "range")
    assert (broken.positive == 0) == (cause == "dead")


def test_too_few_steps_are_found_and_the_advice_helps(calibrated: api.Calibrated, x: np.ndarray) -> None:
    result = diagnose(digits_model(), csscc.compile(calibrated, T=3, beta=1.5, adjust=False).model, x)
    assert (result.first, result.cause) == ("/1/Relu", "rounding")  # the encoder's error is just below the limit
    assert all(layer.cause == "rounding" for layer in result.layers[1:])
    advised = int(result.sentences[2].split("--T ")[1].split()[0])
    assert advised < 12
    assert f"--T {advised} without --beta should" in result.sentences[2]
    better = diagnose(digits_model(), csscc.compile(calibrated, T=advised, adjust=False).model, x)
    assert all(layer.rounding < LIMITS["rounding"] for layer in better.layers)


def test_samples_on_another_scale_are_named_and_the_calibration_is_not_blamed(x: np.ndarray) -> None:
    snn = csscc.compile(digits_model(), 255 * x, T=4, check_samples=0)
    result = diagnose(digits_model(), snn, x)
    advice = result.sentences[-1]
    assert advice.startswith("Change: input 'image' reaches 1, and the spiking network was calibrated for up to 25")
    assert "outliers" not in advice


def test_a_beta_is_advised_where_the_usual_one_takes_more_steps() -> None:
    assert _finer(Coding(3, 1.5), 2.0) == "--T 4 without --beta"
    assert _finer(Coding(4), 2.0) == "--T 5 without --beta"  # 4 in place of 1.5
    assert _finer(Coding(8, 3.0), 2.0) == "--T 9"
    assert _finer(Coding(1, 5.0, silent=2), 4.0) == "--T 2"
    assert _finer(Coding(8, 1.0), 1.5) == "--T 12 --beta 1"
    assert _finer(Coding(12, 3.0), 20.0) == "--T 15 --beta 3"


def test_layers_that_go_wrong_for_another_reason_are_named(calibrated: api.Calibrated, x: np.ndarray) -> None:
    """Without silent steps and with few levels, some layers are too coarse and others hear too late."""
    snn = csscc.compile(calibrated, T=3, beta=1.5, silent=0, bursts=False, adjust=False)
    result = diagnose(digits_model(), snn.model, x)
    others = [layer for layer in result.layers if layer.cause not in ("", result.cause)]
    assert others
    most = max(others, key=lambda layer: layer.own)
    worst = f"'{most.name}' ({most.own:.1%}, {most.cause})"
    assert f"{len(others)} layer(s) go wrong for another reason, most of all {worst}." in result.sentences[1]


def test_in_rate_coding_more_steps_make_theta_smaller_in_proportion(x: np.ndarray) -> None:
    snn, better = (csscc.compile(digits_model(), x, coding="rate", T=T, check_samples=0).model for T in (8, 64))
    result = diagnose(digits_model(), snn, x)
    coarsest = max(layer.rounding for layer in result.layers)
    assert result.cause == "rounding"
    assert f"--T {np.ceil(8 * coarsest / LIMITS['rounding']):.0f} " in result.sentences[2]
    assert max(layer.rounding for layer in diagnose(digits_model(), better, x).layers) < coarsest / 4


def test_a_missing_silent_period_is_found_and_the_advice_helps(calibrated: api.Calibrated, x: np.ndarray) -> None:
    snn = csscc.compile(calibrated, silent=0, bursts=False, method="mse", correct_bias=True, adjust=False)
    result = diagnose(digits_model(), snn.model, x)
    assert result.cause == "timing"
    assert result.first == "/1/Relu"
    assert "--silent 1" in result.sentences[2]
    better = diagnose(digits_model(), csscc.compile(calibrated, silent=1, adjust=False).model, x)
    assert not [layer for layer in better.layers if layer.cause == "timing"]


def test_too_large_a_beta_is_named_and_the_advice_helps(calibrated: api.Calibrated, x: np.ndarray) -> None:
    result = diagnose(digits_model(), csscc.compile(calibrated, T=8, beta=3, silent=0).model, x)
    assert result.cause == "timing"
    assert "a smaller beta; --beta 2 is usual for T=8 and --silent 0" in result.sentences[2]
    advised = diagnose(digits_model(), csscc.compile(calibrated, T=8, beta=2, silent=0).model, x)
    assert advised.output_error["logits"] < result.output_error["logits"] / 2


def test_errors_that_the_readout_magnifies_are_named() -> None:
    """The difference of two values that are nearly the same."""
    model = parse("""g (float[N,2] x) => (float[N,1] y) <float[2,2] w = {1, 0.5, 1, 0.505}, float[2,1] v = {50, -100}>
    { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }""")
    samples = np.random.default_rng(0).uniform(0.5, 1, (64, 2)).astype(np.float32)
    result = diagnose(model, csscc.compile(model, samples, T=8, beta=2, silent=8).model, samples)
    assert result.output_error["y"] > 3 * max(layer.error for layer in result.layers)
    assert "what follows the last of them magnifies errors of at most" in result.sentences[1]


def test_a_layer_whose_inputs_cancel_goes_wrong_before_one_that_passes_spikes_on() -> None:
    rng = np.random.default_rng(0)
    one = np.eye(16, dtype=np.float32)
    signs = np.where(np.arange(16) % 2, -1.0, 1.0)[:, None]
    x = np.clip(rng.uniform(0, 1, (64, 1)) + 0.1 * rng.standard_normal((64, 16)), 0, None).astype(np.float32)
    model = parse(
        """g (float[N,16] x) => (float[N,16] y) <float[16,16] w1, float[16,16] w2, float[16,16] w3> {
            a = MatMul(x, w1)
            [pass_on] b = Relu(a)
            c = MatMul(b, w2)
            [cancel] d = Relu(c)
            y = MatMul(d, w3)
        }""",
        w1=one,
        w2=signs + 0.2 * rng.standard_normal((16, 16)),
        w3=one,
    )
    plain: dict[str, Any] = {"bursts": False, "adjust": False, "method": "max"}
    found = {
        silent: diagnose(model, csscc.compile(model, x, silent=silent, **plain).model, x)
        for silent in (0, 2)
    }
    assert (found[0].first, found[0].cause) == ("cancel", "timing")
    assert next(layer for layer in found[0].layers if layer.name == "pass_on").timing == 0
    assert found[2].first is None


def test_a_shifted_bias_is_found_in_its_layer(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    bias = node(healthy, LAYER).input[1]
    result = diagnose(digits_model(), corrupted(healthy, bias, lambda b: b + 60), x)
    assert (result.first, result.cause) == (LAYER, "shift")
    assert "biases" in result.sentences[2]


def test_other_weights_are_found_in_their_layer(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    weights = weights_of(healthy, LAYER)
    result = diagnose(digits_model(), corrupted(healthy, weights, lambda w: w[::-1]), x)
    assert (result.first, result.cause) == (LAYER, "foreign")
    assert "weights" in result.sentences[2]


def test_missing_negative_spikes_and_a_positive_encoder_are_named(calibrated: api.Calibrated, x: np.ndarray) -> None:
    stated = {"silent": 1, "negative": False, "method": "mse", "correct_bias": True, "adjust": False}
    result = diagnose(digits_model(), csscc.compile(calibrated, **stated).model, x)
    assert result.cause == "timing"
    assert "negative spikes" in result.sentences[2]
    shifted = x - 0.5
    snn = csscc.compile(digits_model(), shifted, signed_input=False, adjust=False)
    result = diagnose(digits_model(), snn.model, shifted)
    assert (result.first, result.cause) == ("image_encode", "range")
    assert "--signed-input" in result.sentences[2]


def test_the_numbers_are_those_of_other_runtimes(calibrated: api.Calibrated, x: np.ndarray) -> None:
    """Activations by onnxruntime on the source file, spikes by the NumPy reference in float64."""
    snn = csscc.compile(calibrated, T=5, beta=1.5, silent=0, bursts=False, adjust=False)
    source = onnx.load(digits_model())
    tensor = node(source, "/1/Relu").output[0]
    source.graph.output.append(onnx.ValueInfoProto(name=tensor))
    (a,) = session(source).run([tensor], {"image": x})
    trace = snn.trace(x, dtype=np.float64)
    spikes = trace.spikes["/1/Relu"].reshape(5, *a.shape)
    named = {t.name: numpy_helper.to_array(t) for t in snn.model.graph.initializer}
    theta = named[node(snn.model, "/1/Relu").input[2]]
    u = trace.residuals["/1/Relu"].reshape(a.shape)
    d = theta * sum(1.5 ** (4 - t) * spikes[t] for t in range(5))
    signal = np.sqrt((a.astype(np.float64) ** 2).mean())
    layer = next(item for item in diagnose(digits_model(), snn.model, x).layers if item.name == "/1/Relu")
    assert layer.error == pytest.approx(np.sqrt(((d - a) ** 2).mean()) / signal, rel=1e-4)
    assert layer.own == pytest.approx(np.sqrt(((theta * u) ** 2).mean()) / signal, rel=1e-4)
    assert layer.bias == pytest.approx((d - a).mean() / signal, rel=1e-3)
    assert layer.correlation == pytest.approx(np.corrcoef(a.ravel(), d.ravel())[0, 1], rel=1e-5)
    assert layer.over_one == pytest.approx((np.abs(u) > 1).mean(), abs=1e-6)
    assert layer.over_half == pytest.approx((np.abs(u) > 0.5).mean(), abs=1e-4)
    assert layer.saturated == pytest.approx((a > theta * sum(1.5**t for t in range(5))).mean(), abs=1e-6)
    np.testing.assert_allclose(layer.positive_by_step, (spikes > 0).mean(axis=(1, 2, 3, 4)), rtol=1e-6)
    np.testing.assert_allclose(layer.negative_by_step, (spikes < 0).mean(axis=(1, 2, 3, 4)), rtol=1e-6)
    assert layer.positive == pytest.approx(sum(layer.positive_by_step))
    assert layer.own**2 == pytest.approx(layer.range**2 + layer.timing**2 + layer.rounding**2)


@pytest.mark.parametrize(
    ("changes", "before", "cause"),
    [
        ({"timing": LIMITS["timing"] * 0.99}, 0.02, ""),
        ({"timing": LIMITS["timing"] * 1.01}, 0.02, "timing"),
        ({"range": LIMITS["range"] * 1.01}, 0.02, "range"),
        ({"rounding": LIMITS["rounding"] * 1.01}, 0.02, "rounding"),
        ({"rounding": LIMITS["rounding"] * 1.01, "peak": 0.2}, 0.02, "headroom"),
        ({"rounding": 0.3, "positive": 0.0, "negative": 0.0}, 0.02, "dead"),
        ({"inherited": JUMP_LIMIT * 1.01, "wanted_bias": 0.09}, 0.02, "shift"),
        ({"inherited": JUMP_LIMIT * 1.01, "wanted_bias": 0.05}, 0.02, "foreign"),
        ({"inherited": JUMP_LIMIT * 1.01}, JUMP_LIMIT, ""),
        ({"inherited": JUMP_LIMIT * JUMP_FACTOR * 1.01}, JUMP_LIMIT, "foreign"),
    ],
)
def test_the_limits_are_where_they_are_stated_to_be(changes: dict[str, Any], before: float, cause: str) -> None:
    from dataclasses import replace

    assert judged([replace(HEALTHY, error=before), replace(HEALTHY, **changes)])[1].cause == cause


def test_networks_that_do_not_belong_together_are_refused(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    def changed(change: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
        model = onnx.load(digits_model())
        change(model)
        return model

    def rename_node(model: onnx.ModelProto) -> None:
        node(model, "/1/Relu").name = "other"

    def rename_output(model: onnx.ModelProto) -> None:
        last = next(n for n in model.graph.node if "logits" in n.output)
        last.output[0] = model.graph.output[0].name = "scores"

    for change, reported in ((rename_node, "no Relu '/1/Relu'"), (rename_output, "inputs or outputs")):
        with pytest.raises(RefusedError, match=reported):
            diagnose(changed(change), healthy, x)
    with pytest.raises(RefusedError, match="not a spiking network"):
        diagnose(digits_model(), digits_model(), x)


def test_networks_in_the_wrong_order_are_refused_as_such(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    with pytest.raises(UsageError, match="in the wrong order: the ANN comes first, then the spiking network"):
        diagnose(healthy, digits_model(), x)


def test_another_training_of_the_same_network_is_noticed(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    model = onnx.load(digits_model())
    name = next(n for n in model.graph.node if n.op_type == "Conv").input[1]
    result = diagnose(corrupted(model, name, lambda w: w[::-1]), healthy, x)
    assert not result.same_source
    assert "SHA-256" in result.sentences[0]
    assert result.cause == "foreign"
    assert result.first == "/1/Relu"


def test_a_diagnosis_becomes_json(healthy: onnx.ModelProto, x: np.ndarray) -> None:
    result = diagnose(digits_model(), healthy, {"image": x}, limit=8)
    reported = json.loads(json.dumps(result.as_dict()))
    assert reported["samples"] == 8
    assert len(reported["layers"][1]["positive_by_step"]) == 12
    assert reported["first"] is None


def test_fewer_samples_than_the_networks_take_at_a_time_are_refused() -> None:
    model = parse(
        """g (float[4,3] x) => (float[4,2] y) <float[3,5] w1, float[5,2] w2> {
            a = MatMul(x, w1)
            [layer] b = Relu(a)
            c = MatMul(b, w2)
            y = Softmax <axis = 0> (c)
        }""",
        w1=np.ones((3, 5)),
        w2=np.ones((5, 2)),
    )
    x = np.random.default_rng(0).uniform(0, 1, (8, 3)).astype(np.float32)
    snn = csscc.compile(model, x).model
    assert diagnose(model, snn, x).samples == 8
    with pytest.raises(RefusedError, match="4 samples at a time"):
        diagnose(model, snn, x[:3])
