"""The benchmark's own parts: graphs, the comparison, the clock. Nothing is measured here."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.__main__ import main
from benchmarks.compare import compare
from benchmarks.graphs import Builder, resnet50, vgg16
from benchmarks.timing import interleaved, summary


@pytest.mark.parametrize(("make", "parameters"), [(vgg16, 138_357_544), (resnet50, 25_557_032)])
def test_shapes_have_the_known_parameters(make: Any, parameters: int) -> None:
    builder = Builder(224, weights=False)
    onnx.checker.check_model(make(builder), full_check=True)
    assert builder.parameters == parameters


@pytest.mark.parametrize("make", [vgg16, resnet50])
def test_activations_keep_their_size(make: Any) -> None:
    model = make(Builder(64), width=8, classes=10)
    onnx.checker.check_model(model, full_check=True)
    relus = [n.output[0] for n in model.graph.node if n.op_type == "Relu"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in relus)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((4, 3, 64, 64), dtype=np.float32)
    for name, values in zip(relus, session.run(relus, {"image": images}), strict=True):
        assert 0.1 < np.sqrt((values**2).mean()) < 3, name


def test_generated_weights_are_seeded() -> None:
    first, second = (resnet50(Builder(64), width=4, classes=10) for _ in range(2))
    assert first == second


def case(ratio: float, spread: float = 0.01) -> dict[str, float]:
    return {"seconds": ratio, "ratio": ratio, "low": ratio * (1 - spread), "high": ratio * (1 + spread), "turns": 15}


RESULT: dict[str, Any] = {
    "settings": {"T": 12, "threads": 2, "calibration": 256},
    "networks": {
        "net": {
            "ann_seconds": 0.01,
            "session_seconds": 0.1,
            "compile": {"seconds": 5.0, "peak_mb": 300.0},
            "files": {"snn_bytes": 1000, "snn_nodes": 60},
            "batches": {"8": {"ANN": case(0.1), "dense limit": case(1.0), "onnxruntime": case(2.0)}},
        }
    },
}


def changed(*path: str, factor: float) -> dict[str, Any]:
    result = copy.deepcopy(RESULT)
    row = result["networks"]["net"]
    for key in path[:-1]:
        row = row[key]
    row[path[-1]] *= factor
    return result


def regressions(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [c.name for c in compare(before, after) if c.regressed]


def test_a_result_equals_itself() -> None:
    changes = compare(RESULT, RESULT)
    assert len(changes) == 6
    assert all(c.factor == 1 and not c.regressed for c in changes)


@pytest.mark.parametrize(
    ("path", "factor", "name"),
    [
        (("batches", "8", "onnxruntime", "ratio"), 1.1, "net, batch 8: onnxruntime"),
        (("compile", "seconds"), 1.6, "net, compile: time"),
        (("compile", "peak_mb"), 1.2, "net, compile: peak memory"),
        (("session_seconds",), 1.6, "net, session: time"),
        (("files", "snn_bytes"), 1.1, "net, file: bytes"),
        (("files", "snn_nodes"), 1.1, "net, file: nodes"),
    ],
)
def test_a_regression_shows(path: tuple[str, ...], factor: float, name: str) -> None:
    worse = changed(*path, factor=factor)
    assert regressions(RESULT, worse) == [name]
    assert regressions(worse, RESULT) == []


def test_noise_is_no_regression() -> None:
    noisy = copy.deepcopy(RESULT)
    noisy["networks"]["net"]["batches"]["8"]["onnxruntime"] = case(2.2, spread=0.3)
    assert regressions(RESULT, noisy) == []


def test_a_slower_machine_is_no_regression() -> None:
    slower = changed("ann_seconds", factor=2)
    for key in (("compile", "seconds"), ("session_seconds",)):
        row = slower["networks"]["net"]
        for k in key[:-1]:
            row = row[k]
        row[key[-1]] *= 2
    assert regressions(RESULT, slower) == []


def test_other_settings_are_not_compared() -> None:
    other = copy.deepcopy(RESULT)
    other["settings"]["T"] = 8
    with pytest.raises(ValueError, match="T is 12 and 8"):
        compare(RESULT, other)


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.2, 1)])
def test_the_command_tells_by_its_exit_code(
    factor: float, code: int, tmp_path: Any, monkeypatch: Any, capsys: Any
) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    paths[0].write_text(json.dumps(RESULT))
    paths[1].write_text(json.dumps(changed("batches", "8", "onnxruntime", "ratio", factor=factor)))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--compare", *map(str, paths)])
    assert main() == code
    assert ("REGRESSION" in capsys.readouterr().out) == bool(code)


def test_results_that_cannot_be_read_are_wrong_usage(tmp_path: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert main() == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_ratios_are_taken_within_a_turn() -> None:
    turns = iter([3.0, 3.0, 3.0, 6.0, 30.0, 60.0, 9.0, 18.0])  # the machine is ten times slower in the second turn
    times = interleaved({"unit": lambda: next(turns), "case": lambda: next(turns)}, 3)
    assert times == {"unit": [3.0, 30.0, 9.0], "case": [6.0, 60.0, 18.0]}
    assert summary(times, "unit")["case"] == {"seconds": 18.0, "ratio": 2.0, "low": 2.0, "high": 2.0, "turns": 3}


def test_short_runs_warm_up_first() -> None:
    runs = iter([9.0, 1.0, 0.5, 1.0, 0.6, 1.0, 0.7])
    assert interleaved({"case": lambda: next(runs)}, 3) == {"case": [0.5, 0.6, 0.7]}


def test_turns_end_with_the_budget() -> None:
    assert len(interleaved({"case": lambda: 1.0}, 100, budget=0.0)["case"]) == 3
