"""A file that is not what it says is refused, or measured as it is: functions, weights and metadata changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import csscc
from csscc import api
from csscc.coding.coding import Coding
from csscc.errors import RefusedError
from csscc.measure.diagnose import diagnose
from csscc.measure.evaluation import evaluate
from csscc.measure.opened import open_spiking
from csscc.measure.verify import verify
from csscc.passes.lower.targets import TARGETS
from csscc.runtime import native
from tests.helpers import parse, run, small_classifier
from tests.runtime.conftest import cache_with_kernels, kernels  # noqa: F401 (fixtures)

FORMS = [target.name for target in TARGETS]
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def data() -> tuple[onnx.ModelProto, dict[str, Any]]:
    return small_classifier(32)


@pytest.fixture(scope="module")
def files(data: tuple[onnx.ModelProto, dict[str, Any]]) -> dict[str, onnx.ModelProto]:
    ann, samples = data
    calibrated = api.calibrate(ann, {"x": samples["x"]})
    return {form: csscc.compile(calibrated, T=6, beta=1.5, form=form, correct_bias=False).file for form in FORMS}


def accuracy(file: onnx.ModelProto, samples: dict[str, Any]) -> float:
    """By stock onnxruntime, which runs the functions in the file."""
    logits = run(file, {"x": samples["x"]})["y"]
    return 100 * float((logits.argmax(axis=1) == samples["y"]).mean())


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def silenced(model: onnx.ModelProto) -> None:
    """Every neuron sends nothing."""
    for function in model.functions:
        if function.name.startswith("TSA"):
            before = {name: f"{name}_before" for name in function.output}
            for node in function.node:
                node.input[:] = [before.get(name, name) for name in node.input]
                node.output[:] = [before.get(name, name) for name in node.output]
            zero = helper.make_node("Constant", [], ["nothing"], value_float=0.0)
            ends = [helper.make_node("Mul", [f"{o}_before", "nothing"], [o]) for o in function.output]
            function.node.extend([zero, *ends])


def negated_readout(model: onnx.ModelProto) -> None:
    for function in model.functions:
        if function.name == "Decode":
            for node in function.node:
                node.output[:] = ["y_before" if n == "y" else n for n in node.output]
            function.node.append(helper.make_node("Neg", ["y_before"], ["y"]))


def reversed_weights(model: onnx.ModelProto) -> None:
    """Weights in another order: the file is consistent, and wrong."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[::-1]), tensor.name))


CHANGES: tuple[Change, ...] = (silenced, negated_readout, reversed_weights)


def check_measured_or_refused(ann: onnx.ModelProto, lying: onnx.ModelProto, samples: dict[str, Any]) -> bool:
    """Whether it is measured; then what is said is what onnxruntime says."""
    try:
        reported = evaluate(ann, lying, samples)
    except RefusedError:
        for measure in (evaluate, diagnose):
            with pytest.raises(RefusedError, match="was the file changed"):
                measure(ann, lying, samples)
        return False
    assert reported.snn_accuracy == pytest.approx(accuracy(lying, samples))
    assert diagnose(ann, lying, samples).agreement == pytest.approx(reported.agreement)
    return True


