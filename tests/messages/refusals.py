"""Messages about nodes that cannot become spiking: one line for each reason, with the node and what to do."""

from __future__ import annotations

import csscc
from csscc.passes.canonical.true_causes import Sizes
from csscc.passes.convert.find_regions import FindRegions
from csscc.passes.linear import LINEAR
from csscc.pipeline import canonical
from tests.helpers import network_of, parse
from tests.messages.given import Messages

PARAMETERS = "float half = {0.5}, bool yes = {1}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}"

UNUSED = "float[4] unused"


def dense(body: str, declared: str = UNUSED, inputs: str = "float[N,4] x", result: str = "float[B,2] y") -> None:
    """Compile a network in which the body makes r of h, between two layers."""
    weights = f"float[4,4] W, float[4,2] V, {PARAMETERS}, {declared}"
    csscc.compile(parse(f"g ({inputs}) => ({result}) <{weights}> {{ h = MatMul(x, W) {body} y = MatMul(r, V) }}"))


def image(body: str, declared: str = UNUSED, inputs: str = "float[N,3,4,4] x") -> None:
    """The same with images of four channels."""
    weights = f"float[4,3,1,1] W, float[2,4,1,1] V, {PARAMETERS}, {declared}"
    csscc.compile(parse(f"g ({inputs}) => (float[B,2,H,Z] y) <{weights}> {{ h = Conv(x, W) {body} y = Conv(r, V) }}"))


def by_rule(body: str, inputs: str, core: list[int]) -> None:
    """The rule of node n, for a node that other passes or reasons come before."""
    weights = f"float[4,4] W, float[4,2] V, int64[2] sizes = {{3,4}}, float[1,4,4] k, {PARAMETERS}"
    text = f"g ({inputs}) => (float[B,2] y) <{weights}> {{ h = MatMul(x, W) {body} y = MatMul(r, V) }}"
    network = network_of(parse(text))
    node = next(n for n in network.graph.nodes if n.name == "n")
    raise csscc.RefusedError(LINEAR[node.op].refuse(node, core))


def by_sizes(name: str) -> None:
    """What stands in the way of the node that computes a tensor of FREE."""
    network = network_of(parse(FREE))
    node = next(n for n in network.graph.nodes if n.outputs[0].name == name)
    raise csscc.RefusedError("; ".join(Sizes(network.graph).cause(node, "") or ()))


CELL = "[n] s, last = LSTM <hidden_size = 4> (t, P, R)"
LSTM = "float[1,16,4] P, float[1,16,4] R"
BRANCH = """[n] r = If (on) <then_branch = a () => (float[N,4] p) {{ {} }},
else_branch = b () => (float[N,4] q) {{ q = Neg(h) }}>"""
LOOP = """[n] r = Loop (count, yes, h) <body = b (int64 i, bool c, float[N,4] s) => (bool d, float[N,4] n)
{ d = Identity(c) n = Tanh(s) }>"""
LARGE = """g (float[N,2147483648,4] x) => (float[N,5,4] y) <float[4,4] w, int64[1] l = {0}, int64[1] h = {5}>
{ a = MatMul(x, w) b = Relu(a) o = Constant <value_ints = [1]> () [n] c = Slice(b, l, h, o) y = MatMul(c, w) }"""
FREE = """g (float[N,3,H,W] x) => (float[N,M] y)
<float[4,3,1,1] K, float[4,2] V, int64 last = {2}, int64[1] rest = {-1}, int64[1] four = {4}, int64[1] zero = {0},
int64[1] two = {2}>
{ a = Conv(x, K) r = Relu(a) s = Shape(r) h = Gather(s, last) u = Unsqueeze(h, zero)
  t = Concat <axis = 0> (rest, four, u)
  [n] f = Reshape(r, t) p = ReduceMean <keepdims = 0> (f, two) y = MatMul(p, V) }"""

