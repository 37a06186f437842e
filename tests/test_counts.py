"""Whole numbers that count have an error, those that number classes are right or wrong; each is called what it is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import csscc
from csscc import cli
from csscc.measure.agreement import Agreement
from csscc.measure.counts import counting_outputs
from csscc.measure.diagnose import diagnose
from csscc.measure.evaluation import evaluate
from csscc.measure.verify import verify
from tests.helpers import parse, run

HEAD = "g (float[N,1,8,8] x) => ({}) <float[2,1,3,3] w, float[2,2,1,1] v, int64[3] table = {{7, 8, 9}}, {}> {{ "
BODY = "a = Conv <pads = [1,1,1,1]> (x, w) r = Relu(a) c = Conv(r, v) best = ArgMax <axis = 1, keepdims = 0> (c) "
TAILS = {  # outputs: how they are made, and whether they count
    "y": ("int64[N,8,8] y", "y = Identity(best)", False),
    "named": ("int64[N,8,8] named", "named = Gather(table, best)", False),
    "shaped": (
        "int64[N,64] shaped", "n = Shape <end = 1> (x) d = Concat <axis = 0> (n, rest) shaped = Reshape(best, d)", False
    ),
    "truth": ("bool[N,2,8,8] truth", "truth = Greater(c, c)", False),
    "signs": ("int32[N,2,8,8] signs", "g = Greater(c, r) signs = Cast <to = 6> (g)", False),
    "number": ("int64[N] number", "number = ReduceSum <keepdims = 0> (best, axes)", True),
    "hits": (
        "int64[N] hits", "e = Equal(best, one) f = Cast <to = 7> (e) hits = ReduceSum <keepdims = 0> (f, axes)", True
    ),
    "rounded": ("int32[N,2,8,8] rounded", "z = Round(c) rounded = Cast <to = 6> (z)", True),
    "float": ("float[N,2,8,8] float", "float = Mul(c, c)", True),
}
CONSTANTS = "int64[1] one = {1}, int64[2] axes = {1, 2}, int64[1] rest = {64}"


def model_of(*names: str) -> onnx.ModelProto:
    outputs, lines, _ = zip(*(TAILS[n] for n in names), strict=True)
    return parse(HEAD.format(", ".join(outputs), CONSTANTS) + BODY + " ".join(lines) + " }")


@pytest.mark.parametrize("name", sorted(TAILS))
def test_what_counts(name: str) -> None:
    assert counting_outputs(model_of(name)) == ({name} if TAILS[name][2] else set())


def test_functions_that_nobody_knows_count_nothing() -> None:
    model = model_of("number")
    model.graph.node[-1].domain = "mine"
    assert counting_outputs(model) == frozenset()


def test_counts_have_an_error_and_labels_a_share() -> None:
    compared = Agreement(counts={"n"})
    n, label = np.array([30, 40]), np.array([1, 2])
    compared.add({"n": n, "label": label}, {"n": np.array([33, 44]), "label": np.array([1, 3])}, 2)
    assert compared.output_error == {"n": pytest.approx(0.1), "label": 0.5}
    assert compared.labelling == ("label",)


def test_every_command_uses_the_right_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of("y", "hits")
    x = np.random.default_rng(0).standard_normal((8, 1, 8, 8)).astype(np.float32)
    snn = csscc.compile(model, x, T=2, silent=1)
    expected, got = run(model, {"x": x}), run(snn.file, {"x": x})
    by_hand = {
        "y": (expected["y"] != got["y"]).mean(),
        "hits": np.linalg.norm(expected["hits"] - got["hits"]) / np.linalg.norm(expected["hits"]),
    }
    assert by_hand["y"] > 0.05
    assert snn.report.comparison.errors == pytest.approx(by_hand)
    for measure in (evaluate, diagnose):
        assert measure(model, snn.file, x).output_error == pytest.approx(by_hand)
    monkeypatch.chdir(tmp_path)
    onnx.save(model, "ann.onnx")
    np.save("x.npy", x)
    reported = {}
    for command in (
        "compile ann.onnx --calibration x.npy --T 2 --silent 1 -o snn.onnx",
        "evaluate ann.onnx snn.onnx --data x.npy",
    ):
        monkeypatch.setattr(sys, "argv", ["csscc", *command.split()])
        with pytest.raises(SystemExit):
            cli.main()
        out = capsys.readouterr()
        reported[command.split()[0]] = " ".join((out.out + out.err).split())
    assert f"output 'y' differs from the ANN's in {100 * by_hand['y']:.3g} % of its labels (8" in reported["compile"]
    assert f"output 'hits' differs from the ANN's by {100 * by_hand['hits']:.3g} % (RMS, 8" in reported["compile"]
    assert f"labels of 'y' that differ {by_hand['y']:.2%}" in reported["evaluate"]
    assert f"relative error of 'hits' (RMS) {by_hand['hits']:.2%}" in reported["evaluate"]


@pytest.mark.parametrize("depth", ["int64 depth = {3}", "int64[1] depth = {3}"])
def test_one_hot_takes_a_depth_of_either_shape(depth: str) -> None:
    model = parse(
        "g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[2] values = {0, 1}, " + depth + ">"
        "{ a = MatMul(x, w) r = ArgMax <axis = 1, keepdims = 0> (a) y = OneHot(r, depth, values) }"
    )
    snn = csscc.compile(model, np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), T=8)
    assert verify(snn.file).holds
