"""Messages of commands: what does not hold, warnings, and ends that nobody foresaw."""

from __future__ import annotations

import contextlib
import io
import sys
from itertools import pairwise

import onnx

import csscc
from csscc import cli
from csscc.cli.demo import demo_command
from csscc.io.arrays import refuse_names
from csscc.measure.verify import Verification
from csscc.passes.lower.kernels import open_session
from tests.helpers import parse
from tests.messages.given import LAYERS, NETWORK, WEIGHTS, Messages, Patch, X, attribute, compiles, opens, run, stated

MIXED = """g (float[N,2] x) => (float[M,4] y) <float[8,4] w, float[4,4] v, int64[2] shape = {-1, 8}>
{ f = Reshape(x, shape) a = MatMul(f, w) r = Relu(a) y = MatMul(r, v) }"""


def ended(patch: Patch, error: BaseException) -> None:
    """What is printed where a command ends with an error that it does not expect, raised."""

    def fail(**options: object) -> None:
        raise error

    patch.setattr(demo_command, "callback", fail)
    patch.setattr(sys, "argv", ["csscc", "demo"])
    patch.setattr(sys, "stderr", printed := io.StringIO())
    with contextlib.suppress(SystemExit):
        cli.main()
    raise csscc.CssccError(printed.getvalue().strip().removeprefix("Error: "))


def warned(patch: Patch, line: str) -> None:
    """What a command warns of, raised."""
    patch.setattr(sys, "stderr", printed := io.StringIO())
    run(line)
    raise csscc.CssccError(" ".join(printed.getvalue().split()).removeprefix("Warning: "))


def verified(patch: Patch, difference: float) -> None:
    """Verify where a spike differs."""
    found = Verification(8, 100, 3, {"Gelu_1": 2, "Relu_1": 1}, {"Gelu_1": 0, "Relu_1": 1}, difference)
    patch.setattr("csscc.measure.verify.verify", lambda *given, **options: found)
    run("csscc verify snn.onnx")


def nodes(m: onnx.ModelProto) -> onnx.NodeProto:
    """The first layer of neurons."""
    return next(n for n in m.graph.node if n.op_type == "TSARelu")


def too_many_steps(m: onnx.ModelProto) -> None:
    """More steps than any coding has."""
    for stated_number in nodes(m).attribute:
        if stated_number.name in ("weights", "thresholds"):
            stated_number.floats[:] = [1.0] * 999


def computed_amplitude(m: onnx.ModelProto) -> None:
    """An amplitude that is an input."""
    theta = next(t for t in m.graph.initializer if t.name == nodes(m).input[2])
    m.graph.input.append(onnx.helper.make_tensor_value_info(theta.name, theta.data_type, theta.dims))
    m.graph.initializer.remove(theta)


def other_layers(m: onnx.ModelProto) -> None:
    """Another latency, and other depths of all layers."""
    stated("latency", "99")(m)
    entry = next(p for p in m.metadata_props if p.key == "csscc.layers")
    entry.value = entry.value.replace('"depth": ', '"depth": 9')


def few_values(m: onnx.ModelProto) -> None:
    """Weights of which some are missing."""
    m.graph.initializer[0].ClearField("raw_data")
    m.graph.initializer[0].float_data[:] = [1, 2, 3]


def late() -> None:
    """Open a stream in which a layer begins too late."""
    file = csscc.compile("ann.onnx", X, T=4, form="stream", check_samples=0).file
    next(a for n in file.graph.node for a in n.attribute if a.name == "depth").i = 10**6
    open_session(file)


def raising(error: Exception) -> object:
    """A function that fails."""

    def fail(*given: object, **options: object) -> None:
        raise error

    return fail


BAD = "g (float[N,2] x) => (float[N,2] y) <float[2,2] w, " + ", ".join(f"float[2] b{i}" for i in range(6)) + "> {"
SUMS = " ".join(f"{b} = Add({a}, b{i})" for i, (a, b) in enumerate(pairwise("abcdefg")))
BAD += f"a = MatMul(x, w) {SUMS} y = Relu(g) }}"


def function() -> onnx.ModelProto:
    """A network that calls a function."""
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20, "own": 1]> g (float[N,2] x) => (float[N,2] y) { y = own.F(x) }'
        '<domain: "own", opset_import: ["": 20]> F (a) => (b) { b = Relu(a) }'
    )


def older() -> onnx.ModelProto:
    """A network of an older opset."""
    return parse(NETWORK % LAYERS, opset=13, **WEIGHTS)


def unknown() -> onnx.ModelProto:
    """The same with an operator that is none."""
    model = older()
    model.graph.node[0].op_type = "Frob"
    return model


def dropped(patch: Patch, option: str) -> None:
    """Compile a network whose loss is larger than what is allowed."""
    patch.setattr("csscc.search.bench.Bench.loss", lambda *a: 2.0)
    warned(patch, f"csscc compile ann.onnx --calibration x.npy --T 4 --max-drop 1 {option} -o s.onnx -q")


