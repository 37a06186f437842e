"""The comparisons themselves fail on a wrong model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.helpers import (
    assert_equal_outputs,
    assert_same_network,
    corrupted,
    error,
    initializer,
    parse,
    random_feeds,
    run,
    settles,
    spikes,
    spiking,
)

MODEL = """
g (float[N,4] x) => (float[N,2] y, float[N,3] h) <float[4,3] W, float[3] b, float[3,2] V>
{
  a = Gemm(x, W, b)
  h = Relu(a)
  y = MatMul(h, V)
}
"""


def test_parse_is_seeded_and_takes_weights():
    assert np.array_equal(initializer(parse(MODEL), "W"), initializer(parse(MODEL), "W"))
    assert not np.array_equal(initializer(parse(MODEL), "W"), initializer(parse(MODEL, seed=1), "W"))
    assert np.array_equal(initializer(parse(MODEL, b=[1, 2, 3]), "b"), [1, 2, 3])
    with pytest.raises(AssertionError, match="declares no typo"):
        parse(MODEL, typo=1)


def test_run_is_numpy_by_hand():
    model = parse(MODEL)
    x = random_feeds(model)["x"]
    h = np.maximum(x.astype(np.float64) @ initializer(model, "W") + initializer(model, "b"), 0)
    assert_equal_outputs(
        {"y": (h @ initializer(model, "V")).astype(np.float32), "h": h.astype(np.float32)},
        run(model, {"x": x}),
    )


@pytest.mark.parametrize("factor", [1.9, 1.001, 1.0001, -1.0])
@pytest.mark.parametrize("name", ["W", "V", "b"])
def test_a_wrong_weight_is_noticed(name, factor):
    model = parse(MODEL)
    with pytest.raises(AssertionError):
        assert_same_network(model, corrupted(model, name, lambda w: w * factor))


def test_one_wrong_element_of_the_last_output_is_noticed():
    outputs = {"y": np.ones(4, np.float32), "h": np.arange(4, dtype=np.float32)}
    wrong = {"y": outputs["y"], "h": outputs["h"] + np.float32([0, 0, 0, 1e-3])}
    assert_equal_outputs(outputs, outputs)
    with pytest.raises(AssertionError, match="h"):
        assert_equal_outputs(outputs, wrong)


def test_other_names_order_shape_and_type_are_noticed():
    y, h = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    for wrong in (
        {"y": y},
        {"h": h, "y": y},
        {"y": y.astype(np.float64), "h": h},
        {"y": y[:1], "h": h},
        {"y": y * np.float32(np.nan), "h": h},
    ):
        with pytest.raises(AssertionError):
            assert_equal_outputs({"y": y, "h": h}, wrong)


def test_the_error_of_a_wrong_model_is_large():
    model = parse(MODEL)
    assert max(error(model, model).values()) < 1e-6
    assert error(model, corrupted(model, "V", lambda w: 1.1 * w))["y"] == pytest.approx(0.1, rel=1e-4)


def test_other_weights_give_other_spikes():
    feeds = random_feeds(parse(MODEL))
    one, same, other = (spikes(spiking(parse(MODEL, seed=s)), feeds) for s in (0, 0, 1))
    assert all(np.array_equal(one[n], same[n]) for n in one)
    assert any(not np.array_equal(one[n], other[n]) for n in one)
    assert {v for train in one.values() for v in np.unique(train)} <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize(("results", "expected"), [([2, 0], True), ([0, 0], False), ([2, 1], False)])
def test_settles_needs_a_change_and_then_none(results, expected):
    class Fake:
        name = "fake"
        counts = iter(results)

        def apply(self, network):
            return next(self.counts)

    assert settles(Fake(), None) is expected


def test_invalid_text_is_refused():
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        parse("g (float[N,4] x) => (float[N,4] y) { y = Relu(unknown) }")
