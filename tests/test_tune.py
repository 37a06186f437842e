"""The tuner: what it chooses holds when measured again, and costs no more than the cheapest that a sweep finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from matplotlib.figure import Figure

import csscc
from csscc import api
from csscc.errors import RefusedError, UsageError
from csscc.io.finite import strict_json
from csscc.measure.agreement import Agreement
from csscc.models import digits_data, digits_model
from csscc.search import plots
from csscc.search.analog import compile_within
from csscc.search.bench import Bench
from csscc.search.candidates import Candidate, candidates
from csscc.search.front import HOPE, Aim
from csscc.search.objectives import OBJECTIVES
from csscc.search.tune import Study, Tuning, tune
from tests.helpers import run, small_classifier

Small = tuple[onnx.ModelProto, dict[str, np.ndarray]]
STEPS = (3, 4)
BUDGET = 2.0


@pytest.fixture(scope="module")
def samples() -> dict[str, np.ndarray]:
    with np.load(digits_data()) as archive:
        return {"image": archive["x_calib"], "y": archive["y_calib"]}


@pytest.fixture(scope="module")
def tuned(samples: dict[str, np.ndarray]) -> Tuning:
    return tune(digits_model(), samples, max_loss=0.4, steps=(1, 2, 3, 4))


@pytest.fixture(scope="module", autouse=True)
def _few_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("csscc.search.candidates.BETAS", (1.5, 3.0))
        patch.setattr("csscc.search.candidates.SILENT", (0, 1))
        yield


@pytest.fixture(scope="module")
def small() -> Small:
    return small_classifier(128)


@pytest.fixture(scope="module")
def bench(small: Small) -> Bench:
    """One bench for all searches on the small network, which measures no candidate twice."""
    made, found = Study(*small, counting=True).begin(), dict[tuple[str, str], Candidate]()
    measure = made.measured

    def once(candidate: Candidate, *, counting: bool = False) -> Candidate:
        key = candidate.name, candidate.stage
        if key not in found:
            found[key] = measure(candidate, counting=True)
        return replace(found[key], predicted=candidate.predicted)

    made.measured = once  # type: ignore[method-assign]
    return made


@pytest.fixture
def shared(bench: Bench) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, "begin", lambda self, progress=None: bench)
        yield


@pytest.fixture(scope="module")
def everything(bench: Bench) -> list[Candidate]:
    """What a sweep over the same settings finds on the same data."""
    known = bench.predicted(candidates(STEPS, bench.outline()), lambda stage, new, total: None)
    return [bench.measured(replace(c, stage="tried")) for c in known]


def _accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return 100 * float(np.mean(session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1) == y))


def test_the_choice_keeps_the_budget_and_is_the_cheapest(tuned: Tuning) -> None:
    assert tuned.holds
    assert tuned.chosen.cautious <= 0.4
    confirmed = [c for c in tuned.candidates if c.stage == "confirmed"]
    assert min(c.T for c in confirmed if c.cautious <= 0.4) == tuned.chosen.T
    assert tuned.quantity == "points of accuracy"


def test_samples_that_the_ann_knows_by_heart_and_wrong_labels_are_remarked_on(small: Small) -> None:
    model, data = small
    x = data["x"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    known = session.run(None, {"x": x})[0].argmax(axis=1)
    for labels, reported in ((known, "the ANN is right for 100 % of these"), ((known + 1) % 2, "right for 0.00 % of")):
        ann = api.calibrate(model, {"x": x, "y": labels})
        (text,) = Bench(ann).warnings
        assert reported in text
        assert compile_within(ann, 100, T=3).warnings == (text,)
    assert not Bench(api.calibrate(model, x)).warnings


def test_labels_of_a_plot_do_not_lie_on_one_another() -> None:
    axes = Figure(figsize=(7.5, 4.5)).add_subplot()
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    at = [(1, 1), (1.2, 1.1), (1, 9), (9, 1), (9, 1.2)]
    points: list[Any] = [SimpleNamespace(figure={"steps": x, "loss": y}.get) for x, y in at]
    assert plots._apart(axes, points, ("steps", "loss")) == [points[0], points[2], points[3]]


def test_warnings_are_those_of_the_network_and_the_samples(tuned: Tuning) -> None:
    known = replace(tuned, bench=SimpleNamespace(warnings=("of samples",), snn_of=tuned.bench.snn_of))  # type: ignore[arg-type]
    assert known.warnings == (*tuned.snn.report.warnings, "of samples")


def test_samples_that_chose_nothing_agree(tuned: Tuning) -> None:
    with np.load(digits_data()) as archive:
        x, y = archive["x"], archive["y"]
    loss = _accuracy(str(digits_model()), x, y) - _accuracy(tuned.snn.model.SerializeToString(), x, y)
    assert loss <= 1.0
    coding = tuned.snn.facts.coding
    assert (coding.T, coding.beta) == (tuned.chosen.T, tuned.chosen.beta)
    assert tuned.chosen.silent in ("auto", coding.silent)


def test_what_is_found_is_what_compile_and_onnxruntime_say(
    tuned: Tuning, samples: dict[str, np.ndarray]
) -> None:
    chosen = tuned.chosen
    snn = csscc.compile(digits_model(), samples, T=chosen.T, beta=chosen.beta, silent=chosen.silent)
    assert snn.file.SerializeToString() == tuned.snn.file.SerializeToString()
    x = samples["image"]
    ann, got = (run(m, {"image": x})["logits"] for m in (onnx.load(digits_model()), snn.file))
    compared = Agreement(samples["y"])
    compared.add({"y": ann}, {"y": got}, len(x))
    assert chosen.cautious == pytest.approx(compared.cautious_loss, rel=1e-3)
    assert chosen.expected == pytest.approx(compared.expected_loss, rel=1e-3, abs=1e-6)
    assert chosen.error == pytest.approx(100 * np.sqrt(((got - ann) ** 2).sum() / (ann**2).sum()), rel=1e-3)
    assert (chosen.latency, chosen.passes, chosen.interval) == (
        snn.latency, snn.costs.passes, snn.costs.interval,
    )  # fmt: skip


def test_what_is_predicted_to_lose_too_much_is_not_run(tuned: Tuning) -> None:
    predicted = [c for c in tuned.candidates if c.stage == "predicted"]
    assert any(c.cautious > 0.4 / HOPE["predicted"] for c in predicted)
    assert len(predicted) > len(tuned.candidates) / 2


def test_the_front_is_json_and_names_what_was_tried(tuned: Tuning) -> None:
    reported = json.loads(json.dumps(tuned.as_dict()))
    assert reported["chosen"]["T"] == tuned.chosen.T
    assert sum(row["front"] for row in reported["candidates"]) == len(tuned.front) == 1
    assert {row["stage"] for row in reported["candidates"]} == {"tried", "confirmed"}
    assert tuned.chosen in tuned.front


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_choice_is_never_worse_than_what_a_sweep_finds(
    small: Small, everything: list[Candidate], objective: Any
) -> None:
    result = tune(*small, max_loss=BUDGET, steps=STEPS, objective=objective)
    within = [c for c in everything if c.cautious <= BUDGET]
    assert result.holds
    assert result.chosen.figure(objective) == min(c.figure(objective) for c in within)
    costs = result.snn.costs
    reported = (result.chosen.T, result.chosen.passes, result.chosen.interval, result.chosen.latency)
    assert reported == (costs.steps, costs.passes, costs.interval, costs.latency)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("axes", [("latency", "loss"), ("steps", "latency"), ("spikes", "interval")], ids=",".join)
def test_the_front_is_never_worse_than_what_a_sweep_finds(
    small: Small, everything: list[Candidate], axes: Any
) -> None:
    result = tune(*small, max_loss=BUDGET, steps=STEPS, front=axes)
    aim = Aim(axes, 0.1 * BUDGET, 8 * BUDGET) if "loss" in axes else Aim(axes, 0.0, BUDGET)
    assert [aim.place(c)[:2] for c in result.front] == [aim.place(c)[:2] for c in aim.front(everything)]
    assert result.axes == axes
    best = min(c.figure(axes[0]) for c in everything if c.cautious <= BUDGET)
    assert result.chosen.figure(axes[0]) == best


@pytest.mark.usefixtures("shared")
def test_latency_prefers_no_silent_steps_to_few_steps(small: Small, bench: Bench) -> None:
    budget = 1.0  # what two steps lose with a silent step, and three without one
    known = bench.predicted(candidates((2, 3), bench.outline()), lambda stage, new, total: None)
    made = [bench.measured(replace(c, stage="tried")) for c in known]
    lost = {(c.silent, c.T): c.cautious for c in sorted(made, key=lambda c: -c.cautious)}
    assert max(lost[0, 3], lost[1, 2]) < budget < lost[0, 2]
    fast = tune(*small, max_loss=budget, steps=(2, 3), objective="latency")
    few = tune(*small, max_loss=budget, steps=(2, 3))
    assert (fast.chosen.silent, fast.chosen.T) == (0, 3)
    assert (few.chosen.T, few.snn.latency > fast.snn.latency) == (2, True)


def test_without_labels_other_classes_count(small: Small) -> None:
    model, samples = small
    result = tune(model, {"x": samples["x"][:64]}, max_loss=1.0, steps=(4,))
    assert result.quantity == "percent of samples that change class"
    assert result.holds


@pytest.mark.usefixtures("shared")
def test_a_budget_that_cannot_be_kept_gives_the_best_there_is(small: Small, everything: list[Candidate]) -> None:
    result = tune(*small, max_loss=0.0, steps=STEPS)
    assert not result.holds
    assert result.chosen.stage == "confirmed"
    assert result.chosen.cautious == min(c.cautious for c in everything)


def test_a_network_that_does_not_classify_is_judged_by_its_error() -> None:
    model, samples = small_classifier(64)
    del model.graph.node[-1]
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["N", 8, 1]))
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Squeeze", ["p", "axis"], ["f"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3]), "axis"))
    result = tune(model, {"x": samples["x"]}, max_loss=8.0, steps=(4,))
    assert result.quantity == "percent of output error"
    assert result.chosen.cautious == result.chosen.error
    ann, snn = (run(m, {"x": samples["x"]})["f"] for m in (model, result.snn.file))
    assert result.chosen.error == pytest.approx(100 * np.sqrt(((snn - ann) ** 2).sum() / (ann**2).sum()), rel=1e-3)


def test_wrong_usage(samples: dict[str, np.ndarray]) -> None:
    wanted: dict[str, Any] = {"max_loss": 0.1}
    with pytest.raises(UsageError, match="tuning needs samples"):
        tune(digits_model(), None, **wanted)
    with pytest.raises(UsageError, match="T must be a whole number"):
        tune(digits_model(), samples, steps=(0,), **wanted)
    with pytest.raises(UsageError, match="choose one of steps, latency, interval, time, spikes, synops"):
        tune(digits_model(), samples, objective="speed", **wanted)
    for axes in (("loss", "error"), ("steps", "steps")):
        with pytest.raises(UsageError, match="one of them a cost"):
            tune(digits_model(), samples, front=axes, **wanted)
    with pytest.raises(UsageError, match="'speed' is not known here"):
        tune(digits_model(), samples, front=("speed", "loss"), **wanted)


@pytest.mark.usefixtures("shared")
def test_a_search_goes_on_where_it_was_and_another_aim_uses_what_is_known(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, tried = tmp_path / "journal", list[str]()
    do = Study.do
    monkeypatch.setattr(Study, "do", lambda self, bench, c: tried.append(f"{c.name} {c.stage}") or do(self, bench, c))
    wanted: dict[str, Any] = {"max_loss": BUDGET, "steps": STEPS, "front": ("latency", "loss"), "journal_file": file}
    first = tune(*small, **wanted)
    assert len(tried) == len(set(tried)) == len(file.read_bytes().splitlines())
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]) + lines[-1][:50])  # as if it had been stopped
    before = len(tried)
    again = tune(*small, **wanted)
    assert tried[before:] == tried[before - 1 : before]
    assert strict_json(again.as_dict() | {"seconds": 0}) == strict_json(first.as_dict() | {"seconds": 0})
    tune(*small, **wanted | {"front": ("steps", "loss")})
    assert len(tried) == len(set(tried)) + 1
    with pytest.raises(RefusedError, match="another sweep or search, with other calibration"):
        tune(small[0], {"x": small[1]["x"]}, **wanted)
