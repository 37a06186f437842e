"""MergeSilence: the steps that readers only listen to are one tensor, and every spike stays what it was."""

from __future__ import annotations

import numpy as np
import pytest

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model
from csscc.dialect.spiking import spiking_nodes
from csscc.passes.convert.bias_on_first_step import BiasOnFirstStep
from csscc.passes.convert.rescale import Rescale
from csscc.passes.convert.snap_weights import SnapWeights
from csscc.passes.lower.merge_silence import MergeSilence
from csscc.runtime.reference import ReferenceRuntime
from tests.helpers import carried, check, parse, random_feeds, run, spikes, spiking, texts

RESIDUAL = """
g (float[N,3,6,6] x) => (float[N,2] y)
<float[4,3,3,3] W, float[4] b, float[4,4,3,3] U, float[4] d, float[4,2] V, float[2] e>
{
  h = Conv <pads = [1,1,1,1]> (x, W, b) r = Relu(h)
  i = Conv <pads = [1,1,1,1]> (r, U, d) j = Add(i, r) s = Relu(j)
  p = GlobalMaxPool(s) f = Flatten(p) y = Gemm(f, V, e)
}
"""
EXACT = (Rescale(), BiasOnFirstStep(), SnapWeights())
MERGING = (
    Coding(6, 1.5, 1),
    Coding(6, 2.0, 2),
    Coding(5, 3.0, 3),
    Coding(4, 3.0, 3),
    Coding(5, 2.5, 3),
    Coding(4, 2.0, 4),
    Coding(16, 1.5, 2),  # what the first steps send needs more bits than a number has
)


def _views(network):
    return {view.name: view for _, view in spiking_nodes(network.graph)}


@pytest.mark.parametrize("coding", MERGING, ids=str)
def test_every_train_sends_what_it_sent(coding):
    """The tensors that carry it are the spikes of the NumPy reference, the first of them added up, bit for bit."""
    network = spiking(parse(RESIDUAL), coding, *EXACT)
    feeds = random_feeds(parse(RESIDUAL), batch=5)
    before = export_model(network)
    expected, trace = run(before, feeds)["y"], ReferenceRuntime(before).trace(feeds)
    assert MergeSilence().apply(network) == 4
    check(network)
    assert texts(network, "merge-silence") == ""
    views = _views(network)
    for name, train in spikes(network, feeds).items():
        if not views[name].is_merge:
            wanted = carried(trace.spikes[name], views[name].sends.merged)
            np.testing.assert_array_equal(train, wanted.reshape(train.shape))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(run(export_model(network), feeds)["y"], expected, rtol=0, atol=1e-5 * scale)
    assert MergeSilence().apply(network) == 0


def test_only_trains_that_become_shorter_count():
    """In rate coding that is the one that a readout alone reads."""
    network = spiking(parse(RESIDUAL), Coding(6, 1.0, 0), *EXACT)
    assert MergeSilence().apply(network) == 1
    assert {view.sends.steps for view in _views(network).values() if view.is_encoder} == {1}


@pytest.mark.parametrize(("coding", "merged"), zip(MERGING, (2, 3, 4, 4, 4, 4, 3), strict=True), ids=str)
def test_neurons_merge_what_they_listen_to_and_readouts_all(coding, merged):
    network = spiking(parse(RESIDUAL), coding, *EXACT)
    MergeSilence().apply(network)
    reads = {name: view.reads for name, view in _views(network).items() if not (view.is_encoder or view.is_merge)}
    assert set(reads.values()) == {merged, coding.T}
    assert [n for n, number in reads.items() if number == coding.T and merged != coding.T] in ([], ["y_decode"])
    firsts = {t.shape[0] for n in network.graph.nodes for t in n.outputs if "time" in str(t.shape[0])}
    assert len(firsts) == len({view.sends.steps for view in _views(network).values() if not view.is_readout})


@pytest.mark.parametrize(
    ("coding", "passes", "why"),
    [
        (Coding(6, 1.7, 1), EXACT, "more bits than float32 has to spare at T=6 and beta=1.7"),
        (Coding(6, 1.5, 1), (Rescale(), BiasOnFirstStep(neurons=False), SnapWeights()), "add a constant at every step"),
    ],
    ids=["powers of many bits", "a constant at every step"],
)
def test_neurons_that_cannot_merge_say_so_once(coding, passes, why):
    network = spiking(parse(RESIDUAL), coding, *passes)
    feeds = random_feeds(parse(RESIDUAL), batch=5)
    expected = run(export_model(network), feeds)["y"]
    MergeSilence().apply(network)
    check(network)
    views = _views(network).values()
    assert {view.reads for view in views if view.is_neuron and view.kind == "Relu"} == {1}
    assert why in texts(network, "merge-silence")
    assert sum(event.source == "merge-silence" for event in network.events) == 1
    scale = np.abs(expected).max()
    np.testing.assert_allclose(run(export_model(network), feeds)["y"], expected, rtol=0, atol=1e-5 * scale)


def test_a_constant_current_keeps_its_steps():
    network = spiking(parse(RESIDUAL), Coding(6, 1.0, 0), Rescale(), BiasOnFirstStep())
    MergeSilence().apply(network)
    check(network)
    encoder = next(view for view in _views(network).values() if view.is_encoder)
    assert encoder.sends.steps == 1
    assert {view.reads for view in _views(network).values() if view.is_readout} == {6}


def test_the_comparison_notices_a_train_of_other_weights():
    network = spiking(parse(RESIDUAL), Coding(5, 3.0, 3), *EXACT)
    feeds = random_feeds(parse(RESIDUAL), batch=5)
    trace = ReferenceRuntime(export_model(network)).trace(feeds)
    MergeSilence().apply(network)
    name, train = next(iter(spikes(network, feeds).items()))
    wrong = carried(trace.spikes[name], (9.0, 9.0, 3.0, 1.0))
    assert (train != wrong.reshape(train.shape)).any()
