"""Models that readers do not expect: odd types, weights of branches, segments, huge samples, rows that are mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

from csscc.io.data import InputSpec
from csscc.passes.canonical.float_quantisers import staircase_around
from csscc.passes.canonical.load import load
from csscc.passes.convert import synthetic
from csscc.passes.convert.find_regions import FindRegions, survey
from csscc.passes.convert.synthetic import FEWEST, SAMPLES, synthetic_source
from csscc.pipeline import canonical, canonical_passes, run_pipeline
from tests.helpers import network_of, parse
from tests.test_hostile_models import BEHIND, COMMANDS, COMPILE, LOOP, Change, Run, changed, network, sparse


@pytest.fixture
def run(command: Run) -> Run:
    return command


def no_outputs(m: onnx.ModelProto) -> None:
    """A node that makes nothing, in a domain that nobody knows."""
    node = m.graph.node[1]
    node.domain = "reflect"
    node.ClearField("output")
    m.opset_import.add(domain="reflect", version=1)


def window(m: onnx.ModelProto) -> None:
    """Raising the opset infers a type that the graph library does not know."""
    m.opset_import[0].version = 17
    m.graph.node[1].op_type = "BlackmanWindow"
    m.graph.node[1].attribute.append(helper.make_attribute("output_datatype", 255))


def cast(m: onnx.ModelProto) -> None:
    m.graph.node[1].output[0] = "q"
    m.graph.node.insert(2, helper.make_node("Cast", ["q"], ["none"], to=0))
    m.graph.node.insert(3, helper.make_node("Cast", ["none"], ["b"], to=1))


def opaque(m: onnx.ModelProto) -> None:
    m.graph.output[0].type.opaque_type.domain = "own"


def branch(m: onnx.ModelProto) -> onnx.GraphProto:
    """Put an If in place of the activation; one of its branches."""
    node = m.graph.node[1]
    truth = numpy_helper.from_array(np.array(True), "truth")
    m.graph.initializer.append(truth)
    inner = [helper.make_node("MatMul", ["a", "v"], ["c"])]
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "v")
    graph = helper.make_graph(inner, "inner", [], [helper.make_empty_tensor_value_info("c")], [weights])
    node.op_type, node.input[0] = "If", "truth"
    node.attribute.extend(helper.make_attribute(f"{which}_branch", graph) for which in ("then", "else"))
    return node.attribute[0].g


def weights_of_a_branch(m: onnx.ModelProto) -> None:
    branch(m).initializer[0].dims[0] = 99


def sparse_weights_of_a_branch(m: onnx.ModelProto) -> None:
    sparse(m)
    branch(m).sparse_initializer.append(m.graph.sparse_initializer[0])
    m.graph.ClearField("sparse_initializer")


def sparse_constant(m: onnx.ModelProto) -> None:
    sparse(m)
    m.graph.node.insert(0, helper.make_node("Constant", [], ["s"], sparse_value=m.graph.sparse_initializer[0]))
    m.graph.ClearField("sparse_initializer")


def endless(m: onnx.ModelProto) -> None:
    """Runtimes refuse such an attribute; who reads but one of its values runs the loop."""
    m.CopyFrom(network(BEHIND % (LOOP % 2**62)))
    next(n for n in m.graph.node if n.op_type == "Loop").attribute[0].i = 1


def segment(m: onnx.ModelProto) -> None:
    m.graph.initializer[0].segment.end = 1


UNREADABLE: dict[str, tuple[Change, str]] = {
    "a node that makes nothing": (no_outputs, "not valid ONNX"),
    "an inferred type that is none": (window, "contradict each other|not valid ONNX"),
    "a cast to no type": (cast, "contradict each other|not valid ONNX"),
    "an output that is no tensor": (opaque, "output 'y' is of the kind opaque_type"),
    "weights in a branch": (weights_of_a_branch, "'v' of shape [99, 4] takes 1,584 bytes"),
    "sparse weights in a branch": (sparse_weights_of_a_branch, "sparse tensor"),
    "a sparse constant": (sparse_constant, "sparse tensor"),
    "an attribute with two values": (endless, "'body' of Loop '' holds values of several types"),
    "a segment of a constant": (segment, "one segment of a larger one"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_no_reader_expects_is_refused(run: Run, name: str) -> None:
    change, reported = UNREADABLE[name]
    Path("m.onnx").write_bytes(changed(change).SerializeToString())
    for command in COMMANDS[:2]:
        code, err = run(*command)
        assert code == 3, err
        assert any(words in err for words in reported.split("|")), err


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, 255])
@pytest.mark.parametrize("inner", [False, True])
def test_odd_types_that_are_stated_of_tensors_inside_are_no_matter(run: Run, kind: int, inner: bool) -> None:
    model = network()
    graph = branch(model) if inner else model.graph
    graph.value_info.add(name="unused").type.tensor_type.elem_type = kind
    graph.value_info.add(name="odd").type.optional_type.SetInParent()
    Path("m.onnx").write_bytes(model.SerializeToString())
    code, err = run(*COMPILE)
    assert code == 0, err


def test_a_defect_with_a_valid_model_stays_one(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def broken(model: onnx.ModelProto) -> None:
        raise LookupError("nowhere")

    monkeypatch.setattr("csscc.passes.canonical.load.refuse_unknown_operators", broken)
    Path("m.onnx").write_bytes(network().SerializeToString())
    code, err = run(*COMPILE)
    assert (code, "failed inside (LookupError: nowhere)" in err) == (70, True), err


def test_samples_that_are_too_large_to_look_at_are_refused() -> None:
    text = """g (float[N,2147483648,4] x) => (float[N,5,4] y) <float[4,4] w, int64[1] l = {0}, int64[1] h = {5}>
    { a = MatMul(x, w) b = Relu(a) o = Constant <value_ints = [1]> () c = Slice(b, l, h, o) y = MatMul(c, w) }"""
    (offender,) = survey(canonical(parse(text)).graph)[1]
    assert (offender.op, "too large to look at" in offender.reason) == ("Slice", True)


def test_a_network_that_mixes_samples_before_its_layers_is_refused(run: Run) -> None:
    text = """g (float[N,2] x) => (float[M,4] y) <float[8,4] w, float[4,4] v, int64[2] shape = {-1, 8}>
    { f = Reshape(x, shape) a = MatMul(f, w) b = Relu(a) y = MatMul(b, v) }"""
    onnx.save(parse(text), "m.onnx")
    code, err = run("compile", "m.onnx", "--T", 3, "-q", "-o", "o.onnx")
    assert (code, "mixes samples; export the network with the batch in front" in err) == (3, True), err


def test_constants_that_are_rounded_are_no_quantised_activation() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <float[1,4] k>
    { s = Mul(k, k) r = Round(s) t = Mul(r, k) y = Add(x, t) }"""
    graph = network_of(parse(text)).graph
    (node,) = (n for n in graph.nodes if n.op == "Round")
    assert staircase_around(graph, node) is None
    node.inputs[0] = gs.Constant("known", np.ones((1, 4), np.float32))
    assert staircase_around(graph, node) is None


