"""Messages about spiking networks whose metadata contradict their nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

import csscc
from csscc.passes.lower.targets import by_layer
from csscc.runtime.reference import ReferenceRuntime
from csscc.runtime.streaming import Streaming
from tests.helpers import parse
from tests.messages.given import Messages, ann, attribute, compiled, opens, run, stated

IMAGE = """g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[16,1,3,3] k, float[2,16,1,1] l>
{ a = Conv <pads = [1,1,1,1]> (x, k) r = Relu(a) y = Conv(r, l) }"""


def other_form() -> None:
    """Load a network in steps that states another form."""
    snn = csscc.compile(parse(IMAGE), np.ones((2, 1, 4, 4), np.float32), T=4, form="stepwise", check_samples=0)
    entry = next(p for p in snn.file.metadata_props if p.key == "csscc.options")
    entry.value = entry.value.replace('"form": "stepwise"', '"form": "scan"')
    onnx.save(snn.file, "m.onnx")
    csscc.load("m.onnx")


def changes(*every: Callable[[onnx.ModelProto], object]) -> Callable[[onnx.ModelProto], None]:
    """All of some changes."""

    def change(model: onnx.ModelProto) -> None:
        for each in every:
            each(model)

    return change


def fewer_steps(model: onnx.ModelProto) -> None:
    """A readout of 3 steps, behind neurons of 4."""
    changes(attribute("Decode", "weights", [2.25, 1.5, 1.0]), attribute("Decode", "reads", 3))(model)


def run_without_metadata(change: Callable[[onnx.ModelProto], object]) -> None:
    """Run a spiking network that states nothing of itself."""
    model = onnx.load("snn.onnx")
    change(model)
    del model.metadata_props[:]
    onnx.save(model, "m.onnx")
    run("csscc run m.onnx --data x.npy -q")


def streams(change: Callable[[onnx.ModelProto], object]) -> None:
    """Run a stream of which a node was changed."""
    model = compiled(T=4, form="stream").file
    change(model)
    Streaming(onnx.ModelProto.FromString(model.SerializeToString()), model.graph)


def unknown(name: str) -> Callable[[onnx.ModelProto], None]:
    """NaN in place of the first value of a constant."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = float("nan")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))

    return change


def unfitting() -> onnx.ModelProto:
    """A spiking network whose neurons have the biases of five."""
    model = onnx.load("snn.onnx")
    tensor = next(t for t in model.graph.initializer if t.name == "Relu_1_bias.1")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(5, np.float32), tensor.name))
    return by_layer(model)


