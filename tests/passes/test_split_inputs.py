"""An input as two trains, high digits and low ones: where, at what cost, and that it is still the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import csscc
from csscc.coding.coding import Coding
from csscc.dialect.spiking import spiking_nodes
from csscc.measure.diagnose import diagnose
from csscc.measure.evaluation import evaluate
from tests.helpers import parse, run

NETWORK = """g (float[N,2,6,6] x) => (float[N,3] y)
<float[8,2,3,3] w1, float[32,8,3,3] w2, float[3,32] w3, int64[2] axes = {2, 3}> {
    [c] h1 = Conv <pads = [1, 1, 1, 1]> (x, w1)
    r1 = Relu(h1)
    h2 = Conv <pads = [1, 1, 1, 1]> (r1, w2)
    r2 = Relu(h2)
    p = ReduceMean <keepdims = 0> (r2, axes)
    y = Gemm <transB = 1> (p, w3)
}"""
FIRST, SECOND, LAST = 8 * 2 * 9 * 36, 32 * 8 * 9 * 36, 3 * 32
WIDE_FIRST = NETWORK.replace("[32,8,3,3]", "[4,8,3,3]").replace("[3,32]", "[3,4]")
SETTINGS: dict[str, Any] = {"T": 3, "beta": 3.0, "silent": 2}


def samples(seed: int, number: int = 64) -> Any:
    return np.random.default_rng(seed).normal(size=(number, 2, 6, 6)).astype(np.float32)


def compiled(text: str = NETWORK, **options: Any) -> csscc.SNN:
    return csscc.compile(parse(text), samples(0), **{**SETTINGS, **options})


def encoder_of(snn: csscc.SNN) -> Any:
    return next(view for _, view in spiking_nodes(snn.model.graph) if view.is_encoder)


def error(snn: csscc.SNN, text: str = NETWORK) -> float:
    x = samples(1)
    wanted = run(parse(text), {"x": x})["y"]
    return float(np.sqrt(np.square(snn.run(x) - wanted).mean() / np.square(wanted).mean()))


def test_the_two_trains_add_up_to_the_input() -> None:
    """In a file: theta times the sum of the spikes of both, by hand, is the input to a thousandth of its range."""
    snn, x = compiled(), samples(1, 8)
    view = encoder_of(snn)
    assert view.trains == 2
    theta = numpy_helper.to_array(next(t for t in snn.model.graph.initializer if t.name == view.theta))
    assert theta.shape == (4, 1, 1)
    spikes = snn.trace(x).spikes[view.name].astype(np.float64)
    values = theta * np.tensordot(3.0 ** np.arange(2, -1, -1), spikes, axes=1)
    inside = np.abs(x) <= np.abs(samples(0)).max()
    assert np.abs(values[:, :2] + values[:, 2:] - x)[inside].max() < np.abs(x).max() * 1.2 / 13 / 13
    assert np.abs(values[:, :2] - x).max() > np.abs(x).max() / 13 / 4


def test_the_outputs_err_less() -> None:
    assert error(compiled()) < 0.85 * error(compiled(split=False))


@pytest.mark.parametrize(
    "options",
    [{"T": 7, "beta": 3.0}, {"T": 4, "beta": 2.5}, {"split": False}, {"preset": "paper"}, {"coding": "fs"}],
    ids=str,
)
def test_elsewhere_it_is_one_train(options: dict[str, Any]) -> None:
    given = {k: v for k, v in SETTINGS.items() if options.get("coding") is None or k == "T"}
    assert encoder_of(csscc.compile(parse(NETWORK), samples(0), **{**given, **options})).trains == 1


def test_a_first_layer_that_does_much_of_the_work_reads_one_train() -> None:
    assert encoder_of(compiled(WIDE_FIRST)).trains == 1
    assert encoder_of(compiled(WIDE_FIRST, split=True)).trains == 2


def test_a_layer_with_groups_reads_one_train() -> None:
    text = NETWORK.replace("float[8,2,3,3]", "float[8,1,3,3]").replace("1]> (x", "1], group = 2> (x")
    assert encoder_of(compiled(text)).trains == 1


def test_its_weights_count_twice_in_the_spiking_network_and_once_in_the_ann() -> None:
    snn, x = compiled(T=4, silent=1), samples(1, 16)
    total = FIRST + SECOND + LAST
    assert snn.costs.passes == pytest.approx((3 * (2 * FIRST + SECOND) + LAST) / total)
    result = evaluate(parse(NETWORK), snn.file, x)
    assert result.ann_operations == total


def test_diagnose_judges_it_by_what_the_network_encodes() -> None:
    result = diagnose(parse(NETWORK), compiled().file, samples(1, 16))
    encoder = result.layers[0]
    assert encoder.kind == "encoder"
    assert 0 < encoder.error < 0.2
    assert encoder.correlation > 0.98


def test_inspect_counts_it_too() -> None:
    from csscc.measure.inspection import inspect_ann

    coding = Coding(4, 3.0, 1)
    assert inspect_ann(parse(NETWORK), coding).passes == pytest.approx(compiled(T=4, silent=1).costs.passes)


def test_inputs_beyond_the_range_are_still_noticed() -> None:
    warnings = evaluate(parse(NETWORK), compiled().file, 255 * samples(1, 16)).warnings
    assert any("input 'x' reaches" in text for text in warnings)


def test_more_channels_are_those_of_the_low_digits() -> None:
    """The file's first weights are the ANN's twice, but for the ratio of the amplitudes."""
    snn = compiled(check_samples=0)
    node = next(n for n in snn.model.graph.node if n.op_type == "Conv")
    weights = numpy_helper.to_array(next(t for t in snn.model.graph.initializer if t.name == node.input[1]))
    ann = next(numpy_helper.to_array(t) for t in parse(NETWORK).graph.initializer if t.name == "w1")
    assert weights.shape == (8, 4, 3, 3)
    high, low = weights[:, :2], weights[:, 2:]  # up to 13 spikes of either train count two each
    np.testing.assert_allclose(high, 27 * low, rtol=0, atol=0.01 * np.abs(high).max())
    scale = weights[:, :2] / ann
    means = scale.reshape(8, 2, 9).mean(axis=2)[:, :, None, None]
    np.testing.assert_allclose(scale, np.broadcast_to(means, scale.shape), rtol=0.01)
    assert onnx.checker.check_model(snn.file) is None
