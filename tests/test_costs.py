"""What a network costs: passes, interval and latency, counted by hand."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.dialect.spiking import MERGE, neurons, spiking_nodes
from csscc.measure.costs import Costs, costs_of, outline_of
from csscc.measure.evaluation import evaluate
from csscc.measure.inspection import inspect_ann
from csscc.passes.convert.find_regions import survey
from csscc.passes.lower.targets import merged_by_layer
from csscc.pipeline import canonical
from tests.helpers import SMALL_CLASSIFIER, parse, random_feeds

FIRST, SECOND, LAST = 8 * 8 * 8 * 4 * 9, 8 * 3 * 3 * 8 * 9, 5 * 8  # MACs of SMALL_CLASSIFIER
ALL = FIRST + SECOND + LAST
TWO_HEADS = """g (float[N,4,8,8] x) => (float[N,5] y, float[N,3] z)
<float[8,4,3,3] w1, float[8,8,3,3] w2, float[5,8] v, float[3,8] u>
{ a = Conv <pads = [1,1,1,1]> (x, w1) r = Relu(a) b = Conv <strides = [2,2]> (r, w2) s = Relu(b)
  p = GlobalAveragePool(s) f = Flatten(p) y = Gemm <transB = 1> (f, v)
  q = GlobalAveragePool(r) g = Flatten(q) z = Gemm <transB = 1> (g, u) }"""
BIAS_STAYS = """g (float[N,4,6,6] x) => (float[N,5] y)
<float[4,4,3,3] w1, float[4] b1, float[4,4,3,3] w2, float[5,4] v, int64[8] pads = {0,0,1,0,0,0,0,1}>
{ a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Pad(a, pads) s = Relu(r) b = Conv <pads = [1,1,1,1]> (s, w2) t = Relu(b)
  p = GlobalAveragePool(t) f = Flatten(p) y = Gemm <transB = 1> (f, v) }"""
ONE_LAYER = "g (float[N,6] x) => (float[N,3] y) <float[6,3] w> { y = MatMul(x, w) }"
WITHOUT_DATA: dict[str, Any] = {"adjust": False, "correct_bias": False}


def costs(text: str, **options: Any) -> Costs:
    return csscc.compile(parse(text), **{**WITHOUT_DATA, **options}).costs


def inspected(model: onnx.ModelProto, coding: Coding) -> tuple[float, int, int]:
    result = inspect_ann(model, coding)
    assert result.passes is not None
    return result.passes, result.interval, result.latency


@pytest.mark.parametrize("form", ["stepwise", "unrolled"])
def test_merged_silent_steps_spare_passes(form: str) -> None:
    found = costs(SMALL_CLASSIFIER, T=5, beta=2, silent=2, form=form)
    assert found == Costs(5, pytest.approx((3 * (FIRST + SECOND) + LAST) / ALL), interval=7, latency=5 + 3 * 2)


def test_with_nothing_but_silence_one_pass_is_left() -> None:
    assert costs(SMALL_CLASSIFIER, T=4, beta=3, silent=3) == Costs(4, 1.0, interval=7, latency=4 + 3 * 3)


def test_without_silent_steps_only_the_readout_receives_a_sum() -> None:
    expected = Costs(5, pytest.approx((5 * (FIRST + SECOND) + LAST) / ALL), interval=5, latency=5)
    assert costs(SMALL_CLASSIFIER, T=5, beta=2, silent=0) == expected


def test_a_scan_merges_nothing() -> None:
    assert costs(SMALL_CLASSIFIER, T=5, beta=2, silent=2, form="scan") == Costs(5, 5.0, interval=7, latency=11)


def test_a_stream_runs_everything_at_each_step() -> None:
    assert costs(SMALL_CLASSIFIER, T=5, beta=2, silent=2, form="stream") == Costs(5, 11.0, interval=7, latency=11)


def test_spread_biases_need_every_step() -> None:
    found = costs(SMALL_CLASSIFIER, T=5, beta=2, silent=2, preset="paper")
    assert found.passes == pytest.approx((5 * (FIRST + SECOND) + LAST) / ALL)


def test_in_rate_coding_spikes_do_not_merge() -> None:
    found = costs(SMALL_CLASSIFIER, T=32, coding="rate")
    assert found == Costs(32, pytest.approx((32 * (FIRST + SECOND) + LAST) / ALL), interval=32, latency=32)


def test_each_layer_counts_with_its_own_silent_steps() -> None:
    model = parse(SMALL_CLASSIFIER)
    snn = csscc.compile(model, random_feeds(model, batch=32), T=5, beta=2, silent="auto")
    first, second = (view.schedule.silent for _, view in neurons(snn.model.graph))
    passes = ((5 - first) * FIRST + (5 - second) * SECOND + LAST) / ALL
    latency = 5 + first + second + 1
    assert snn.costs == Costs(5, pytest.approx(passes), interval=5 + max(first, second), latency=latency)


@pytest.mark.parametrize("form", ["stepwise", "unrolled"])
def test_readers_that_merge_more_pay_for_less(form: str) -> None:
    snn = csscc.compile(parse(TWO_HEADS), T=5, beta=2, silent=1, form=form, **WITHOUT_DATA)
    views = [view for _, view in spiking_nodes(merged_by_layer(snn.file).graph)]
    assert [view.op for view in views].count(MERGE) == 1
    heads = 5 * 8 + 3 * 8
    assert snn.costs.passes == pytest.approx((4 * (FIRST + SECOND) + heads) / (FIRST + SECOND + heads))


def test_a_bias_that_cannot_move_is_counted_in_inspect_too() -> None:
    first, second, last = 4 * 36 * 36, 4 * 36 * 49, 5 * 4
    found = costs(BIAS_STAYS, T=5, beta=2, silent=2)
    assert found.passes == pytest.approx((5 * first + 3 * second + last) / (first + second + last))
    assert inspected(parse(BIAS_STAYS), Coding(5, 2, 2))[0] == pytest.approx(found.passes)


@pytest.mark.parametrize("text", [SMALL_CLASSIFIER, TWO_HEADS, ONE_LAYER])
@pytest.mark.parametrize("coding", [Coding(12, 1.5, 1), Coding(8, 2.5, 3), Coding(4, 3, 4), Coding(3, 2, 0)])
def test_inspect_tells_the_costs_before_anything_is_compiled(text: str, coding: Coding) -> None:
    made = costs(text, T=coding.T, beta=coding.beta, silent=coding.silent)
    reported = inspected(parse(text), coding)
    assert reported == (pytest.approx(made.passes), made.interval, made.latency)


def test_the_ann_stays_as_it_is() -> None:
    network = canonical(parse(SMALL_CLASSIFIER))
    regions, _ = survey(network.graph, network.events)
    before = [n.op for n in network.graph.nodes]
    coding = Coding(5, 2, 2)
    assert outline_of(network, regions).costs(coding) == outline_of(network, regions).costs(coding)
    assert [n.op for n in network.graph.nodes] == before
    assert network.ann is None


def test_a_network_that_is_refused_has_no_passes() -> None:
    model = parse("""g (float[N,4] x) => (float[N,2] y) <float[4,4] W, float[4,2] V>
        { h = MatMul(x, W) a = Sin(h) y = MatMul(a, V) }""")
    assert inspect_ann(model, Coding()).passes is None


def test_evaluate_states_the_costs_of_the_file() -> None:
    model = parse(SMALL_CLASSIFIER)
    snn = csscc.compile(model, T=5, beta=2, silent=2, **WITHOUT_DATA)
    result = evaluate(model, snn.file, random_feeds(model))
    assert Costs(result.steps, result.passes, result.interval, result.latency) == snn.costs
    assert costs_of(snn.file) == snn.costs
