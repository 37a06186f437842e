"""Reading and completing spiking models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from csscc.coding.coding import Coding
from csscc.dialect import model as models
from csscc.dialect.spiking import neurons, numbers, spiking_nodes, view_of
from csscc.errors import RefusedError
from csscc.runtime.reference import ReferenceRuntime

TEXT = """
<ir_version: 10, opset_import: ["" : 20, "csscc" : 9]>
g (float[N,4] x) => (float[N,4] y)
<float tx = {0.1}, float ty = {0.1}, float zero = {0}, float[1,4] slope = {0.1, 0.2, 0.3, 0.4}>
{
    [enc] s = csscc.Encode <weights = [2.197, 1.69, 1.3, 1.0], negative = 0, thresholds = [2.0, 1.6, 1.2, 0.9]> (x, tx)
    [a] s1 = csscc.TSARelu <weights = [2.197, 1.69, 1.3, 1.0], silent = 2, negative = 0,
        thresholds = [2.0, 1.6, 1.2, 0.9]> (s, zero, ty)
    [b] s2 = csscc.TSAPRelu <weights = [2.197, 1.69, 1.3, 1.0], silent = 2, negative = 0,
        thresholds = [2.0, 1.6, 1.2, 0.9]>
        (s1, zero, ty, slope)
    [dec] y = csscc.Decode <weights = [2.197, 1.69, 1.3, 1.0]> (s2, zero)
}
"""


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


def test_nodes_by_kind(model: onnx.ModelProto) -> None:
    assert [n.name for n, _ in spiking_nodes(model.graph)] == ["enc", "a", "b", "dec"]
    assert [n.name for n, _ in neurons(model.graph)] == ["a", "b"]
    assert [n.name for n in models.spike_sources(model)] == ["enc", "a", "b"]


def test_schedules_of_nodes(model: onnx.ModelProto) -> None:
    encoder, neuron, _, readout = (view for _, view in spiking_nodes(model.graph))
    coding = Coding(4, 1.3, 2, negative=False, signed_input=False)
    stated = {"weights": numbers(coding.weights), "thresholds": numbers((2.0, 1.6, 1.2, 0.9))}
    assert neuron.schedule == replace(coding.neuron(), **stated)
    assert encoder.schedule == replace(coding.encoder(), **stated)
    assert (readout.schedule.T, readout.schedule.weights[0]) == (4, np.float32(1.3**3))


def test_define_operators_is_repeatable_and_keeps_other_functions(model: onnx.ModelProto) -> None:
    other = onnx.parser.parse_function('<domain: "mine", opset_import: ["" : 20]> F (a) => (b) { b = Relu(a) }')
    model.functions.append(other)
    models.define_operators(model)
    names = sorted(f.name for f in model.functions)
    assert names == ["Decode", "Encode", "F", "TSAPRelu", "TSARelu"]
    once = model.SerializeToString()
    models.define_operators(model)
    assert model.SerializeToString() == once
    assert [o.domain for o in model.opset_import].count("csscc") == 1


def test_define_operators_adds_the_import_that_is_missing(model: onnx.ModelProto) -> None:
    del model.opset_import[1]
    models.define_operators(model)
    assert {o.domain: o.version for o in model.opset_import} == {"": 20, "csscc": 9}
    onnx.checker.check_model(model, full_check=True)


def test_functions_of_another_version_are_not_replaced(model: onnx.ModelProto) -> None:
    """Its currents are in other units: new functions would send other spikes."""
    next(o for o in model.opset_import if o.domain == "csscc").version = 1
    before = model.SerializeToString()
    for use in (models.define_operators, ReferenceRuntime):
        with pytest.raises(RefusedError, match=r"version 1 of the domain csscc.*compile the network again") as caught:
            use(model)
        assert "\n" not in str(caught.value)
    assert model.SerializeToString() == before


def test_define_operators_leaves_a_model_without_spikes_alone() -> None:
    ann = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    )
    before = ann.SerializeToString()
    models.define_operators(ann)
    assert ann.SerializeToString() == before


def test_with_outputs_adds_each_once(model: onnx.ModelProto) -> None:
    models.with_outputs(model, ["s1", "y", "s2"])
    models.with_outputs(model, ["s1"])
    assert [o.name for o in model.graph.output] == ["y", "s1", "s2"]


def test_with_residuals_names_every_neuron_and_the_model_runs(model: onnx.ModelProto) -> None:
    names = models.with_residuals(models.define_operators(model))
    assert names == {"a": "a_residual", "b": "b_residual"}
    models.with_outputs(model, names.values())
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(0, 0.4, 8, dtype=np.float32).reshape(2, 4)
    y, a, b = session.run(["y", "a_residual", "b_residual"], {"x": x})
    assert y.shape == a.shape == b.shape == (2, 4)
    assert np.abs(y * 0.1 - x).max() <= 0.3


def test_parameters_and_attributes_of_all_nodes_enter_the_signature() -> None:
    text = TEXT.replace("TSARelu <", "TSAMaxPool <kernel_shape = [2], ").replace(
        "TSAPRelu <", "TSAMaxPool <kernel_shape = [2], pads = [0, 1], "
    )
    signature = models.signature_of(neurons(onnx.parser.parse_model(text).graph))
    assert signature is not None
    assert signature.op == "MaxPool"
    assert signature.attributes == (("kernel_shape", "ints"), ("pads", "ints"))
    assert (signature.parameters, signature.inputs) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("float", 0.5), ("int", 3), ("string", b"tanh"), ("floats", [0.5, 1.5]), ("ints", [1, 2])],
)
def test_attribute_types(kind: str, value: object) -> None:
    node = onnx.helper.make_node("TSARelu", ["z", "b", "t"], ["s"], domain="csscc", weights=[1.0], extra=value)
    signature = models.signature_of([(node, view_of(node))])
    assert signature is not None
    assert signature.attributes == (("extra", kind),)


def test_a_node_that_does_not_say_the_weights_of_its_spikes_is_refused() -> None:
    node = onnx.helper.make_node("TSARelu", ["z", "b", "t"], ["s"], "n", domain="csscc", T=4, beta=1.5)
    with pytest.raises(RefusedError, match=r"node 'n' \(TSARelu\).*compile the network again"):
        view_of(node)
