"""Convolution, pooling and LRN of the reference runtime against onnxruntime, on drawn shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from csscc.runtime import numpy_ops

common = settings(deadline=None, max_examples=150, derandomize=True)
Array = NDArray[Any]


def model_of(op: str, inputs: list[Array], attributes: dict[str, Any]) -> onnx.ModelProto:
    names = [f"i{k}" for k in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in zip(names, inputs, strict=True)]
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def both(op: str, inputs: list[Array], attributes: dict[str, Any]) -> tuple[Array, Array]:
    """Result of csscc's NumPy operator and of onnxruntime; discards what onnxruntime refuses."""
    model = model_of(op, inputs, attributes)
    feeds = {f"i{k}": a for k, a in enumerate(inputs)}
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        expected = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, feeds
        )[0]
    except Exception:
        assume(False)
    evaluator = ReferenceEvaluator(model, new_ops=list(numpy_ops.FAST_OPS))
    own = type(evaluator.rt_nodes_[0])
    assert own.__module__ == numpy_ops.__name__
    return evaluator.run(None, feeds)[0], expected


def same(actual: Array, expected: Array, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@st.composite
def windowed(
    draw: Any, *, ranks: tuple[int, ...] = (1, 2, 3), largest_dilation: int = 2
) -> tuple[list[int], dict[str, Any]]:
    """Spatial size, and the attributes of a convolution or a pooling over it."""
    n = draw(st.sampled_from(ranks))
    each = lambda low, high: draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, largest_dilation)
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if largest_dilation > 1:
        attributes["dilations"] = dilations
    if auto != "NOTSET":
        attributes["auto_pad"] = auto
    else:
        before, behind = each(0, 2), each(0, 2)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = [min(p, r - 1) for p, r in zip(before + behind, reach + reach, strict=True)]
        if any(pads):
            attributes["pads"] = pads
    size = [draw(st.integers((k - 1) * d + 1, (k - 1) * d + 7)) for k, d in zip(kernel, dilations, strict=True)]
    return size, attributes


@common
@given(windowed(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**31))
def test_conv(
    drawn: tuple[list[int], dict[str, Any]], group: int, per_in: int, per_out: int, bias: bool, seed: int
) -> None:
    """Groups, depthwise (one channel a group), dilations, strides, pads, auto_pad; 1, 2 and 3 dimensions."""
    size, attributes = drawn
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, group * per_in, *size)).astype(np.float32)
    w = rng.standard_normal((group * per_out, per_in, *attributes["kernel_shape"])).astype(np.float32)
    inputs = [x, w, rng.standard_normal(group * per_out).astype(np.float32)] if bias else [x, w]
    terms = per_in * int(np.prod(attributes["kernel_shape"]))
    same(*both("Conv", inputs, {**attributes, "group": group}), tolerance=1e-5 * terms**0.5)


def peculiar(attributes: dict[str, Any]) -> bool:
    """Pooling with SAME padding where onnxruntime leaves the standard.

    It forgets dilations, and where the stride is longer than the kernel it pads by a negative amount.
    """
    if not attributes.get("auto_pad", "").startswith("SAME"):
        return False
    dilated = any(d > 1 for d in attributes.get("dilations", []))
    return dilated or any(s > k for s, k in zip(attributes["strides"], attributes["kernel_shape"], strict=True))


@common
@given(windowed(), st.booleans(), st.integers(0, 2**31))
def test_max_pool(drawn: tuple[list[int], dict[str, Any]], ceil: bool, seed: int) -> None:
    size, attributes = drawn
    x = (np.random.default_rng(seed).standard_normal((2, 3, *size)) - 3).astype(np.float32)
    attributes = {**attributes, "ceil_mode": int(ceil)}
    assume(not ceil or "auto_pad" not in attributes)
    assume(not peculiar(attributes))
    same(*both("MaxPool", [x], attributes), tolerance=0)


@common
@given(windowed(largest_dilation=1), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_average_pool(drawn: tuple[list[int], dict[str, Any]], ceil: bool, counted: bool, seed: int) -> None:
    size, attributes = drawn
    x = np.random.default_rng(seed).standard_normal((2, 3, *size)).astype(np.float32)
    attributes = {**attributes, "ceil_mode": int(ceil), "count_include_pad": int(counted)}
    assume(not ceil or "auto_pad" not in attributes)
    assume(not peculiar(attributes))
    same(*both("AveragePool", [x], attributes), tolerance=2e-6)


@common
@given(st.integers(1, 9), st.sampled_from([1, 3, 5, 7]), st.integers(1, 8), st.integers(0, 2**31))
def test_lrn(channels: int, size: int, batch: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((batch, channels, 2, 3)).astype(np.float32)
    same(*both("LRN", [x], {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5}), tolerance=1e-6)


PINNED = {
    "asymmetric": ([6, 5], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "last window only padding": (
        [5, 5],
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    ),
    "ceil": ([6, 6], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, padded": (
        [7, 6],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    "stride beyond the kernel": ([9], {"kernel_shape": [2], "strides": [4], "ceil_mode": 1}),
}


@pytest.mark.parametrize("name", sorted(PINNED))
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("counted", [0, 1])
def test_pooling_corner_cases(name: str, op: str, counted: int) -> None:
    size, attributes = PINNED[name]
    if op == "AveragePool":
        attributes = {**attributes, "count_include_pad": counted}
    x = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    same(*both(op, [x], attributes), tolerance=1e-6)


def test_convolve_goes_through_a_batch_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((7, 3, 9, 9)), rng.standard_normal((4, 3, 3, 3))
    settings_ = {"pads": [(1, 1), (1, 1)], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    whole = numpy_ops.convolve(x, w, None, **settings_)
    monkeypatch.setattr(numpy_ops, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(numpy_ops.convolve(x, w, None, **settings_), whole, rtol=0, atol=1e-12)


def test_the_comparison_notices_wrong_padding() -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, 6, 6)).astype(np.float32)
    right = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
    wrong = {**right, "pads": [1, 1, 0, 0]}
    ours, _ = both("AveragePool", [x], wrong)
    _, theirs = both("AveragePool", [x], right)
    with pytest.raises(AssertionError):
        same(ours, theirs, 1e-3)
