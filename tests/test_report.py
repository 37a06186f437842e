"""The report holds the numbers of evaluate and diagnose, needs nothing beside itself, and its pictures are right."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import csscc
from csscc import report
from csscc.errors import UsageError
from csscc.measure.diagnose import diagnose
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.evaluation import evaluate
from csscc.models import digits_data, digits_model
from csscc.report.findings import Findings, gather
from csscc.report.layer_pictures import residuals
from csscc.report.page import page
from csscc.report.picture import time_ticks
from tests.helpers import parse, run

FIRST, T = 36, 3
TIMES = ("ann_milliseconds", "snn_milliseconds")
NASTY = "<img src=x onerror=alert(1)>\"'&</script><b>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("report")
    with np.load(digits_data()) as archive:
        x, y, x_calib = archive["x"], archive["y"], archive["x_calib"][:64]
    snn = csscc.compile(digits_model(), calibration=x_calib, T=T, beta=2)
    snn.save(folder / "snn.onnx")
    different = np.flatnonzero(snn.run(x).argmax(1) != run(onnx.load(digits_model()), {"image": x})["logits"].argmax(1))
    assert len(different) > 0
    rows = np.union1d(np.arange(FIRST), different)
    np.savez(folder / "test.npz", x=x[rows], y=y[rows])
    return {"ann": str(digits_model()), "snn": str(folder / "snn.onnx"), "data": str(folder / "test.npz")}


@pytest.fixture(scope="module")
def findings(files: dict[str, str]) -> Findings:
    return gather(**files)


@pytest.fixture(scope="module")
def text(findings: Findings) -> str:
    return page(findings, "csscc report a b --data c")


def embedded(text: str, name: str) -> Any:
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)[1])


def unpacked(text: str, name: str) -> str:
    found = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', text, re.DOTALL)
    return gzip.decompress(base64.b64decode(found[1])).decode()


def plainly(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_numbers_are_those_of_evaluate_and_diagnose(text: str, files: dict[str, str]) -> None:
    measured = plainly(evaluate(**files, energy=EnergyCosts()).as_dict())
    shown = embedded(text, "evaluation")
    for name in TIMES:
        del measured[name], shown[name]
    assert shown == measured
    assert embedded(text, "diagnosis") == plainly(diagnose(**files).as_dict())


def test_the_summary_shows_them_exactly(text: str, findings: Findings) -> None:
    shown = re.findall(r'<data value="([^"]*)">([^<]*)</data>', text)
    e = findings.evaluation
    for value, written in (
        (e.ann_accuracy, f"{e.ann_accuracy:.2f} %"),
        (e.snn_accuracy, f"{e.snn_accuracy:.2f} %"),
        (e.loss, f"{e.loss:+.2f}"),
        (e.latency, str(e.latency)),
        (e.spikes_per_neuron, f"{e.spikes_per_neuron:.2f}"),
        (findings.diagnosis.layers[3].own, f"{100 * findings.diagnosis.layers[3].own:.2f} %"),
        (e.energy.per_step[3].total, f"{e.energy.per_step[3].total / 1e6:.4g}"),
    ):
        assert (str(value), written) in shown


def test_the_file_asks_for_nothing_and_is_small(text: str) -> None:
    outside = re.sub(r'<script type="text/plain".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)\s*=(?!["']?#)""", outside)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(", outside)
    assert len(text.encode()) < 5e6
    assert "Plotly" in unpacked(text, "plotly-packed")


HEAD = """g (float[N,4] x) => (float[N,3] p) <float[4,6] w1, float[6] b1, float[6,3] w2, float[3] b2>
{ [first] a = Gemm(x, w1, b1) [one] r = Relu(a) [last] z = Gemm(r, w2, b2) [soft] p = Softmax(z) }"""


def test_readings_are_partial_sums_and_the_last_is_the_answer(tmp_path: Path) -> None:
    model, steps = parse(HEAD), 5
    x = np.random.default_rng(5).standard_normal((50, 4)).astype(np.float32)
    expected = run(model, {"x": x})["p"]
    y = np.roll(expected.argmax(1), 3)  # so that the ANN is not always right
    files = {"ann": tmp_path / "ann.onnx", "snn": tmp_path / "snn.onnx", "data": str(tmp_path / "x.npz")}
    onnx.save(model, files["ann"])
    np.savez(files["data"], x=x, y=y)
    snn = csscc.compile(model, calibration=x, T=steps, beta=2, silent=1, correct_bias=False)
    snn.save(files["snn"])
    found = gather(**files)
    read, e = found.reading, found.evaluation
    assert read.steps == tuple(range(snn.latency - steps + 1, snn.latency + 1))
    assert (read.accuracy[-1], read.agreement[-1]) == (e.snn_accuracy, e.agreement)
    assert read.errors["p"][-1] == pytest.approx(e.output_error["p"], rel=1e-12)
    weights = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    spikes = snn.trace(x).spikes["one"].astype(np.float64)
    per_channel = {t.name: onnx.numpy_helper.to_array(t) for t in snn.model.graph.initializer}
    node = next(n for n in snn.model.graph.node if n.name == "one")
    theta = per_channel[node.input[2]].astype(np.float64)
    for k in range(1, steps + 1):
        sent = theta * np.tensordot(2.0 ** np.arange(steps - 1, -1, -1)[:k], spikes[:k], axes=1)
        z = sent @ weights["w2"] + weights["b2"]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        error = np.sqrt(((p - expected) ** 2).mean() / (expected**2).mean())
        assert read.errors["p"][k - 1] == pytest.approx(error, rel=1e-3)
        assert read.accuracy[k - 1] == pytest.approx(100 * (p.argmax(1) == y).mean())
        assert read.agreement[k - 1] == pytest.approx(100 * (p.argmax(1) == expected.argmax(1)).mean())
    assert len({*read.errors["p"]}) == steps


def test_trains_add_up_to_the_values_sent(findings: Findings, files: dict[str, str]) -> None:
    snn = csscc.load(files["snn"])
    feeds = findings.samples[1].feeds
    trace = snn.trace(dict(feeds))
    weights = 2.0 ** np.arange(T - 1, -1, -1)
    amplitudes = {n.name: n for n in snn.model.graph.node if n.domain == "csscc"}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in snn.model.graph.initializer}
    for layer in findings.trains:
        spikes = trace.spikes[layer.name][:, 0]
        node = amplitudes[layer.name]
        theta = constants[node.input[1 if node.op_type == "Encode" else 2]].astype(np.float64)
        value = np.tensordot(weights, spikes, axes=1) * (theta[0] if theta.ndim == spikes.ndim else theta)
        for k, place in enumerate(layer.neurons):
            assert layer.spikes[1, k].tolist() == spikes[(slice(None), *place)].tolist()
            assert layer.values[1, k, -1] == pytest.approx(value[place], rel=1e-6)
        assert layer.depth == next(f.depth for f in snn.layers if f.name == layer.name)
        if layer.residuals is not None:
            assert layer.residuals.sum() == spikes[0].size * len(findings.samples)