@pytest.mark.parametrize("form", [f for f in FORMS if f != "stream"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_file_is_refused_or_measured_as_it_is(
    form: str, change: Change, data: tuple[onnx.ModelProto, dict[str, Any]], files: dict[str, onnx.ModelProto]
) -> None:
    ann, samples = data
    lying = copy_of(files[form])
    assert check_measured_or_refused(ann, lying, samples)
    change(lying)
    assert accuracy(lying, samples) < accuracy(files[form], samples) - 20
    assert check_measured_or_refused(ann, lying, samples) == (change is reversed_weights)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_native_kernels_do_not_vouch_for_functions(
    change: Change,
    kernels: frozenset[str],  # noqa: F811
    data: tuple[onnx.ModelProto, dict[str, Any]],
    files: dict[str, onnx.ModelProto],
) -> None:
    assert native.available()
    ann, samples = data
    lying = copy_of(files["unrolled"])
    assert evaluate(ann, lying, samples).native
    change(lying)
    assert check_measured_or_refused(ann, lying, samples) == (change is reversed_weights)


def properties(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key.removeprefix("csscc."): p.value for p in model.metadata_props}


def with_property(model: onnx.ModelProto, key: str, value: str) -> onnx.ModelProto:
    made = copy_of(model)
    (entry,) = (p for p in made.metadata_props if p.key == f"csscc.{key}")
    entry.value = value
    return made


def layers_with(model: onnx.ModelProto, index: int, **changes: Any) -> str:
    layers = json.loads(properties(model)["layers"])
    layers[index] |= changes
    return json.dumps(layers)


LIES: dict[str, Callable[[onnx.ModelProto], tuple[str, str]]] = {
    "T": lambda m: ("T", "12"),
    "huge T": lambda m: ("T", str(10**12)),
    "beta": lambda m: ("beta", "1.6"),
    "beta nan": lambda m: ("beta", "nan"),
    "silent": lambda m: ("silent", "99"),
    "negative": lambda m: ("negative", "0"),
    "signed_input": lambda m: ("signed_input", "0"),
    "linear": lambda m: ("linear", "1"),
    "latency": lambda m: ("latency", "6"),
    "form": lambda m: ("options", properties(m)["options"].replace('"form": "', '"form": "un')),
    "options no mapping": lambda m: ("options", "[]"),
    "layers none": lambda m: ("layers", "[]"),
    "layers fewer": lambda m: ("layers", json.dumps(json.loads(properties(m)["layers"])[1:])),
    "layer name": lambda m: ("layers", layers_with(m, 1, name="another")),
    "layer kind": lambda m: ("layers", layers_with(m, 1, kind="Sigmoid")),
    "layer neurons": lambda m: ("layers", layers_with(m, 1, neurons=3)),
    "layer depth": lambda m: ("layers", layers_with(m, 1, depth=9)),
    "layer amplitude": lambda m: ("layers", layers_with(m, 1, amplitude=1.0)),
    "layer amplitude nan": lambda m: ("layers", layers_with(m, 1, amplitude=float("nan"))),
    "layer amplitude text": lambda m: ("layers", layers_with(m, 1, amplitude="1.0")),
    "clipping range of a layer": lambda m: ("layers", layers_with(m, 1, clipping_range=1e9)),
    "source of numbers": lambda m: ("source", '{"name": 1, "sha256": {}}'),
    "shape to which no input was fixed": lambda m: ("source", json.dumps({"fixed": '{"q": [1, 2]}'})),
    "shape to which the input was not fixed": lambda m: ("source", json.dumps({"fixed": '{"x": [1, 2]}'})),
    "fixed to no size": lambda m: ("source", json.dumps({"fixed": '{"x": [0, 4, 8, 8]}'})),
    "fixed to a part of a size": lambda m: ("source", json.dumps({"fixed": '{"x": [1, 4, 8.5, 8]}'})),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_metadata_that_contradict_the_nodes_are_refused_wherever_a_file_is_opened(
    lie: str, files: dict[str, onnx.ModelProto], data: tuple[onnx.ModelProto, dict[str, Any]], tmp_path: Path
) -> None:
    ann, samples = data
    for form in FORMS if lie in ("T", "latency", "layer depth") else FORMS[:1]:
        lying = with_property(files[form], *LIES[lie](files[form]))
        onnx.save(lying, tmp_path / "lying.onnx")
        for open_it in (
            lambda: csscc.load(tmp_path / "lying.onnx"),
            lambda m=lying: evaluate(ann, m, samples),
            lambda m=lying: diagnose(ann, m, samples),
            lambda m=lying: verify(m),
        ):
            with pytest.raises(RefusedError, match=r"contradicts itself|metadata is damaged"):
                open_it()


@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_one_that_its_nodes_can_have(form: str, files: dict[str, onnx.ModelProto]) -> None:
    for other in {"xscan", *(("stream", "stepwise") if form in ("stream", "stepwise") else ())} - {form}:
        options = json.loads(properties(files[form])["options"]) | {"form": other}
        with pytest.raises(RefusedError, match=f"state the form '{other}', its nodes are those of"):
            open_spiking(with_property(files[form], "options", json.dumps(options)))


@pytest.mark.parametrize("form", FORMS)
def test_honest_files_are_opened(form: str, files: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    onnx.save(files[form], tmp_path / "snn.onnx")
    assert csscc.load(tmp_path / "snn.onnx").facts.coding == Coding(T=6)


def test_other_spikes_than_the_metadata_say_are_refused(files: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    lying = copy_of(files["unrolled"])
    node = next(n for n in lying.graph.node if n.op_type.startswith("TSA"))
    next(a for a in node.attribute if a.name == "silent").i += 1
    onnx.save(lying, tmp_path / "lying.onnx")
    with pytest.raises(RefusedError, match=r"lying.onnx: contradicts itself: its metadata state a latency of \d+"):
        csscc.load(tmp_path / "lying.onnx")
    theta = next(t for t in lying.graph.initializer if t.name == node.input[2])
    theta.CopyFrom(helper.make_tensor(theta.name, TensorProto.FLOAT, [], [0.5]))
    with pytest.raises(RefusedError, match="contradicts itself"):
        verify(lying)


def test_a_layer_with_more_silent_steps_than_all_have_is_refused(data: tuple[onnx.ModelProto, dict[str, Any]]) -> None:
    ann, samples = data
    lying = csscc.compile(ann, {"x": samples["x"]}, T=6, silent=1, form="unrolled", check_samples=0).file
    assert verify(lying).holds
    node = next(n for n in lying.graph.node if n.op_type.startswith("TSA"))
    attribute(node, "silent").i = 2
    with pytest.raises(RefusedError, match=rf"state 1 silent step\(s\) in every layer, '{node.name}' has 2"):
        verify(lying)


def test_free_sizes_and_several_outputs_contradict_nothing(tmp_path: Path) -> None:
    model = parse(
        "g (float[N,3,H,W] x) => (float[N,4,H,W] y, float[N,2] z) <float[4,3,3,3] w, float[2,4] v>"
        "{ a = Conv <pads = [1,1,1,1]> (x, w) r = Relu(a) y = Sigmoid(a) p = GlobalAveragePool(r) f = Flatten(p)"
        "  z = Gemm <transB = 1> (f, v) }"
    )
    x = np.random.default_rng(0).standard_normal((4, 3, 6, 7)).astype(np.float32)
    codings = ({"coding": "rate", "T": 8}, {"coding": "fs"}, {"coding": "ttfs", "T": 6}, {"coding": "tsc", "T": 6})
    for options in ({}, *codings, {"preset": "paper"}):
        csscc.compile(model, x, check_samples=0, **options).save(tmp_path / "snn.onnx")
        csscc.load(tmp_path / "snn.onnx")


DAMAGE: dict[str, Callable[[onnx.NodeProto], None]] = {
    "no inputs": lambda n: n.ClearField("input"),
    "no attributes": lambda n: n.ClearField("attribute"),
    "an unknown activation": lambda n: setattr(n, "op_type", "TSANothing"),
    "weights in integers": lambda n: attribute(n, "weights").CopyFrom(helper.make_attribute("weights", 3)),
    "merged of text": lambda n: attribute(n, "merged").CopyFrom(helper.make_attribute("merged", ["a"])),
    "silent of floats": lambda n: attribute(n, "silent").CopyFrom(helper.make_attribute("silent", [0.5])),
    "no weights": lambda n: attribute(n, "weights").ClearField("floats"),
    "another domain": lambda n: setattr(n, "domain", "csscc.steps"),
}


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


@pytest.mark.parametrize("form", ["unrolled", "stream"])
@pytest.mark.parametrize("name", sorted(DAMAGE))
def test_damaged_nodes_are_refused(form: str, name: str, files: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    lying = copy_of(files[form])
    DAMAGE[name](next(n for n in lying.graph.node if n.op_type.startswith("TSA")))
    onnx.save(lying, tmp_path / "lying.onnx")
    for open_it in (lambda: csscc.load(tmp_path / "lying.onnx"), lambda: verify(lying)):
        with pytest.raises(RefusedError):
            open_it()


def test_amplitudes_that_do_not_fit_their_values_are_refused(files: dict[str, onnx.ModelProto]) -> None:
    for values in ([0.0], [-1.0], [float("nan")], [1.0, 2.0, 3.0]):
        lying = copy_of(files["unrolled"])
        node = next(n for n in lying.graph.node if n.op_type.startswith("TSA"))
        theta = next(t for t in lying.graph.initializer if t.name == node.input[2])
        theta.CopyFrom(helper.make_tensor(theta.name, TensorProto.FLOAT, [1], values[:1]))
        if len(values) > 1:
            theta.float_data[:] = values
        with pytest.raises(RefusedError, match=r"positive number|damaged|contradicts"):
            verify(lying)
        for other in (np.zeros(0, np.float32), np.ones(1, np.complex64), np.ones(1), np.ones(1, np.int32)):
            theta.CopyFrom(onnx.numpy_helper.from_array(other, theta.name))
            with pytest.raises(RefusedError, match="is not a positive number"):
                verify(lying)


@pytest.mark.parametrize("form", FORMS)
def test_standard_operators_may_be_called_by_the_other_name_of_their_domain(
    form: str, files: dict[str, onnx.ModelProto]
) -> None:
    renamed = copy_of(files[form])
    next(o for o in renamed.opset_import if o.domain == "").domain = "ai.onnx"
    assert verify(renamed).different == 0


def test_layers_without_names_of_their_own_are_refused(files: dict[str, onnx.ModelProto]) -> None:
    """They are what spikes are counted and compared by."""
    for name in ("", "one"):
        lying = copy_of(files["unrolled"])
        for node in lying.graph.node:
            node.name = name
        layers = [layer | {"name": name} for layer in json.loads(properties(lying)["layers"])]
        with pytest.raises(RefusedError, match=r"its layers have no names of their own|two nodes with same node name"):
            verify(with_property(lying, "layers", json.dumps(layers)))


def test_what_onnxruntime_adds_up_and_numpy_does_not_is_refused() -> None:
    """A bias of more axes than its current: in blocks of channels it is a convolution's, and its axes are no matter."""
    model = parse(
        "g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[16,1,3,3] k, float[2,16,1,1] l>"
        "{ a = Conv <pads = [1,1,1,1]> (x, k) r = Relu(a) y = Conv(r, l) }"
    )
    x = np.ones((2, 1, 4, 4), np.float32)
    lying = csscc.compile(model, x, T=4, form="stepwise", check_samples=0).file
    node = next(n for n in lying.graph.node if any(a.name == "channels" for a in n.attribute))
    bias = next(t for t in lying.graph.initializer if t.name in node.input and t.name.startswith(f"{node.name}_bias"))
    bias.dims[:] = [1] * 6 + list(bias.dims)
    assert np.isfinite(run(lying, {"x": x})["y"]).all()
    with pytest.raises(RefusedError, match="the NumPy reference cannot run the network"):
        verify(lying)


def test_a_convolution_that_counts_its_weights_among_its_steps_is_refused(files: dict[str, onnx.ModelProto]) -> None:
    """Folded, nothing would be left for it to multiply with."""
    lying = copy_of(files["stepwise"])
    node = next(n for n in lying.graph.node if (n.domain, n.op_type) == ("csscc.steps", "Conv"))
    slabs = attribute(node, "slabs")
    slabs.i = len(node.input)
    with pytest.raises(RefusedError, match="its nodes are damaged"):
        open_spiking(lying)
    slabs.i = len(node.input) - 1
    open_spiking(lying)


@pytest.mark.parametrize("form", ["stepwise", "stream"])
def test_bursts_and_two_trains_are_what_the_file_states(
    form: str, data: tuple[onnx.ModelProto, dict[str, Any]], tmp_path: Path
) -> None:
    ann, samples = data
    options = {"T": 4, "beta": 3, "silent": 3, "split": True, "form": form, "check_samples": 0}
    honest = csscc.compile(ann, samples["x"], **options).file
    assert evaluate(ann, honest, samples).snn_accuracy == pytest.approx(100)
    for op, name, value in (("Encode", "trains", 4), ("TSARelu", "burst", 0), ("TSARelu", "merged", [7.0, 1.0])):
        lying = copy_of(honest)
        attribute(next(n for n in lying.graph.node if n.op_type == op), name).CopyFrom(
            helper.make_attribute(name, value)
        )
        if name == "trains":  # twice as many, of twice the range
            limit = json.loads(properties(lying)["layers"])[0]["clipping_range"]
            lying = with_property(lying, "layers", layers_with(lying, 0, clipping_range=2 * limit))
        with pytest.raises(RefusedError, match=r"contradicts itself|was the file changed|sums of steps"):
            evaluate(ann, lying, samples)
        onnx.save(lying, tmp_path / "lying.onnx")
        assert not holds(tmp_path / "lying.onnx")


def holds(path: Path) -> bool:
    """What `verify` says; a refusal is no."""
    try:
        return verify(path).holds
    except RefusedError:
        return False