MESSAGES: Messages = {
    "the network has too many nodes in a row, or graphs within graphs, for csscc; use a part": lambda p:
        ended(p, RecursionError()),
    "there is not enough memory; use fewer samples, or a smaller network": lambda p: ended(p, MemoryError()),
    "a: cannot be used (No such file or directory); give another path": lambda p:
        ended(p, FileNotFoundError(2, "No such file or directory", "a")),
    "csscc failed inside (LookupError: nowhere). This is a defect of csscc: please report it with the "
    "model's structure; CSSCC_TRACEBACK=1 shows where it happened": lambda p: ended(p, LookupError("nowhere")),
    "no calibration data: accuracy may suffer; pass --calibration with a few hundred sample inputs": lambda p:
        (
            p.setattr("csscc.cli.sweep._plotted", lambda *a: []),
            warned(p, "csscc sweep ann.onnx --data x.npy --T 4 -o f -q"),
        ),
    "no setting keeps the loss within 0; the one that loses least was written; allow a larger --max-loss, "
    "or larger --T": lambda p: warned(p, "csscc tune ann.onnx --calibration x.npy --T 1 --max-loss 0 -o s.onnx -q"),
    "the loss is 2.0, more than 1; --allow-analog leaves analog the layers that cost most; a larger --T loses less":
        lambda p: dropped(p, ""),
    "the loss is 2.0, more than 1; it is too large with all layers left analog too, since encoders round; a larger --T "
    "loses less": lambda p: dropped(p, "--allow-analog"),
    "3 of 100 spikes differ between onnxruntime and NumPy, 2 of them where rounding decides (8 samples, 2 layers and "
    "encoders); "
    "outputs differ by 5.00e-01 of the largest; the first layer that differs otherwise is Relu_1": lambda p:
        verified(p, 0.5),
    "3 of 100 spikes differ between onnxruntime and NumPy, 2 of them where rounding decides (8 samples, 2 layers and "
    "encoders); "
    "outputs cannot be compared, since values are NaN or infinite, or their shapes differ; the first layer that "
    "differs otherwise is Relu_1":
        lambda p: verified(p, float("inf")),
    "the amplitude of 'Relu_1' is no constant; compile the network again": lambda p: opens(computed_amplitude),
    "node 'x_encode' (Encode) states 0 trains for a value; compile the network again": lambda p:
        opens(attribute("Encode", "trains", 0)),
    "node 'Relu_1' (TSARelu) states more steps than 512, or none; compile the network again": lambda p:
        opens(too_many_steps),
    "m.onnx: contradicts itself: its metadata state a latency of 99 time steps, its nodes take 6; of layer "
    "'x_encode' its metadata state encoder, 2 neurons, depth 90, theta ..., up to ..., its nodes encoder, 2 "
    "neurons, depth 0, theta ..., up to ...; of layer 'Relu_1' its metadata state Relu, 2 neurons, depth 91, "
    "theta ..., up to ..., its nodes Relu, 2 neurons, depth 1, theta ..., up to ...; and 1 more; compile it "
    "again": lambda p: opens(other_layers),
    "m.onnx: constant 'w' of shape [2, 2] takes 4 values, but 3 are there; export it again": lambda p:
        compiles(few_values),
    "output 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' cannot be"
    " an array's name in an .npz file; rename it in the model": lambda p: refuse_names(["a" * 99 + "/.."]),
    "the model has weights that are not finite: 'b0' of Add 'b' (2 of 2 values are NaN), 'b1' of Add 'c' (2"
    " of 2 values are NaN), 'b2' of Add 'd' (2 of 2 values are NaN), 'b3' of Add 'e' (2 of 2 values are "
    "NaN), 'b4' of Add 'f' (2 of 2 values are NaN) and 1 more; train or export it again": lambda p:
        csscc.compile(parse(BAD, **{f"b{i}": [float("nan")] * 2 for i in range(6)}), X),
    "the model's functions cannot be inlined (no); export it without functions": lambda p:
        (p.setattr(onnx.inliner, "inline_local_functions", raising(RuntimeError("no"))), csscc.compile(function(), X)),
    "the model's opset 13 cannot be raised to 20: no; export it again with opset 20 or newer": lambda p:
        (p.setattr(onnx.version_converter, "convert_version", raising(RuntimeError("no"))), csscc.compile(older(), X)),
    "the model's opset 13 cannot be raised to 20: it has no operator Frob; export it again with opset 20 or newer":
        lambda p: csscc.compile(unknown(), X),
    "'f_encode' has 6 rows in all its steps for 8 samples: what is in front of the spiking layers mixes "
    "samples; export the network with the batch in front": lambda p: csscc.compile(parse(MIXED), T=3, check_samples=0),
    "Encode 'x_encode' begins in run 1,000,001, too late for its layers; compile the network again": lambda p: late(),
}
