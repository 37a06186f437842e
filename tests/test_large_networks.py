"""Networks whose weights do not fit into one message, on small ones under a lowered limit."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import csscc
from csscc import cli
from csscc.errors import RefusedError
from csscc.io import files, weights
from csscc.models import digits_data, digits_model
from csscc.passes.canonical.load import load
from csscc.runtime.session import Session
from csscc.search.sweep import Job
from tests.helpers import parse, random_feeds, run

LIMIT = 18_000  # bytes; the networks here have more
TRANSPOSED = """
g (float[N,64] x) => (float[N,10] y) <float[64,64] W, float[10,64] V>
{ Wt = Transpose <perm = [1,0]> (W) h = MatMul(x, Wt) r = Relu(h) Vt = Transpose <perm = [1,0]> (V) y = MatMul(r, Vt) }
"""


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    with np.load(digits_data()) as archive:
        return archive["x_calib"][:64]


@pytest.fixture(scope="module")
def usual(x: np.ndarray) -> csscc.SNN:
    return csscc.compile(digits_model(), calibration=x, T=6)


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", LIMIT)
    monkeypatch.setattr(weights, "LARGE", 16)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["csscc", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def _values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.fixture
def large(low: None, x: np.ndarray, usual: csscc.SNN) -> csscc.SNN:
    return csscc.compile(digits_model(), calibration=x, T=6)


def test_the_same_network_results(large: csscc.SNN, usual: csscc.SNN, x: np.ndarray) -> None:
    assert not weights.fits(large.model)
    ours, theirs = _values(large.model), _values(usual.model)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
    np.testing.assert_array_equal(large.run(x), usual.run(x))
    np.testing.assert_array_equal(large.run(x[:4], runtime="numpy"), usual.run(x[:4], runtime="numpy"))


def test_the_source_may_be_a_model_or_have_its_weights_elsewhere(
    low: None, usual: csscc.SNN, x: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "ann.onnx"
    onnx.save(onnx.load(digits_model()), path, save_as_external_data=True, location="w", size_threshold=0)
    for source in (onnx.load(digits_model()), path):
        np.testing.assert_array_equal(csscc.compile(source, calibration=x, T=6).run(x), usual.run(x))


def test_two_files_are_written_and_every_command_reads_them(
    large: csscc.SNN, usual: csscc.SNN, x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.save(tmp_path / "snn.onnx")
    one, two = sorted(p.name for p in tmp_path.iterdir())
    assert one == "snn.onnx"
    assert re.fullmatch(r"snn\.onnx\.[0-9a-f]{16}\.data", two)
    assert (tmp_path / "snn.onnx").stat().st_size < 4 * LIMIT
    onnx.checker.check_model(str(tmp_path / "snn.onnx"), full_check=True)
    assert _values(large.model).keys() == _values(csscc.load(tmp_path / "snn.onnx").model).keys()

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in list(tmp_path.glob("snn.*")):
        path.rename(moved / path.name)
    snn = str(moved / "snn.onnx")
    plain = ort.InferenceSession(snn, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(plain.run(None, {"image": x})[0], Session(usual.file).run({"image": x})["logits"])
    np.testing.assert_array_equal(csscc.load(snn).run(x), usual.run(x))

    ann, data = str(digits_model()), str(digits_data())
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["inspect", snn],
        ["verify", snn],
        ["verify", snn, "--data", data],
        ["run", snn, "--data", data, "-o", "out.npz"],
        ["evaluate", ann, snn, "--data", data],
        ["diagnose", ann, snn, "--data", data],
    ):
        assert call(monkeypatch, *arguments) == 0, arguments


def test_compile_from_the_command_line(
    low: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "snn.onnx"
    arguments = ["compile", str(digits_model()), "--calibration", str(digits_data()), "--T", "4", "-o", str(output)]
    assert call(monkeypatch, *arguments, "--json") == 0
    size = sum(p.stat().st_size for p in tmp_path.iterdir())
    assert f'"bytes": {size}' in capsys.readouterr().out
    assert call(monkeypatch, *arguments) == 0
    reported = re.sub(r"\s", "", capsys.readouterr().out)  # a long name is folded
    assert re.search(r"theweightsinsnn\.onnx\.[0-9a-f]{16}\.data", reported)


def test_a_save_that_fails_harms_neither_file(
    large: csscc.SNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"snn.onnx": b"old", f"snn.onnx.{16 * 'a'}.data": b"old values"}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)

    def fail(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "with_weights_beside", fail)
    with pytest.raises(RefusedError, match=r"snn.onnx: cannot be written \(No space left on device\)"):
        large.save(tmp_path / "snn.onnx")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_weights_to_fold_are_folded_piece_by_piece(low: None) -> None:
    model = parse(TRANSPOSED)
    x = random_feeds(model, batch=64)["x"]
    expected = run(model, {"x": x})["y"]
    error = csscc.compile(model, calibration=x, T=20).run(x) - expected
    assert np.sqrt(np.mean(error**2)) <= 0.01 * np.sqrt(np.mean(expected**2))


def test_digests_cover_all_weights(low: None) -> None:
    one, other = parse(TRANSPOSED), parse(TRANSPOSED)
    assert Job(one, None).fingerprint() == Job(other, None).fingerprint()
    assert load(one).origin == load(other).origin
    values = onnx.numpy_helper.to_array(other.graph.initializer[1]) + 1
    other.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(values, "V"))
    assert Job(one, None).fingerprint()["model"] != Job(other, None).fingerprint()["model"]
    assert load(one).origin["sha256"] != load(other).origin["sha256"]


def test_the_digest_of_a_small_model_is_that_of_its_bytes() -> None:
    model = parse(TRANSPOSED)
    assert b"".join(weights.pieces(model)) == model.SerializeToString()
    assert load(model).origin["sha256"] == hashlib.sha256(model.SerializeToString()).hexdigest()


def test_large_constant_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse(TRANSPOSED)
    constants = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    with pytest.raises(RefusedError, match=r"in Constant nodes.*; export its weights as initializers"):
        csscc.compile(model, T=4)


def test_a_copy_without_weights_leaves_the_model_as_it_is() -> None:
    model = parse(TRANSPOSED)
    before = model.SerializeToString()
    light, values = weights.without_weights(model)
    assert model.SerializeToString() == before
    assert {n: t.dims[0] for n, t in values.items()} == {"W": 64}
    onnx.checker.check_model(light, full_check=True)
    assert light.ByteSize() < 4096
    assert [v.name for v in light.graph.input] == ["x"]
