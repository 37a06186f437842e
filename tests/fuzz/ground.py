"""What cases begin with: small networks, data, and spiking networks made of them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

from tests.helpers import parse, small_classifier

FORMS = ("stepwise", "unrolled", "scan", "stream")
TEXTS = {
    "dense": "g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }",
    "conv": """g (float[N,2,8,8] x) => (float[N,3] y) <float[2,2,3,3] w, float[4,2,1,1] v, float[4,3] u>
{ a = Conv <pads = [1,1,1,1], strides = [1,1]> (x, w) b = Relu(a)
  p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (b) c = Conv <group = 1, kernel_shape = [1,1]> (p, v)
  d = HardSwish(c) e = GlobalAveragePool(d) f = Flatten <axis = 1> (e) y = Gemm <transB = 0, alpha = 1.0> (f, u) }""",
    "attention": """g (float[N,3,4] x) => (float[N,3,4] y) <float[4,4] w, float[4,4] v, float[4] var, float[4] b>
{ q = MatMul(x, w) k = MatMul(x, v) t = Transpose <perm = [0,2,1]> (k) s = MatMul(q, t) m = Softmax <axis = -1> (s)
  o = MatMul(m, q) z = Add(o, x) l = LayerNormalization <axis = -1, epsilon = 1e-5> (z, var, b) h = MatMul(l, w)
  g = Gelu(h) y = MatMul(g, v) }""",
    "shapes": """g (float[N,2,4] x) => (float[N,4] y) <float[8,8] w, float[4,4] v, float lo = {-1}, float hi = {2}>
{ sh = Shape(x) i = Constant <value_int = 0> () n = Gather <axis = 0> (sh, i) ax = Constant <value_ints = [0]> ()
  nn = Unsqueeze(n, ax) k = Constant <value_ints = [8]> () t = Concat <axis = 0> (nn, k) f = Reshape(x, t)
  a = MatMul(f, w) b = Relu(a) st = Constant <value_ints = [0]> () en = Constant <value_ints = [4]> ()
  ax1 = Constant <value_ints = [1]> () s = Slice(b, st, en, ax1) pd = Constant <value_ints = [0,0,0,0]> ()
  p = Pad(s, pd) c = MatMul(p, v) e = Clip(c, lo, hi) y = MatMul(e, v) }""",
    "quantised": """g (float[N,4] x) => (float[N,4] y) <float[4,4] w, float s = {0.05}, uint8 z = {0}>
{ xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z) a = MatMul(xd, w) b = Relu(a)
  q = QuantizeLinear(b, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }""",
    "loop": """g (float[N,4] x) => (float[N,4] y) <float[4,4] w>
{ a = MatMul(x, w) b = Relu(a) h = MatMul(b, w) m = Constant <value_int = 3> () t = Constant <value = bool {1}> ()
  y = Loop <body = bd (int64 i, bool c, float[N,4] u) => (bool d, float[N,4] v) { d = Identity(c) v = Relu(u) }>
  (m, t, h) }""",
}


@dataclass(frozen=True)
class Ground:
    """Everything as bytes, so that no case changes what another begins with.

    Attributes:
        networks: models by name.
        data: samples of each, standard normal.
        classifier: a model that is sure of its `samples`, whose answers are `labels`.
        spiking: what the classifier became, by form.
        bursts: the same of few steps, with neurons that send bursts and an input of two trains.
        others: what another network became, by form.
    """

    networks: dict[str, bytes]
    data: dict[str, NDArray[np.float32]]
    classifier: bytes
    samples: NDArray[np.float32]
    labels: NDArray[np.int64]
    spiking: dict[str, bytes]
    bursts: dict[str, bytes]
    others: dict[str, bytes]


@cache
def ground() -> Ground:
    """Made once; the spiking networks in a child process, since threads of onnxruntime do not survive a fork."""
    import subprocess
    import sys

    made = subprocess.run([sys.executable, "-m", "tests.fuzz.ground"], capture_output=True, check=True)
    return pickle.loads(made.stdout)


def make() -> Ground:
    """The ground, computed here."""
    import csscc

    networks = {name: parse(text) for name, text in TEXTS.items()}
    rng = np.random.default_rng(0)
    shapes = {n: [d.dim_value for d in m.graph.input[0].type.tensor_type.shape.dim][1:] for n, m in networks.items()}
    data = {name: rng.normal(0, 1, (8, *shape)).astype(np.float32) for name, shape in shapes.items()}
    model, sure = small_classifier(32)

    def forms(network: onnx.ModelProto, samples: NDArray[np.float32], **coding: Any) -> dict[str, bytes]:
        options = {"T": 4, "beta": 2} | coding
        made = {f: csscc.compile(network, samples, form=f, check_samples=0, **options) for f in FORMS}
        return {form: snn.file.SerializeToString() for form, snn in made.items()}

    return Ground(
        {name: m.SerializeToString() for name, m in networks.items()},
        data,
        model.SerializeToString(),
        sure["x"],
        sure["y"],
        forms(model, sure["x"]),
        forms(model, sure["x"], beta=3, silent=3, split=True),
        forms(networks["attention"], data["attention"]),
    )


if __name__ == "__main__":
    import sys

    from tests.fuzz import ground as named  # by its name, or its classes would be those of __main__

    sys.stdout.buffer.write(pickle.dumps(named.make()))
