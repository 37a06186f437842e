"""Whole compilations: drawn networks and the digits network, against the ANN in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import csscc
from csscc.dialect.model import spike_sources, with_outputs
from csscc.models import digits_data, digits_model
from tests.helpers import run

Array = NDArray[Any]
CHANNELS, SIZE, CLASSES = 3, 8, 5
LAYERS = ("conv", "conv_bn", "relu", "residual", "concat", "maxpool", "avgpool", "leaky", "depthwise")
common = settings(deadline=None, max_examples=6, derandomize=True, phases=(Phase.explicit, Phase.generate))
networks = st.tuples(
    st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6),
    st.sampled_from(["gemm", "flatten", "pooled"]),
    st.integers(0, 2**16),
)
Drawn = tuple[list[str], str, int]


class Builder:
    """Builds an ANN layer by layer; weights are scaled so that activations keep their size."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.channels, self.size, self.current = CHANNELS, SIZE, "image"

    def constant(self, values: Array) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, source: str, out: int, kernel: int = 3, group: int = 1) -> str:
        fan_in = self.channels // group * kernel**2
        w = self.rng.normal(0, (1.6 / fan_in) ** 0.5, (out, self.channels // group, kernel, kernel))
        bias = self.constant(self.rng.normal(0, 0.1, out))
        return self.add("Conv", [source, self.constant(w), bias], pads=[kernel // 2] * 4, group=group)

    def bn(self, source: str, channels: int) -> str:
        parts = [self.rng.uniform(0.6, 1.4, channels), self.rng.normal(0, 0.2, channels)]
        parts += [self.rng.normal(0, 0.2, channels), self.rng.uniform(0.5, 1.5, channels)]
        return self.add("BatchNormalization", [source, *map(self.constant, parts)])

    def layer(self, kind: str) -> None:
        x = self.current
        if kind == "conv":
            out = int(self.rng.integers(2, 6))
            self.current, self.channels = self.conv(x, out), out
        elif kind == "conv_bn":
            out = int(self.rng.integers(2, 6))
            self.current, self.channels = self.add("Relu", [self.bn(self.conv(x, out), out)]), out
        elif kind == "depthwise":
            self.current = self.conv(x, self.channels, group=self.channels)
        elif kind == "relu":
            self.current = self.add("Relu", [x])
        elif kind == "leaky":
            self.current = self.add("LeakyRelu", [x], alpha=0.1)
        elif kind == "residual":
            self.current = self.add("Relu", [self.add("Add", [x, self.conv(x, self.channels)])])
        elif kind == "concat":
            joined = self.add("Concat", [x, self.add("Relu", [self.conv(x, 2, kernel=1)])], axis=1)
            self.current, self.channels = joined, self.channels + 2
        elif self.size > 2:
            op = {"maxpool": "MaxPool", "avgpool": "AveragePool"}[kind]
            self.current = self.add(op, [x], kernel_shape=[2, 2], strides=[2, 2])
            self.size //= 2

    def finish(self, head: str) -> onnx.ModelProto:
        x = self.add("Relu", [self.conv(self.current, 4)])
        features = 4
        if head == "flatten":
            x, features = self.add("Flatten", [x]), 4 * self.size**2
        else:
            x = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        w = self.constant(self.rng.normal(0, features**-0.5, (CLASSES, features)))
        self.add("Gemm", [x, w, self.constant(self.rng.normal(0, 0.1, CLASSES))], transB=1)
        outputs = ["logits"]
        self.nodes[-1].output[0] = "logits"
        if head == "gemm":
            self.nodes.append(helper.make_node("Softmax", ["logits"], ["share"], "share", axis=-1))
            outputs.append("share")
        graph = helper.make_graph(
            self.nodes,
            "drawn",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", CHANNELS, SIZE, SIZE])],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["batch", CLASSES]) for o in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def build(drawn: Drawn) -> onnx.ModelProto:
    layers, head, seed = drawn
    builder = Builder(seed)
    builder.current = builder.conv("image", 4)
    builder.channels = 4
    for kind in layers:
        builder.layer(kind)
    return builder.finish(head)


def images(number: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (number, CHANNELS, SIZE, SIZE)).astype(np.float32)


def relative_rms(actual: Array, expected: Array) -> float:
    """Root mean squared error in units of the expected values' spread over the samples."""
    assert actual.shape == expected.shape
    wide = expected.astype(np.float64)
    return float(np.sqrt(np.mean((actual - wide) ** 2)) / max(np.sqrt(np.mean((wide - wide.mean(axis=0)) ** 2)), 1e-9))


def all_spikes(snn: csscc.SNN, x: Array, *, optimise: bool = True) -> dict[str, Array]:
    """Spikes ``[T*B, ...]`` of every encoder and neuron in onnxruntime, by node name."""
    model = onnx.ModelProto()
    model.CopyFrom(snn.model)
    sources = {n.name: n.output[0] for n in spike_sources(model)}
    outputs = run(with_outputs(model, sources.values()), {"image": x}, optimise=optimise)
    return {name: outputs[tensor] for name, tensor in sources.items()}


def test_the_error_measure_notices_a_wrong_network() -> None:
    drawn: Drawn = (["conv_bn", "residual"], "flatten", 1)
    x = images(16, 3)
    right = run(build(drawn), {"image": x})["logits"]
    wrong = run(build((drawn[0], drawn[1], 2)), {"image": x})["logits"]
    assert relative_rms(wrong, right) > 0.5
    assert relative_rms(np.roll(right, 1, axis=0), right) > 0.5
    assert relative_rms(right * 1.1, right) > 0.05


@common
@given(networks)
def test_a_drawn_network_is_close_to_its_ann_and_closer_with_more_steps(drawn: Drawn) -> None:
    ann = build(drawn)
    calibration, unseen = images(128, 0), images(24, 1)
    x = calibration[:24]
    expected = run(ann, {"image": x})
    errors = []
    for T in (8, 16):
        snn = csscc.compile(ann, calibration=calibration, T=T, beta=1.5, check_samples=0)
        onnx.checker.check_model(snn.file, full_check=True)
        assert [o.name for o in snn.file.graph.output] == list(expected)
        assert [i.name for i in snn.file.graph.input] == ["image"]
        actual = run(snn.file, {"image": x})
        errors.append(relative_rms(actual["logits"], expected["logits"]))
    assert errors[1] < 0.03
    assert errors[1] < errors[0] / 5  # 1.5**8 is 25
    # Unseen samples reach beyond the calibrated ranges here and there, and are cut off.
    actual = run(snn.file, {"image": unseen})
    assert relative_rms(actual["logits"], run(ann, {"image": unseen})["logits"]) < 0.1


@common
@given(networks, st.sampled_from([(4, 2.0, 1), (8, 1.5, 0), (10, 1.5, 1), (6, 1.5, 2)]))
def test_onnxruntime_and_numpy_send_the_same_spikes(drawn: Drawn, coding: tuple[int, float, int]) -> None:
    T, beta, silent = coding
    options = {"T": T, "beta": beta, "silent": silent, "adjust": False, "check_samples": 0}
    snn = csscc.compile(build(drawn), calibration=images(64, 0), **options)
    x = images(5, 2)
    trace = snn.trace(x)
    inexact = {e.node for e in snn.report.events if e.source == "snap-weights"}
    for optimise in (True, False):
        spikes = all_spikes(snn, x, optimise=optimise)
        assert set(spikes) == set(trace.spikes)
        differing = total = 0
        for name, train in spikes.items():
            expected = trace.spikes[name]
            assert set(np.unique(train)) <= {-1.0, 0.0, 1.0, *([-2.0, 2.0] if name in snn.bursts else [])}
            if not inexact:
                np.testing.assert_array_equal(train.reshape(expected.shape), expected, err_msg=name)
            differing += int((train.reshape(expected.shape) != expected).sum())
            total += train.size
        assert differing <= 1e-4 * total


@common
@given(networks)
def test_one_file_serves_every_batch_size(drawn: Drawn) -> None:
    snn = csscc.compile(build(drawn), calibration=images(32, 0), T=6, beta=1.5, adjust=False)
    x = images(64, 4)
    whole = run(snn.file, {"image": x})
    for size in (1, 7, 64):
        parts = [run(snn.file, {"image": x[i : i + size]}) for i in range(0, 14 if size == 7 else size, size)]
        for name, expected in whole.items():
            actual = np.concatenate([p[name] for p in parts])
            np.testing.assert_allclose(actual, expected[: len(actual)], rtol=0, atol=1e-5 * np.abs(expected).max())


def test_spikes_differ_where_the_network_differs() -> None:
    """The comparison of spikes above is no tautology."""
    drawn: Drawn = (["conv_bn", "maxpool"], "gemm", 5)
    snn = csscc.compile(build(drawn), calibration=images(32, 0), T=6)
    x = images(4, 2)
    trace = snn.trace(x)
    spikes = all_spikes(snn, x * np.float32(1.01))
    assert any((s.reshape(trace.spikes[n].shape) != trace.spikes[n]).mean() > 1e-3 for n, s in spikes.items())


@pytest.fixture(scope="module")
def digits() -> dict[str, Array]:
    with np.load(digits_data()) as archive:
        return {k: archive[k] for k in archive.files}


def accuracy(logits: Array, labels: Array) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def test_digits_loses_at_most_three_tenths_of_a_point_at_ten_steps(digits: dict[str, Array]) -> None:
    x, labels = digits["x"], digits["y"]
    ann = next(iter(run(onnx.load(digits_model()), {"image": x}).values()))
    assert accuracy(ann, labels) > 0.95
    snn = csscc.compile(digits_model(), calibration=digits["x_calib"], T=10)
    logits = snn.run(x)
    assert accuracy(ann, labels) - accuracy(logits, labels) <= 0.003
    assert (logits.argmax(axis=1) == ann.argmax(axis=1)).mean() >= 0.99
    np.testing.assert_allclose(snn.run(x[:20], runtime="numpy"), logits[:20], rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("method", ["percentile", "max", "mse", "entropy"])
def test_digits_with_every_way_to_choose_amplitudes(digits: dict[str, Array], preset: str, method: str) -> None:
    x = digits["x"][:200]
    ann = next(iter(run(onnx.load(digits_model()), {"image": x}).values()))
    options = {"T": 14, "preset": preset, "method": method, "check_samples": 0}
    snn = csscc.compile(digits_model(), calibration=digits["x_calib"][:128], **options)
    assert (snn.run(x).argmax(axis=1) == ann.argmax(axis=1)).mean() >= 0.97


def test_digits_without_calibration_warns_and_still_works(digits: dict[str, Array]) -> None:
    x = digits["x"]
    ann = next(iter(run(onnx.load(digits_model()), {"image": x}).values()))
    snn = csscc.compile(digits_model(), T=16)
    assert len(snn.report.warnings) == 1
    assert "--calibration" in snn.report.warnings[0]
    assert (snn.run(x).argmax(axis=1) == ann.argmax(axis=1)).mean() >= 0.95
    with_data = csscc.compile(digits_model(), calibration=digits["x_calib"], T=16)
    assert not with_data.report.warnings


def test_digits_needs_silence_or_negative_spikes(digits: dict[str, Array]) -> None:
    x = digits["x"]
    ann = next(iter(run(onnx.load(digits_model()), {"image": x}).values()))
    errors = {}
    for silent, negative in ((1, True), (0, True), (0, False)):
        snn = csscc.compile(
            digits_model(),
            calibration=digits["x_calib"],
            T=12,
            silent=silent,
            negative=negative,
            preset="paper",
            adjust=False,
        )
        errors[silent, negative] = relative_rms(snn.run(x), ann)
    assert errors[1, True] < errors[0, True] / 2
    assert errors[0, True] < errors[0, False]


OWN_ATTRIBUTES = {"HardSigmoid": {"alpha": 0.3, "beta": 0.2}, "LRN": {"size": 3, "alpha": 2.0, "beta": 0.4}}


@pytest.mark.parametrize("op", sorted(OWN_ATTRIBUTES))
def test_an_activation_keeps_a_beta_of_its_own(op: str) -> None:
    """HardSigmoid and LRN have an attribute of the name that the coding's amplification has on a neuron."""
    builder = Builder(0)
    builder.current = builder.conv("image", 4)
    builder.channels = 4
    builder.current = builder.add(op, [builder.current], **OWN_ATTRIBUTES[op])
    ann, x = builder.finish("flatten"), images(16, 1)
    expected = run(ann, {"image": x})["logits"]
    snn = csscc.compile(ann, calibration=images(64, 0), T=16)
    assert relative_rms(run(snn.file, {"image": x})["logits"], expected) < 0.03
