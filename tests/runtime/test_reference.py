"""The NumPy reference runtime: what it shows of a run, and that it ignores the functions it checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from csscc.dialect.functions import DOMAIN
from csscc.dialect.model import define_operators
from csscc.runtime.reference import ReferenceRuntime, in_float64

T, BETA, THETA_X, THETA_Y = 6, 1.5, 0.05, 0.1
WEIGHTS = [BETA ** (T - t) for t in range(1, T + 1)]
SNN_TEXT = f"""
<ir_version: 10, opset_import: ["" : 20, "csscc" : 9]>
g (float[N,3,5,5] x) => (float[N,2,5,5] y)
<float tx = {{{THETA_X}}}, float ty = {{{THETA_Y}}}, float zero = {{0}}>
{{
    [enc] s0 = csscc.Encode <weights = {WEIGHTS}> (x, tx)
    z1 = Conv <pads = [1, 1, 1, 1]> (s0, w1)
    [relu] s1 = csscc.TSARelu <weights = {WEIGHTS}, silent = 1> (z1, zero, ty)
    z2 = Conv (s1, w2)
    [dec] y = csscc.Decode <weights = {WEIGHTS}> (z2, zero)
}}
"""


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "w1": rng.normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.2, (2, 4, 1, 1)).astype(np.float32),
    }


@pytest.fixture
def snn() -> onnx.ModelProto:
    model = onnx.parser.parse_model(SNN_TEXT)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in weights().items())
    return define_operators(model)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.8, 0.8, (3, 3, 5, 5)).astype(np.float32)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_outputs_are_those_of_onnxruntime(snn: onnx.ModelProto, x: np.ndarray) -> None:
    expected = session(snn).run(None, {"x": x})[0]
    actual = ReferenceRuntime(snn).run({"x": x})
    assert list(actual) == ["y"]
    np.testing.assert_allclose(actual["y"], expected, rtol=0, atol=1e-5)


def test_trace_names_shapes_and_consistency(snn: onnx.ModelProto, x: np.ndarray) -> None:
    trace = ReferenceRuntime(snn).trace({"x": x})
    assert set(trace.spikes) == {"enc", "relu"}
    assert set(trace.potentials) == set(trace.residuals) == {"relu"}
    assert trace.spikes["enc"].shape == (T, 3, 3, 5, 5)
    assert trace.spikes["relu"].shape == trace.potentials["relu"].shape == (T, 3, 4, 5, 5)
    assert trace.residuals["relu"].shape == (3, 4, 5, 5)
    for spikes in trace.spikes.values():
        assert set(np.unique(spikes)) <= {-1.0, 0.0, 1.0}
    reached = (trace.potentials["relu"] > 0.5).astype(float) - (trace.potentials["relu"] < -0.5)
    np.testing.assert_array_equal(reached, trace.spikes["relu"])
    left = trace.potentials["relu"][-1] - trace.spikes["relu"][-1]
    np.testing.assert_allclose(trace.residuals["relu"], left, atol=1e-6)
    q = BETA ** np.arange(T - 1, -1, -1)
    sent = np.tensordot(q, trace.spikes["enc"], axes=1) * THETA_X
    assert np.abs(sent - x).max() <= THETA_X / 2 + 1e-6
    read_out = np.einsum("oc,tbchw->tbohw", weights()["w2"][:, :, 0, 0], trace.spikes["relu"])
    np.testing.assert_allclose(trace.outputs["y"], np.tensordot(q, read_out, axes=1), rtol=0, atol=1e-4)


def test_each_trace_is_its_own(snn: onnx.ModelProto, x: np.ndarray) -> None:
    runtime = ReferenceRuntime(snn)
    first = runtime.trace({"x": x})
    kept = first.spikes["relu"].copy()
    runtime.trace({"x": -x})
    np.testing.assert_array_equal(first.spikes["relu"], kept)
    assert (runtime.trace({"x": -x}).spikes["relu"] != kept).any()


def test_the_functions_of_the_file_are_not_used(snn: onnx.ModelProto, x: np.ndarray) -> None:
    """A comparison with onnxruntime says something only if the reference computes spikes on its own."""
    damaged = onnx.ModelProto()
    damaged.CopyFrom(snn)
    neuron = next(f for f in damaged.functions if f.name == "TSARelu")
    relu = next(n for n in neuron.node if n.op_type == "Relu")
    relu.op_type = "Neg"
    expected = ReferenceRuntime(snn).run({"x": x})["y"]
    np.testing.assert_array_equal(ReferenceRuntime(damaged).run({"x": x})["y"], expected)
    assert np.abs(session(damaged).run(None, {"x": x})[0] - expected).max() > 0.1
    bare = onnx.ModelProto()
    bare.CopyFrom(snn)
    del bare.functions[:]
    np.testing.assert_array_equal(ReferenceRuntime(bare).run({"x": x})["y"], expected)


def test_the_model_is_left_as_it_was(snn: onnx.ModelProto, x: np.ndarray) -> None:
    before = snn.SerializeToString()
    for dtype in (np.float32, np.float64):
        ReferenceRuntime(snn, dtype).run({"x": x})
    assert snn.SerializeToString() == before


def test_float64_is_float64_throughout(snn: onnx.ModelProto, x: np.ndarray) -> None:
    trace = ReferenceRuntime(snn, np.float64).trace({"x": x})
    arrays = [
        *trace.outputs.values(),
        *trace.spikes.values(),
        *trace.potentials.values(),
        *trace.residuals.values(),
    ]
    assert {a.dtype for a in arrays} == {np.dtype(np.float64)}
    single = ReferenceRuntime(snn).trace({"x": x})
    assert np.mean(single.spikes["relu"] != trace.spikes["relu"]) < 0.01


def test_in_float64_converts_constants_and_casts() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[N,2] x, int64[N] k) => (float[N,2] y)
    <float[2] w = {1.5, 2.5}>
    { c = Constant <value = float[2] {0.1, 0.2}> () i = Cast <to = 7> (x) f = Cast <to = 1> (i)
      a = Add(f, c) y = Mul(a, w) }
    """
    model = onnx.parser.parse_model(text)
    before = model.SerializeToString()
    wide = in_float64(model)
    assert model.SerializeToString() == before
    y = ReferenceRuntime(model, np.float64).run({"x": np.full((1, 2), 3.7, np.float32), "k": np.zeros(1, np.int64)})[
        "y"
    ]
    assert y.dtype == np.float64
    tenth, fifth = float(np.float32(0.1)), float(np.float32(0.2))
    np.testing.assert_allclose(y, [[(3 + tenth) * 1.5, (3 + fifth) * 2.5]], rtol=1e-12)
    assert wide.graph.input[1].type.tensor_type.elem_type == onnx.TensorProto.INT64


def test_it_runs_an_ann_from_a_file(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }'
    path = tmp_path / "ann.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    trace = ReferenceRuntime(path).trace({"x": np.array([[-1, 2]], np.float32)})
    np.testing.assert_array_equal(trace.outputs["y"], [[0, 2]])
    assert not trace.spikes
    assert DOMAIN == "csscc"
