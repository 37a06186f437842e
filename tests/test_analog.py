"""`csscc compile --max-drop`: which layers cost most, and as few of them analog as it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import csscc
from csscc.api import calibrate
from csscc.search.analog import compile_within
from csscc.search.bench import Bench
from tests.helpers import parse

Command = Callable[..., tuple[int, str]]
LAYERS = 4
# Weighted sums of positive values, so that what each layer rounds reaches the output and nothing cancels.
MLP = """g (float[N,8] x) => (float[N,3] y) <float[8,8] w1, float[8,8] w2, float[8,8] w3, float[8,8] w4, float[8,3] v> {
    a1 = MatMul(x, w1) [one] r1 = Relu(a1) a2 = MatMul(r1, w2) [two] r2 = Relu(a2)
    a3 = MatMul(r2, w3) [three] r3 = Relu(a3) a4 = MatMul(r3, w4) [four] r4 = Relu(a4) y = MatMul(r4, v)
}"""


def network() -> onnx.ModelProto:
    """Four layers; the third has a channel 30 times as large as the others, which count 30 times as much."""
    rng = np.random.default_rng(3)
    weights = {f"w{i}": np.abs(rng.normal(size=(8, 8))) / 4 for i in range(1, LAYERS + 1)}
    weights["w3"][:, 0] *= 30
    weights["w4"][0] /= 30
    return parse(MLP, **weights, v=np.abs(rng.normal(size=(8, 3))) / 4)


def samples(seed: int, number: int = 128) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 1, (number, 8)).astype(np.float32)


SETTINGS: dict[str, Any] = {"T": 3, "beta": 2.0, "silent": 3, "correct_bias": False, "per_channel": False}


def error(snn: csscc.SNN, x: NDArray[np.float32]) -> float:
    """Percent of the outputs (RMS) by which a spiking network errs, against the ANN in float64."""
    weights = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in network().graph.initializer}
    value = x.astype(np.float64)
    for i in range(1, LAYERS + 1):
        value = np.maximum(value @ weights[f"w{i}"], 0)
    wanted = value @ weights["v"]
    return float(100 * np.sqrt(np.square(snn.run(x) - wanted).mean() / np.square(wanted).mean()))


@pytest.fixture(scope="module")
def ann() -> Any:
    return calibrate(network(), samples(0), per_channel=False)


def test_a_network_that_holds_is_all_spiking(ann: Any) -> None:
    found = compile_within(ann, 90.0, allow_analog=True, **SETTINGS)
    assert (found.holds, found.analog, found.costs, found.snn.analog) == (True, (), (), ())
    assert found.quantity == "percent of samples that change class"


def test_layers_are_ranked_by_what_they_cost(ann: Any) -> None:
    """The order is that of the errors of networks with one analog layer, compiled and run one by one."""
    found = compile_within(ann, -1.0, **SETTINGS)
    assert not found.holds
    assert found.analog == found.snn.analog == ()
    costs = {cost.layer: cost.error for cost in found.costs}
    assert list(costs.values()) == sorted(costs.values(), reverse=True)
    together = error(csscc.compile(ann, **SETTINGS), samples(0))
    singly = {n: together - error(csscc.compile(ann, analog=(n,), **SETTINGS), samples(0)) for n in costs}
    assert sorted(costs) == sorted(singly) == ["four", "one", "three", "two"]
    assert max(costs, key=costs.__getitem__) == max(singly, key=singly.__getitem__) == "three"
    assert costs["three"] == pytest.approx(singly["three"], rel=0.3)


def test_as_few_as_it_takes_stay_analog(ann: Any) -> None:
    spiking = compile_within(ann, -1.0, **SETTINGS)
    ranked = tuple(cost.layer for cost in spiking.costs)
    bench = Bench(ann)
    losses = [bench.loss(bench.answers(csscc.compile(ann, analog=ranked[:k], **SETTINGS))) for k in range(LAYERS + 1)]
    allowed = (losses[1] + losses[2]) / 2 if losses[2] < losses[1] else losses[2]
    found = compile_within(ann, allowed, allow_analog=True, **SETTINGS)
    fewest = next(k for k, loss in enumerate(losses) if loss <= allowed)
    assert found.holds
    assert found.loss <= allowed
    assert found.analog == found.snn.analog == ranked[:fewest]


def test_the_command(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(), "ann.onnx")
    np.save("c.npy", samples(0))
    line = ["compile", "ann.onnx", "--calibration", "c.npy", "--T", "2", "--beta", "2", "-o", "s.onnx", "--max-drop"]
    code, err = command(*line, "0")
    assert code == 1
    assert "more than 0; --allow-analog leaves analog the layers that cost most; a larger --T loses less" in err
    assert csscc.load("s.onnx").analog == ()
    code, _ = command(*line, "100")
    assert code == 0
    assert Path("s.onnx").exists()


def test_what_the_command_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from csscc.cli import cli

    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "ann.onnx")
    np.save("c.npy", samples(0))
    line = ["compile", "ann.onnx", "--calibration", "c.npy", "--T", "2", "--beta", "2", "--silent", "2", "-o", "s.onnx"]
    line += ["--allow-analog", "--max-drop"]
    none = json.loads(CliRunner().invoke(cli, [*line, "0", "--json"]).stdout)
    assert not none["holds"]
    assert none["analog"] == []  # since it does not hold with all of them either
    line.append(str(0.8 * none["loss"]))
    printed = json.loads(CliRunner().invoke(cli, [*line, "--json"]).stdout)
    assert printed["holds"]
    assert len(printed["costs"]) == LAYERS
    assert printed["analog"]
    assert printed["analog"] == [cost["layer"] for cost in printed["costs"][: len(printed["analog"])]]
    assert printed["samples_compared"] == len(samples(0))
    text = CliRunner().invoke(cli, line).stdout
    assert "left analog" in text
    assert "differs from the ANN" in text
    assert "layers by cost" in text
    assert "left analog, with values in place of spikes: " in CliRunner().invoke(cli, ["inspect", "s.onnx"]).stdout
