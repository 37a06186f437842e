"""The Python interface: running, saving and loading, and files that must not be harmed."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import csscc
from csscc.errors import RefusedError, RefusedModelError, UsageError
from csscc.io.files import replacing
from csscc.measure.verify import verify
from csscc.models import digits_data, digits_model
from csscc.runtime.session import Session


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    with np.load(digits_data()) as archive:
        return archive["x_calib"][:64]


@pytest.fixture(scope="module")
def snn(x: np.ndarray) -> csscc.SNN:
    return csscc.compile(digits_model(), calibration=x, T=6, silent=1, adjust=False)


def test_the_model_may_be_a_path_text_or_a_model(x: np.ndarray) -> None:
    results = [
        csscc.compile(m, calibration=x[:16], T=4, adjust=False).run(x)
        for m in (digits_model(), str(digits_model()), onnx.load(digits_model()))
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_compiling_leaves_the_model_given_alone(x: np.ndarray) -> None:
    model = onnx.load(digits_model())
    before = model.SerializeToString()
    csscc.compile(model, calibration=x[:8], T=3, adjust=False)
    assert model.SerializeToString() == before


def test_run_takes_arrays_and_dictionaries_in_both_runtimes(snn: csscc.SNN, x: np.ndarray) -> None:
    expected = ort.InferenceSession(snn.file.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"image": x}
    )[0]
    np.testing.assert_array_equal(snn.run(x), expected)
    np.testing.assert_array_equal(snn.run({"image": x}), expected)
    np.testing.assert_allclose(snn.run(x, runtime="numpy"), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
def test_run_takes_numbers_of_any_type_and_refuses_other_shapes(snn: csscc.SNN, x: np.ndarray, runtime: str) -> None:
    expected = snn.run(x[:2], runtime=runtime)
    np.testing.assert_array_equal(snn.run(x[:2].astype(np.float64), runtime=runtime), expected)
    np.testing.assert_array_equal(snn.run({"x": x[:2]}, runtime=runtime), expected)
    reported = r"the samples given: input 'image' takes arrays of shape \[\?, 1, 8, 8\], .*; they are flat: pass x"
    with pytest.raises(RefusedError, match=reported):
        snn.run(x[:2].reshape(2, 64), runtime=runtime)


def test_the_form_changes_the_functions_and_nothing_else(snn: csscc.SNN, x: np.ndarray, tmp_path: Path) -> None:
    scanned = csscc.compile(digits_model(), calibration=x, T=6, silent=1, adjust=False, form="scan")
    for part in ("node", "initializer", "input", "output"):
        assert list(getattr(scanned.model.graph, part)) == list(getattr(snn.model.graph, part))
    assert scanned.facts == replace(snn.facts, options={**snn.facts.options, "form": "scan"})
    scanned.save(tmp_path / "snn.onnx")
    again = csscc.load(tmp_path / "snn.onnx")
    assert again.facts == scanned.facts
    operators = {f.name: {n.op_type for n in f.node} for f in again.file.functions}
    assert all(("Scan" in operators[name]) for name in ("Encode", "TSARelu"))
    for optimise in (True, False):
        expected, actual = (Session(n.file, optimise=optimise).run({"image": x}) for n in (snn, again))
        scale = np.abs(expected["logits"]).max()  # a readout may add its steps in any order
        np.testing.assert_allclose(actual["logits"], expected["logits"], rtol=0, atol=1e-6 * scale)
        assert verify(again.file, {"image": x}, optimise=optimise).different == 0


def test_a_spiking_network_is_not_compiled_again(snn: csscc.SNN) -> None:
    with pytest.raises(RefusedError, match=r"^the model is a spiking network already; compile the network that"):
        csscc.compile(snn.file)


def test_save_and_load_give_the_same_network(snn: csscc.SNN, x: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "snn.onnx"
    snn.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    again = csscc.load(path)
    np.testing.assert_array_equal(again.run(x), snn.run(x))
    assert (again.latency, again.layers) == (snn.latency, snn.layers)
    assert [p.name for p in tmp_path.iterdir()] == ["snn.onnx"]


def test_saving_over_a_file_replaces_it(snn: csscc.SNN, tmp_path: Path) -> None:
    path = tmp_path / "snn.onnx"
    path.write_bytes(b"old")
    snn.save(path)
    assert csscc.load(path).latency == snn.latency
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_save_that_fails_harms_nothing(
    snn: csscc.SNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "snn.onnx"
    path.write_bytes(b"old")

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as handle:
            handle.write(data[:10])
        raise error

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises((RefusedError, KeyboardInterrupt, MemoryError)) as caught:
        snn.save(path)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written (No space left on device); give another path"
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["snn.onnx"]


def test_replacing_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            assert (temporary.parent, temporary.suffix) == (tmp_path, ".npz")
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]


def test_paths_that_cannot_be_written(snn: csscc.SNN, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="is a folder; give the path of a file to write"):
        snn.save(tmp_path)
    missing = tmp_path / "no" / "snn.onnx"
    with pytest.raises(RefusedError, match=r"no/snn.onnx: cannot be written \(No such file or directory\)"):
        snn.save(missing)
    assert not any(tmp_path.iterdir())


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"missing.onnx: no such file; give the path of an .onnx model"):
        csscc.load(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(RefusedError, match=r"text.onnx: not a"):
        csscc.load(tmp_path / "text.onnx")
    with pytest.raises(RefusedError, match="not a spiking network made by csscc"):
        csscc.load(digits_model())


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"T": 0}, UsageError, "T must be"),
        ({"preset": "best"}, UsageError, "preset 'best' is not known"),
        ({"calibration": 3}, UsageError, "pass an array, a dict of arrays, an iterable, or a path"),
        ({"calibration": np.ones((4, 1, 9, 9), np.float32)}, RefusedError, "takes arrays of shape"),
        ({"calibration": "nowhere.npy"}, RefusedError, "nowhere.npy: no such file"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        csscc.compile(digits_model(), **options)


def test_an_option_is_found_by_its_usual_name() -> None:
    for name, option in (("timesteps", "T"), ("steps", "T"), ("t", "T"), ("L", "silent")):
        with pytest.raises(UsageError, match=f"there is no option '{name}'; did you mean '{option}'"):
            csscc.compile(digits_model(), **{name: 4})


def test_an_unknown_option_is_named() -> None:
    with pytest.raises((TypeError, UsageError), match="stps"):
        csscc.compile(digits_model(), stps=4)


def test_every_node_in_the_way_is_listed() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[N,1,4,4] x) => (float[N,1,4,4] y)
    <float[1,1,1,1] w = {1.0}>
    { a = Conv(x, w) [bend] b = Sin(a) [step] c = Ceil(b) y = Conv(c, w) }
    """
    with pytest.raises(RefusedModelError) as caught:
        csscc.compile(onnx.parser.parse_model(text), calibration=np.ones((2, 1, 4, 4), np.float32))
    assert [(o.op, o.node) for o in caught.value.offenders] == [("Sin", "bend"), ("Ceil", "step")]
    assert "2 node(s)" in str(caught.value)


