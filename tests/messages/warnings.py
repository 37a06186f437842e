"""Warnings: about samples that do not look like those of the training, and about results far from the ANN's."""

from __future__ import annotations

from typing import Any

import numpy as np

import csscc
from csscc.coding.coding import Coding
from csscc.measure.comparison import Comparison
from tests.helpers import parse
from tests.messages.given import LAYERS, Messages, X, ann

NORMALISED = """g (float[N,3,4,4] x) => (float[N,2,4,4] y)
<float[3] one = {1,1,1}, float[3] zero = {0,0,0}, float[3] mean = {0.2,0.5,0.8}, float[3] variance = {0.04,0.04,0.04},
float[3,3,1,1] k, float[2,3,1,1] l>
{ a = Conv(x, k) n = BatchNormalization(a, one, zero, mean, variance) r = Relu(n) y = Conv(r, l) }"""
DENSE = """g (float[N,64] x) => (float[N,2] y) <float[64,8] w, float[8] b, float[8,2] v>
{ a = Gemm(x, w, b) r = Relu(a) y = MatMul(r, v) }"""
IMAGES = 0.2 * np.random.default_rng(0).standard_normal((32, 3, 4, 4)) + np.array([0.2, 0.5, 0.8]).reshape(3, 1, 1)
DIGITS = np.random.default_rng(0).integers(0, 256, (32, 64)).astype(np.float32)


def first(warnings: tuple[str, ...]) -> None:
    """The first warning, raised."""
    raise csscc.CssccError(warnings[0])


def compiled(text: str, samples: Any = None) -> None:
    """The first warning of a compilation."""
    model = parse(text, **({"k": np.eye(3).reshape(3, 3, 1, 1)} if "k," in text else {"b": [1.0] * 8}))
    first(csscc.compile(model, None if samples is None else samples.astype(np.float32), T=8).report.warnings)


def evaluated(samples: Any) -> None:
    """The first warning of an evaluation."""
    first(csscc.evaluate("ann.onnx", "snn.onnx", samples).warnings)


def behind_a_scaler(samples: Any) -> None:
    """The first warning of an evaluation of a network that doubles its inputs first."""
    model = ann(f"two = Constant <value_floats = [2.0]> () d = Mul(x, two) {LAYERS.replace('(x', '(d')}")
    first(csscc.evaluate(model, csscc.compile(model, X, T=4, check_samples=0).file, samples).warnings)


def labels_for_one_number() -> None:
    model = parse("""g (float[N,2] x) => (float[N,1] y) <float[2,3] w, float[3,1] v>
    { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }""")
    first(csscc.evaluate(model, csscc.compile(model, X), {"x": X, "y": np.zeros(len(X), int)}).warnings)