def test_activations_are_the_anns(findings: Findings, files: dict[str, str]) -> None:
    """Of the sample itself, for the encoder, which sends its high and its low digits."""
    encoder, model = findings.trains[0], csscc.load(files["snn"]).model
    node = next(n for n in model.graph.node if n.op_type == "Encode")
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    step = float(constants[node.input[1]].max())
    x = next(iter(findings.samples[2].feeds.values()))[0].astype(np.float64)
    most = 2 * (2**T - 1)  # in bursts
    high = np.clip(np.rint(x / step), -most, most) * step
    digits = np.concatenate([high, x - high])
    wanted = [float(digits[place]) for place in encoder.neurons]
    assert encoder.activations[2].tolist() == pytest.approx(wanted, abs=1e-6)
    for layer in findings.trains:
        assert np.corrcoef(layer.ann, layer.snn)[0, 1] > 0.85


def test_confusion_counts_each_sample(findings: Findings, files: dict[str, str]) -> None:
    with np.load(files["data"]) as data:
        named = csscc.load(files["snn"]).run(data["x"]).argmax(1)
        labels = data["y"]
    counts = findings.confusion.snn
    assert counts.sum() == len(labels) > FIRST
    assert not np.array_equal(counts, findings.confusion.ann)
    assert all(counts[a, b] == ((labels == a) & (named == b)).sum() for a in range(10) for b in range(10))
    wrong = findings.confusion.mistakes(5)
    assert all(m.label != m.named and m.snn == counts[m.label, m.named] for m in wrong)


