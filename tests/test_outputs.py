"""Outputs that are no float tensors: probabilities by class, labels that are text, sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import csscc
from csscc.cli import cli
from csscc.io.outputs import as_arrays, is_label
from csscc.measure.agreement import Agreement
from csscc.measure.evaluation import evaluate
from csscc.measure.verify import verify
from tests.helpers import parse

CLASSES = ("cat", "dog", "owl")
CLASSIFIER = """
g (float[N,6] x) => (float[N,3] p)
<float[6,12] W, float[12,3] V, float[6] shift = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}>
{ s = Sub(x, shift) h = MatMul(s, W) r = Relu(h) z = MatMul(r, V) p = Softmax(z) }"""


def classifier(*, text: bool) -> onnx.ModelProto:
    """A network as skl2onnx writes it: a Scaler in front, labels and a map of probabilities behind."""
    model = parse(CLASSIFIER)
    nodes, graph = list(model.graph.node), model.graph
    names = [helper.make_attribute(*pair) for pair in [("classlabels_strings", CLASSES)]] if text else []
    names = names or [helper.make_attribute("classlabels_int64s", [3, 5, 8])]
    scaler = helper.make_node(
        "Scaler", ["x"], ["s"], "scale", domain="ai.onnx.ml", offset=[0.1] * 6, scale=[1.0, 2.0, 1.0, 0.5, 1.0, 1.0]
    )
    zipped = helper.make_node("ZipMap", ["p"], ["probability"], "zip", domain="ai.onnx.ml")
    zipped.attribute.extend(names)
    best = helper.make_node("ArgMax", ["p"], ["best"], "best", axis=1, keepdims=0)
    labels = helper.make_tensor(
        "classes", TensorProto.STRING if text else TensorProto.INT64, [3], CLASSES if text else [3, 5, 8]
    )
    chosen = helper.make_node("ArrayFeatureExtractor", ["classes", "best"], ["chosen"], "choose", domain="ai.onnx.ml")
    flat = helper.make_node("Reshape", ["chosen", "flat"], ["label"], "flatten")
    graph.initializer.extend([labels, helper.make_tensor("flat", TensorProto.INT64, [1], [-1])])
    del graph.node[:], graph.output[:]
    graph.node.extend([scaler, *nodes[1:], best, chosen, flat, zipped])
    kind = TensorProto.STRING if text else TensorProto.INT64
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, value))
    graph.output.extend(
        [helper.make_tensor_value_info("label", kind, ["N"]), helper.make_value_info("probability", maps)]
    )
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("text", [True, False], ids=["text", "numbers"])
@pytest.mark.parametrize("form", ["unrolled", "scan"])
def test_a_classifier_with_labels_and_a_map_of_probabilities(text: bool, form: str, tmp_path: Path) -> None:
    model = classifier(text=text)
    x = np.random.default_rng(3).standard_normal((200, 6)).astype(np.float32)
    snn = csscc.compile(model, x[:100], T=16, form=form)
    assert set(snn.report.comparison.errors) == {"label", "probability"}
    (file,) = snn.save(tmp_path / "snn.onnx")
    plain, spiking = (
        ort.InferenceSession(m, providers=["CPUExecutionProvider"]) for m in (model.SerializeToString(), str(file))
    )
    assert [o.type for o in plain.get_outputs()] == [o.type for o in spiking.get_outputs()]
    labels, maps = plain.run(None, {"x": x})
    for got_labels, got_maps in (spiking.run(None, {"x": x}), tuple(snn.run(x).values())):
        assert list(got_maps[0]) == list(maps[0])
        wanted, got = (np.array([list(m.values()) for m in rows]) for rows in (maps, got_maps))
        np.testing.assert_allclose(got, wanted, atol=0.01)
        assert (got_labels == labels).mean() > 0.98
    assert verify(snn.file, x[:8]).different == 0
    result = evaluate(model, snn.file, {"x": x})
    assert result.agreement == pytest.approx(100 * (np.array(got).argmax(1) == wanted.argmax(1)).mean())
    assert result.output_error["label"] == pytest.approx((got_labels != labels).mean())


def test_the_command_line_writes_them_as_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(3).standard_normal((20, 6)).astype(np.float32)
    np.save("x.npy", x)
    onnx.save(classifier(text=False), "m.onnx")
    for command in (
        ["compile", "m.onnx", "-o", "snn.onnx", "--calibration", "x.npy", "-q"],
        ["run", "snn.onnx", "--data", "x.npy", "-o", "out.npz", "-q"],
        ["verify", "snn.onnx", "--data", "x.npy", "-q"],
        ["evaluate", "m.onnx", "snn.onnx", "--data", "x.npy", "-q"],
        ["diagnose", "m.onnx", "snn.onnx", "--data", "x.npy"],
        ["inspect", "m.onnx"],
    ):
        cli.main(command, standalone_mode=False)
    out = np.load("out.npz")
    assert out["probability"].shape == (20, 3)
    assert set(out["label"]) <= {3, 5, 8}


def test_outputs_that_have_no_samples_in_front_are_run_at_once(command: Callable[..., tuple[int, str]]) -> None:
    """In batches of 2, rows of a transposed output would be put below those of other samples."""
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    np.save("x.npy", x)
    cases = (("y = Transpose(x)", x.T), ("y = ReduceMax <keepdims = 1> (x)", [[19.0]]), ("y = Neg(x)", -x))
    for nodes, wanted in cases:
        onnx.save(parse(f"g (float[N,4] x) => (float[A,B] y) {{ {nodes} }}"), "m.onnx")
        run_it = ("run", "m.onnx", "--data", "x.npy", "-o", "out.npz", "-q")
        code, err = command(*run_it, "--batch", 2)
        assert (code, "with --batch 5" in err) == ((0, False) if "Neg" in nodes else (3, True)), err
        assert command(*run_it, "--batch", 5) == (0, "")
        np.testing.assert_array_equal(np.load("out.npz")["y"], wanted)


def test_as_arrays() -> None:
    maps = [{"b": 1.0, "a": 2.0}, {"a": 3.0, "b": 4.0}]
    made = as_arrays({"maps": maps, "tensors": [np.zeros(2), np.ones(2)], "ragged": [np.zeros(2), np.zeros(3)]})
    np.testing.assert_array_equal(made["maps"], [[2, 1], [3, 4]])
    assert made["tensors"].shape == (2, 2)
    assert set(made) == {"maps", "tensors"}


def test_what_is_a_label() -> None:
    assert all(is_label(np.zeros(2, t)) for t in (object, np.int64, np.int32, bool))
    assert not any(is_label(np.zeros(2, t)) for t in (np.float32, np.uint8, np.int8))


def test_labels_are_right_or_wrong_and_what_is_no_array_is_left_out() -> None:
    compared = Agreement()
    expected = {"label": np.array(["a", "b", "c", "c"], object), "number": np.array([1, 2, 3, 9]), "ragged": [0, [1]]}
    got = {**expected, "label": np.array(["a", "b", "c", "a"], object), "number": np.array([1, 2, 3, 8])}
    compared.add(expected, got, 4)
    assert compared.output_error == {"label": 0.25, "number": 0.25}
    assert compared.left_out == {"ragged"}
    assert compared.agreement is None
