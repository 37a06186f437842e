"""Sizes that a network leaves free: counted at those of the data, or at those stated; they stay free in the file."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import csscc
from csscc import api
from csscc.cli import cli
from csscc.coding.coding import Coding
from csscc.dialect import sizes
from csscc.dialect.macs import samples_at_once, weighted_nodes
from csscc.errors import RefusedError, UsageError
from csscc.measure.diagnose import diagnose
from csscc.measure.evaluation import evaluate
from csscc.measure.inspection import inspect_ann
from csscc.measure.verify import verify
from csscc.passes.convert.samples import batch_size
from tests.helpers import parse, rms, run

FREE = """
g (float[N,3,H,W] x) => (float[N,5] y)
<float[8,3,3,3] K, float[8] k, float[8,8,3,3] L, float[8] l, float[8,5] V>
{ a = Conv <pads = [1,1,1,1], strides = [2,2]> (x, K, k) r = Relu(a) b = Conv <pads = [1,1,1,1]> (r, L, l) s = Relu(b)
  p = GlobalAveragePool(s) f = Flatten(p) y = MatMul(f, V) }"""
FIXED_ONLY = """
g (float[N,3,H,W] x) => (float[N,M] y)
<float[4,3,3,3] K, float[4,2] V, int64 last = {2}, int64[1] zero = {0}, int64[7] none = {0,0,0,0,0,0,0}, int64[2] space = {2,3}>
{ a = Conv <pads = [1,1,1,1]> (x, K) r = Relu(a) s = Shape(r) h = Gather(s, last) u = Unsqueeze(h, zero)
  t = Concat <axis = 0> (none, u) f = Pad(r, t) q = ReduceMean <keepdims = 0> (f, space) y = MatMul(q, V) }"""


def images(number: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).standard_normal((number, 3, height, width)).astype(np.float32)


def by_hand(height: int, width: int) -> tuple[int, int]:
    """Multiply-accumulates and neurons of FREE."""
    places = (height // 2) * (width // 2)
    return places * 8 * 9 * (3 + 8) + 8 * 5, 3 * height * width + 2 * 8 * places


@pytest.mark.parametrize(("height", "width"), [(16, 24), (32, 8)])
def test_counted_at_the_sizes_of_the_data(height: int, width: int, tmp_path: Path) -> None:
    model = parse(FREE)
    snn = csscc.compile(model, images(32, height, width))
    assert snn.facts.sizes == {"x": (1, 3, height, width)}
    macs, neurons = by_hand(height, width)
    assert sum(layer.neurons for layer in snn.layers if layer.kind != "readout") == neurons
    assert sum(w.macs for w in weighted_nodes(snn.model)) == macs
    (file,) = snn.save(tmp_path / "snn.onnx")
    again = csscc.load(file)
    assert again.facts.sizes == snn.facts.sizes
    assert again.costs == snn.costs
    assert evaluate(model, file, images(4, height, width)).ann_operations == macs


def test_the_file_leaves_them_free_and_holds_at_others(tmp_path: Path) -> None:
    model = parse(FREE)
    snn = csscc.compile(model, images(64, 16, 16), T=16)
    (file,) = snn.save(tmp_path / "snn.onnx")
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["N", 3, "H", "W"]
    x = images(4, 24, 40)
    expected = run(model, {"x": x})["y"]
    assert rms(session.run(None, {"x": x})[0] - expected) < 0.03 * rms(expected)
    assert verify(file, x).different == 0


def test_without_data_sizes_must_be_stated() -> None:
    model = parse(FREE)
    with pytest.raises(RefusedError, match=r"input 'x' are free.*--input-shape x:1,3,H,W") as caught:
        csscc.compile(model)
    assert inspect_ann(model, Coding()).refusal == str(caught.value)
    snn = csscc.compile(model, input_shape={"x": (1, 3, 20, 12)})
    assert snn.facts.sizes == {"x": (1, 3, 20, 12)}
    assert snn.report.comparison.samples == 16
    assert verify(snn.file).different == 0
    assert [d.dim_param for d in snn.file.graph.input[0].type.tensor_type.shape.dim] == ["N", "", "H", "W"]


def test_inspect_counts_for_them() -> None:
    found = inspect_ann(parse(FREE), Coding(), {"x": (1, 3, 16, 24)})
    assert (found.operations, found.neurons) == by_hand(16, 24)
    assert (found.refusal, found.spiking_share) == ("", 1)
    fixed = parse(FREE.replace("[N,3,H,W]", "[N,3,16,24]"))
    csscc_fixed = inspect_ann(fixed, Coding())
    assert (csscc_fixed.operations, csscc_fixed.passes) == (found.operations, found.passes)


def test_where_nodes_depend_on_them_they_are_fixed_to_those_stated(tmp_path: Path) -> None:
    model = parse(FIXED_ONLY)
    with pytest.raises(RefusedError, match="fix the sizes: --input-shape x:1,3,H,W"):
        csscc.compile(model, images(8, 8, 12))
    assert not inspect_ann(model, Coding(), {"x": (1, 3, 8, 12)}).refusal
    x = images(32, 8, 12)
    snn = csscc.compile(model, x, input_shape={"x": (1, 3, 8, 12)}, T=16)
    assert "sizes fixed to those given" in snn.report.events[0].text
    assert "Pad 'Pad" in snn.report.events[0].text
    assert [d.dim_value for d in snn.file.graph.input[0].type.tensor_type.shape.dim][1:] == [3, 8, 12]
    expected = run(model, {"x": x})["y"]
    assert rms(snn.run(x) - expected) < 0.02 * rms(expected)
    assert diagnose(model, snn.file, x).same_source
    with pytest.raises(RefusedError, match=r"takes arrays of shape \[\?, 3, 8, 12\]"):
        csscc.compile(model, images(4, 8, 8), input_shape={"x": (1, 3, 8, 12)})


BATCH_READ = """
g (float[N,8] x) => (float[N,2] y) <float[8,8] W, float[4,2] V, int64[1] rows = {2}, int64[1] four = {4}, int64 first = {0}, int64[1] zero = {0}>
{ h = MatMul(x, W) s = Shape(h) n = Gather(s, first) m = Unsqueeze(n, zero) t = Concat <axis = 0> (rows, m, four) r = Reshape(h, t)
  p = Transpose <perm = [1, 0, 2]> (r) q = Relu(p) e = ReduceMax <keepdims = 0> (q, four_axis) y = MatMul(e, V) }"""


def test_a_batch_that_is_read_can_be_fixed_too() -> None:
    model = parse(BATCH_READ.replace("int64[1] zero", "int64[1] four_axis = {1}, int64[1] zero"))
    refused = inspect_ann(model, Coding()).refusal
    assert "fix the sizes: --input-shape x:1,8" in refused
    assert "free" not in inspect_ann(model, Coding(), {"x": (1, 8)}).refusal


@pytest.mark.parametrize(
    ("shape", "reported"),
    [
        ({"z": (1, 3, 8, 8)}, "no input 'z'; it has x"),
        ({"x": (1, 4, 8, 8)}, "'x' takes N,3,H,W, not 1,4,8,8"),
        ({"x": (3, 8, 8)}, "'x' takes N,3,H,W, not 3,8,8"),
        ({"x": (1, 3, 0, 8)}, "'x' takes N,3,H,W, not 1,3,0,8"),
    ],
)
def test_shapes_that_the_network_does_not_take(shape: dict[str, tuple[int, ...]], reported: str) -> None:
    with pytest.raises(UsageError, match=reported):
        csscc.compile(parse(FREE), input_shape=shape)
    with pytest.raises(UsageError, match=reported):
        inspect_ann(parse(FREE), Coding(), shape)


def test_fixed_networks_carry_no_sizes() -> None:
    model = parse(FREE.replace("[N,3,H,W]", "[N,3,8,8]"))
    snn = csscc.compile(model, input_shape={"x": (1, 3, 8, 8)})
    assert not snn.facts.sizes
    assert sizes.KEY not in {p.key for p in snn.file.metadata_props}


def test_memory_is_reckoned_for_the_sizes() -> None:
    small, large = (api.calibrate(parse(FREE), images(2, s, s)) for s in (16, 1024))
    names = [n.outputs[0].name for n in small.network.graph.nodes if n.op == "Relu"]
    assert batch_size(small.network, names) == 32
    assert batch_size(large.network, names) == (192 << 20) // (2 * 4 * 8 * 512 * 512)
    snns = [csscc.compile(c, T=8, adjust=False, correct_bias=False) for c in (small,)]
    assert samples_at_once(snns[0].model, 8) == 32


def test_samples_of_several_sizes() -> None:
    model = parse(FREE)
    batches = [{"x": images(8, 16, 16)}, {"x": images(8, 24, 12)}]
    snn = csscc.compile(model, batches, T=16)
    x = images(4, 20, 20)
    expected = run(model, {"x": x})["y"]
    assert rms(snn.run(x) - expected) < 0.03 * rms(expected)


def test_a_size_of_minus_one_or_of_no_name_is_free() -> None:
    model = parse(FREE)
    for dim, (value, name) in zip(model.graph.input[0].type.tensor_type.shape.dim, [(-1, ""), (3, ""), (0, "?"), (0, "?")], strict=True):
        dim.Clear()
        if name:
            dim.dim_param = name
        else:
            dim.dim_value = value
    x = images(16, 16, 24)
    snn = csscc.compile(model, x)
    assert snn.facts.sizes == {"x": (1, 3, 16, 24)}
    assert verify(snn.file, x[:2]).different == 0


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(parse(FREE), "m.onnx")
    cli.main(["inspect", "m.onnx", "--input-shape", "x:1,3,16,24"], standalone_mode=False)
    assert "multiply-accumulates a sample of 3x16x24 become spiking" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["inspect", "m.onnx"], standalone_mode=False) == 3
    cli.main(["compile", "m.onnx", "-o", "snn.onnx", "--input-shape", "x:1,3,16,24"], standalone_mode=False)
    reported = " ".join(capsys.readouterr().out.split())
    assert f"{by_hand(16, 24)[1]:,} with those of encoders, for one sample of 3x16x24" in reported
    cli.main(["inspect", "snn.onnx"], standalone_mode=False)
    assert "one sample of 3x16x24" in capsys.readouterr().out


def test_damaged_sizes() -> None:
    with pytest.raises(RefusedError, match="damaged"):
        sizes.read({sizes.KEY: "[1"})


def test_sweep_and_tune_take_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(parse(FIXED_ONLY), "m.onnx")
    np.save("x.npy", images(16, 8, 12))
    shared = ["--calibration", "x.npy", "--input-shape", "x:1,3,8,12", "--T", "6", "-q"]
    cli.main(
        ["sweep", "m.onnx", "--data", "x.npy", "--beta", "1.5", "--silent", "1", "-o", "s", *shared],
        standalone_mode=False,
    )
    (row,) = json.loads(Path("s/results.json").read_text())
    assert not row["error"]
    assert cli.main(["tune", "m.onnx", "--max-loss", "50", "-o", "t.onnx", *shared], standalone_mode=False) == 0
    assert [d.dim_value for d in onnx.load("t.onnx").graph.input[0].type.tensor_type.shape.dim][1:] == [3, 8, 12]
