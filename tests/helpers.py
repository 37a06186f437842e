"""Test models as text, runs in onnxruntime that use nothing of csscc, and comparisons."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from csscc.coding.coding import Coding
from csscc.dialect.adapter import export_model, import_model, infer_shapes
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.spiking import operator_of
from csscc.dialect.verifier import verify_spiking
from csscc.io.data import InputSpec, Source, open_source
from csscc.passes.base import Pass
from csscc.passes.canonical.load import load
from csscc.passes.convert.calibrate import Calibrate
from csscc.passes.convert.find_regions import FindRegions
from csscc.passes.convert.insert_neurons import InsertNeurons
from csscc.passes.convert.set_amplitudes import SetAmplitudes
from csscc.passes.linear import LINEAR, WEIGHTED
from csscc.pipeline import canonical_passes, run_pipeline

SMALL_CLASSIFIER = """g (float[N,4,8,8] x) => (float[N,5] y)
<float[8,4,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8] b2, float[5,8] w3, float[5] b3>
{ a = Conv <pads = [1,1,1,1]> (x, w1, b1) r = Relu(a) b = Conv <strides = [2,2]> (r, w2, b2) s = Relu(b)
  p = GlobalAveragePool(s) f = Flatten(p) y = Gemm <transB = 1> (f, w3, b3) }"""
Feeds = Mapping[str, NDArray[Any]]
RTOL, ATOL = 1e-5, 1e-5
QUICK = {"check_samples": 0, "adjust": False, "correct_bias": False}  # where any spikes will do
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def parse(text: str, *, opset: int = 20, seed: int = 0, **weights: Any) -> onnx.ModelProto:
    """A checked model from ONNX text.

    What the text declares between ``<`` and ``>`` without a value is a weight: given by name, else random by
    `seed`, of a size that keeps activations near 1; names that start with ``var`` are positive.
    """
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')
    rng = np.random.default_rng(seed)
    made = {name for node in model.graph.node for name in node.output}
    declared = [v for v in model.graph.value_info if v.name not in made]
    kept = [v for v in model.graph.value_info if v.name in made]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    for info in declared:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        values = weights.pop(info.name, None)
        if values is None:
            values = _random_weight(info.name, shape, rng)
        array = np.broadcast_to(np.asarray(values, dtype), shape)
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(shape), info.name))
    assert not weights, f"the text declares no {', '.join(weights)}"
    onnx.checker.check_model(model, full_check=True)
    return model


def _random_weight(name: str, shape: list[int], rng: np.random.Generator) -> NDArray[np.float64]:
    if name.startswith("var"):
        return rng.uniform(0.5, 2.0, shape)
    if len(shape) < 2:
        return 0.3 * rng.standard_normal(shape)
    return rng.standard_normal(shape) * np.sqrt(2 / max(1, int(np.prod(shape[1:]))))


def session(model: onnx.ModelProto, *, optimise: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: Feeds, *, optimise: bool = True) -> dict[str, NDArray[Any]]:
    """All outputs in onnxruntime, by name."""
    s = session(model, optimise=optimise)
    names = [o.name for o in s.get_outputs()]
    return dict(zip(names, s.run(names, dict(feeds)), strict=True))


def random_feeds(model: onnx.ModelProto, *, batch: int = 3, seed: int = 1) -> dict[str, NDArray[Any]]:
    """Standard normal inputs; what is not fixed in the first dimension becomes `batch`."""
    rng = np.random.default_rng(seed)
    given = {t.name for t in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in given:
            continue
        kind = value.type.tensor_type
        shape = [d.dim_value or batch for d in kind.shape.dim]
        feeds[value.name] = rng.standard_normal(shape).astype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return feeds


def assert_equal_outputs(
    expected: Mapping[str, NDArray[Any]],
    got: Mapping[str, NDArray[Any]],
    *,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> None:
    """Same names in order, same types and shapes, values within ``atol * scale + rtol * |value|``."""
    assert list(expected) == list(got), f"outputs {list(got)} instead of {list(expected)}"
    for name, wanted in expected.items():
        value = got[name]
        assert value.dtype == wanted.dtype, f"{name}: {value.dtype} instead of {wanted.dtype}"
        assert value.shape == wanted.shape, f"{name}: {value.shape} instead of {wanted.shape}"
        assert np.isfinite(wanted).all(), f"{name}: the expected values are not finite"
        scale = float(np.abs(wanted).max(initial=0.0))
        np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol * scale, err_msg=name)


def assert_same_network(
    before: onnx.ModelProto,
    after: onnx.ModelProto | Network,
    *,
    batch: int = 3,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> None:
    """onnxruntime gives the same on all outputs, without and with its optimisations."""
    model = after if isinstance(after, onnx.ModelProto) else export_model(after)
    onnx.checker.check_model(model, full_check=True)
    feeds = random_feeds(before, batch=batch)
    expected = run(before, feeds, optimise=False)
    for optimise in (False, True):
        assert_equal_outputs(expected, run(model, feeds, optimise=optimise), rtol=rtol, atol=atol)


def network_of(model: onnx.ModelProto) -> Network:
    """The network of a model, with shapes."""
    network = import_model(model)
    infer_shapes(network)
    return network


def ops(network: Network) -> list[str]:
    """Operators in topological order."""
    toposort(network.graph)
    return [n.op for n in network.graph.nodes]


def node_of(network: Network, op: str) -> Any:
    """The only node of an operator."""
    (node,) = (n for n in network.graph.nodes if n.op == op)
    return node


def initializer(model: onnx.ModelProto, name: str) -> NDArray[np.float64]:
    """Values of an initializer in float64."""
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return numpy_helper.to_array(tensor).astype(np.float64)


def settles(p: Pass, network: Network) -> bool:
    """Whether the pass changes something, and a second run nothing."""
    first = p.apply(network)
    second = p.apply(network)
    return first > 0 and second == 0


def small_classifier(number: int) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """A network of three layers, and samples that it is sure of, with its answers for labels ``y``."""
    plain = parse(SMALL_CLASSIFIER, b3=0.0)
    feeds = random_feeds(plain, batch=8 * number)
    model = parse(SMALL_CLASSIFIER, b3=-run(plain, feeds)["y"].mean(axis=0))  # or it would answer the same always
    logits = run(model, feeds)["y"]
    second, first = np.sort(logits, axis=1)[:, -2:].T
    sure = np.argsort(second - first)[:number]
    return model, {"x": feeds["x"][sure], "y": logits[sure].argmax(axis=1)}


def source_of(model: onnx.ModelProto, *, samples: int = 64, seed: int = 7) -> Source:
    """Standard normal calibration samples for all inputs."""
    feeds = random_feeds(model, batch=samples, seed=seed)
    specs = tuple(InputSpec(n, (None, *a.shape[1:]), a.dtype.name) for n, a in feeds.items())
    return open_source(feeds, specs)


def calibrated(
    model: onnx.ModelProto,
    coding: Coding | None = None,
    *,
    per_channel: bool = True,
    method: str = "max",
    source: Source | None = None,
    hold_out: bool = False,
) -> Network:
    """The network as far as its amplitudes."""
    network = load(model)
    network.coding = coding or Coding()
    source = source or source_of(model)
    passes = (
        *canonical_passes(),
        FindRegions(),
        Calibrate(source, per_channel=per_channel, hold_out=hold_out),
        SetAmplitudes(method),
    )
    return run_pipeline(network, passes)


def spiking(model: onnx.ModelProto, coding: Coding | None = None, *passes: Pass, **options: Any) -> Network:
    """The network behind `InsertNeurons` and `passes`, checked behind each."""
    return run_pipeline(calibrated(model, coding, **options), (InsertNeurons(), *passes))


def error(model: onnx.ModelProto, network: Network | onnx.ModelProto, *, batch: int = 16) -> dict[str, float]:
    """Root mean square of SNN minus ANN in onnxruntime, relative to the ANN's, by output."""
    feeds = random_feeds(model, batch=batch)
    expected = run(model, feeds)
    snn = export_model(network) if isinstance(network, Network) else network
    got = run(snn, feeds)
    assert list(expected) == list(got)
    assert all(expected[n].shape == got[n].shape for n in expected)
    return {n: rms(got[n] - v) / rms(v) for n, v in expected.items()}


def rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.asarray(values, np.float64) ** 2)))


def spikes(network: Network, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
    """Spike trains ``[T*B, ...]`` of every encoder and neuron in onnxruntime, by node name."""
    model = export_model(network)
    trains = {n.name: n.output[0] for n in model.graph.node if n.domain == "csscc" and operator_of(n) != "Decode"}
    model.graph.output.extend(onnx.ValueInfoProto(name=t) for t in trains.values())
    outputs = run(model, feeds)
    return {name: outputs[t] for name, t in trains.items()}


def check(network: Network) -> None:
    """ONNX's checker and the spiking verifier."""
    onnx.checker.check_model(export_model(network), full_check=True)
    verify_spiking(network, LINEAR, WEIGHTED)


def texts(network: Network, source: str) -> str:
    """What a pass reported."""
    return "\n".join(e.text for e in network.events if e.source == source)


def corrupted(model: onnx.ModelProto, name: str, change: Callable[[Any], Any]) -> onnx.ModelProto:
    """A copy of the model with one initializer changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (tensor,) = (t for t in copy.graph.initializer if t.name == name)
    values = np.asarray(change(numpy_helper.to_array(tensor).copy()), np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


def names(tensors: Iterable[Any]) -> list[str]:
    return [t.name for t in tensors]


def carried(spikes: NDArray[Any], merged: tuple[float, ...]) -> NDArray[Any]:
    """The slabs that carry spikes ``[T, B, ...]`` whose first steps are one sum with these weights."""
    head = sum(np.asarray(w, spikes.dtype) * s for w, s in zip(merged, spikes, strict=False))
    return np.concatenate([np.asarray(head)[None], spikes[len(merged) :]])
