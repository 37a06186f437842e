"""What native kernels are loaded from, and what they make of attributes and numbers that nobody means well with."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from csscc.coding.coding import Coding
from csscc.errors import RefusedError
from csscc.passes.lower.kernels import open_session
from csscc.runtime import native
from tests.runtime.test_functions import CASES, TWO, Case, encode_model, feeds_for, neuron_model, scalar
from tests.runtime.test_native import both, failing, resized, shown

CODING = Coding(5, 1.5, 1)
BIG = 2**40
OF_THE_CODING: tuple[tuple[str, Any], ...] = (
    *(("silent", v) for v in (-1, 6, BIG, 2**63 - 1)),
    *(("reads", v) for v in (0, -1, 6, BIG)),
    *(("merged", v) for v in ([0.5], [np.nan], [1.0] * 9)),
    *(("weights", v) for v in ([0.0] * 5, [np.nan] * 5, [-1.0] * 5, [1.0] * 513)),
    *(("sends", v) for v in ([2.0], [np.nan, 1.0], [1.0] * 9)),
    *(("most", v) for v in (float("nan"), -1.0)),
    *(("lanes", v) for v in (0, 3, -8, BIG, 16)),
)
OF_WINDOWS: tuple[tuple[str, Any], ...] = (
    *(("strides", v) for v in ([0, 0], [-1, 1], [2**62, 1], [1])),
    *(("kernel_shape", v) for v in ([0, 2], [-3, 2], [BIG, 2], [2], [2, 2, 2])),
    *(("dilations", v) for v in ([0, 1], [2**62, 2**62], [1])),
    *(("pads", v) for v in ([-1] * 4, [2**62] * 4, [3] * 4, [1])),
    ("auto_pad", "SOMEHOW"),
)


def stated(case: Case, name: str, value: Any) -> onnx.ModelProto:
    """The neuron's model with one attribute of its node changed."""
    model = neuron_model(case, CODING)
    kept = [a for a in model.graph.node[0].attribute if a.name != name]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend([*kept, helper.make_attribute(name, value)])
    return model


@pytest.mark.parametrize("case", [Case("Relu"), Case("ReluMaxPool", {"kernel_shape": [2, 2]})], ids=lambda c: c.op)
def test_attributes_that_cannot_be_are_errors(kernels: frozenset[str], case: Case) -> None:
    """Also where nothing of csscc stands in front of the library."""
    feeds = feeds_for(case, CODING, 2, 0)
    for name, value in (*OF_THE_CODING, *(OF_WINDOWS if case.attributes else ())):
        model = stated(case, name, value)
        with pytest.raises(RefusedError):
            open_session(model).run(feeds)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.register_custom_ops_library(native.library())
        content, providers = model.SerializeToString(), ["CPUExecutionProvider"]
        with pytest.raises(Exception, match="csscc node"):
            ort.InferenceSession(content, options, providers=providers).run(None, feeds)


def test_inputs_of_different_batches_are_errors(kernels: frozenset[str]) -> None:
    two = Case("Max", shapes=TWO)
    feeds = feeds_for(two, CODING, 4, 0)
    with pytest.raises(RefusedError, match="differ in their batch"):
        open_session(neuron_model(two, CODING)).run(feeds | {"z1": feeds["z1"][:10]})
    model = neuron_model(Case("Relu"), CODING)
    resized(model, "b0", 4)
    feeds = feeds_for(Case("Relu"), CODING, 4, 0) | {"b0": np.zeros((2, 1, 1, 1), np.float32)}
    with pytest.raises(RefusedError, match="differ in their batch"):
        open_session(model).run(feeds)


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())


CODINGS = (CODING, Coding(4, 2.0, 0, False), Coding(4, 3.0, 4), Coding(9, 1.0, 9, linear=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("coding", "burst"), [(c, burst) for c in CODINGS for burst in {False, c.negative}])
def test_what_is_no_number_gives_what_the_functions_give(
    kernels: frozenset[str], coding: Coding, burst: bool, value: float
) -> None:
    """Pools apart: what onnxruntime's own make of NaN depends on where the window lies."""
    rng = np.random.default_rng(0)
    for case in CASES:
        if f"TSA{case.op}" not in kernels or not case.exact or "Pool" in case.op:
            continue
        feeds = feeds_for(case, coding, 2, seed=3)
        for name in [n for n in feeds if n[0] in "zb"]:
            array = np.array(feeds[name])
            array[rng.random(array.shape) < 0.2] = value
            feeds[name] = array
        model = neuron_model(case, coding, burst=burst)
        for form in (model, shown(model)):  # without residuals a kernel may decide several spikes at once
            expected, got = both(form, feeds)
            for name, values in expected.items():
                assert same(values, got[name]), (case.op, name)
    x = np.array([value, 1, -0.3], np.float32).reshape(1, 3, 1, 1)
    expected, got = both(encode_model(coding, 0, burst=burst), {"x": x, "theta": scalar(1)})
    assert same(expected["spikes"], got["spikes"])


@pytest.fixture
def own(cache_with_kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library in a cache of this test alone, and a compiler that fails."""
    shutil.copytree(cache_with_kernels / "csscc", tmp_path / "cache" / "csscc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", failing(tmp_path))
    assert native.available()
    return Path(native.library())


def test_folder_and_library_are_the_users_alone(own: Path) -> None:
    for path in (own, own.parent):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("what", ["library", "folder"])
def test_what_others_may_write_is_not_loaded(own: Path, what: str) -> None:
    path = own if what == "library" else own.parent
    path.chmod(0o777)
    assert f"others may write {path}" in native.reason()
    assert native.operators() == frozenset()
    with pytest.raises(RefusedError, match="no native kernels: others may write"):
        native.library()
    if what == "folder":
        assert native.build() == str(own)
        assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700
    else:
        with pytest.raises(RefusedError, match="not today"):  # it would be compiled again
            native.build()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["library", "folder"])
def test_what_belongs_to_another_is_not_loaded(own: Path, what: str) -> None:
    os.chown(own if what == "library" else own.parent, 12345, -1)
    assert "belongs to another user" in native.reason()
    assert not native.available()


def test_links_are_not_followed(own: Path) -> None:
    own.rename(own.parent / "elsewhere.so")
    own.symlink_to(own.parent / "elsewhere.so")
    assert "is a link" in native.reason()
    own.unlink()
    own.parent.rename(own.parent.parent / "moved")
    own.parent.symlink_to(own.parent.parent / "moved")
    with pytest.raises(RefusedError, match="is a link"):
        native.build()


@pytest.mark.parametrize("damage", ["cut off", "changed", "emptied"])
def test_a_damaged_library_is_not_loaded_and_made_again(own: Path, damage: str) -> None:
    content = own.read_bytes()
    half = len(content) // 2
    made = {"cut off": content[:half], "changed": content[:half] + b"x" + content[half + 1 :], "emptied": b""}[damage]
    own.unlink()  # what is loaded keeps its content
    own.write_bytes(made)
    own.chmod(0o600)
    assert "is damaged; csscc native build makes it again" in native.reason()
    assert native.operators() == frozenset()
    with pytest.raises(RefusedError, match="not today"):
        native.build()


def test_a_cache_variable_that_is_relative_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "planted")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CXX", failing(tmp_path))
    with pytest.raises(RefusedError, match="not today"):
        native.build()
    assert not (tmp_path / "planted").exists()
    assert (tmp_path / "home" / ".cache" / "csscc").is_dir()
