"""Refusals name what a user can change: training mode, quantisation, recurrence inside a branch, sizes that are free."""

# ruff: noqa: E501  (a test model is one line)

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import csscc
from csscc.coding.coding import Coding
from csscc.errors import Offender, RefusedError, RefusedModelError
from csscc.measure.inspection import inspect_ann
from csscc.passes.canonical.true_causes import FLOAT, named_cause
from tests.helpers import parse


def core(body: str, *, inputs: str = "float[N,4] x", weights: str = "", opset: int = 20) -> onnx.ModelProto:
    """A network of which the body makes r of h, between two layers."""
    return parse(
        f"""g ({inputs}) => (float[B,2] y) <float[4,4] W, float[4,2] V, {weights} float half = {{0.5}}, bool yes = {{1}}>
        {{ h = MatMul(x, W) {body} y = MatMul(r, V) }}""",
        opset=opset,
    )


LSTM = "float[1,16,4] P, float[1,16,4] R,"
INSIDE = """[branch] r = If (on) <then_branch = a () => (float[N,4] p) {
                  t = Unsqueeze(h, zero) s, last = LSTM <hidden_size = 4> (t, P, R) p = Squeeze(last, zero) },
              else_branch = b () => (float[N,4] q) { q = Neg(h) }>"""
LOOP = """[loop] r = Loop (count, yes, h) <body = b (int64 i, bool c, float[N,4] s) => (bool d, float[N,4] n)
              { d = Identity(c) n = Tanh(s) }>"""
CASES = {
    "dropout in training": (core("[drop] r, m = Dropout(h, half, yes)"), "drop", "training mode", "model.eval()"),
    "dropout that may train": (
        core("[drop] r, m = Dropout(h, half, on)", inputs="float[N,4] x, bool on"), "drop", "training mode", "model.eval()",
    ),
    "noise": (core("[noise] z = RandomNormalLike(h) r = Add(h, z)"), "noise", "random numbers", "model.eval()"),
    "an LSTM": (
        core("t = Unsqueeze(h, zero) [cell] s, last = LSTM <hidden_size = 4> (t, P, R) r = Squeeze(last, zero)", weights=f"{LSTM} int64[1] zero = {{0}},"),
        "cell", "it is recurrent", "without it",
    ),
    "an LSTM in a branch": (
        core(INSIDE, inputs="float[N,4] x, bool on", weights=f"{LSTM} int64[1] zero = {{0}},"), "branch", "it holds LSTM '", "without it",
    ),
    "a loop": (core(LOOP, weights="int64 count = {3},"), "loop", "it is a loop", "without it"),
    "a branch": (
        core("[branch] r = If (on) <then_branch = a () => (float[N,4] p) { p = Relu(h) }, else_branch = b () => (float[N,4] q) { q = Neg(h) }>", inputs="float[N,4] x, bool on"),
        "branch", "its condition is computed", "export one branch",
    ),
    "sorted values": (
        core("[best] r, i = TopK (h, four)", weights="int64[1] four = {4},"), "best", "neither linear", "move it after the last layer",
    ),
}  # fmt: skip


def refused(model: onnx.ModelProto) -> RefusedError:
    """The refusal of `compile`, which `inspect` repeats word for word."""
    with pytest.raises(RefusedError) as caught:
        csscc.compile(model)
    assert inspect_ann(model, Coding()).refusal == str(caught.value)
    return caught.value


def offender(model: onnx.ModelProto, name: str) -> Offender:
    refusal = refused(model)
    assert isinstance(refusal, RefusedModelError)
    (found,) = (o for o in refusal.offenders if o.node == name)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_cause_is_named_with_the_way_out(case: str) -> None:
    model, name, reason, advice = CASES[case]
    found = offender(model, name)
    assert reason in found.reason
    assert advice in found.advice
    assert "mixes" not in found.reason


def test_transposes_around_a_cause_come_after_it_and_name_it() -> None:
    cell = "t = Unsqueeze(h, zero) [cell] s, last = LSTM <hidden_size = 4> (t, P, R) r = Squeeze(last, zero)"
    refusal = refused(core(cell, weights=f"{LSTM} int64[1] zero = {{0}},"))
    assert isinstance(refusal, RefusedModelError)
    assert [o.op for o in refusal.offenders] == ["LSTM", "Unsqueeze", "Transpose"]
    assert all("LSTM 'cell'" in o.advice for o in refusal.offenders[1:])
    later = refused(core(f"o, i = TopK(h, four) {cell.replace('(h', '(o')}", weights=f"{LSTM} int64[1] zero = {{0}}, int64[1] four = {{4}},"))
    assert isinstance(later, RefusedModelError)
    assert [o.op for o in later.offenders] == ["LSTM", "TopK", "Unsqueeze", "Transpose"]
    alone = refused(core("t = Transpose(h) s = MatMul(h, t) r = MatMul(s, h)"))
    assert isinstance(alone, RefusedModelError)
    assert ["see there" in o.advice for o in alone.offenders] == [False]


