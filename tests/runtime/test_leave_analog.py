"""Activations left analog: what they make is the ANN's, unrounded, in every form of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import csscc
from csscc.coding.coding import Coding
from csscc.errors import RefusedError
from csscc.measure.verify import verify
from csscc.passes.convert.leave_analog import LeaveAnalog
from tests.helpers import calibrated, parse, run

IMAGES = """g (float[N,2,6,6] x) => (float[N,3] y)
<float[16,2,3,3] w1, float[16,16,3,3] w2, float[3,16] w3, float[3] b, int64[2] axes = {2, 3}> {
    [a] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1)
    [first] r1 = Relu(h1)
    [c] h2 = Conv <pads = [1, 1, 1, 1]> (r1, w2)
    s = Add(h2, r1)
    [second] r2 = Sigmoid(s)
    p = ReduceMean <keepdims = 0> (r2, axes)
    y = Gemm <transB = 1> (p, w3, b)
}"""
FORMS = ("stepwise", "unrolled", "scan")


def network() -> onnx.ModelProto:
    return parse(IMAGES)


def samples(seed: int, number: int = 64) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(number, 2, 6, 6)).astype(np.float32)


def compiled(*analog: str, **options: Any) -> csscc.SNN:
    plain = {"T": 6, "beta": 2.0, "correct_bias": False, "split": False}
    return csscc.compile(network(), samples(0), analog=analog, **plain, **options)


def sent_input(snn: csscc.SNN, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The input as the first spikes stand for it: theta times the sum of 2**(T-t) * S[t], by hand."""
    encoder = next(n for n in snn.model.graph.node if n.op_type == "Encode" and n.input[0] == "x")
    theta = numpy_helper.to_array(next(t for t in snn.model.graph.initializer if t.name == encoder.input[1]))
    spikes = snn.trace(x).spikes[encoder.name].astype(np.float64)
    return theta * np.tensordot(2.0 ** np.arange(5, -1, -1), spikes, axes=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("native", [True, False], ids=["native", "stock"])
def test_with_all_layers_analog_only_the_input_is_rounded(
    form: str, native: bool, request: pytest.FixtureRequest
) -> None:
    """The outputs are those of the ANN in onnxruntime, of what the spikes of the input stand for."""
    if native:
        request.getfixturevalue("kernels")
    snn, x = compiled("first", "second", form=form), samples(1, 8)
    values = sent_input(snn, x)
    assert 1e-3 < np.abs(values - x).max() < 0.2
    wanted = run(network(), {"x": values.astype(np.float32)})["y"]
    np.testing.assert_allclose(snn.run(x), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(run(network(), {"x": x})["y"] - wanted).max() > 1e-4


def test_what_differs_by_a_rounding_would_be_noticed() -> None:
    snn, x = compiled("second"), samples(1, 8)
    wanted = run(network(), {"x": sent_input(snn, x).astype(np.float32)})["y"]
    assert np.abs(snn.run(x) - wanted).max() > 1e-4


def test_it_waits_for_all_steps(tmp_path: Path) -> None:
    """Each readout in front of an analog activation takes T steps, and its silent steps."""
    spiking, one = compiled(silent=1), compiled("first", silent=1)
    assert (spiking.latency, one.latency) == (6 + 3, (6 + 1) + 6 + 2)
    assert one.analog == ("first",)
    one.save(tmp_path / "s.onnx")
    loaded = csscc.load(tmp_path / "s.onnx")
    assert (loaded.analog, loaded.latency) == (("first",), 15)
    assert verify(loaded.file, {"x": samples(2, 4)}).different == 0


def test_again_it_changes_nothing() -> None:
    ann = calibrated(network(), Coding(6, 2.0))
    assert LeaveAnalog(("first",)).apply(ann) == 1
    assert LeaveAnalog(("first",)).apply(ann) == 0


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (lambda p: p.value.replace('"first"', '"third"'), "state 'third' as left analog, its nodes have no such"),
        (lambda p: p.value.replace('["first"]', "[]"), "sends other spikes than the coding in its metadata"),
    ],
)
def test_a_file_that_lies_about_it_is_refused(tmp_path: Path, change: Any, reported: str) -> None:
    compiled("first").save(tmp_path / "s.onnx")
    model = onnx.load(tmp_path / "s.onnx")
    entry = next(p for p in model.metadata_props if p.key == "csscc.options")
    changed = change(entry)
    assert changed != entry.value
    entry.value = changed
    onnx.save(model, tmp_path / "s.onnx")
    with pytest.raises(RefusedError, match=reported):
        csscc.load(tmp_path / "s.onnx")