@pytest.mark.parametrize(("size", "number"), [(8, SAMPLES), (32, 16), (64, FEWEST)])
def test_of_large_inputs_fewer_samples_are_made_up(size: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "NUMBERS", 16 * 32 * 32)
    shape = f"float[N,1,{size},{size}]"
    made = load(parse(f"g ({shape} x) => ({shape} y) <float[1,1,1,1] w> {{ a = Conv(x, w) y = Relu(a) }}"))
    made = run_pipeline(made, (*canonical_passes(), FindRegions()))
    spec = InputSpec("x", (None, 1, size, size), "float32")
    chunks = [len(batch["x"]) for batch in synthetic_source(made, (spec,), 0).batches(SAMPLES)]
    assert sum(chunks) == number


@pytest.mark.parametrize("asked", ["inspect", "verify", "compile", "run", "evaluate", "sweep"])
def test_names_that_are_too_long_for_the_system_are_no_defect(run: Run, asked: str) -> None:
    Path("m.onnx").write_bytes(network().SerializeToString())
    long = "x" * 300
    more = {
        "run": ("--data", "x.npy"),
        "evaluate": ("m.onnx", "--data", "x.npy"),
        "compile": ("--T", 3, "-o", "o.onnx"),
        "sweep": ("--data", "x.npy", "-o", "results"),
    }.get(asked, ())
    code, err = run(asked, long, *more)
    assert code in (2, 3), err
    assert long in err
    if asked in ("compile", "run", "sweep"):
        code, err = run(asked, "m.onnx", *more[:-1] if asked != "run" else (*more, "-o"), long)
        assert code in (2, 3), err
