"""Models that nobody means well with: each is refused in one message, in bounded time and memory."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

from csscc import limits
from csscc.errors import RefusedError
from csscc.io import trial
from csscc.io.guard import refuse_hostile

Run = Callable[..., tuple[int, str]]
Change = Callable[[onnx.ModelProto], object]
BIG = 2**62
DENSE = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
BEHIND = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) b = Relu(a) h = MatMul(b, w) %s }"
LOOP = """m = Constant <value_int = %d> () t = Constant <value = bool {1}> ()
y = Loop <body = bd (int64 i, bool c, float[N,4] u) => (bool d, float[N,4] v)
{ d = Identity(c) v = Relu(u) }> (m, t, h)"""
TAKES_CONSTANT = """g (float[N,4] x) => (float[N,4] y) { s = Constant <value_ints = [%d]> () z = ConstantOfShape(s)
r = ReduceSum <keepdims = 0> (z) a = MatMul(x, w) c = Add(a, r) b = Relu(c) y = MatMul(b, w) }"""

BFLOAT16_AND_LOOP = """g (bfloat16[N,4] x) => (bfloat16[N,4] y) { a = MatMul(x, w) b = Relu(a) h = MatMul(b, w)
m = Constant <value_int = %d> () t = Constant <value = bool {1}> () o = Constant <value_float = 1.0> ()
f = Loop <body = bd (int64 i, bool c, float u) => (bool d, float v) { d = Identity(c) v = Relu(u) }> (m, t, o)
k = Cast <to = 16> (f) y = Add(h, k) }"""


def network(text: str = DENSE) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}')
    values = np.random.default_rng(0).normal(0, 0.5, (4, 4)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, "w"))
    return model


def changed(change: Change, text: str = DENSE) -> onnx.ModelProto:
    model = network(text)
    change(model)
    return model


def doubling(number: int) -> onnx.ModelProto:
    """Functions, each of which calls the one before twice: 2^number nodes."""
    model = network()
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model.opset_import.append(opsets[1])
    for i in range(number + 1):
        op, domain = (f"F{i - 1}", "own") if i else ("Relu", "")
        body = [helper.make_node(op, ["a"], ["c"], domain=domain), helper.make_node(op, ["c"], ["b"], domain=domain)]
        model.functions.append(helper.make_function("own", f"F{i}", ["a"], ["b"], body, opsets))
    model.graph.node[1].op_type, model.graph.node[1].domain = f"F{number}", "own"
    return model


def element_type(kind: int) -> Change:
    return lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", kind)


def weights_of_type(kind: int) -> Change:
    return lambda m: setattr(m.graph.initializer[0], "data_type", kind)


def sizes(*dims: int) -> Change:
    def change(m: onnx.ModelProto) -> None:
        del m.graph.initializer[0].dims[:]
        m.graph.initializer[0].dims.extend(dims)

    return change


def attribute(node: int, **fields: object) -> Change:
    return lambda m: m.graph.node[node].attribute.append(AttributeProto(name="axis", **fields))


def other_input(kind: onnx.TypeProto) -> Change:
    return lambda m: m.graph.input.append(helper.make_value_info("q", kind))


def sparse(m: onnx.ModelProto) -> None:
    made = m.graph.sparse_initializer.add()
    made.dims.extend([2**40, 2**20])
    made.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))
    made.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "indices"))


def odd_name(m: onnx.ModelProto) -> None:
    m.graph.node[1].attribute.append(helper.make_attribute("a\nb", 1))


def no_samples(m: onnx.ModelProto) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0


def constant(values: object, name: str) -> Change:
    return lambda m: m.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))


def shadowed(m: onnx.ModelProto) -> None:
    """A function that negates, called as Relu is; onnx puts it in place, onnxruntime does not."""
    body = [helper.make_node("Neg", ["a"], ["b"])]
    m.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))


def shadowed_weights(m: onnx.ModelProto) -> None:
    """A branch with other weights of the name that those outside have."""
    m.CopyFrom(network(BEHIND % BRANCH))
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    next(n for n in m.graph.node if n.op_type == "If").attribute[0].g.initializer.append(weights)


def leaky(alpha: float) -> onnx.ModelProto:
    return changed(lambda m: m.graph.node[1].attribute.append(helper.make_attribute("alpha", alpha)), LEAKY)


def quantised(scale: float) -> onnx.ModelProto:
    return changed(constant(scale, "s"), QUANTISED)


BRANCH = """t = Constant <value = bool {1}> () y = If <then_branch = p () => (float[N,4] c) { c = MatMul(h, w) },
else_branch = q () => (float[N,4] d) { d = Neg(h) }> (t)"""
LEAKY = "g (float[N,4] x) => (float[N,4] y) { a = MatMul(x, w) b = LeakyRelu(a) y = MatMul(b, w) }"
QUANTISED = """g (float[N,4] x) => (float[N,4] y) <uint8 z = {0}> { a = MatMul(x, w) b = Relu(a)
q = QuantizeLinear(b, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }"""
FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4])
OPTIONAL = helper.make_optional_type_proto(FLOATS)
MAP = helper.make_map_type_proto(TensorProto.INT64, FLOATS)
MALFORMED: dict[str, tuple[onnx.ModelProto, str]] = {
    "functions that double": (doubling(18), "more than 100,000 nodes"),
    "functions that call each other": (doubling(limits.CALLS + 1), "or by itself"),
    "an element type that is none": (changed(element_type(99)), "data type 99, which ONNX lacks"),
    "an element type that NumPy lacks": (changed(element_type(TensorProto.FLOAT8E5M2)), "FLOAT8E5M2"),
    "weights of no type": (changed(weights_of_type(99)), "'w' is of data type 99"),
    "weights of undefined type": (changed(weights_of_type(0)), "data type 0"),
    "weights of 8 bits": (changed(weights_of_type(TensorProto.FLOAT8E4M3FN)), "takes 16 bytes"),
    "weights of a huge shape": (changed(sizes(2**40, 4)), "takes 17,592,186,044,416 bytes, but 64 are there"),
    "weights of an overflowing shape": (changed(sizes(2**31, 2**31, 2**31)), "but 64 are there"),
    "weights of a negative shape": (changed(sizes(-4, -4)), "negative sizes"),
    "sparse weights": (changed(sparse), "sparse tensor"),
    "an optional input": (changed(other_input(OPTIONAL)), "'q' is of the kind optional"),
    "a map input": (changed(other_input(MAP)), "'q' is of the kind map"),
    "an empty list": (changed(attribute(1, type=AttributeProto.INTS)), "'axis' of Relu '' is an empty list"),
    "no text": (changed(attribute(1, type=AttributeProto.STRING, s=b"\xff")), "'axis' of Relu '' is no text"),
    "a name that no attribute has": (changed(odd_name), "has a name that no attribute can have"),
    "an input of no samples": (changed(no_samples), "takes no data"),
    "an attribute without a type": (changed(attribute(1)), "has no type"),
    "two constants of one name": (changed(constant(np.ones((4, 4)), "w")), "two of its constants are called 'w'"),
    "a branch's weights of a name outside": (changed(shadowed_weights), "two of its constants are called 'w'"),
    "a value of the only input": (changed(constant(np.ones((1, 4)), "x")), "all its inputs have values of their own"),
    "a function called as Relu is": (changed(shadowed), "function 'Relu' has the name of a standard operator"),
    "a slope of NaN": (leaky(float("nan")), "attribute 'alpha' of LeakyRelu '' is NaN or infinite"),
    "an infinite slope": (leaky(float("inf")), "attribute 'alpha' of LeakyRelu '' is NaN or infinite"),
    "a scale of 0": (quantised(0), "scale 's' of QuantizeLinear '' is not a positive number"),
    "a negative scale": (quantised(-0.1), "scale 's' of QuantizeLinear '' is not a positive number"),
    "a scale of NaN": (quantised(float("nan")), "scale 's' of QuantizeLinear '' is not a positive number"),
}


@pytest.fixture
def run(command: Run) -> Run:
    return command


COMPILE = ("compile", "m.onnx", "--calibration", "x.npy", "--T", 3, "-q", "-o", "o.onnx")
COMMANDS = (COMPILE, ("inspect", "m.onnx"), ("run", "m.onnx", "--data", "x.npy", "-q"), ("verify", "m.onnx", "-q"))


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_or_too_much_is_refused_by_name(run: Run, name: str) -> None:
    model, reported = MALFORMED[name]
    Path("m.onnx").write_bytes(model.SerializeToString())
    for command in COMMANDS:
        code, err = run(*command)
        assert (code, reported in err) == (3, True), err
    with pytest.raises(RefusedError, match="the model: "):
        refuse_hostile(model, "the model", tried=False)


@pytest.mark.parametrize("axes", [40, 64, 200])
def test_more_axes_than_numpy_has_are_refused(run: Run, axes: int) -> None:
    ones = ",".join(["1"] * (axes - 2))
    text = f"s = Constant <value_ints = [-1,{ones},4]> () r = Reshape(h, s) k = Relu(r) f = Flatten(k) y = MatMul(f, w)"
    onnx.save(network(BEHIND % text), "m.onnx")
    for command in COMMANDS[:2]:
        code, err = run(*command)
        assert (code, f"has {axes} axes; csscc takes up to 48" in err) == ((0, False) if axes == 40 else (3, True)), err


def test_a_constant_that_is_a_sequence_is_refused_with_its_readers(run: Run) -> None:
    """The graph library would take it for an array."""
    text = "s = SequenceEmpty() t = SequenceInsert(s, h) y = ConcatFromSequence <axis = 0> (t)"
    onnx.save(network(BEHIND % text), "m.onnx")
    for command in COMMANDS[:2]:
        code, _ = run(*command)
        assert code in (0, 3)


def test_remarks_of_numpy_are_not_shown(run: Run) -> None:
    onnx.save(changed(constant([0.0], "z"), BEHIND % "r = Relu(h) q = Div(r, z) y = MatMul(q, w)"), "m.onnx")
    code, err = run(*COMPILE)
    assert (code, "RuntimeWarning" in err) == (0, False), err


def hostile_gather() -> onnx.ModelProto:
    """onnx 1.23 reads behind the end of a shape."""
    text = "g (float[N,4] x) => (float[N,4] y) { i = GatherND <batch_dims = 7> (x, k) a = MatMul(i, w) y = Relu(a) }"
    model = network(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([BIG], np.int64), "k"))
    return model


def test_what_ends_the_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever library does so today, a step that ends a process ends a child."""
    monkeypatch.setattr(trial, "_opened", {})
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: os.abort())
    with pytest.raises(RefusedError, match=r"ends the process that opens it \(SIGABRT\)"):
        trial.try_out(network(), runs=True)
    refused_or_not(hostile_gather())


