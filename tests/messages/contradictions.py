"""Messages about spiking networks whose metadata contradict their nodes."""

from __future__ import annotations

import numpy as np
import onnx

import csscc
from tests.helpers import parse
from tests.messages.given import Messages, attribute, opens, stated

IMAGE = """g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[16,1,3,3] k, float[2,16,1,1] l>
{ a = Conv <pads = [1,1,1,1]> (x, k) r = Relu(a) y = Conv(r, l) }"""


def other_form() -> None:
    """Load a network in steps that states another form."""
    snn = csscc.compile(parse(IMAGE), np.ones((2, 1, 4, 4), np.float32), T=4, form="stepwise", check_samples=0)
    entry = next(p for p in snn.file.metadata_props if p.key == "csscc.options")
    entry.value = entry.value.replace('"form": "stepwise"', '"form": "scan"')
    onnx.save(snn.file, "m.onnx")
    csscc.load("m.onnx")

MESSAGES: Messages = {
    "m.onnx: contradicts itself: its metadata state T=5, its spikes come in 4 steps; compile it again": lambda p:
        opens(stated("T", "5")),
    "m.onnx: contradicts itself: of its metadata, beta must be from 1 (rate coding) to 3, not 9.0; 1.5 is "
    "usual; compile it again": lambda p: opens(stated("beta", "9")),
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
}