def test_dump_writes_a_valid_model_behind_every_pass(x: np.ndarray, tmp_path: Path) -> None:
    reported: list[tuple[str, int]] = []
    snn = csscc.compile(
        digits_model(),
        calibration=x,
        T=4,
        dump_ir=tmp_path / "ir",
        progress=lambda stage, n, total: reported.append((stage, n)),
    )
    files = sorted((tmp_path / "ir").iterdir())
    assert len(files) >= 10
    for file in files:
        onnx.checker.check_model(str(file), full_check=True)
    assert any("insert-neurons" in f.name for f in files)
    assert sum(n for stage, n in reported if stage == "calibrating") == 64
    assert set(snn.report.seconds) >= {"calibrate", "insert-neurons", "rescale"}


def test_the_compilation_is_deterministic(x: np.ndarray) -> None:
    first, again = (csscc.compile(digits_model(), calibration=x[:16], T=4).model.SerializeToString() for _ in range(2))
    assert first == again


@pytest.mark.parametrize(("coding", "T", "latency"), [("css", 6, 6 + 8), ("fs", 6, 6 + 8 * 6), ("rate", 48, 48)])
def test_codings_to_compare_with(coding: str, T: int, latency: int) -> None:
    """The same network pipelined, layer by layer (every one of its 8 layers waits for T steps) and rate-coded."""
    with np.load(digits_data()) as archive:
        x, y, calibration = archive["x"][:200], archive["y"][:200], archive["x_calib"]
    stated = {"silent": 1} if coding == "css" else {}
    snn = csscc.compile(digits_model(), calibration=calibration, coding=coding, T=T, **stated)
    assert (snn.run(x).argmax(axis=1) == y).mean() > 0.95
    assert snn.latency == latency
    for name, train in snn.trace(x[:8]).spikes.items():
        if "encode" not in name:
            assert set(np.unique(train)) <= {-1.0, 0.0, 1.0, *([-2.0, 2.0] if name in snn.bursts else [])}


def test_every_public_name_is_what_it_names_whatever_was_imported_before() -> None:
    for _, name, _ in pkgutil.walk_packages(csscc.__path__, "csscc."):
        if not name.startswith(("csscc.models.", "csscc.__main__")):
            importlib.import_module(name)
    assert all(callable(getattr(csscc, name)) for name in csscc.__all__)
