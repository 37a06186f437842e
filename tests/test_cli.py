"""The command line as a user meets it: output, exit codes, and nothing lost or half-written."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import csscc
from csscc.models import digits_data, digits_model
from csscc.search.settings import Row, Setting
from tests.helpers import parse, small_classifier

NO_WEIGHTS = '<ir_version: 8, opset_import: ["": 17]> g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'
UNKNOWN_LAYERS = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,4] x) => (float[N,4] y) <float[4,4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> {
    a = MatMul(x, w)
    b = Sin(a)
    c = MatMul(b, w)
    d = Cos(c)
    y = MatMul(d, w)
}"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "calibration.npy"
    np.save(path, np.load(digits_data())["x_calib"][:64])
    return path


@pytest.fixture(scope="module")
def snn(tmp_path_factory: pytest.TempPathFactory, calibration: Path) -> Path:
    path = tmp_path_factory.mktemp("snn") / "snn.onnx"
    arguments = ("compile", digits_model(), "--calibration", calibration, "--T", 8, "-q", "-o", path)
    subprocess.run([sys.executable, "-m", "csscc", *map(str, arguments)], check=True)
    return path


def test_compile_tells_how_far_the_outputs_are_from_the_anns(run: Run, calibration: Path, tmp_path: Path) -> None:
    command = ("compile", digits_model(), "--calibration", calibration, "-o", tmp_path / "snn.onnx")
    code, out, err = run(*command, "--T", 2)
    assert code == 0
    assert "differs from the ANN" in out
    assert "Warning: output 'logits' differs" in err
    code, out, err = run(*command, "--T", 12, "--json")
    reported = json.loads(out)
    assert (code, err, reported["samples_compared"]) == (0, "", 16)
    assert 0 < reported["output_error"]["logits"] < 0.05


def test_evaluate_shows_a_value_whose_error_others_hide(run: Run, tmp_path: Path) -> None:
    """The second value is a small difference of two large ones."""
    model = parse("""g (float[N,2] x) => (float[N,2] y)
    <float[2,2] w = {1, 1, 0.5, 0.52}, float[2,2] v = {50, -1, 50, 1}>
    { a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }""")
    onnx.save(model, tmp_path / "ann.onnx")
    x = np.random.default_rng(0).uniform(0.5, 1, (64, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    csscc.compile(model, x, T=4, beta=2, silent=4).save(tmp_path / "snn.onnx")
    command = ("evaluate", tmp_path / "ann.onnx", tmp_path / "snn.onnx", "--data", tmp_path / "x.npy")
    result = json.loads(run(*command, "--json")[1])
    value, error = result["column_error"]["y"]
    assert value == 1
    assert error > 2 * result["output_error"]["y"]
    assert f"[:, 1] alone {error:.2%}" in " ".join(run(*command)[1].split())


def test_the_command_of_the_readme_works_without_calibration_and_warns(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "snn.onnx"
    code, out, err = run("compile", digits_model(), "--T", "14", "--beta", "1.5", "-o", output)
    assert code == 0
    assert "--calibration" in err
    assert "latency" in out
    onnx.checker.check_model(str(output), full_check=True)


def test_compile_prints_json_that_states_the_latency(run: Run, tmp_path: Path, calibration: Path) -> None:
    output = tmp_path / "snn.onnx"
    given = ("--calibration", calibration, "--T", 8, "--silent", 1)
    code, out, _ = run("compile", digits_model(), *given, "--json", "-o", output)
    facts = json.loads(out)
    assert code == 0
    assert facts["T"] == 8
    # stem, 2 in the first block, 2 in the second (its last fused with MaxPool), squeeze, expand, output
    assert facts["latency"] == 8 + 8
    assert facts["bytes"] == output.stat().st_size


def test_evaluate_prints_json_and_keeps_the_loss_budget(run: Run, snn: Path, tmp_path: Path) -> None:
    code, out, _ = run("evaluate", digits_model(), snn, "--data", digits_data(), "--samples", 100, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["samples"] == 100
    assert result["loss"] == pytest.approx(result["ann_accuracy"] - result["snn_accuracy"])
    assert all(0 <= layer["encoded"] <= 1 for layer in result["layers"])
    coarse, data = tmp_path / "coarse.onnx", ("--data", digits_data(), "--samples", 50)
    assert run("compile", digits_model(), "--T", 1, "--silent", 0, "-o", coarse, "-q")[0] == 0
    code, _, err = run("evaluate", digits_model(), coarse, *data, "--max-loss", 0.5, "-q")
    assert code == 1
    assert "exceeds the budget" in err


def test_evaluate_states_that_labels_are_missing(run: Run, snn: Path, tmp_path: Path) -> None:
    with np.load(digits_data()) as data:
        np.savez(tmp_path / "other_name.npz", x=data["x"][:20], digits=data["y"][:20])
        np.savez(tmp_path / "y.npz", x=data["x"][:20], y=data["y"][:20])
    for name, missing in (("other_name.npz", True), ("y.npz", False)):
        code, out, _ = run("evaluate", digits_model(), snn, "--data", tmp_path / name)
        assert code == 0
        assert ("The data has no labels (y), so there is no accuracy." in out) == missing


def test_run_writes_outputs_by_name_in_both_runtimes(run: Run, snn: Path, tmp_path: Path, calibration: Path) -> None:
    for runtime in ("onnxruntime", "numpy"):
        output = tmp_path / f"{runtime}.npz"
        assert run("run", snn, "--data", calibration, "-o", output, "--runtime", runtime, "-q")[0] == 0
    first, second = (np.load(tmp_path / f"{r}.npz") for r in ("onnxruntime", "numpy"))
    with first, second:
        assert first["logits"].shape == (64, 10)
        np.testing.assert_allclose(first["logits"], second["logits"], rtol=1e-4, atol=1e-4)


def test_verify_holds_and_fails_on_a_file_whose_function_was_changed(run: Run, snn: Path, tmp_path: Path) -> None:
    code, out, _ = run("verify", snn, "--samples", 2)
    assert code == 0
    assert out.startswith("0 of ")
    model = onnx.load(snn)
    neuron = next(f for f in model.functions if f.name == "TSARelu")
    constants = [n.attribute[0] for n in neuron.node if n.op_type == "Constant"]
    next(c for c in constants if c.name == "value_float" and c.f > 1).f *= 1.1  # the weight of the first spike received
    broken = tmp_path / "broken.onnx"
    onnx.save(model, broken)
    code, _, err = run("verify", broken, "--samples", 2, "-q")
    assert code == 1
    assert "spikes differ" in err


def test_outputs_are_written_to_a_file_of_their_kind(run: Run, tmp_path: Path, calibration: Path) -> None:
    for name in ("out.npy", "out.csv", "out"):
        code, _, err = run("run", digits_model(), "--data", calibration, "-o", tmp_path / name)
        assert code == 2
        assert err.endswith(f"{name}: outputs are written by name, as NumPy archive; give a name that ends in .npz\n")
    assert not list(tmp_path.iterdir())
    assert run("run", digits_model(), "--data", calibration, "-q", "-o", tmp_path / "OUT.NPZ")[0] == 0
    assert np.load(tmp_path / "OUT.NPZ")["logits"].shape[1] == 10


def test_inspect_shows_an_ann_an_snn_and_every_node_in_the_way(run: Run, snn: Path, tmp_path: Path) -> None:
    code, out, _ = run("inspect", digits_model(), "--json")
    result = json.loads(out)
    assert code == 0
    assert result["spiking_share"] == 1
    assert {n["fate"] for n in result["nodes"]} <= {"converted", "passed", "analog", "folded"}
    assert run("inspect", snn)[0] == 0
    assert "1 silent step a layer, unless compile gives some more or fewer" in run("inspect", digits_model())[1]
    assert "1 silent step a layer\n" in run("inspect", digits_model(), "--silent", 1)[1]
    model = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(UNKNOWN_LAYERS), model)
    code, out, _ = run("inspect", model)
    assert code == 3
    assert "Sin" in out
    assert "Cos" in out


FOLDED = """g (float[N,4] x) => (float[N,3] y)
<float[4,5] w, float[5,3] v, int64[1] first = {0}>
{ [size] s = Shape(x) [batch] n = Gather(s, first) [all] m = Max(n, first) [zero] z = Identity(x) [one] a = MatMul(z, w)
  [two] b = Relu(a) [three] y = MatMul(b, v) }"""


def test_inspect_counts_nodes_that_are_folded_and_lists_them_if_asked(run: Run, tmp_path: Path) -> None:
    onnx.save(parse(FOLDED), tmp_path / "m.onnx")
    code, out, _ = run("inspect", tmp_path / "m.onnx")
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "][1:]
    assert (code, names) == (0, ["one", "two", "three"])
    line = next(line for line in out.splitlines() if "folded" in line)
    assert line.startswith("4 node(s) are folded, ")
    assert line.endswith(": 1 Shape, 1 Gather, 1 Max, 1 Identity; -v lists them")
    code, out, _ = run("inspect", tmp_path / "m.onnx", "-v")
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "][1:]
    assert (code, names) == (0, ["size", "batch", "all", "zero", "one", "two", "three"])
    assert "lists them" not in out


def test_sweep_writes_rows_and_plots_and_goes_on_where_it_was(run: Run, tmp_path: Path, calibration: Path) -> None:
    folder = tmp_path / "sweep"
    fixed = (digits_model(), "--data", digits_data(), "--calibration", calibration, "--limit", 20, "--samples", 16)
    grid = ("--T", "3,4", "--beta", "2", "--silent", "0,1", "--adjust", "off")
    code, out, _ = run("sweep", *fixed, *grid, "--T", "3", "--json", "-o", folder)
    assert code == 0
    assert [(row["T"], row["silent"]) for row in json.loads(out)] == [(3, 0), (3, 1)]
    code, out, _ = run("sweep", *fixed, *grid, "-o", folder)
    assert code == 0
    assert "accuracy of the ANN" in out
    assert len((folder / "settings.jsonl").read_text().splitlines()) == 4
    assert len(json.loads((folder / "results.json").read_text())) == 4
    pictures = ("accuracy_T", "loss_T", "loss_latency", "error_T", "error_latency")
    assert {p.name for p in folder.glob("*.png")} == {f"{name}.png" for name in pictures}
    code, _, err = run("sweep", digits_model(), "--data", digits_data(), "--T", "3", "-o", folder)
    assert code == 3
    assert "another sweep" in err


def test_sweep_without_matplotlib_keeps_its_rows_and_names_what_to_install(
    run: Run, tmp_path: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run(
        "sweep", digits_model(), "--data", digits_data(), "--calibration", calibration, "--limit", 20, "--samples", 16,
        "--T", 3, "--beta", 2, "--silent", "1,9", "--adjust", "off", "-o", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "csscc[plots]" in err
    assert "refused, T=3, β=2, L=9" in out
    assert not list(tmp_path.glob("*.png"))
    assert (tmp_path / "results.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "reported"),
    [
        (("--T", "4;6"), 2, "not a list of whole numbers"),
        (("--beta", "a"), 2, "not a list of numbers"),
        (("--beta", "7"), 2, "beta must be"),
        (("--scheduler", "nowhere"), 2, "'nowhere' is no address of a scheduler"),
        (("--calibration", "nothing.npy"), 3, "no such file"),
    ],
    ids=str,
)
def test_bad_sweeps_get_one_clear_message(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], exit_code: int, reported: str
) -> None:
    folder = tmp_path / "sweep"
    code, out, err = run("sweep", digits_model(), "--data", digits_data(), *arguments, "-o", folder)
    assert code == exit_code
    assert reported in err
    assert "Traceback" not in out + err
    assert not folder.exists()


def test_an_interrupted_sweep_states_what_is_kept(
    run: Run, tmp_path: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from csscc.search.sweep import Job

    original, measured = Job.do, []

    def measure(self: Job, *arguments: Any) -> Any:
        if measured:
            raise KeyboardInterrupt
        measured.append(original(self, *arguments))
        return measured[-1]

    monkeypatch.setattr(Job, "do", measure)
    code, _, err = run(
        "sweep", digits_model(), "--data", digits_data(), "--calibration", calibration, "--limit", 20, "--samples", 16,
        "--T", "3,4", "--beta", 2, "--silent", 1, "--adjust", "off", "-o", tmp_path,
    )  # fmt: skip
    assert code == 130
    assert "1 of 2 settings are kept" in err
    assert len((tmp_path / "settings.jsonl").read_text().splitlines()) == 1


def test_the_table_of_a_sweep_fits_a_terminal() -> None:
    from rich.console import Console

    from csscc.cli import sweep

    row = Row(Setting(12, 1.5, 1, negative=False, adjust=False), 1234, 9, 99.99, 10.0, -89.99, 100.0, 123.45, 3.45, 9e8)
    console = Console(width=80, record=True, file=io.StringIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "console", lambda: console)
        sweep.show([row], [], "folder")
    lines = [line for line in console.export_text().splitlines() if "1234" in line]
    assert len(lines) == 1
    assert all(text in lines[0] for text in ("neg adj", "10.00", "-89.99", "100.0", "123.5", "3.45", "900.00"))


def test_diagnose_names_what_is_wrong_and_prints_json(run: Run, snn: Path, tmp_path: Path, calibration: Path) -> None:
    broken = tmp_path / "broken.onnx"
    given = ("--calibration", calibration, "--silent", 0, "--no-bursts", "--method", "mse", "--no-adjust", "-q")
    assert run("compile", digits_model(), *given, "-o", broken)[0] == 0
    code, out, _ = run("diagnose", digits_model(), broken, "--data", digits_data(), "--samples", 16)
    assert code == 0
    reported = " ".join(out.split())
    assert "The first layer that goes wrong is '/1/Relu'" in reported
    assert "--silent 1" in reported
    code, out, _ = run("diagnose", digits_model(), snn, "--data", digits_data(), "--samples", 16, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["first"], result["samples"]) == (None, 16)
    code, _, err = run("diagnose", digits_model(), digits_model(), "--data", digits_data())
    assert code == 3
    assert "not a spiking network" in err


def test_inspect_states_bursts_and_trains(run: Run, tmp_path: Path) -> None:
    snn = tmp_path / "few.onnx"
    csscc.compile(digits_model(), calibration=np.load(digits_data())["x_calib"][:16], T=3, beta=2).save(snn)
    code, out, _ = run("inspect", snn)
    assert code == 0
    assert "Relu, bursts" in out
    assert out.splitlines()[-3:-1] == [
        "bursts, in 9 layer(s): up to 2 spikes a step",
        "the input is sent as 2 trains, its high digits and its low ones",
    ]


def test_a_refused_model_is_refused_with_all_causes(run: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(UNKNOWN_LAYERS), model)
    output = tmp_path / "snn.onnx"
    code, _, err = run("compile", model, "-o", output)
    assert code == 3
    assert "Sin" in err
    assert "Cos" in err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "reported"),
    [
        (("missing.onnx",), 3, "no such file"),
        (("text.onnx",), 3, "not a readable ONNX model"),
        (("empty.onnx",), 3, "not an ONNX model"),
        (("relu.onnx",), 3, "no weighted layer"),
        ((digits_model(), "--T", 0), 2, "T must be"),
        ((digits_model(), "--beta", 0.9), 2, "beta must be"),
        ((digits_model(), "--beta", 5.1), 2, "beta must be"),
        ((digits_model(), "--silent", -1), 2, "silent steps"),
        ((digits_model(), "--calibration", "nothing.npy"), 3, "no such file"),
        ((digits_model(), "--calibration", "shape.npy"), 3, "shape"),
        ((digits_model(), "--calibration", "type.npy"), 3, "takes float32"),
        ((digits_model(), "--calibration", "nan.npy"), 3, "NaN"),
        ((digits_model(), "--calibration", "zero.npy"), 3, "no samples"),
    ],
    ids=str,
)
def test_bad_input_gets_one_clear_message(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    exit_code: int,
    reported: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.onnx").write_text("this is not a network")
    Path("empty.onnx").write_bytes(b"")
    onnx.save(onnx.parser.parse_model(NO_WEIGHTS), "relu.onnx")
    np.save("shape.npy", np.zeros((4, 3, 8, 8), np.float32))
    np.save("type.npy", np.full((1, 1, 8, 8), "a"))
    np.save("nan.npy", np.full((4, 1, 8, 8), np.nan, np.float32))
    np.save("zero.npy", np.zeros((0, 1, 8, 8), np.float32))
    output = tmp_path / "snn.onnx"
    output.write_bytes(b"an older result")
    code, out, err = run("compile", *arguments, "-o", output)
    assert code == exit_code
    assert reported in err
    assert "Traceback" not in out + err
    assert err.startswith("Error: ")
    assert len(err.strip().splitlines()) == 1
    assert output.read_bytes() == b"an older result"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_an_output_that_cannot_be_written_is_refused_before_the_work(run: Run, tmp_path: Path) -> None:
    for output in (tmp_path, tmp_path / "no" / "snn.onnx"):
        code, _, err = run("compile", digits_model(), "-o", output)
        assert code == 3
        assert "cannot be written" in err
    copy = tmp_path / "model.onnx"
    copy.write_bytes(digits_model().read_bytes())
    code, _, err = run("compile", copy, "-o", copy)
    assert code == 2
    assert copy.read_bytes() == digits_model().read_bytes()


def test_dump_ir_writes_a_valid_model_behind_every_pass(run: Run, tmp_path: Path, calibration: Path) -> None:
    folder = tmp_path / "ir"
    output = tmp_path / "snn.onnx"
    assert run("compile", digits_model(), "--calibration", calibration, "--dump-ir", folder, "-q", "-o", output)[0] == 0
    stages = sorted(folder.iterdir())
    assert len(stages) >= 12
    for stage in stages:
        onnx.checker.check_model(str(stage), full_check=True)


def test_wrong_usage_exits_with_2(run: Run) -> None:
    assert run("compile", digits_model())[0] == 2
    assert run("no-such-command")[0] == 2


@pytest.mark.parametrize("command", [(), ("compile",), ("sweep",)])
def test_help_keeps_the_lines_of_examples(run: Run, command: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "\\b" not in out
    assert [line for line in out.splitlines() if line.strip().startswith("csscc ") and line.count("csscc") == 1]


def test_help_answers_fast_and_imports_nothing_heavy() -> None:
    code = "import sys, csscc.cli; print([m for m in ('onnx', 'onnxruntime', 'numpy', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "csscc", "--help"], capture_output=True, check=True)
    assert time.perf_counter() - started < 3


def test_demo_loses_next_to_nothing(run: Run) -> None:
    code, out, _ = run("demo", "--json")
    assert code == 0
    assert json.loads(out)["loss"] <= 0.3


def test_tune_writes_the_networks_the_table_and_the_plot(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csscc.search.candidates.BETAS", (2.0, 3.0))
    output, plot, folder = tmp_path / "snn.onnx", tmp_path / "front.svg", tmp_path / "all"
    model, samples = small_classifier(64)
    onnx.save(model, tmp_path / "ann.onnx")
    np.savez(tmp_path / "samples.npz", **samples)
    arguments = ("tune", tmp_path / "ann.onnx", "--calibration", tmp_path / "samples.npz", "--T", 3, "-o", output)
    more = ("--front", "latency,error", "--plot", plot, "--all", folder)
    code, out, _ = run(*arguments, "--max-loss", 9, *more)
    assert code == 0
    assert "Settings that no other beats in latency and error" in " ".join(out.split())
    assert max(map(len, out.splitlines()[1:])) <= 80
    assert plot.read_text().lstrip().startswith("<?xml")
    assert csscc.load(output).facts.coding.T == 3
    written = {csscc.load(path).latency for path in folder.iterdir()}
    assert len(written) > 1
    assert csscc.load(output).latency in written
    code, _, err = run(*arguments, "--max-loss", 9, *more)
    assert (code, err) == (2, f"Error: {folder}: is not empty; give a new folder for the networks of the front\n")
    code, out, err = run(*arguments, "--max-loss", 0, "--json")
    assert code == 1
    assert json.loads(out)["holds"] is False
    assert "no setting keeps the loss within 0" in err


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--T", "a"), "not a list of whole numbers"),
        (("--front", "latency"), "'latency' is not two of steps, latency"),
        (("--front", "latency,speed"), "is not two of"),
        (("--front", "loss,error"), "one of them a cost"),
        (("--objective", "loss"), "is not one of"),
        (("--journal", digits_model()), "would replace what is read"),
        (("--journal", __file__), "is no journal of a search"),
    ],
    ids=str,
)
def test_wrong_usage_of_tune_is_refused(
    run: Run, calibration: Path, tmp_path: Path, arguments: Any, reported: str
) -> None:
    code, _, err = run(
        "tune", digits_model(), "--calibration", calibration, "--max-loss", 2, "-o", tmp_path / "snn.onnx", *arguments
    )
    assert code == 2
    assert reported in " ".join(err.split())


def test_evaluate_estimates_energy_where_it_is_asked_to(run: Run, snn: Path, tmp_path: Path) -> None:
    command = ("evaluate", digits_model(), snn, "--data", digits_data(), "--samples", 8)
    code, out, _ = run(*command, "--energy")
    assert code == 0
    for reported in ("read once a step", "read for each spike", "SNN int8", "not sparse by design", "ISSCC 2014"):
        assert reported in " ".join(out.split())
    costs = tmp_path / "costs.toml"
    costs.write_text("weight_byte = 0\nstate_byte = 0\nsource = 'ours'\n")
    code, out, _ = run(*command, "--energy-costs", costs, "--json")
    energy = json.loads(out)["energy"]
    assert (code, energy["costs"]["source"]) == (0, "ours")
    assert all(row["weights"] == row["state"] == 0 < row["total"] for row in energy["per_step"])
    code, out, _ = run(*command, "--json")
    assert json.loads(out)["energy"] is None
    code, _, err = run(*command, "--energy-costs", tmp_path / "none.toml")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "none.toml: cannot be read" in err


def test_report_writes_one_page(run: Run, snn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("report", digits_model(), snn, "--data", digits_data(), "--samples", 8)
    page = tmp_path / "report.html"
    code, out, _ = run(*command, "-o", page)
    assert (code, out) == (0, f"wrote {page}; open it in a browser\n")
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert f"csscc report {digits_model()}" in text
    code, out, err = run(*command, "-o", page, "--json")
    reported = json.loads(out)
    assert (code, err, reported["report"], reported["evaluation"]["samples"]) == (0, "", str(page), 8)
    assert reported["reading"]["accuracy"][-1] == reported["evaluation"]["snn_accuracy"]
    monkeypatch.setattr("csscc.report.find_spec", lambda name: None)
    code, _, err = run(*command, "-o", tmp_path / "other.html")
    assert (code, err) == (2, "Error: a report needs plotly and jinja2: pip install 'csscc[report]'\n")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_report_warns_as_evaluate_does(run: Run, snn: Path, tmp_path: Path) -> None:
    with np.load(digits_data()) as data:
        np.savez(tmp_path / "x.npz", x=255 * data["x"][:8])
    for command, *more in (("evaluate",), ("report", "-o", tmp_path / "r.html")):
        code, _, err = run(command, digits_model(), snn, "--data", tmp_path / "x.npz", *more)
        assert code == 0
        assert err.startswith("Warning: input 'image' reaches 255, and the spiking network was calibrated for up to ")


def test_report_refuses_before_it_measures(run: Run, snn: Path, tmp_path: Path) -> None:
    for output, reported in (
        (tmp_path / "none" / "r.html", "make the folder"),
        (snn, "would replace what is read"),
        (tmp_path / "r.pdf", "give a name that ends in .html"),
        (tmp_path / "html", "give a name that ends in .html"),
    ):
        code, _, err = run("report", digits_model(), snn, "--data", digits_data(), "-o", output)
        assert code in (2, 3)
        assert reported in err
    code, _, err = run("report", digits_model(), snn, "--data", tmp_path / "none.npz", "-o", tmp_path / "r.html")
    assert code == 3
    assert "no such file or folder" in err
    assert not list(tmp_path.iterdir())


def test_an_interrupt_that_a_library_makes_an_error_of_is_an_interrupt(
    run: Run, snn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other errors are defects still."""
    causes: list[BaseException] = [KeyboardInterrupt(), ValueError("no start")]

    def verify(*_: Any, **__: Any) -> None:
        raise RuntimeError("cluster failed to start") from causes.pop(0)

    monkeypatch.setattr("csscc.measure.verify.verify", verify)
    code, _, err = run("verify", snn)
    assert (code, err) == (130, "interrupted; no file is half-written\n")
    code, _, err = run("verify", snn)
    assert code == 70
    assert "cluster failed to start" in err