def test_pictures_hold_what_was_measured(text: str, findings: Findings) -> None:
    drawn = {p["name"]: p for p in json.loads(unpacked(text, "pictures-packed"))["pictures"]}
    assert {*drawn} == {
        *("reading", "errors", "residuals", "residual-histogram", "activations", "wave", "signed"),
        *("sample", "raster", "value", "confusion", "energy", "synapses"),
    }
    layers = findings.diagnosis.layers
    own = np.array([trace["y"] for trace in drawn["errors"]["figure"]["data"][:3]]).sum(axis=0)
    assert own == pytest.approx([100 * layer.own for layer in layers], rel=1e-3)
    up, down = (t["y"] for t in drawn["signed"]["variants"]["3"]["traces"])
    assert up == pytest.approx(layers[3].positive_by_step, rel=1e-4)
    assert down == pytest.approx([-v for v in layers[3].negative_by_step], rel=1e-4)
    assert drawn["confusion"]["variants"]["SNN"]["traces"][0]["z"] == findings.confusion.snn.tolist()
    totals = np.array([bar["y"] for bar in drawn["energy"]["variants"]["spike"]["traces"]]).sum(axis=0)
    assert totals == pytest.approx([e.total / 1e6 for e in findings.evaluation.energy.per_spike], rel=1e-3)


def test_bursts_and_trains_are_shown_as_such(text: str, findings: Findings) -> None:
    """Three steps with one that is silent: all send bursts, and the input is sent as two trains."""
    assert {layer.spikes.max() for layer in findings.trains} == {2}
    drawn = {p["name"]: p for p in json.loads(unpacked(text, "pictures-packed"))["pictures"]}["raster"]
    marks = ["spike of +1", "spike of -1", "burst of +2", "burst of -2"]
    assert [trace["name"] for trace in drawn["figure"]["data"]] == marks
    assert "a star stands for a burst of two spikes" in drawn["caption"]
    for i, layer in enumerate(findings.trains):
        assert layer.bursts
        shown = drawn["variants"][f"{i}|0"]
        again = np.zeros_like(layer.spikes[0])
        for number, trace in zip((1, -1, 2, -2), shown["traces"], strict=True):
            again[np.array(trace["y"], int) - 1, np.array(trace["x"], int) - layer.depth - 1] = number
        assert again.tolist() == layer.spikes[0].tolist()
        assert f"{again.clip(0).sum()} positive" in shown["note"]
        assert f"and {-again.clip(None, 0).sum()} negative" in shown["note"]
        assert shown["axes"]["xaxis"]["range"] == [layer.depth + 0.5, layer.depth + T + 0.5]
        assert ("2 trains send one value" in shown["note"]) == (layer.kind == "encoder")
    value = {p["name"]: p for p in json.loads(unpacked(text, "pictures-packed"))["pictures"]}["value"]
    names = [trace["name"] for trace in value["figure"]["data"]]
    assert names == [*marks, "sent so far", "ANN's activation"]
    assert value["caption"].endswith("a negative one subtracts it, a burst twice as much.")
    layer = findings.trains[1]
    *drawn_marks, sent, _ = value["variants"]["1|0|0"]["traces"]
    assert sent["y"] == pytest.approx([0, *layer.values[0, 0]], rel=1e-4)
    marked = sorted(x for mark in drawn_marks for x in mark["x"])
    assert marked == (layer.depth + 1 + layer.spikes[0, 0].nonzero()[0]).tolist()
    options = re.findall(r"<option[^>]*>([^<]*)</option>", text)
    assert f"1: {findings.trains[0].name} (encoder, bursts, 2 trains)" in options
    assert f"2: {findings.trains[1].name} (Relu, bursts)" in options


