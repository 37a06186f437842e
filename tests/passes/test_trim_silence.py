"""TrimSilence: silent steps go where residuals do not grow for it, and stay where they are needed."""

from __future__ import annotations

import numpy as np
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.model import with_outputs
from csscc.dialect.spiking import neurons, set_schedule
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.passes.convert.trim_silence import ROUNDING, TrimSilence
from csscc.passes.lower.kernels import open_session
from csscc.runtime.reference import ReferenceRuntime
from tests.helpers import check, error, parse, random_feeds, rms, run, source_of, spiking

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


def test_layers_lose_steps_and_residuals_stay():
    model, source, network = _network()
    feeds = next(iter(source.batches(64)))
    before = _residuals(network, feeds)
    trimmed = TrimSilence(source).apply(network)
    check(network)
    silent = _silent(network)
    assert trimmed == sum(s < 3 for s in silent.values()) > 0
    for name, after in _residuals(network, feeds).items():
        assert after <= max(ROUNDING, 1.25 * before[name]) * 1.02, name
    assert max(error(model, network).values()) < 0.05


def test_one_step_less_would_not_do():
    _, source, network = _network()
    feeds = next(iter(source.batches(64)))
    full = _residuals(network, feeds)
    TrimSilence(source).apply(network)
    first, view = neurons(network.graph)[0]  # it hears the encoder in both
    assert view.schedule.silent > 0
    set_schedule(first, CODING.neuron(view.schedule.silent - 1))
    assert _residuals(network, feeds)[first.name] > max(ROUNDING, 1.1 * full[first.name])


def test_nothing_to_trim():
    _, source, network = _network(Coding(T=8, beta=1.5, silent=0))
    assert TrimSilence(source).apply(network) == 0
    assert set(_silent(network).values()) == {0}


@pytest.mark.parametrize("optimise", [False, True])
def test_different_silent_steps_in_one_file(optimise):
    """Each layer has a function of its own, which sends the spikes that the NumPy reference sends."""
    model, _, network = _network()
    for silent, (node, _) in enumerate(neurons(network.graph)):
        set_schedule(node, CODING.neuron(silent))
    check(network)
    snn = export_model(network)
    assert len({(f.name, f.overload) for f in snn.functions if f.name == "TSARelu"}) == 3
    feeds = random_feeds(model, batch=8)
    trace = ReferenceRuntime(snn).trace(feeds)
    trains = {n.name: n.output[0] for n, _ in neurons(snn.graph)}
    for native in (False, True):
        got = open_session(with_outputs(snn, trains.values()), optimise=optimise, native=native).run(feeds)
        for name, output in trains.items():
            np.testing.assert_array_equal(got[output].reshape(trace.spikes[name].shape), trace.spikes[name])


def test_fewer_silent_steps_are_less_latency():
    model = parse(TEXT)
    x = random_feeds(model, batch=32)["x"]
    plain, trimmed = (csscc.compile(model, x, T=6, beta=2.0, silent=3, trim_silence=t) for t in (False, True))
    steps = [view.schedule.silent for _, view in neurons(trimmed.model.graph)]
    assert trimmed.latency == 6 + sum(steps) + 3 < plain.latency == 6 + 4 * 3
    wanted = run(model, {"x": x})["y"]
    errors = [rms(snn.run(x) - wanted) for snn in (plain, trimmed)]
    assert errors[1] < 1.5 * errors[0]
