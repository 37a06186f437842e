"""ResNet-20 quantised by onnxruntime's own tools: spikes say what its integer kernels compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import csscc
from benchmarks.networks import preprocessed
from tests.real.test_real_networks import REQUIRED, RESNET, TABLE, archive, path_of, run_batches

pytestmark = pytest.mark.real
Array = NDArray[Any]
EXACT = 8  # images whose every activation is compared


@pytest.fixture(autouse=True)
def _real_folder() -> None:
    if not TABLE:
        (pytest.fail if REQUIRED else pytest.skip)("no folder of real networks")


def images(number: int) -> tuple[Array, Array, Array]:
    """Images to calibrate with, images to test, and their labels."""
    entry, data = next(e for e in TABLE["must_compile"] if e["file"] == RESNET), archive("cifar10")
    return preprocessed(entry, data["calib"][:128]), preprocessed(entry, data["test"][:number]), data["labels"][:number]


def quantised(folder: Path, **options: Any) -> Path:
    """The network, quantised by onnxruntime."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    x = images(1)[0]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([{"input": x[i : i + 32]} for i in range(0, len(x), 32)])

        def get_next(self) -> Any:
            return next(self.batches, None)

    quant_pre_process(str(path_of(RESNET)), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
    quantize_static(str(folder / "prepared.onnx"), str(folder / "quantised.onnx"), Reader(), **options)
    return folder / "quantised.onnx"


def options_of(name: str) -> dict[str, Any]:
    from onnxruntime.quantization import QuantFormat, QuantType

    pairs, operators, u8 = QuantFormat.QDQ, QuantFormat.QOperator, QuantType.QUInt8
    return {
        "per tensor": {"quant_format": pairs, "activation_type": u8},
        "per channel": {"quant_format": pairs, "activation_type": u8, "per_channel": True},
        "operators": {"quant_format": operators, "activation_type": u8, "per_channel": True},
        "signed": {"quant_format": pairs, "per_channel": True},
    }[name]


def whole_numbers(model: onnx.ModelProto, x: Array) -> dict[str, Array]:
    """What every quantiser makes in onnxruntime, in its integer kernels, by the name of the tensor."""
    shown, kinds = onnx.ModelProto(), (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
    shown.CopyFrom(onnx.shape_inference.infer_shapes(model))
    weights = {t.name for t in model.graph.initializer}
    makers = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in weights]
    names = [n.output[0] for n in makers]
    shown.graph.output.extend(helper.make_tensor_value_info(n, kinds[0], None) for n in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = session.run(names, {session.get_inputs()[0].name: x})
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    zeros = [int(constants[n.input[2]]) for n in makers]
    return {name: v.astype(int) - zero for name, v, zero in zip(names, made, zeros, strict=True)}


@pytest.mark.parametrize("name", ["per tensor", "per channel"])
def test_every_activation_is_that_of_the_integer_kernels(name: str, tmp_path: Path) -> None:
    path = quantised(tmp_path, **options_of(name))
    model, x = onnx.load(path), images(EXACT)[1]
    snn = csscc.compile(path, T=8, beta=2)
    assert "quantisers" in snn.facts.calibration
    assert snn.costs.passes == pytest.approx(1)
    trace, weights = snn.trace(x), snn.facts.coding.weights
    readers = {n.input[0]: n.name for n in model.graph.node if n.op_type == "DequantizeLinear"}
    same = total = 0
    for tensor, expected in whole_numbers(model, x).items():
        train = trace.spikes.get(readers[tensor])
        if train is not None:
            sent = np.tensordot(weights, train.reshape(8, len(x), -1).astype(np.float64), 1)
            same += int((sent == expected.reshape(len(x), -1)).sum())
            total += sent.size
    assert total > len(x) * 250_000
    assert same >= 0.999 * total


@pytest.mark.parametrize("name", ["per tensor", "per channel", "operators", "signed"])
def test_no_accuracy_is_lost(name: str, tmp_path: Path) -> None:
    path = quantised(tmp_path, **options_of(name))
    _, x, labels = images(500)
    snn = csscc.compile(path, T=8, beta=2)
    ann, logits = (next(iter(run_batches(m, x, 50).values())) for m in (path, snn.file))
    assert np.mean(logits.argmax(1) == ann.argmax(1)) >= 0.996
    assert abs(np.mean(logits.argmax(1) == labels) - np.mean(ann.argmax(1) == labels)) <= 0.004


def test_activations_of_four_bits_need_four_steps() -> None:
    """Rounded and clipped to 16 steps behind every ReLU, weights and inputs as they are."""
    model = onnx.load(path_of("cifar10_resnet20_folded.onnx"))
    calibration, x, labels = images(500)
    relus = [n for n in model.graph.node if n.op_type == "Relu"]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=n.output[0]) for n in relus)
    seen = run_batches(shown, calibration, 32)
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node in relus:
            name, raw = node.output[0], f"{node.output[0]}_raw"
            step = np.float32(np.quantile(seen[name][seen[name] > 0], 0.995) / 15)
            constants = {"step": step, "low": np.float32(0), "high": np.float32(15)}
            values = [numpy_helper.from_array(np.asarray(v), f"{name}_{k}") for k, v in constants.items()]
            model.graph.initializer.extend(values)
            node.output[0] = raw
            nodes += [
                helper.make_node("Div", [raw, f"{name}_step"], [f"{name}_d"]),
                helper.make_node("Round", [f"{name}_d"], [f"{name}_r"]),
                helper.make_node("Clip", [f"{name}_r", f"{name}_low", f"{name}_high"], [f"{name}_c"]),
                helper.make_node("Mul", [f"{name}_c", f"{name}_step"], [name]),
            ]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    snn = csscc.compile(model, calibration=calibration, T=4)
    assert snn.facts.coding.beta == 2
    ann, logits = (next(iter(run_batches(m, x, 50).values())) for m in (model, snn.file))
    assert np.mean(logits.argmax(1) == ann.argmax(1)) >= 0.99
    assert abs(np.mean(logits.argmax(1) == labels) - np.mean(ann.argmax(1) == labels)) <= 0.004