def refused_or_not(model: onnx.ModelProto) -> None:
    """It may be refused, but nothing ends this process."""
    try:
        refuse_hostile(model, "m", tried=True)
    except RefusedError:
        return


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRIAL_SECONDS", 1.0)


def test_an_endless_loop_is_refused(run: Run, impatient: None) -> None:
    Path("m.onnx").write_bytes(network(BEHIND % (LOOP % BIG)).SerializeToString())
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in COMMANDS[:3]:
        code, err = run(*command)
        assert (code, "for more than 1 seconds" in err) == (3, True), err
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < 5
    Path("m.onnx").write_bytes(network(BEHIND % (LOOP % 3)).SerializeToString())
    assert run(*COMPILE)[0] == 0


def test_a_trial_may_wait_for_a_machine_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of the limit is one of computing."""
    monkeypatch.setattr(trial, "_opened", {})
    monkeypatch.setattr(limits, "TRIAL_SECONDS", 0.5)
    monkeypatch.setattr(onnx.checker, "check_model", lambda model: time.sleep(1))
    trial.try_out(network(), runs=True)


def test_a_trial_frees_no_session_of_this_process(monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    """It would wait for the session's threads, which a fork does not have, and the model would be refused."""
    options = SessionOptions()
    options.intra_op_num_threads = 2
    monkeypatch.setattr(trial, "_opened", {})
    kept = gc.get_threshold()
    gc.set_threshold(0)
    try:
        cycle: list[object] = [InferenceSession(network().SerializeToString(), options)]
        cycle.append(cycle)
        del cycle  # only the garbage collector frees the session now
        time.sleep(0.3)  # and its threads wait for work
        monkeypatch.setattr(onnx.checker, "check_model", lambda model: (gc.set_threshold(1), [[] for _ in range(1000)]))
        trial.try_out(network(), runs=True)
    finally:
        gc.set_threshold(*kept)
    assert gc.isenabled()