def test_spikes_of_one_sign_have_one_colour(text: str) -> None:
    """Colours follow the order of the traces: positive spikes have the first, negative ones the second."""
    drawn = {p["name"]: p for p in json.loads(unpacked(text, "pictures-packed"))["pictures"]}
    for name, signs in (("signed", ["positive", "negative"]), *((n, ["+1", "-1"]) for n in ("raster", "value"))):
        names = [trace["name"] for trace in drawn[name]["figure"]["data"]]
        assert [names[i].removeprefix("spike of ") for i in (0, 1)] == signs
        assert not any("color" in trace.get("marker", {}) for trace in drawn[name]["figure"]["data"])


def test_axes_of_shares_begin_at_zero(findings: Findings) -> None:
    (shown,) = residuals(findings)
    assert any(any(bars["y"]) for bars in shown.figure["data"])
    assert "no residual" not in shown.caption
    none = [replace(layer, over_half=0.0, over_one=0.0, saturated=0.0) for layer in findings.diagnosis.layers]
    (empty,) = residuals(replace(findings, diagnosis=replace(findings.diagnosis, layers=tuple(none))))
    assert empty.caption.endswith("that were diagnosed, no residual is above 1/2, and no value is saturated.")
    assert empty.figure["layout"]["yaxis"]["rangemode"] == "nonnegative"  # plotly draws from -1 to 1 otherwise


def test_layers_have_ticks_at_whole_numbers(text: str, findings: Findings) -> None:
    drawn = {p["name"]: p["figure"] for p in json.loads(unpacked(text, "pictures-packed"))["pictures"]}
    sizes = {"errors": len(findings.diagnosis.layers), "synapses": len(findings.evaluation.energy.synapses)}
    for name, number in {**sizes, "residuals": sizes["errors"]}.items():
        axis = drawn[name]["layout"]["xaxis"]
        assert (axis["tick0"], axis["dtick"], axis["range"]) == (1, 1, [0.5, number + 0.5]), name


def test_no_zero_is_negative(findings: Findings) -> None:
    layers = [replace(layer, bias=-1e-9) for layer in findings.diagnosis.layers]
    evaluation = replace(findings.evaluation, snn_accuracy=findings.evaluation.ann_accuracy + 1e-9, loss=-1e-9)
    shown = page(replace(findings, diagnosis=replace(findings.diagnosis, layers=layers), evaluation=evaluation), "")
    body = shown[: shown.index("<script")]
    assert '<data value="-1e-09">0.00 %</data>' in body
    assert '<data value="-1e-09">+0.00</data>' in body
    assert not re.search(r"-0\.0* ?(%|<| p)", body)


def test_warnings_are_shown(findings: Findings) -> None:
    shown = "<p><strong>Warning:</strong> &lt;b&gt; is cut off</p>"
    for warnings in ((), ("<b> is cut off",)):
        made = page(replace(findings, evaluation=replace(findings.evaluation, warnings=warnings)), "")
        assert (made.count("Warning:"), made.count(shown)) == (len(warnings), len(warnings))


@pytest.mark.parametrize(("steps", "space"), [(1, 1), (4, 1), (12, 1), (13, 2), (25, 5), (64, 10), (128, 20)])
def test_time_has_ticks_at_whole_steps(steps: int, space: int) -> None:
    assert time_ticks(steps) == space


NAMED = """g (float[N,3] x) => (float[N,2] y) <float[3,4] w1, float[4,2] w2>
{ [first] a = MatMul(x, w1) [one] r = Relu(a) [last] y = MatMul(r, w2) }"""


