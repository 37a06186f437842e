"""Sweeps: rows equal single compilations, stopped sweeps go on, results of different networks never mix."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from PIL import Image

import csscc
from csscc import api
from csscc.errors import Offender, RefusedError, RefusedModelError, UsageError
from csscc.measure.evaluation import evaluate
from csscc.models import digits_data, digits_model
from csscc.search import plots
from csscc.search.journal import JOURNAL, digest, digest_of_model
from csscc.search.settings import Row, Setting, grid
from csscc.search.sweep import Job, sweep
from tests.helpers import corrupted, parse

SMALL = grid(T=(3, 4), silent=(0, 1), adjust=(False,))
NOT_CONVERTIBLE = """g (float[N,4] x) => (float[N,4] y) <float[4,4] w> {
    a = MatMul(x, w)
    b = Sin(a)
    y = MatMul(b, w)
}"""


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(digits_data()) as archive:
        return {k: archive[k][:24] for k in ("x", "y", "x_calib")}


@pytest.fixture
def job(arrays: dict[str, np.ndarray]) -> Job:
    return Job(digits_model(), {"x": arrays["x"], "y": arrays["y"]}, arrays["x_calib"], samples=16, limit=16)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Setting]:
    """The settings measured from here on."""
    measured: list[Setting] = []
    original = Job.do

    def measure(self: Job, ann: api.Calibrated, setting: Setting) -> Row:
        measured.append(setting)
        return original(self, ann, setting)

    monkeypatch.setattr(Job, "do", measure)
    return measured


def without_time(rows: list[Row]) -> list[dict[str, Any]]:
    return [row.as_dict() | {"seconds": 0} for row in rows]


def test_the_grid_is_every_combination_once_in_order() -> None:
    made = grid(T=(4, 3, 4), beta=(2.0, 1.5), negative=(True, False))
    assert [(s.beta, s.negative, s.T) for s in made] == [
        (beta, negative, T) for beta in (1.5, 2.0) for negative in (True, False) for T in (3, 4)
    ]
    assert [s.silent for s in grid(silent=("auto", 2, 0))] == [0, 2, "auto"]


def test_layers_may_choose_their_silent_steps(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    job = Job(digits_model(), {"x": arrays["x"][:20], "y": arrays["y"][:20]}, arrays["x_calib"][:8])
    settings = grid(T=(4,), beta=(2.0,), silent=(3, "auto"), adjust=(False,))
    stated, chosen = sweep(job, settings, tmp_path)
    alone = csscc.compile(digits_model(), arrays["x_calib"][:8], T=4, beta=2.0, silent="auto", adjust=False)
    assert chosen.latency == alone.latency < (stated.latency or 0)
    assert sweep(job, settings, tmp_path) == [stated, chosen]
    assert "L=auto" in next(p for p in plots.plot([chosen, stated], tmp_path) if p.suffix == ".svg").read_text()


def test_what_the_evaluations_warn_of_is_kept(job: Job, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    wrong = replace(job, data={"x": arrays["x"], "y": (arrays["y"] + 1) % 10}, limit=24)
    settings = grid(T=(6,), silent=(1,), adjust=(False,))
    for rows in (sweep(wrong, settings, tmp_path), sweep(wrong, settings, tmp_path)):  # the second reads the first's
        assert len(rows.warnings) == 1
        assert rows.warnings[0].startswith("the ANN itself is right for 0.00 % of the samples")
    assert not sweep(job, settings, tmp_path / "right").warnings


def test_a_sweep_is_one_call_in_python(job: Job, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    settings = grid(T=(4,), beta=(2.0,), silent=(0, 1), adjust=(False,))
    rows = csscc.sweep(
        job.model, job.data, tmp_path / "a", calibration=job.calibration, T=(4,), beta=(2,), silent=(0, 1),
        adjust=(False,), samples=16, limit=16,
    )  # fmt: skip
    assert without_time(rows) == without_time(sweep(job, settings, tmp_path / "b"))
    assert (tmp_path / "a" / "results.json").exists()


def test_a_calibrated_network_compiles_to_what_the_model_does(arrays: dict[str, np.ndarray]) -> None:
    ann = api.calibrate(digits_model(), arrays["x_calib"][:8])
    for options in ({"T": 3, "beta": 2.0}, {"T": 3, "silent": 0, "adjust": False}, {"T": 3, "beta": 2.0}):
        shared = csscc.compile(ann, **options)
        alone = csscc.compile(digits_model(), arrays["x_calib"][:8], **options)
        assert shared.model.SerializeToString() == alone.model.SerializeToString()


def test_a_calibrated_network_refuses_another_calibration(arrays: dict[str, np.ndarray]) -> None:
    ann = api.calibrate(digits_model(), arrays["x_calib"][:8])
    with pytest.raises(UsageError, match="per_channel"):
        csscc.compile(ann, preset="paper")
    with pytest.raises(UsageError, match="calibrated already"):
        csscc.compile(ann, arrays["x_calib"])


def test_a_row_is_what_compile_and_evaluate_say(job: Job, tmp_path: Path) -> None:
    (row,) = sweep(job, [Setting(T=4, beta=2.0, adjust=False)], tmp_path)
    snn = csscc.compile(digits_model(), job.calibration, T=4, beta=2.0, silent=1, adjust=False, calibration_samples=16)
    expected = evaluate(digits_model(), snn.model, job.data, limit=16)
    assert (row.latency, row.samples, row.error) == (snn.latency, 16, "")
    assert row.snn_accuracy == expected.snn_accuracy
    assert row.ann_accuracy == expected.ann_accuracy
    assert row.agreement == expected.agreement
    assert row.output_error == pytest.approx(100 * expected.output_error["logits"])
    assert row.spikes_per_neuron == expected.spikes_per_neuron
    assert row.synaptic_operations == expected.synaptic_operations


def test_results_are_written_in_both_forms_with_one_row_a_setting(job: Job, tmp_path: Path) -> None:
    rows = sweep(job, SMALL, tmp_path / "new" / "folder")
    written = json.loads((tmp_path / "new" / "folder" / "results.json").read_text())
    assert written == [row.as_dict() for row in rows]
    assert [Row.from_dict(values) for values in written] == rows
    with (tmp_path / "new" / "folder" / "results.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [(int(line["T"]), int(line["silent"])) for line in lines] == [(3, 0), (4, 0), (3, 1), (4, 1)]
    assert [float(line["snn_accuracy"]) for line in lines] == [row.snn_accuracy for row in rows]


def test_a_stopped_sweep_goes_on_and_a_torn_line_is_measured_again(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sweep(job, SMALL, tmp_path)
    journal = tmp_path / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:150])
    measured = counted(monkeypatch)
    again = sweep(job, SMALL, tmp_path)
    assert len(measured) == 2
    assert without_time(again) == without_time(expected)
    assert sweep(job, SMALL, tmp_path) == again
    assert len(measured) == 2


def test_results_of_something_else_are_refused(job: Job, tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    sweep(job, SMALL[:1], tmp_path)
    before = (tmp_path / JOURNAL).read_bytes()
    model = onnx.load(digits_model())
    other = corrupted(model, model.graph.initializer[0].name, lambda w: w * 1.01)
    for changed, reported in (
        (Job(other, job.data, job.calibration, samples=16, limit=16), "other model"),
        (Job(job.model, {"x": arrays["x"] + 1}, job.calibration, samples=16, limit=16), "other data"),
        (Job(job.model, job.data, None, samples=16, limit=16), "other calibration"),
        (Job(job.model, job.data, job.calibration, samples=16, limit=8), "other options"),
    ):
        with pytest.raises(RefusedError, match=reported):
            sweep(changed, SMALL, tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_the_same_files_elsewhere_are_the_same(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        np.save(folder / "x.npy", arrays["x"])
        (folder / "f.py").write_text("def one(): ...\ndef two(): ...\n")
    jobs = [Job(digits_model(), str(tmp_path / f / "x.npy"), f"{tmp_path / f / 'f.py'}:one") for f in "ab"]
    assert jobs[0].fingerprint() == jobs[1].fingerprint()
    assert Job(jobs[0].model, jobs[0].data, f"{tmp_path}/a/f.py:two").fingerprint() != jobs[0].fingerprint()
    np.save(tmp_path / "b" / "x.npy", arrays["x"] + 1)
    assert jobs[0].fingerprint() != jobs[1].fingerprint()


def changes_of(folder: Path, what: str) -> Path:
    """Data of this kind in `folder`; each call changes contents only, never a name or a size."""
    folder.mkdir(exist_ok=True)
    times = len(list(folder.parent.glob("turn*")))
    (folder.parent / f"turn{times}").touch()
    if what == "function":
        np.save(folder / "x.npy", np.full((4, 1, 8, 8), float(times), np.float32))
        (folder / "f.py").write_text("import numpy as np\ndef batches():\n    yield np.load(FILE)\n".replace(
            "FILE", repr(str(folder / "x.npy"))))
        return Path(f"{folder / 'f.py'}:batches")
    changed = times if what == "pixels" else 0
    for i in range(2):
        Image.fromarray(np.full((8, 8, 3), 10 * i + changed, np.uint8)).save(folder / f"{i}.bmp")
    table = (folder.parent if what == "labels above" else folder) / "labels.csv"
    table.write_text(f"0.bmp,{times if 'labels' in what else 1}\n1.bmp,0\n")
    return folder


@pytest.mark.parametrize("what", ["pixels", "labels", "labels above", "function"])
def test_data_of_other_contents_are_other_data(tmp_path: Path, what: str) -> None:
    first = digest(changes_of(tmp_path / "data", what), 4)
    assert digest(tmp_path / "data" if what != "function" else f"{tmp_path / 'data' / 'f.py'}:batches", 4) == first
    assert digest(changes_of(tmp_path / "data", what), 4) != first


def test_a_folder_that_is_a_class_without_images_counts(tmp_path: Path) -> None:
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "0.png")
    before = digest(tmp_path)
    (tmp_path / "a").mkdir()
    assert digest(tmp_path) != before


def test_the_split_of_a_function_is_no_matter_and_its_limit_is() -> None:
    x = np.arange(20.0).reshape(10, 2)
    found = {digest(lambda c=cuts: iter(np.split(x, c)), 8) for cuts in ([], [3], [1, 2, 9])}
    assert len(found) == 1
    assert digest(lambda: iter([x[:8]]), 8) in found
    assert digest(lambda: iter([x]), 9) not in found
    assert digest(lambda: iter([x + 1]), 8) not in found

    def endless() -> Iterator[np.ndarray]:
        while True:
            yield x

    assert digest(endless, 25) == digest(endless, 25)
    with pytest.raises(UsageError, match="pass the function that makes it"):
        digest(iter([x]), 8)


def test_weights_in_another_file_are_the_models(tmp_path: Path) -> None:
    model, path = parse("g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { y = MatMul(x, w) }"), tmp_path / "m.onnx"
    found = set()
    for factor in (1, 2):
        onnx.save(
            corrupted(model, "w", lambda w, f=factor: f * w), path, save_as_external_data=True, size_threshold=0,
            location="w.data",
        )  # fmt: skip
        found.add((path.read_bytes(), digest_of_model(path)))
        (tmp_path / "w.data").unlink()
    assert len({message for message, _ in found}) == 1
    assert len(found) == 2


def test_a_row_of_nan_is_a_row_with_its_reason(tmp_path: Path) -> None:
    model = parse("g (float[N,4] x) => (float[N,2] y) <float[4,4] w, float[4,2] v>"
                  "{ a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) y = Sqrt(c) }")  # fmt: skip
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    (row,) = sweep(Job(model, x, x), SMALL[:1], tmp_path)
    assert "NaN or infinite" in row.error
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)


def test_a_refused_setting_is_a_row_with_its_reason_and_stops_nothing(job: Job, tmp_path: Path) -> None:
    rows = sweep(job, grid(T=(1, 3), silent=(1, 2), adjust=(False,)), tmp_path)
    refused = [row for row in rows if row.error]
    assert [row.setting for row in refused] == [Setting(T=1, silent=2, adjust=False)]
    assert "silent steps" in refused[0].error
    assert all(row.agreement is not None for row in rows if not row.error)


def test_what_no_setting_can_use_is_refused_before_the_work(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(UsageError, match="beta must be"):
        sweep(job, grid(beta=(9.0,)), folder)
    with pytest.raises(RefusedModelError, match="Sin"):
        sweep(Job(parse(NOT_CONVERTIBLE), {"x": np.ones((4, 4), np.float32)}), SMALL, folder)
    with pytest.raises(RefusedError, match="shape"):
        sweep(Job(job.model, np.ones((4, 3, 9, 9), np.float32), job.calibration), SMALL, folder)
    assert not folder.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="is not a folder"):
        sweep(job, SMALL, tmp_path / "file")


def test_several_processes_find_the_same(job: Job, tmp_path: Path) -> None:
    one = sweep(job, SMALL[:2], tmp_path / "one")
    two = sweep(job, SMALL[:2], tmp_path / "two", jobs=2)
    assert without_time(two) == without_time(one)
    assert not any(row.error for row in two)


def test_several_processes_need_what_can_be_sent_to_them(job: Job, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="paths or arrays"):
        sweep(Job(job.model, lambda: iter([job.data])), SMALL, tmp_path, jobs=2)


def test_a_refusal_of_another_process_arrives_whole(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((4, 4), np.float32))
    onnx.save(parse(NOT_CONVERTIBLE), tmp_path / "model.onnx")
    with pytest.raises(RefusedModelError, match="Sin") as caught:
        sweep(Job(str(tmp_path / "model.onnx"), str(tmp_path / "x.npy")), SMALL, tmp_path / "out", jobs=2)
    assert all(isinstance(o, Offender) for o in caught.value.offenders)


def test_a_process_that_is_killed_is_one_clear_message_and_what_is_done_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data.py"
    data.write_text("import os\n\n\ndef batches():\n    os._exit(9)\n")
    with pytest.raises(RefusedError, match="ended from outside"):
        sweep(Job(digits_model(), f"{data}:batches", samples=16), SMALL, tmp_path / "out", jobs=2)


def test_pictures_show_one_line_a_coding_and_ablation_and_the_ann(job: Job, tmp_path: Path) -> None:
    rows = sweep(job, grid(T=(3, 4), negative=(True, False), adjust=(False,)), tmp_path)
    written = plots.plot(rows, tmp_path)
    names = ("accuracy_T", "loss_T", "loss_latency", "error_T", "error_latency")
    assert {p.name for p in written} == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert all(p.stat().st_size > 5000 for p in written)
    assert ET.parse(tmp_path / "loss_T.svg").getroot().tag.endswith("svg")
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plots._draw(axes, rows, plots.STEPS, plots.ACCURACY)
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert list(drawn) == ["β=3, L=1, not adjusted", "β=3, L=1, no negative spikes, not adjusted", "ANN"]
    np.testing.assert_array_equal(drawn["β=3, L=1, not adjusted"].get_xdata(), [3, 4])
    np.testing.assert_array_equal(drawn["β=3, L=1, not adjusted"].get_ydata(), [r.snn_accuracy for r in rows[:2]])
    assert drawn["ANN"].get_linestyle() == "--"
    assert set(drawn["ANN"].get_ydata()) == {rows[0].ann_accuracy}
    assert "%" in axes.get_ylabel()


def test_without_labels_pictures_show_agreement_and_without_classes_the_error() -> None:
    assert [y.name for _, y in plots.pictures([Row(Setting(), agreement=90.0)])] == [
        "agreement",
        "disagreement",
        "disagreement",
        "error",
        "error",
    ]
    assert [y.name for _, y in plots.pictures([Row(Setting(), output_error=3.0)])] == ["error", "error"]


def test_samples_with_labels_of_a_function_are_contents(tmp_path: Path) -> None:
    x = np.arange(8.0).reshape(4, 2)
    found = [
        digest(lambda a=a, y=y: iter([(a, y)]), 4)
        for a, y in ((x, np.arange(4)), (x + 1, np.arange(4)), (x, np.arange(4)[::-1].copy()))
    ]
    assert len(set(found)) == 3