MESSAGES: Messages = {
    "no calibration data: amplitudes come from synthetic inputs, so inputs beyond ..., as pixels of 0..255 "
    "are, will be cut off. Accuracy may suffer; pass --calibration with a few hundred sample inputs (.npy, "
    ".npz, a folder of images, file.py:function)": lambda p: first(csscc.compile(ann()).report.warnings),
    "no calibration data: amplitudes come from synthetic inputs and BatchNormalization statistics. Accuracy"
    " may suffer; pass --calibration with a few hundred sample inputs (.npy, .npz, a folder of images, "
    "file.py:function)": lambda p: compiled(NORMALISED),
    "only 5 calibration samples: later inputs may exceed the clipping ranges, and are cut off; pass a few hundred if "
    "you can": lambda p: first(csscc.compile(ann(), X[:5]).report.warnings),
    "only 1 calibration sample: later inputs may exceed the clipping ranges, and are cut off; pass a few hundred if "
    "you can": lambda p: first(csscc.compile(ann(), X[:1]).report.warnings),
    "output 'y' differs from the ANN's by 50 % (RMS, 8 calibration samples). csscc diagnose names the layer "
    "that goes wrong first, and what to change: often more steps (--T)": lambda p:
        first(Comparison(8, {"y": 0.5}).warnings),
    "output 'y' differs from the ANN's in 50 % of its labels (8 synthetic inputs). csscc diagnose names the "
    "layer that goes wrong first, and what to change: often more steps (--T)": lambda p:
        first(Comparison(8, {"y": 0.5}, labelling=frozenset(["y"]), synthetic=True).warnings),
    "output 'y' differs from the ANN's by 50 % (RMS, 8 calibration samples). A smaller --beta helps: 2 is usual for "
    "T=12 and --silent 0": lambda p: first(Comparison(8, {"y": 0.5}, coding=Coding(12, 3.0, 0)).warnings),
    "the data has labels (y), but no output has a value for each class: they are not used": lambda p:
        labels_for_one_number(),
    "T=16 with beta=3 has 2.2e+07 levels, and float32 resolves 1.7e+07: the last steps add little; --beta 1.75 is "
    "usual for T=16": lambda p: first(csscc.compile(ann(), X, T=16, beta=3).report.warnings),
    "output 'y' is not compared: it cannot be an array": lambda p: first(Comparison(8, left_out=("y",)).warnings),
    "input 'x' reaches 100, and the spiking network was calibrated for up to 1: ... of the values are cut "
    "off; prepare these samples as those of the calibration, or calibrate with samples such as these": lambda p:
        evaluated(100 * X),
    "input 'x' reaches ..., and the spiking network was calibrated for up to 1: it hardly sends a spike; "
    "prepare these samples as those of the calibration, or calibrate with samples such as these": lambda p:
        evaluated(0.001 * X),
    "what encoder 'd_encode' reads reaches 200, and the spiking network was calibrated for up to 2: ... of the values "
    "are cut off; prepare these samples as those of the calibration, or calibrate with samples such as these": lambda p:
        behind_a_scaler(100 * X),
    "the ANN itself is right for ... % of the samples, no more than guesses among 2 classes are: the labels number "
    "the classes in another order, the samples are not prepared as in training, or the network is no "
    "better": lambda p:
        evaluated({"x": np.tile(X, (3, 1)), "y": np.argmin(csscc.load("snn.onnx").run(np.tile(X, (3, 1))), axis=1)}),
    "these are not inputs as the network was trained on: input 'x' runs from 0 to 255, mean ..., 127, 201, "
    "and the first BatchNormalization (of 'n') gets deviations 225 times those remembered, means off by 700"
    " of them; x / 255 (of image files: --scale 255) fits better (deviations ... times those remembered, "
    "means off by ... of them); prepare the samples as in training": lambda p:
        compiled(NORMALISED, 255 * np.clip(IMAGES, 0, 1)),
    "these are not inputs as the network was trained on: input 'x' runs from -... to ..., mean ..., ..., "
    "..., and the first BatchNormalization (of 'n') gets deviations ... times those remembered, means off "
    "by ... of them; x[:, ::-1] (of image files: --channel-order) fits better (deviations ... times those "
    "remembered, means off by ... of them); prepare the samples as in training": lambda p:
        compiled(NORMALISED, np.flip(IMAGES, 1)),
    "these are not inputs as the network was trained on: input 'x' runs from -... to 1368, mean 176, 491, "
    "803, and the first BatchNormalization (of 'n') gets deviations 985 times those remembered, means off "
    "by ... of them; prepare the samples as in training": lambda p: compiled(NORMALISED, 1000 * IMAGES - 7),
    "are these pixels as the network takes them? input 'x' runs from 0 to 255, mean 130, and make sums in "
    "layer 'Gemm_0' beside which its biases matter little (deviation 266, biases 1): if it was trained on "
    "0..1, pass x / 255 (of image files: --scale 255, --preprocess); if on 0..255, all is well": lambda p:
        compiled(DENSE, DIGITS),
    "are these inputs as the network takes them? input 'x' runs from 0 to 2550, mean ..., and make sums in "
    "layer 'Gemm_0' beside which its biases matter little (deviation ..., biases 1): pixels are divided by "
    "255 before a mean and a deviation of 0..1 are applied": lambda p: compiled(DENSE, 10 * DIGITS),
    "these inputs hardly move the network: input 'x' runs from 0 to ..., mean ..., and make sums in layer "
    "'Gemm_0' that do not matter beside its biases (deviation ..., biases 1); if it was trained on 0..255, "
    "pass x * 255 (of image files: --scale 1)": lambda p: compiled(DENSE, DIGITS / 25500),
    "the channels of input 'x' may be in reverse order, RGB for BGR: as they are, the means of the first "
    "BatchNormalization (of 'n') are off by ... of the deviations it remembers, turned round by ...; pass "
    "x[:, ::-1] (of image files: --channel-order)": lambda p:
        compiled(
            NORMALISED.replace("0.2,0.5,0.8", "0.46,0.5,0.54"),
            IMAGES + np.array([0.34, 0, -0.34]).reshape(3, 1, 1),
        ),
}
