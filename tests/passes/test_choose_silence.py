"""ChooseSilence: silent steps come where timing costs more than rounding, and go where residuals do not grow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.model import with_outputs
from csscc.dialect.spiking import neurons, set_schedule
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.choose_silence import ENOUGH, TIMING, ChooseSilence
from csscc.passes.convert.insert_neurons import InsertNeurons
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.samples import layer_batches
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.passes.lower.kernels import open_session
from csscc.pipeline import run_pipeline
from csscc.runtime.reference import ReferenceRuntime
from csscc.runtime.segments import LayerRuns
from tests.helpers import check, parse, random_feeds, rms, run, source_of, spiking

CODING = Coding(T=6, beta=2.0, silent=3)
TEXT = """
g (float[N,3,8,8] x) => (float[N,2,8,8] y)
<float[6,3,1,1] P, float[6] a, float[6,6,3,3] W, float[6] b, float[6,6,3,3] U, float[6] d, float[2,6,1,1] V>
{
  e = Conv (x, P, a) p = Relu(e)
  h = Conv <pads = [1,1,1,1]> (p, W, b) r = Relu(h)
  i = Conv <pads = [1,1,1,1]> (r, U, d) j = Add(i, p) s = Relu(j) y = Conv(s, V)
}
"""


def _network(coding=CODING):
    model = parse(TEXT)
    source = source_of(model)
    passes = (Rescale(), BiasOnFirstStep(), SnapWeights())
    return model, source, spiking(model, coding, *passes, source=source)


def _residuals(network, feeds):
    """RMS of the residuals of each layer, by the NumPy reference."""
    return {n: rms(u) for n, u in ReferenceRuntime(export_model(network)).trace(feeds).residuals.items()}


def _silent(network):
    return {view.name: view.schedule.silent for _, view in neurons(network.graph)}


GATED = """
g (float[N,4,8,8] x) => (float[N,2,8,8] y) <float[6,4,3,3] W, float[6,6,1,1] U, float[6] u, float[2,6,1,1] V>
{
  h = Conv <pads = [1,1,1,1]> (x, W) r = Relu(h) p = GlobalAveragePool(r)
  a = Conv (p, U, u) s = HardSigmoid(a) m = Mul(r, s) y = Conv(m, V)
}
"""


def test_timing_costs_no_more_than_rounding():
    _, source, network = _network(Coding(T=8, beta=2.0, silent=0))
    feeds = next(iter(source.batches(64)))
    assert max(_residuals(network, feeds).values()) > ENOUGH
    changed = ChooseSilence(source).apply(network)
    assert changed == sum(s > 0 for s in network.silent.values()) > 0
    run_pipeline(network, (InsertNeurons(), Rescale(), BiasOnFirstStep(), SnapWeights()))
    assert _silent(network) == network.silent
    least = _all_silent(network)
    feeds = {n: a[:16] for n, a in feeds.items()}
    for name, after in _residuals(network, feeds).items():
        assert after <= 1.1 * max(ENOUGH, TIMING * _residuals(least, feeds)[name]), name


def _all_silent(network):
    """The network with T silent steps in every layer."""
    other = replace(network, graph=network.graph.copy())
    for node, _ in neurons(other.graph):
        set_schedule(node, replace(network.coding.neuron(network.coding.T), merged=(1.0,)))
    return other


def test_one_step_less_would_not_do():
    _, source, network = _network(Coding(T=8, beta=2.0, silent=0))
    ChooseSilence(source).apply(network)
    assert max(network.silent.values()) > 0
    for layer in LayerRuns(export_model(network), list(source.batches(16))[:1]):
        view = layer.segment.view
        if view.is_neuron:
            chosen = network.silent[view.name]
            if chosen:
                assert layer.residual_rms(network.coding.neuron(chosen - 1)) > ENOUGH
            layer.schedule = network.coding.neuron(chosen)


def test_a_second_run_changes_nothing():
    _, source, network = _network(Coding(T=12, beta=1.5, silent=1))
    ChooseSilence(source).apply(network)
    run_pipeline(network, (InsertNeurons(), Rescale(), BiasOnFirstStep(), SnapWeights()))
    assert ChooseSilence(source).apply(network) == 0


def test_fewer_steps_than_usual_only_where_residuals_do_not_grow():
    _, source, network = _network(Coding(T=8, beta=1.5, silent=3))
    ChooseSilence(source).apply(network)
    for layer in LayerRuns(export_model(network), [next(iter(source.batches(16)))]):
        view = layer.segment.view
        if view.is_neuron:
            chosen, usual = (layer.residual_rms(network.coding.neuron(s)) for s in (network.silent[view.name], 3))
            assert chosen <= max(usual, 1.02 * usual)
            layer.schedule = network.coding.neuron(network.silent[view.name])


def test_residuals_of_many_schedules_are_those_of_the_network():
    _, source, network = _network()
    feeds = next(iter(source.batches(16)))
    wanted = _residuals(network, feeds)
    for layer in LayerRuns(export_model(network), [feeds]):
        view = layer.segment.view
        if view.is_neuron:
            got = layer.residual_rms(view.schedule)
            assert got == pytest.approx(wanted[view.name], rel=1e-5)


@pytest.mark.parametrize("optimise", [False, True])
def test_different_silent_steps_in_one_file(optimise):
    """Each layer has a function of its own, which sends the spikes that the NumPy reference sends."""
    model, _, network = _network()
    for silent, (node, _) in enumerate(neurons(network.graph)):
        set_schedule(node, CODING.neuron(silent))
    check(network)
    snn = export_model(network)
    assert [f.name for f in snn.functions if "TSARelu" in f.name] == ["TSARelu", "TSARelu_2", "TSARelu_3"]
    feeds = random_feeds(model, batch=8)
    trace = ReferenceRuntime(snn).trace(feeds)
    trains = {n.name: n.output[0] for n, _ in neurons(snn.graph)}
    for native in (False, True):
        got = open_session(with_outputs(snn, trains.values()), optimise=optimise, native=native).run(feeds)
        for name, output in trains.items():
            np.testing.assert_array_equal(got[output].reshape(trace.spikes[name].shape), trace.spikes[name])


def test_a_stated_number_is_obeyed_and_auto_is_the_default():
    model = parse(GATED)
    x = random_feeds(model, batch=32)["x"]
    stated, chosen, default = (csscc.compile(model, x, T=12, **o) for o in ({"silent": 1}, {"silent": "auto"}, {}))
    assert stated.silent == (1, 1, 1)
    assert chosen.silent == default.silent
    assert csscc.compile(model, x, T=12, preset="paper").silent == (1, 1, 1)
    wanted = run(model, {"x": x})["y"]
    errors = [rms(snn.run(x) - wanted) for snn in (stated, chosen)]
    assert errors[1] < 1.1 * errors[0]


def test_networks_of_many_neurons_run_on_fewer_samples() -> None:
    """So many spikes as are asked for are those of all neurons at all steps; one sample there is always."""
    _, source, network = _network()
    neurons_and_inputs = 3 * 64 + 3 * 6 * 64
    for spikes, expected in ((5.5 * 6 * neurons_and_inputs, 5), (1, 1), (1e9, 16)):
        batches = layer_batches(network, source, 16, 1e12, spikes)
        assert sum(len(batch["x"]) for batch in batches) == expected