MESSAGES: Messages = {
    "the model has weights that are not finite: 'w' of MatMul 'MatMul_0' (1 of 4 values are NaN); compile it "
    "again": lambda p: opens(unknown("w")),
    "node 'Relu_1' (TSARelu) states its 'alpha' as no number or text; compile the network again": lambda p:
        opens(attribute("TSARelu", "alpha", onnx.numpy_helper.from_array(np.ones(2, np.float32), "t"))),
    "'Relu_1_bias.1' of 'Relu_1' is not a number; compile the network again": lambda p: opens(unknown("Relu_1_bias.1")),
    "m.onnx: contradicts itself: its metadata state T=5, its spikes come in 4 steps; compile it again": lambda p:
        opens(stated("T", "5")),
    "m.onnx: contradicts itself: of its metadata, beta must be from 1 (rate coding) to 5, not 9.0; 1.5 to 4 "
    "are usual; compile it again": lambda p: opens(stated("beta", "9")),
    "m.onnx: contradicts itself: the spike weights of 'x_encode' are not those of beta=2; compile it again": lambda p:
        opens(stated("beta", "2")),
    "m.onnx: contradicts itself: 'Relu_1' sends other spikes than the coding in its metadata; compile it "
    "again": lambda p: opens(stated("negative", "0")),
    "m.onnx: contradicts itself: its metadata state 1 silent step(s) in every layer, 'Relu_1' has 2; its "
    "metadata state a latency of 6 time steps, its nodes take 7; of layer 'Relu_1' its metadata state Relu,"
    " 2 neurons, depth 1, theta ..., up to ..., its nodes Relu, 2 neurons, depth 2, theta ..., up to ...; and 1"
    " more; compile it again": lambda p: opens(attribute("TSARelu", "silent", 2)),
    "m.onnx: contradicts itself: its metadata list 0 layers that are not its 3 layers of nodes; compile it "
    "again": lambda p: opens(stated("layers", "[]")),
    "m.onnx: contradicts itself: its metadata state the form 'scan', its nodes are those of 'stepwise'; "
    "compile it again": lambda p: other_form(),
    "m.onnx: contradicts itself: 'x_encode' states 2 trains for a value, its amplitudes are not those of so many; of "
    "layer 'x_encode' its metadata state encoder, 2 neurons, depth 0, theta ..., up to ..., its nodes encoder, 2 "
    "neurons, depth 0, theta ..., up to ...; compile it again": lambda p: opens(attribute("Encode", "trains", 2)),
    "node 'Relu_1' (TSARelu) states weights or thresholds of spikes that are not positive numbers; compile the network "
    "again": lambda p: opens(attribute("TSARelu", "thresholds", [1.0, 1.0, 1.0, float("nan")])),
    "node 'Relu_1' (TSARelu) states 0.5 as the weight of the last spike, which is 1; compile the network "
    "again": lambda p:
        opens(attribute("TSARelu", "weights", [4.0, 2.0, 1.0, 0.5])),
    "node 'Relu_1' (TSARelu) states -1 as the largest value that it sends; compile the network again": lambda p:
        opens(attribute("TSARelu", "most", -1.0)),
    "node 'Relu_1' (TSARelu) states sums of steps whose weights are not those of its spikes; compile the network "
    "again": lambda p: opens(attribute("TSARelu", "sends", [7.0, 1.0])),
    "node 'Relu_1' (TSARelu) states that 3 steps come as one slab, of 2 that may; compile the network again": lambda p:
        opens(attribute("TSARelu", "reads", 3)),
    "node 'Relu_1' (TSARelu) states 0 silent steps of 4, and that 2 steps are one sum; compile the network "
    "again": lambda p: opens(attribute("TSARelu", "silent", 0)),
    "node 'Relu_1' (TSARelu) states bursts, and that no spike is negative; compile the network again": lambda p:
        opens(changes(attribute("TSARelu", "burst", 1), attribute("TSARelu", "negative", 0))),
    "node 'x_encode' (Encode) states the same value at each step, and sums of steps; compile the network "
    "again": lambda p: opens(attribute("Encode", "constant", 1)),
    "m.onnx: contradicts itself: its metadata state sizes of an input 'z', which it lacks, or which has other sizes; "
    "compile it again": lambda p: opens(lambda m: m.metadata_props.add(key="csscc.sizes", value='{"z": [1, 2]}')),
    "m.onnx: its csscc metadata is damaged (of its source, name is no text); compile it again": lambda p:
        opens(stated("source", '{"name": 1}')),
    "the file's csscc metadata is damaged (a size is no whole number); compile it again": lambda p:
        opens(lambda m: m.metadata_props.add(key="csscc.sizes", value='{"x": [1, 2.5]}')),
    "the NumPy reference cannot run the network (ValueError: ...); its nodes do not fit together: compile or export it "
    "again": lambda p: ReferenceRuntime(unfitting()).run({"x": np.ones((2, 2), np.float32)}),
    "output 'y' of shape [2, 4] does not have the samples in front, 4 here, so that batches cannot be joined; run all "
    "at once, with --batch 8": lambda p: (
        onnx.save(ann("y = Transpose(x)"), "m.onnx"),
        run("csscc run m.onnx --data x.npy --batch 4 -q"),
    ),
    "m.onnx: contradicts itself: its layers have no names of their own: 3 have 1, '' among them; compile it again":
        lambda p: opens(lambda m: [n.ClearField("name") for n in m.graph.node]),
    "m.onnx: its nodes are damaged (ValueError: spikes come in 3, 4 steps); compile it again": lambda p:
        run_without_metadata(fewer_steps),
    "Decode 'y_decode' does not state its depth and the weights of its spikes; compile the network again": lambda p:
        streams(attribute("Decode", "weights", None)),
    "TSARelu 'Relu_1' does not state its depth and the weights of its spikes; compile the network again": lambda p:
        streams(attribute("TSARelu", "depth", -1)),
}
