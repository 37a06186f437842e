"""What commands print of a small network, as JSON and in words, beside what its file and the data state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.helpers import parse, session
from tests.runtime.conftest import cache_with_kernels, kernels  # noqa: F401 (fixtures)

TEXT = "g (float[N,4] x) => (float[N,4] %s) <float[4,4] w> { a = MatMul(x, w) b = Relu(a) %s = MatMul(b, w) }"
ROWS = "g (float[N,3,4] x) => (float[N,3,4] y) <float[4,4] w> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs csscc in a folder that has a network ``m.onnx`` and samples ``x.npy``, ``[6, 4]``."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    onnx.save(parse(TEXT % ("y", "y")), "m.onnx")
    return run


@pytest.fixture
def compiled(run: Run) -> Run:
    """The same, with ``s.onnx`` of 5 coding steps."""
    assert run("compile", "m.onnx", "--calibration", "x.npy", "--T", 5, "-q", "-o", "s.onnx")[0] == 0
    return run


def test_inspect_states_the_metadata_of_the_file(compiled: Run) -> None:
    stated = {p.key: p.value for p in onnx.load("s.onnx").metadata_props}
    code, out, _ = compiled("inspect", "s.onnx", "--json")
    reported = json.loads(out)
    assert (code, reported["coding"]["T"], reported["latency"]) == (0, 5, int(stated["csscc.latency"]))
    assert [layer["name"] for layer in reported["layers"]] == [v["name"] for v in json.loads(stated["csscc.layers"])]


def test_run_states_the_samples_and_what_it_wrote(compiled: Run) -> None:
    code, out, _ = compiled("run", "s.onnx", "--data", "x.npy", "-o", "y.npz", "--json")
    reported = json.loads(out)
    assert (code, reported["samples"], reported["runtime"], reported["written"]) == (0, 6, "onnxruntime", "y.npz")
    expected = session(onnx.load("s.onnx")).run(None, {"x": np.load("x.npy")})[0]
    assert reported["outputs"] == {"y": list(expected.shape)}
    np.testing.assert_array_equal(np.load("y.npz")["y"], expected)


def test_networks_that_do_not_belong_together_are_refused(compiled: Run) -> None:
    onnx.save(parse(TEXT % ("z", "z")), "other.onnx")
    code, _, err = compiled("evaluate", "other.onnx", "s.onnx", "--data", "x.npy")
    assert (code, "do not belong together: the ANN maps" in err) == (3, True)


def test_without_classes_the_loss_is_the_error_of_the_output(run: Run) -> None:
    onnx.save(parse(ROWS), "rows.onnx")
    np.save("rows.npy", np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32))
    assert run("compile", "rows.onnx", "--calibration", "rows.npy", "--T", 5, "-q", "-o", "r.onnx")[0] == 0
    evaluated = ("evaluate", "rows.onnx", "r.onnx", "--data", "rows.npy")
    (error,) = json.loads(run(*evaluated, "--json")[1])["output_error"].values()
    code, _, err = run(*evaluated, "--max-loss", 99 * error)
    assert (code, "percent of output error exceeds the budget" in err) == (1, True)
    assert run(*evaluated, "--max-loss", 101 * error)[0] == 0


def test_more_threads_in_separate_processes_find_the_same(compiled: Run) -> None:
    pytest.importorskip("distributed")
    reported = [json.loads(compiled("evaluate", "m.onnx", "s.onnx", "--data", "x.npy", "--json", *jobs)[1]) for jobs in
            ((), ("--jobs", 2))]  # fmt: skip
    times = {key for key in reported[0] if "seconds" in key or "time" in key}
    first, second = ({k: v for k, v in r.items() if k not in times} for r in reported)
    assert first == second


def test_what_is_known_of_the_kernels(
    run: Run,
    kernels: frozenset[str],  # noqa: F811
    cache_with_kernels: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, _ = run("native", "status", "--json")
    reported = json.loads(out)
    assert (code, reported["available"], reported["reason"], "TSARelu" in reported["operators"]) == (0, True, "", True)
    code, out, _ = run("native", "build", "--json")
    assert (code, Path(json.loads(out)["library"]).parent) == (0, cache_with_kernels / "csscc")
    assert run("native", "build")[1].split() == [json.loads(out)["library"]]
    assert "TSARelu" in run("native", "status")[1]
    monkeypatch.setenv("CSSCC_NATIVE", "0")
    assert run("native", "status")[1] == "not available: switched off by CSSCC_NATIVE=0\n"


def test_options_that_cannot_be_meant(run: Run) -> None:
    for arguments, reported in (
        (("compile", "m.onnx", "--input-shape", "4,4"), "is not of the form"),
        (("tune", "m.onnx", "--calibration", "x.npy", "--max-loss", "-1", "-o", "s.onnx"), "is less than 0"),
        (("compile", "m.onnx", "--calibration", "x.npy", "-o", "none/s.onnx"), "/none first"),
    ):
        code, _, err = run(*arguments)
        assert code in (2, 3)
        assert reported in err.replace("\n", " "), err
