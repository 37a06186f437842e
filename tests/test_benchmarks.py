"""The benchmark's own parts: graphs, the comparison, the clock. Nothing is measured here."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.compare import compare
from benchmarks.graphs import Builder, resnet50, vgg16
from benchmarks.networks import CODINGS, coding_from, text_of, workloads
from benchmarks.peers import accuracies
from benchmarks.report import show
from benchmarks.timing import interleaved, summary
from csscc.coding.coding import Coding


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
    low, high = ratio * (1 - spread), ratio * (1 + spread)
    return {"seconds": ratio, "ratio": ratio, "low": low, "high": high, "turns": 15, "passes": 4 * ratio}


RESULT: dict[str, Any] = {
    "machine": {"cpu": "one", "cores": 2},
    "settings": {"codings": [], "threads": 2, "calibration": 256},
    "networks": {
        "net": {
            "ann_seconds": 0.01,
            "codings": {
                "T=4 beta=3 L=3": {
                    "session_seconds": 0.1,
                    "costs": {"passes": 1.25},
                    "compile": {"seconds": 5.0, "peak_mb": 300.0, "stages": {"load": {"seconds": 5.0, "peak_mb": 300}}},
                    "files": {"ann_bytes": 900, "ann_nodes": 50, "snn_bytes": 1000, "snn_nodes": 60},
                    "batches": {"8": {"ANN": case(0.1), "dense limit": case(1.0), "onnxruntime": case(0.43)}},
                }
            },
        }
    },
}


def changed(*path: str, factor: float) -> dict[str, Any]:
    result = copy.deepcopy(RESULT)
    row = result["networks"]["net"]
    if path[0] != "ann_seconds":
        row = row["codings"]["T=4 beta=3 L=3"]
    for key in path[:-1]:
        row = row[key]
    row[path[-1]] *= factor
    return result


def regressions(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [c.name for c in compare(before, after) if c.regressed]


def test_a_result_equals_itself() -> None:
    changes = compare(RESULT, RESULT)
    assert len(changes) == 7
    assert all(c.factor == 1 and not c.regressed for c in changes)


@pytest.mark.parametrize(
    ("path", "factor", "name"),
    [
        (("batches", "8", "onnxruntime", "ratio"), 1.1, "net, T=4 beta=3 L=3, batch 8: onnxruntime"),
        (("compile", "seconds"), 1.6, "net, T=4 beta=3 L=3, compile: time"),
        (("compile", "peak_mb"), 1.2, "net, T=4 beta=3 L=3, compile: peak memory"),
        (("session_seconds",), 1.6, "net, T=4 beta=3 L=3, session: time"),
        (("files", "snn_bytes"), 1.1, "net, T=4 beta=3 L=3, file: bytes"),
        (("files", "snn_nodes"), 1.1, "net, T=4 beta=3 L=3, file: nodes"),
        (("costs", "passes"), 1.01, "net, T=4 beta=3 L=3, convolution passes"),
    ],
)
def test_a_regression_shows(path: tuple[str, ...], factor: float, name: str) -> None:
    worse = changed(*path, factor=factor)
    assert regressions(RESULT, worse) == [name]
    assert regressions(worse, RESULT) == []


def test_noise_is_no_regression() -> None:
    noisy = copy.deepcopy(RESULT)
    batches = noisy["networks"]["net"]["codings"]["T=4 beta=3 L=3"]["batches"]
    batches["8"]["onnxruntime"] = case(0.47, spread=0.3)
    assert regressions(RESULT, noisy) == []


def test_a_slower_machine_is_no_regression() -> None:
    slower = changed("ann_seconds", factor=2)
    for key in (("compile", "seconds"), ("session_seconds",)):
        row = slower["networks"]["net"]["codings"]["T=4 beta=3 L=3"]
        for k in key[:-1]:
            row = row[k]
        row[key[-1]] *= 2
    assert regressions(RESULT, slower) == []


def test_other_settings_are_not_compared() -> None:
    other = copy.deepcopy(RESULT)
    other["settings"]["threads"] = 8
    with pytest.raises(ValueError, match="threads is 2 and 8"):
        compare(RESULT, other)


def test_codings_that_both_have_are_compared() -> None:
    more = copy.deepcopy(RESULT)
    codings = more["networks"]["net"]["codings"]
    codings["T=12 beta=1.5 L=1"] = copy.deepcopy(codings["T=4 beta=3 L=3"])
    assert len(compare(RESULT, more)) == 7
    del codings["T=4 beta=3 L=3"]
    with pytest.raises(ValueError, match="no figure in common"):
        compare(RESULT, more)


def test_results_of_one_coding_are_too_old() -> None:
    old = {"settings": {"T": 12, "threads": 2, "calibration": 256}, "networks": {"net": {"batches": {}}}}
    with pytest.raises(ValueError, match="older benchmark"):
        compare(old, RESULT)


@pytest.mark.parametrize("coding", [*CODINGS, Coding(12, 1.5, 0)])
def test_codings_are_written_and_read(coding: Coding) -> None:
    assert coding_from(text_of(coding)) == coding


def test_every_network_is_measured_at_the_default_and_at_one_pass() -> None:
    for workload in workloads():
        assert {"12,1.5,1", "4,3,3"} <= {text_of(coding) for coding in workload.codings}


def test_the_table_states_passes_beside_the_limit() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    show(RESULT, console)
    row = next(line for line in console.export_text().splitlines() if "onnxruntime" in line).split()
    assert row == ["net", "T=4", "beta=3", "L=3", "8", "onnxruntime", "53.75", "0.43", "0.43-0.43", "1.72", "1.25"]


def test_a_peer_is_judged_on_the_images_it_answered() -> None:
    y = np.array([0, 1, 2, 3])
    found = accuracies({"csscc": [0, 1, 2, 0], "peer": [0, 0]}, [0, 1, 0, 0], y)
    assert found["csscc"] == {"accuracy": 75.0, "ann": 50.0, "images": 4}
    assert found["peer"] == {"accuracy": 50.0, "ann": 100.0, "images": 2}


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
