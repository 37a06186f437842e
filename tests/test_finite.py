"""NaN is seen: in weights, in what two networks or runtimes give out, in options, and never in JSON."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import csscc
from csscc import cli
from csscc.errors import RefusedError, UsageError
from csscc.io.finite import finite, not_finite, strict_json
from csscc.measure.agreement import Agreement
from csscc.measure.diagnose import diagnose
from csscc.measure.difference import Difference, largest_difference, refuse_unequal, tolerance
from csscc.measure.evaluation import evaluate
from csscc.measure.verify import verify
from csscc.passes.canonical.load import load
from csscc.search.tune import tune
from tests.helpers import corrupted, parse, small_classifier

NAN, INF = math.nan, math.inf
# An epilogue behind the last layer, where NaN reaches no neuron: the root of what may be negative.
ROOTS = """g (float[N,4] x) => (float[N,3] y) <float[4,6] w1, float[6,3] w2>
{ a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) y = Sqrt(c) }"""


def test_not_finite_counts() -> None:
    assert not_finite(np.array([1, NAN, INF, -INF], np.float32)) == 3
    assert not_finite(np.array([1, 2])) == not_finite(np.array(["a"], object)) == not_finite(np.array([True])) == 0


def test_json_knows_no_nan() -> None:
    values = {"a": NAN, "b": [INF, 1.5, (-INF, 2)], "c": {"d": np.float64(NAN)}, "e": "NaN", "f": Path("x")}
    reported = strict_json(values)
    assert json.loads(reported) == {"a": None, "b": [None, 1.5, [None, 2]], "c": {"d": None}, "e": "NaN", "f": "x"}
    assert finite(1.5, "it") == 1.5
    with pytest.raises(UsageError, match="it must be a finite number, not nan"):
        finite(NAN, "it")


@pytest.mark.parametrize(
    ("ann", "snn", "error", "unknown"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0, (0, 0)),
        ([3.0, 4.0], [3.0, 9.0], 1, (0, 0)),
        ([3.0, NAN], [3.0, 4.0], INF, (1, 0)),
        ([3.0, 4.0], [NAN, NAN], INF, (0, 2)),
        ([3.0, NAN], [3.0, NAN], INF, (1, 1)),
        ([3.0, 4.0], [INF, 4.0], INF, (0, 1)),
        ([3.0, INF], [3.0, -INF], INF, (1, 1)),
        ([3.0, -INF], [3.0, -INF], 0, (0, 0)),
        ([0.0, 0.0], [0.0, 1e-9], 1, (0, 0)),
    ],
)
def test_a_difference_by_hand(ann: list[float], snn: list[float], error: float, unknown: tuple[int, int]) -> None:
    difference = Difference("y")
    difference.add(np.array(ann), np.array(snn))
    assert difference.error == error
    assert (difference.ann_unknown, difference.snn_unknown) == unknown
    assert bool(difference.fault) == (unknown != (0, 0))
    largest = largest_difference(np.array(snn), np.array(ann))
    assert (largest == INF) == (error == INF)
    assert (largest == 0) == (error == 0)


def test_differences_of_labels_and_of_unlike_outputs() -> None:
    labels = Difference("y", labels=True)
    labels.add(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))
    assert labels.error == 0.25
    for other in (np.ones((2, 1)), np.ones(3), np.array(["a", "b"], object)):
        with pytest.raises(RefusedError, match="do not belong together: output 'y'"):
            Difference("y").add(np.ones(2), other)
    assert largest_difference(np.ones(2), np.ones((2, 1))) == INF


def test_what_stands_for_a_file_must_answer_as_it_does() -> None:
    y = np.array([1.0, -2.0, NAN])
    refuse_unequal({"y": y}, {"y": y * 1.001})
    others = (y * 1.1, y[:2], y[None], np.array(["a", "b", "c"], object), np.array([NAN, -2.0, NAN]))
    for other in (*others, np.array([1.0, -2.0, 0.0]), np.array([1.0, INF, NAN])):
        with pytest.raises(RefusedError, match="was the file changed"):
            refuse_unequal({"y": y}, {"y": other})


def test_a_network_whose_activations_round_may_differ_a_little_more():
    """A flipped spike flips others behind it; what is not finite, or far off, is refused all the same."""
    y = np.float32([[1.0, 2.0]])
    assert tolerance(["encoder", "Relu", "Linear", "readout"]) < tolerance(["Relu", "Softmax"])
    refuse_unequal({"y": y}, {"y": y * 1.03}, within=tolerance(["Relu", "Sigmoid"]))
    for kinds, other in ((["Relu"], y * 1.03), (["Sigmoid"], y * 1.3), (["Sigmoid"], y * np.nan)):
        with pytest.raises(RefusedError, match="was the file changed"):
            refuse_unequal({"y": y}, {"y": other}, within=tolerance(kinds))


def test_a_sample_of_nan_has_no_class() -> None:
    y = np.array([[1.0, 2.0], [NAN, 1.0]])
    compared = Agreement(np.array([1, 0]))
    compared.add({"y": y}, {"y": y}, 2)
    assert (compared.ann_accuracy, compared.snn_accuracy, compared.agreement) == (50, 50, 50)
    assert compared.expected_loss == compared.cautious_loss == INF
    assert compared.faults == (
        "output 'y' cannot be compared: 1 value(s) of the ANN's and 1 of the SNN's are NaN or infinite",
    )


def test_classes_that_both_rule_out_are_no_fault() -> None:
    ann = np.array([[3.0, 1.0, -INF], [0.0, -INF, -INF]])
    compared = Agreement(np.array([0, 0]))
    compared.add({"y": ann}, {"y": ann + 0.1}, 2)
    assert (compared.agreement, compared.faults) == (100, ())
    assert compared.expected_loss == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("name", ["w1", "w3"])
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float) -> None:
    model, data = small_classifier(8)
    bad = corrupted(model, name, lambda w: np.where(np.arange(w.size).reshape(w.shape) < 3, value, w))
    word = "NaN" if value is NAN else "infinite"
    with pytest.raises(RefusedError, match=rf"are not finite: '{name}' of .* \(3 of \d+ values are {word}\)"):
        csscc.compile(bad, {"x": data["x"]})


def test_a_bias_that_is_added_and_weights_that_are_moved() -> None:
    model = parse(
        "g (float[N,4] x) => (float[N,3] y) <float[3,4] w, float[3] b>"
        "{ t = Transpose(w) a = MatMul(x, t) y = Add(a, b) }"
    )
    for name, values in (("w", INF), ("b", NAN)):
        with pytest.raises(RefusedError, match=f"not finite: '{name}' of"):
            load(corrupted(model, name, lambda w, v=values: np.full_like(w, v)))
    load(corrupted(model, "b", lambda w: np.full_like(w, -INF)))  # an additive mask


def test_weights_whose_products_have_no_sum_in_32_bits() -> None:
    text = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] b> { y = Gemm(x, w, b) }"
    with pytest.raises(RefusedError, match=r"are too large: 'w' of Gemm 'y' \(12 of 12 values are beyond 1e\+30\)"):
        load(parse(text, w=3e38))
    load(parse(text, b=-3e38))  # which rules a class out


@pytest.mark.parametrize(("value", "wrong"), [(-INF, "not finite: 'c' of Conv"), (-3e38, "too large: 'c' of Conv")])
def test_padding_that_weights_multiply(value: float, wrong: str) -> None:
    text = (
        "g (float[N,2,4,4] x) => (float[N,2,3,3] y) <float[2,2,2,2] w, int64[8] p, float c>"
        "{ q = Pad(x, p, c) a = %s(q%s) y = Relu(a) }"
    )
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    with pytest.raises(RefusedError, match=wrong):
        load(parse(text % ("Conv <strides = [2,2]>", ", w"), p=pads, c=value))
    load(parse(text % ("MaxPool <kernel_shape = [2,2], strides = [2,2]>", ""), p=pads, c=value))


def test_numbers_that_32_bits_do_not_hold_are_not_finite() -> None:
    model = parse("g (double[N,4] x) => (double[N,3] y) <double[4,3] w> { y = MatMul(x, w) }", w=1e300)
    with pytest.raises(RefusedError, match="'w' of MatMul"):
        load(model)


def test_weights_that_become_nan_when_constants_are_folded_are_refused_at_their_node() -> None:
    model = parse(
        "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float one = {-1.0}>"
        "{ r = Sqrt(one) v = Mul(w, r) [last] y = MatMul(x, v) }"
    )
    with pytest.raises(RefusedError, match=r"'last'.*12 of its weights are NaN or infinite"):
        csscc.compile(model, np.ones((4, 4), np.float32))


def test_constants_that_nothing_computes_with_are_no_weights() -> None:
    model = parse(
        "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float none = {0.0}>"
        "{ a = MatMul(x, w) b = IsNaN(a) y = Where(b, none, a) }"
    )
    load(corrupted(model, "none", lambda v: v * NAN))


@pytest.fixture(scope="module")
def roots() -> tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray]:
    """An ANN that gives out NaN for some samples, the same spiking, and samples."""
    ann = parse(ROOTS)
    x = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context():
        snn = csscc.compile(ann, x, T=12)
    assert any("cannot be compared" in text and "NaN or infinite" in text for text in snn.report.warnings)
    assert snn.report.comparison.errors == {"y": INF}
    return ann, snn.file, x


def test_outputs_of_nan_are_reported_and_fail(
    roots: tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ann, snn, x = roots
    result = evaluate(ann, snn, {"x": x, "y": np.zeros(len(x), int)}, native=False)
    assert result.output_error == {"y": INF}
    assert result.agreement < 100
    assert result.snn_accuracy < 100
    assert len(result.faults) == 1
    assert not verify(snn, x).holds
    assert diagnose(ann, snn, x).faults
    onnx.save(ann, tmp_path / "ann.onnx")
    onnx.save(snn, tmp_path / "snn.onnx")
    np.save(tmp_path / "x.npy", x)
    monkeypatch.chdir(tmp_path)
    for command in (
        ["evaluate", "ann.onnx", "snn.onnx", "--data", "x.npy", "--json"],
        ["evaluate", "ann.onnx", "snn.onnx", "--data", "x.npy"],
        ["diagnose", "ann.onnx", "snn.onnx", "--data", "x.npy", "--json"],
        ["verify", "snn.onnx", "--data", "x.npy", "--json"],
        ["compile", "ann.onnx", "--calibration", "x.npy", "-o", "made.onnx", "--json"],
        ["compile", "ann.onnx", "--calibration", "x.npy", "-o", "made.onnx"],
    ):
        monkeypatch.setattr(sys, "argv", ["csscc", *command])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        assert (stop.value.code or 0) == (0 if command[0] == "compile" else 1)
        assert "NaN" in out.out + out.err
        if "--json" in command:
            json.loads(out.out, parse_constant=pytest.fail)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_budget_is_a_number(value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["evaluate", "a.onnx", "b.onnx", "--data", "x.npy", "--max-loss", value],
        ["tune", "a.onnx", "--calibration", "x.npy", "--max-loss", value, "-o", "b.onnx"],
        ["compile", "a.onnx", "--beta", value, "-o", "b.onnx"],
        ["compile", "a.onnx", "--calibration", "images", "--std", value, "-o", "b.onnx"],
    ):
        monkeypatch.setattr(sys, "argv", ["csscc", *command])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert "finite number" in capsys.readouterr().err
    with pytest.raises(UsageError, match="finite number"):
        tune("a.onnx", np.ones(3), max_loss=float(value))
