"""Whether samples are those that a network was trained on: said with numbers, and only where they are not."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import csscc
import csscc.api
from csscc import cli
from csscc.measure.evaluation import evaluate
from csscc.measure.inputs import Fit
from csscc.models import digits_data, digits_model
from tests.helpers import parse, run

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
STEM = "g (float[N,3,8,8] x) => (float[N,6,6,6] a) <float[6,3,3,3] w> { a = Conv(x, w) }"
WITH_MEMORY = """g (float[N,3,8,8] x) => (float[N,4] y)
<float[6,3,3,3] w, float[6] gamma, float[6] beta, float[6] mean, float[6] var, float[4,6] v, float[4] c>
{ a = Conv(x, w) b = BatchNormalization(a, gamma, beta, mean, var) r = Relu(b)
  p = GlobalAveragePool(r) f = Flatten(p) y = Gemm <transB = 1> (f, v, c) }"""
WITHOUT = """g (float[N,3,8,8] x) => (float[N,4] y) <float[6,3,3,3] w, float[6] b, float[4,6] v, float[4] c>
{ a = Conv(x, w, b) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm <transB = 1> (f, v, c) }"""


def pixels(seed: int, number: int = 120, tint: float = 0.4) -> np.ndarray:
    """Images ``[N, 3, 8, 8]`` of whole numbers from 0 to 255, brighter in red than in blue."""
    rng = np.random.default_rng(seed)
    light = rng.uniform(40, 200, (number, 1, 1, 1)) * np.array([1.2, 1.0, 1 - tint]).reshape(1, 3, 1, 1)
    return np.clip(light + 25 * rng.standard_normal((number, 3, 8, 8)), 0, 255).round().astype(np.float32)


def normalised(x: np.ndarray) -> np.ndarray:
    return ((x / 255 - MEAN.reshape(1, 3, 1, 1)) / STD.reshape(1, 3, 1, 1)).astype(np.float32)


def trained_on(x: np.ndarray, weight: float = 1.0) -> onnx.ModelProto:
    """A network whose BatchNormalization remembers what its convolution made of these images."""
    w = weight * np.random.default_rng(5).standard_normal((6, 3, 3, 3))
    made = run(parse(STEM, w=w), {"x": x})["a"].astype(np.float64)
    return parse(WITH_MEMORY, w=w, mean=made.mean((0, 2, 3)), var=made.var((0, 2, 3)), gamma=[0.5, 1, 2, 1, 1, 0.1])


def reported(model: onnx.ModelProto, x: Any) -> str:
    """The warning about inputs of a compilation with these samples."""
    snn = csscc.compile(model, x.astype(np.float32), T=4, check_samples=0)
    assert len(snn.report.warnings) <= 1
    return "".join(snn.report.warnings)


@pytest.fixture(scope="module")
def imagenet() -> onnx.ModelProto:
    return trained_on(normalised(pixels(0)))


def test_samples_of_the_training_are_not_remarked_on(imagenet: onnx.ModelProto) -> None:
    assert reported(imagenet, normalised(pixels(1))) == ""
    assert reported(imagenet, normalised(pixels(1, 8))) == ""
    assert reported(trained_on(pixels(0) / 255), pixels(1) / 255) == ""
    assert reported(trained_on(pixels(0)), pixels(1)) == ""


def test_a_wrong_range_is_reported_with_numbers_and_what_fits(imagenet: onnx.ModelProto) -> None:
    x = pixels(1)
    text = reported(imagenet, x)
    means = ", ".join(f"{m:.3g}" for m in x.mean((0, 2, 3), dtype=np.float64))
    assert f"input 'x' runs from 0 to 255, mean {means}, and the first BatchNormalization (of 'b') gets" in text
    assert "(x / 255 - 0.485,0.456,0.406) / 0.229,0.224,0.225 (of image files: --preprocess imagenet) fits" in text
    assert "(x - 0.485,0.456,0.406) / 0.229,0.224,0.225 (of" in reported(imagenet, x / 255)
    assert "; x / 255 (of image files: --scale 255) fits" in reported(trained_on(pixels(0) / 255), x)
    assert "; x * 255 (of image files: --scale 1) fits" in reported(trained_on(pixels(0)), x / 255)
    assert "(x / 255 - 0.5) / 0.5 (of image files: --preprocess inception) fits" in reported(
        trained_on(pixels(0) / 127.5 - 1), x
    )
    caffe = np.array([103.939, 116.779, 123.68]).reshape(1, 3, 1, 1)
    text = reported(trained_on((pixels(0)[:, ::-1] - caffe).astype(np.float32)), x)
    assert "(x - 103.939,116.779,123.68) / 1 in BGR (of image files: --preprocess caffe) fits" in text


def test_a_range_that_nothing_explains_is_reported_without_wrong_advice(imagenet: onnx.ModelProto) -> None:
    text = reported(imagenet, 40 * normalised(pixels(1)) + 7)
    assert "these are not inputs as the network was trained on: input 'x' runs from -" in text
    assert "fits better" not in text


def test_the_numbers_are_those_of_the_data(imagenet: onnx.ModelProto) -> None:
    """Inputs twice as far from their mean, through a linear layer: deviations double, means stay."""
    x = normalised(pixels(0))
    centre = x.mean((0, 2, 3), keepdims=True)
    assert "gets deviations 4 times those remembered, means off by 0" in reported(imagenet, 4 * (x - centre) + centre)


def test_distance_is_nought_only_where_nothing_differs() -> None:
    assert Fit(0.0, 1.0, 0.0).distance == 0
    assert Fit(0.3, 1.5, 0.4).distance == pytest.approx(0.5)


def test_channels_in_reverse_order_are_reported(imagenet: onnx.ModelProto) -> None:
    text = reported(imagenet, normalised(pixels(1))[:, ::-1])
    assert "these are not inputs" in text
    assert "; x[:, ::-1] (of image files: --channel-order) fits better" in text
    pale = trained_on(normalised(pixels(0, 500, tint=0.0)))
    text = reported(pale, normalised(pixels(1, tint=0.0))[:, ::-1])
    assert "the channels of input 'x' may be in reverse order, RGB for BGR: as they are, the means of the first" in text
    assert "; pass x[:, ::-1] (of image files: --channel-order)" in text
    assert reported(pale, normalised(pixels(1, tint=0.0))) == ""
    grey = normalised(pixels(1))[:, :1].repeat(3, 1)
    assert reported(trained_on(grey), grey[:, ::-1]) == ""


def test_networks_of_a_fixed_batch() -> None:
    model = trained_on(pixels(0) / 255)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 16
    assert "x / 255" in reported(model, pixels(1, 48))
    assert reported(model, pixels(1, 48) / 255) == ""


def test_without_memory_the_first_layer_sends_a_little() -> None:
    x = pixels(1)
    model = parse(WITHOUT, b=np.full(6, 0.3))
    text = reported(model, x)
    assert "are these pixels as the network takes them? input 'x' runs from 0 to 255, mean" in text
    assert "if it was trained on 0..1, pass x / 255 (of image files: --scale 255, --preprocess); if on 0..255" in text
    assert "pixels are divided by 255 before a mean" in reported(model, normalised(255 * x))
    for fine in (x / 255, normalised(x), x / 127.5 - 1):
        assert reported(model, fine) == ""
    raw = parse(WITHOUT, b=np.full(6, 0.3), w=np.random.default_rng(0).standard_normal((6, 3, 3, 3)) / 500)
    assert reported(raw, x) == ""
    faint = parse(WITHOUT, b=np.full(6, 0.3), w=np.random.default_rng(0).standard_normal((6, 3, 3, 3)) / 5000)
    assert "these inputs hardly move the network: input 'x' runs from 0 to 1" in reported(faint, x / 255)
    assert "pass x * 255 (of image files: --scale 1)" in reported(faint, x / 255)


def test_networks_that_scale_their_inputs() -> None:
    scaled = "s = Constant <value = float {255.0}> () d = Div(x, s) a = Conv(d, w, b)"
    model = parse(WITHOUT.replace("a = Conv(x, w, b)", scaled), b=np.full(6, 0.3))
    assert reported(model, pixels(1)) == ""
    assert "these inputs hardly move the network" in reported(model, pixels(1) / 255)


def test_a_normalisation_in_products_and_sums_shows_its_offset() -> None:
    """As Keras exports it, channels last: the convolution has no bias, an Add behind it has."""
    last = """a0 = Conv(x, w) t = Transpose <perm = [0,2,3,1]> (a0) m = Mul(t, k) s = Add(m, b)
    a = Transpose <perm = [0,3,1,2]> (s)"""
    text = WITHOUT.replace("a = Conv(x, w, b)", last).replace("float[6] b", "float[6] b, float[6] k")
    model = parse(text, b=np.full(6, 0.3), k=np.linspace(0.5, 1, 6))
    assert "are these pixels as the network takes them?" in reported(model, pixels(1))
    assert reported(model, pixels(1) / 255) == ""


@pytest.mark.parametrize(
    "before",
    [
        "d = Transpose <perm = [0,1,3,2]> (x)",
        "k = Constant <value_floats = [0.1]> () s = Sub(x, k) d = Div(s, k)",
    ],
)
def test_evaluate_sees_the_range_behind_what_stands_before_the_encoder(before: str) -> None:
    model = parse(WITHOUT.replace("a = Conv(x, w, b)", f"{before} a = Conv(d, w, b)"), b=np.full(6, 0.3))
    x = pixels(1) / 255
    snn = csscc.compile(model, x, T=6)
    assert evaluate(model, snn.file, {"x": x}).warnings == ()
    (text,) = evaluate(model, snn.file, {"x": 50 * x}).warnings
    assert re.match(r"what encoder 'd_encode' reads reaches [\d.]+, and the spiking network was calibrated for", text)
    assert "of the values are cut off" in text


def test_without_data_it_is_stated_which_inputs_are_cut_off(imagenet: onnx.ModelProto) -> None:
    (text,) = csscc.compile(parse(WITHOUT), T=4, check_samples=0).report.warnings
    limit = next(layer.clipping_range for layer in csscc.compile(parse(WITHOUT), T=4).layers if layer.kind == "encoder")
    assert f"synthetic inputs, so inputs beyond {limit:.2g}, as pixels of 0..255 are, will be cut off. Accuracy" in text
    (text,) = csscc.compile(imagenet, T=4, check_samples=0).report.warnings
    assert "cut off" not in text


def test_a_calibrated_network_brings_its_warning_along(imagenet: onnx.ModelProto) -> None:
    ann = csscc.api.calibrate(imagenet, pixels(1))
    assert "--preprocess imagenet) fits" in ann.warnings[0]
    for T in (3, 4):
        assert csscc.compile(ann, T=T).report.warnings == ann.warnings
    assert csscc.api.calibrate(imagenet, normalised(pixels(1))).warnings == ()


def test_evaluate_warns_of_a_large_error() -> None:
    with np.load(digits_data()) as data:
        x, calibration = data["x"][:20], data["x_calib"][:50]
    snn = csscc.compile(digits_model(), calibration, T=4, beta=1.5, check_samples=0)
    result = evaluate(digits_model(), snn.file, {"x": x})
    (text,) = result.warnings
    assert f"output 'logits' differs from the ANN's by {100 * result.output_error['logits']:.3g} %" in text


def test_evaluate_tells_samples_of_another_range_than_the_calibrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(digits_data()) as data:
        x, y, calibration = data["x"][:20], data["y"][:20], data["x_calib"][:50]
    snn = csscc.compile(digits_model(), calibration, T=8, beta=2, check_samples=0)
    assert evaluate(digits_model(), snn.file, {"x": x, "y": y}).warnings == ()
    share = np.mean(255 * x > 1.1 * snn.layers[0].clipping_range)
    (text,) = evaluate(digits_model(), snn.file, {"x": 255 * x}).warnings
    assert text.startswith(
        "input 'image' reaches 255, and the spiking network was calibrated for up to "
        f"{snn.layers[0].clipping_range:.4g}: {share:.1%} of the values are cut off; prepare these samples as those of "
        "the calibration"
    )
    (text,) = evaluate(digits_model(), snn.file, {"x": x / 100}).warnings
    assert "reaches 0.01, and the spiking network was calibrated for up to 1: it hardly sends a spike" in text
    snn.save(tmp_path / "snn.onnx")
    np.save(tmp_path / "x.npy", 255 * x)
    monkeypatch.setattr(
        sys, "argv",
        ["csscc", "evaluate", str(digits_model()), str(tmp_path / "snn.onnx"), "--data", str(tmp_path / "x.npy"), "-q"],
    )  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "Warning: input 'image' reaches 255" in capsys.readouterr().err