def test_dropout_in_inference_is_no_offence() -> None:
    assert not inspect_ann(core("no = Not(yes) r, m = Dropout(h, half, no)"), Coding()).refusal


WHOLE_IN_BRANCH = """
g (float[N,4] x, bool on) => (float[N,4] y) <float[4,4] W>
{ [branch] y = If (on) <then_branch = a () => (float[N,4] p) { [dense] p = MatMul(x, W) },
                        else_branch = b () => (float[N,4] q) { q = Neg(x) }> }"""
QUANTISED = """
g (float[L,B,4] x) => (float[L,1,B,4] y)
<uint8[1,4,16] W, uint8[1,4,16] R, float[1,32] bias, float[1] scale = {0.5}, uint8[1] zero = {0}>
{ [cell] y = DynamicQuantizeLSTM <hidden_size = 4> (x, W, R, bias, , , , , scale, zero, scale, zero) }"""


def test_a_network_inside_a_branch_is_not_stated_to_have_no_layers() -> None:
    assert "MatMul 'dense'" in offender(parse(WHOLE_IN_BRANCH), "branch").reason


def test_a_quantised_recurrent_network_is_stated_to_be_recurrent() -> None:
    """Its float version would be refused as well."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20, "com.microsoft": 1]>' + QUANTISED.replace("DynamicQ", "com.microsoft.DynamicQ")
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ones([d.dim_value for d in v.type.tensor_type.shape.dim], np.float32 if v.name == "bias" else np.uint8), v.name)
        for v in model.graph.value_info
    )
    assert "recurrent" in offender(model, "cell").reason


@pytest.mark.parametrize("op", ["QLinearConv", "ConvInteger", "DequantizeLinear", "QAttention", "Quant"])
def test_names_of_quantised_operators(op: str) -> None:
    assert named_cause(op) == ("the network is quantised here", FLOAT)
    assert not any(map(named_cause, ("Conv", "QuickGelu")))


def test_nothing_to_convert_is_a_refusal_in_inspect_too() -> None:
    assert "no weighted layer" in str(refused(parse("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")))


FREE = """
g (float[N,3,H,W] x) => (float[N,M] y) <float[4,3,3,3] K, float[4,2] V, int64[2] first = {0,0}, int64 last = {2}, int64[1] rest = {-1}, int64[1] four = {4}>
{ a = Conv <pads = [1,1,1,1]> (x, K) r = Relu(a)
  [size] s = Shape(r) [high] h = Gather(s, last) zero = Constant <value = int64[1] {0}> () [row] u = Unsqueeze(h, zero) [target] t = Concat <axis = 0> (rest, four, u)
  [rows] f = Reshape(r, t) p = ReduceMean <keepdims = 0> (f, two) y = MatMul(p, V) }"""


def test_sizes_that_are_free_are_to_be_fixed() -> None:
    refusal = refused(parse(FREE.replace("int64[1] four", "int64[1] two = {2}, int64[1] four")))
    assert isinstance(refusal, RefusedModelError)
    assert {o.node for o in refusal.offenders} == {"rows"}
    assert all("sizes that are free" in o.reason for o in refusal.offenders)
    assert all(o.advice == "fix the sizes: --input-shape x:1,3,H,W" for o in refusal.offenders)


def test_offenders_of_one_operator_and_reason_share_a_line() -> None:
    model = core("[one] a = Sin(h) [two] b = Sin(a) [three] c = Floor(b) r = Identity(c)")
    lines = str(refused(model)).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("  Sin 2 times: 'one', 'two': it is neither linear")
    assert lines[2].startswith("  Floor 'three', input Nx4: it is neither linear")


def test_an_operator_of_another_domain_in_the_core() -> None:
    model = core("[odd] r = Gelu(h)")
    model.graph.node[1].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = offender(model, "odd")
    assert found.op == "com.microsoft::Gelu"
    assert "foreign domain" in found.reason
    assert "standard operators" in found.advice


def test_what_no_size_can_help_comes_first() -> None:
    text = FREE.replace("int64[1] four", "int64[1] two = {2}, int64[1] four")
    refusal = refused(parse(text.replace("y = MatMul(p, V)", "[bend] q = Sin(p) y = MatMul(q, V)")))
    assert isinstance(refusal, RefusedModelError)
    assert refusal.offenders[0].node == "bend"
    assert len(refusal.offenders) > 1
    assert all("sizes that are free" in o.reason for o in refusal.offenders[1:])