def test_what_onnxruntime_refuses_is_tried_as_it_is_read(run: Run, impatient: None) -> None:
    """It has no MatMul of bfloat16; csscc makes it float32, and the loop beside it would run while it is compiled."""
    model = network(BFLOAT16_AND_LOOP % BIG)
    values = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, (4, 4), values.ravel()))
    Path("m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match="Could not find an implementation for MatMul"):
        InferenceSession("m.onnx")
    code, err = run(*COMPILE)
    assert (code, "for more than 1 seconds" in err) == (3, True), err
    model.graph.node[3].attribute[0].i = 3
    Path("m.onnx").write_bytes(model.SerializeToString())
    assert run(*COMPILE)[0] == 0


def test_constants_that_take_all_memory_are_refused(run: Run) -> None:
    Path("m.onnx").write_bytes(network(TAKES_CONSTANT % 2**34).SerializeToString())
    for command in COMMANDS[:3]:
        code, err = run(*command)
        assert (code, "GiB of memory" in err) == (3, True), err


def test_a_model_is_tried_once_and_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_opened", {})
    tried = []
    original = trial._in_child
    monkeypatch.setattr(trial, "_in_child", lambda action: tried.append(action) or original(action))
    children = Path(f"/proc/self/task/{os.getpid()}/children")  # other tests may have left some that wait for work
    before = children.read_text()
    for _ in range(3):
        refuse_hostile(network(), "m", tried=True)
    assert len(tried) == 1
    assert children.read_text() == before


def test_an_operand_of_lower_rank_that_is_computed(run: Run) -> None:
    text = """g (float[N,4] x, float[1] z) => (float[N,4] y)
    { s = Sin(z) a = MatMul(x, w) c = Add(a, s) b = Relu(c) y = MatMul(b, w) }"""
    Path("m.onnx").write_bytes(network(text).SerializeToString())
    assert run("inspect", "m.onnx")[0] in (0, 3)


def test_a_constant_of_no_numbers_is_a_shape_of_no_axes(run: Run) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) { e = Constant <value_ints : ints = []> ()
    k = Constant <value = float[1] {2}> () s = Reshape(k, e) a = MatMul(x, w) c = Mul(a, s) b = Relu(c)
    y = MatMul(b, w) }"""
    model = network(text)
    Path("m.onnx").write_bytes(model.SerializeToString())
    assert run(*COMPILE)[0] == 0
    assert run("verify", "o.onnx", "-q")[0] == 0


def test_bounds_of_a_clip_may_differ_in_shape(run: Run) -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <float lo = {-1}, float[1,1] hi = {2}>
    { a = MatMul(x, w) b = Clip(a, lo, hi) y = MatMul(b, w) }"""
    Path("m.onnx").write_bytes(network(text).SerializeToString())
    assert run(*COMPILE)[0] in (0, 3)


def test_sequences_are_not_fed(run: Run) -> None:
    model = network()
    model.graph.input.append(helper.make_value_info("q", helper.make_sequence_type_proto(FLOATS)))
    Path("m.onnx").write_bytes(model.SerializeToString())
    code, err = run("run", "m.onnx", "--data", "x.npy", "-q")
    assert (code, "input 'q' takes seq" in err) == (3, True), err