MESSAGES: Messages = {
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  RandomNormalLike 'n', input Nx4:"
    " it draws random numbers; export the network in evaluation mode: model.eval() in PyTorch, "
    "training=False in Keras": lambda p: dense("[n] z = RandomNormalLike(h) r = Add(h, z)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Dropout 'n', input Nx4: it is in"
    " training mode; export the network in evaluation mode: model.eval() in PyTorch, training=False in "
    "Keras": lambda p: dense("[n] r, m = Dropout(h, half, yes)"),
    "the model cannot be compiled: 3 node(s) stand in the way (opset 20)\n  LSTM 'n', input "
    "1xNx4: it is recurrent; recurrence cannot be spiking; export the network without it, or split it "
    "here\n  Unsqueeze 'Unsqueeze_1', input Nx4: it mixes or reorders the batch axis; perhaps only for LSTM "
    "'n': see there first\n  Transpose 'last_front', input 1xNx4: it mixes or reorders the batch axis; "
    "perhaps only for LSTM 'n': see there first": lambda p:
        dense(f"t = Unsqueeze(h, zero) {CELL} r = Squeeze(last, zero)", LSTM),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  If 'n', input unknown: it is "
    "recurrent: it holds LSTM 'n_1'; recurrence cannot be spiking; export the network without it, or split "
    "it here": lambda p:
        dense(BRANCH.format(f"t = Unsqueeze(h, zero) {CELL} p = Squeeze(last, zero)"), LSTM, "float[N,4] x, bool on"),
    "the model cannot be compiled: 2 node(s) stand in the way (opset 20)\n  Loop 'n', input Nx4: it is a "
    "loop; recurrence cannot be spiking; export the network without it, or split it here\n  MatMul "
    "'MatMul_2', input unknown: its shape is not known; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p: dense(LOOP, "int64 count = {3}"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  If 'n', input unknown: its "
    "condition is computed; control flow cannot be spiking; export one branch, with the condition constant": lambda p:
        dense(BRANCH.format("p = Relu(h)"), inputs="float[N,4] x, bool on"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  If 'n', input unknown: its "
    "condition is computed, and it holds MatMul 'inner'; control flow cannot be spiking; export one branch,"
    " with the condition constant": lambda p:
        dense(BRANCH.format("[inner] p = MatMul(h, W)"), inputs="float[N,4] x, bool on"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  TopK 'n', input Nx4: it is "
    "neither linear nor an activation that a neuron can send; a layer follows it; move it after the last "
    "layer, or split the model here": lambda p: dense("[n] r, i = TopK(h, four)", "int64[1] four = {4}"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Sin 'n', input Nx4: it is "
    "neither linear nor an activation that a neuron can send; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p: dense("[n] r = Sin(h)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Reshape 'n', input "
    "Nx4xsize_0xsize_1: its parameters are computed from sizes that are free; fix the sizes: --input-shape "
    "x:1,3,H,W": lambda p: csscc.compile(parse(FREE)),
    "the model cannot be compiled: 2 node(s) stand in the way (opset 20)\n  Sin 'z', input NxWx4xH: it is "
    "neither linear nor an activation that a neuron can send; replace it by an operator of the table in "
    "docs/operators.md, or split the model here\n  Reshape 'n', input Nx4xsize_0xsize_1: its parameters are "
    "computed from sizes that are free; fix the sizes: --input-shape x:1,3,H,W": lambda p:
        csscc.compile(
            parse(
                FREE.replace(
                    "y = MatMul(p, V)",
                    "[z] z = Sin(f) q = ReduceMean <keepdims = 0> (z, two) y = MatMul(q, V)",
                ),
            ),
        ),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Clip 'n', input Nx4: a neuron "
    "needs its first 1 input(s) computed and the others constant; replace it by an operator of the table in"
    " docs/operators.md, or split the model here": lambda p:
        dense("[n] r = Clip(h, low)", inputs="float[N,4] x, float low"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Softmax 'n', input Nx4: it acts "
    "along the batch axis; replace it by an operator of the table in docs/operators.md, or split the model "
    "here": lambda p: dense("[n] r = Softmax <axis = 0> (h)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Mul 'n', input Nx4: its constant"
    " differs along the batch axis; replace it by an operator of the table in docs/operators.md, or split "
    "the model here": lambda p: dense("[n] r = Mul(h, k)", "float[3,4] k"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Add 'n', input Nx4: core tensors"
    " of different rank: the batch axes do not meet; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p:
        dense("u = Unsqueeze(h, one) [n] r = Add(h, u)", result="float[N,B,2] y"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Conv 'n', input Nx4x4x4: its "
    "weights are computed, not constant; replace it by an operator of the table in docs/operators.md, or "
    "split the model here": lambda p:
        image("[n] c = Conv(h, k) r = Relu(c)", inputs="float[N,3,4,4] x, float[4,4,1,1] k"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Reshape 'n', input Nx4: its "
    "parameters are computed, not constant; replace it by an operator of the table in docs/operators.md, or"
    " split the model here": lambda p: dense("[n] r = Reshape(h, s)", inputs="float[N,4] x, int64[2] s"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Pad 'n', input Nx4x4x4: it pads "
    "with a value other than zero; replace it by an operator of the table in docs/operators.md, or split "
    "the model here": lambda p: image("[n] r = Pad(h, p, one_f)", "int64[8] p = {0,0,1,1,0,0,-1,1}, float one_f = {1}"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Slice 'n', input Nx4: it cuts "
    "the batch axis; replace it by an operator of the table in docs/operators.md, or split the model here": lambda p:
        dense("[n] r = Slice(h, zero, two, zero)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Expand 'n', input Nx4: it mixes "
    "or reorders the batch axis; replace it by an operator of the table in docs/operators.md, or split the "
    "model here": lambda p: dense("[n] t = Expand(h, s) r = Relu(t)", "int64[2] s = {3,4}"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Concat 'n', input Nx4: it "
    "concatenates along the batch axis; replace it by an operator of the table in docs/operators.md, or "
    "split the model here": lambda p: dense("[n] r = Concat <axis = 0> (h, h)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Concat 'n', input 3x4: it "
    "concatenates a core tensor and a constant; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p:
        dense(
            "[n] c = Concat <axis = 1> (h, k) r = Slice(c, zero, four, one)",
            "float[3,4] k, int64[1] four = {4}",
            "float[3,4] x",
        ),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  ReduceMean 'n', input Nx4: it "
    "reduces the batch axis; replace it by an operator of the table in docs/operators.md, or split the "
    "model here": lambda p: dense("[n] m = ReduceMean(h, zero) r = Add(h, m)"),
    "the model cannot be compiled: 3 node(s) stand in the way (opset 20)\n  ReduceMean 'n', input Nx4: its "
    "shape is not known; replace it by an operator of the table in docs/operators.md, or split the model "
    "here\n  Add 'Add_2', input Nx4: its shape is not known; replace it by an operator of the table in "
    "docs/operators.md, or split the model here\n  MatMul 'MatMul_3', input unknown: its shape is not known;"
    " replace it by an operator of the table in docs/operators.md, or split the model here": lambda p:
        dense("[n] m = ReduceMean(h, a) r = Add(h, m)", inputs="float[N,4] x, int64[1] a"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Resize 'n', input Nx4x4x4: "
    "tf_crop_and_resize may bring in values from outside; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p:
        image(
            "[n] r = Resize <coordinate_transformation_mode = \"tf_crop_and_resize\", mode = \"linear\"> (h, roi, s)",
            "float[8] roi = {0,0,0,0,1,1,1,1}, float[4] s = {1,1,2,2}",
        ),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Resize 'n', input Nx4x4x4: it "
    "resizes the channels or its sizes are computed; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p:
        image(
            "[n] z = Resize <mode = \"nearest\"> (h, none, s) r = Slice(z, zero, f, one)",
            "float[0] none = {}, float[4] s = {1,2,1,1}, int64[1] f = {4}",
        ),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Resize 'n', input Nx4x4x4: it "
    "resizes the batch axis; replace it by an operator of the table in docs/operators.md, or split the "
    "model here": lambda p:
        image("[n] r = Resize <mode = \"nearest\"> (h, none, s)", "float[0] none = {}, float[4] s = {2,1,1,1}"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Gemm 'n', input Nx4: its weights"
    " are computed, not constant; replace it by an operator of the table in docs/operators.md, or split the"
    " model here": lambda p: dense("[n] r = Gemm(h, k)", inputs="float[N,4] x, float[4,4] k"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Gemm 'n', input 3x4: its input C"
    " differs along the batch axis; replace it by an operator of the table in docs/operators.md, or split "
    "the model here": lambda p: dense("[n] r = Gemm(h, W, c)", "float[3,4] c", "float[3,4] x"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Transpose 'Transpose_1', input "
    "Nx4: it mixes or reorders the batch axis; replace it by an operator of the table in docs/operators.md,"
    " or split the model here": lambda p: dense("t = Transpose(h) [n] s = MatMul(h, t) r = MatMul(s, h)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  MatMul 'n', input 3x4: a "
    "constant on the left mixes the batch axis; replace it by an operator of the table in "
    "docs/operators.md, or split the model here": lambda p:
        dense("[n] s = MatMul(k, h) r = Relu(s)", "float[4,3] k", "float[3,4] x"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  MatMul 'n', input 3x1x4: its "
    "constant has an axis for the batch; replace it by an operator of the table in docs/operators.md, or "
    "split the model here": lambda p:
        dense("u = Unsqueeze(h, one) [n] s = MatMul(u, k) r = Squeeze(s, one)", "float[3,4,4] k", "float[3,4] x"),
    "onnxruntime cannot run the model (...); are the samples prepared as for the network?": lambda p:
        dense("[n] r = MatMul(h, k)", inputs="float[N,4] x, float[4,4] k"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  MatMul 'n', input Nx4: 16 of its"
    " weights are NaN or infinite, or become so when constants are folded; train or export it again": lambda p:
        dense("c = Mul(k, big) d = Mul(c, big) [n] r = MatMul(h, d)", "float[4,4] k, float big = {3e38}"),
    "the model cannot be compiled: 2 node(s) stand in the way (opset 20)\n  MatMul 2 times: 'n', 'MatMul_2':"
    " its weights are empty; train or export it again": lambda p:
        dense("[n] e = MatMul(h, k) f = MatMul(e, l) r = Relu(f)", "float[4,0] k, float[0,4] l"),
    "the model cannot be compiled: 2 node(s) stand in the way (opset 20)\n  MaxPool 'n', input Nx4x4x4: its "
    "second output is read; replace it by an operator of the table in docs/operators.md, or split the model"
    " here\n  Cast 'Cast_2', input Nx4x4x4: it is neither linear nor an activation that a neuron can send; a"
    " layer follows it; move it after the last layer, or split the model here": lambda p:
        image("[n] m, i = MaxPool <kernel_shape = [1,1]> (h) j = Cast <to = 1> (i) r = Add(m, j)"),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Slice 'n', input Nx2147483648x4:"
    " a sample of 33,554,432 numbers or more is too large to look at; replace it by an operator of the "
    "table in docs/operators.md, or split the model here": lambda p: FindRegions().apply(canonical(parse(LARGE))),
    "the model cannot be compiled: 1 node(s) stand in the way (opset 20)\n  Reshape 'n', input Nx4: it "
    "states the size of the batch; replace it by an operator of the table in docs/operators.md, or split "
    "the model here": lambda p:
        dense("[n] t = Reshape(h, s) r = Reshape(t, u)", "int64[3] s = {3,2,2}, int64[2] u = {3,4}", "float[N,4] x"),
    "its axes are computed, not constant": lambda p:
        by_rule("[n] m = ReduceMean(h, a) r = Add(h, m)", "float[N,4] x, int64[1] a", [0]),
    "transA=1 mixes the batch axis": lambda p:
        by_rule("[n] t = Gemm <transA = 1> (h, h) r = MatMul(t, W)", "float[4,4] x", [0]),
    "both sides come from the core": lambda p: by_rule("[n] s = MatMul(h, h) r = MatMul(s, h)", "float[4,4] x", [0, 1]),
    "it fixes the batch size; give it scales instead of sizes": lambda p:
        by_rule("[n] s = Resize <mode = \"nearest\"> (h, , , sizes) r = MatMul(s, W)", "float[3,4] x", [0]),
    "division by a core tensor is not linear": lambda p:
        by_rule("[n] d = Div(half, h) r = MatMul(d, W)", "float[N,4] x", [1]),
    "its constant repeats the core tensor along an axis": lambda p:
        by_rule(
            "u = Unsqueeze(h, one) [n] s = Mul(u, k) m = ReduceMax(s, one) r = Squeeze(m, one)",
            "float[N,4] x",
            [0],
        ),
    "it computes with sizes that are free; fix the sizes: --input-shape x:1,3,H,W": lambda p: by_sizes("h"),
}
