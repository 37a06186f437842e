"""Inputs that are text: categories, which an encoder in front of the core makes numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import csscc
from csscc.errors import RefusedError
from csscc.search.journal import digest
from tests.helpers import parse, rms, run

Array = NDArray[Any]
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """A perceptron of three numbers and the number of a colour, which a LabelEncoder knows."""
    made = parse(
        """g (float[N,3] x, float[N,1] c) => (float[N,4] y) <float[4,16] W, float[16] b, float[16,4] V>
        { xc = Concat <axis = 1> (x, c) a = MatMul(xc, W) s = Add(a, b) r = Relu(s) y = MatMul(r, V) }"""
    )
    values = dict(keys_strings=list(COLOURS), values_floats=[-1.0, 0.5, 2.0], default_float=0.0)
    made.graph.node.insert(0, helper.make_node("LabelEncoder", ["t"], ["c"], "encoder", domain="ai.onnx.ml", **values))
    made.graph.input[1].CopyFrom(helper.make_tensor_value_info("t", TensorProto.STRING, ["N", 1]))
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return made


def samples(number: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((number, 3)).astype(np.float32),
        "t": rng.choice(COLOURS, (number, 1)),
    }


@pytest.mark.parametrize("kind", ["text", "objects"])
def test_they_reach_the_network(model: onnx.ModelProto, kind: str, tmp_path: Path) -> None:
    given = samples(128)
    if kind == "objects":
        given["t"] = given["t"].astype(object)
    csscc.compile(model, given, T=12).save(tmp_path / "snn.onnx")
    feeds = samples(64, seed=1)
    feeds["t"] = feeds["t"].astype(object)  # as onnxruntime takes it
    expected = run(model, feeds)["y"]
    assert rms(expected - run(model, {**feeds, "t": np.roll(feeds["t"], 1)})["y"]) > 0.2 * rms(expected)
    got = run(onnx.load(tmp_path / "snn.onnx"), feeds)["y"]
    assert rms(got - expected) < 0.02 * rms(expected)


def test_they_come_out_of_an_archive(model: onnx.ModelProto, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **samples(64))
    snn = csscc.compile(model, tmp_path / "d.npz", T=8)
    result = csscc.evaluate(model, snn, tmp_path / "d.npz")
    assert result.samples == 64
    assert result.agreement > 90


def test_numbers_are_no_text_and_text_no_numbers(model: onnx.ModelProto) -> None:
    given = samples(8)
    with pytest.raises(RefusedError, match="input 't' takes text, but these are float32; convert them"):
        csscc.compile(model, {**given, "t": np.ones((8, 1), np.float32)})
    with pytest.raises(RefusedError, match="input 't' takes text, but these are objects; convert"):
        csscc.compile(model, {**given, "t": np.array([[1], ["a"]] * 4, object)})
    with pytest.raises(RefusedError, match="input 'x' takes float32, but these are text; convert them"):
        csscc.compile(model, {**given, "x": np.array([["1", "2", "3"]] * 8)})


def test_contents_of_text_are_known_again() -> None:
    first, again, other = (samples(8, seed) for seed in (0, 0, 1))
    for each in (first, again, other):
        each["t"] = np.array([[str(v)] for v in each["t"].ravel()], object)
    assert digest(first, None) == digest(again, None)
    other["x"] = first["x"]
    assert digest(first, None) != digest(other, None)