def test_names_are_escaped(tmp_path: Path) -> None:
    model = parse(NAMED)
    for node in model.graph.node:
        node.name = f"{node.name}{NASTY}"
    onnx.save(model, tmp_path / "ann.onnx")
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    csscc.compile(tmp_path / "ann.onnx", calibration=x, T=4).save(tmp_path / "snn.onnx")
    found = gather(tmp_path / "ann.onnx", tmp_path / "snn.onnx", str(tmp_path / "x.npy"))
    text = page(found, f"csscc report {NASTY}")
    assert "<img" not in text
    assert text.count("</script>") == 5
    assert html.escape(f"one{NASTY}") in text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
    assert "<img" not in unpacked(text, "pictures-packed")  # plotly takes some HTML
    assert found.confusion is None
    assert found.reading.accuracy is None


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    report.require_drawing()
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "plotly" else object())
    with pytest.raises(UsageError, match=r"a report needs plotly: pip install 'csscc\[report\]'"):
        report.require_drawing()


PROBE = """<script>
const failures = [];
addEventListener("error", (e) => failures.push(e.message));
addEventListener("unhandledrejection", (e) => failures.push(String(e.reason)));
console.error = console.warn = (...all) => failures.push(all.join(" "));
const wait = (ready) => new Promise((done) => {
  const look = () => (ready() ? done() : setTimeout(look, 20)); look(); });
addEventListener("load", async () => {
  await wait(() => document.documentElement.dataset.drawn);
  const pictures = [...document.querySelectorAll(".picture")];
  const points = () => JSON.stringify(pictures.map((p) => p.data.map((t) => [t.x, t.y, t.z])));
  const colour = () => getComputedStyle(document.body).backgroundColor + pictures[0]._fullLayout.font.color;
  const reported = { drawn: document.querySelectorAll(".picture .main-svg").length, changed: {}, colours: [colour()] };
  for (const name of ["layer", "sample", "neuron", "network", "memory"]) {
    const select = document.querySelector(`select[data-chooser=${name}]`), before = points();
    select.value = [...select.options].find((o) => o.value !== select.value).value;
    select.dispatchEvent(new Event("change", { bubbles: true }));
    await new Promise((done) => setTimeout(done, 300));
    reported.changed[name] = points() !== before;
  }
  document.getElementById("picture-raster").emit("plotly_click", { points: [{ customdata: 2 }] });
  reported.clicked = document.querySelector("select[data-chooser=neuron]").value;
  document.getElementById("theme").click();
  await new Promise((done) => setTimeout(done, 300));
  reported.colours.push(colour());
  reported.requests = performance.getEntriesByType("resource").length;
  reported.failures = failures;
  document.title = JSON.stringify(reported);
});
</script></head>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium found")
def test_a_browser_draws_it_and_the_choosers_work(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(text.replace("</head>", PROBE, 1))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000", "--dump-dom")
    command = [BROWSER, *options, f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/report.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    reported = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1]))
    assert reported["failures"] == []
    assert reported["requests"] == 0
    assert reported["drawn"] >= 10
    assert reported["changed"] == dict.fromkeys(("layer", "sample", "neuron", "network", "memory"), True)
    assert reported["clicked"] == "2"
    before, after = (re.findall(r"\((.*?)\)|(#\w+)", colours) for colours in reported["colours"])
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert len(before) == 2  # of the page, and of the pictures


NOT_A_NUMBER = """g (float[N,3] x) => (float[N,2] z) <float[3,4] w1, float[4,2] w2, float[2] edge = {-0.5, -0.5}>
{ [first] a = MatMul(x, w1) [one] r = Relu(a) [last] y = MatMul(r, w2) [shift] s = Sub(y, edge) [root] z = Sqrt(s) }"""


def test_outputs_that_are_no_numbers_are_reported(tmp_path: Path) -> None:
    model = parse(NOT_A_NUMBER)
    x = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    assert np.isnan(run(model, {"x": x})["z"]).any()
    onnx.save(model, tmp_path / "ann.onnx")
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(12) % 2)
    csscc.compile(model, calibration=x, T=4).save(tmp_path / "snn.onnx")
    found = gather(tmp_path / "ann.onnx", tmp_path / "snn.onnx", str(tmp_path / "x.npz"))
    text = page(found, "csscc report")
    assert "cannot be compared" in text
    assert embedded(text, "evaluation")["output_error"]["z"] is None
    assert found.confusion.ann.sum() < 12
