"""A network in Flax NNX to a report. Run on 2026-11-27, see docs/frameworks.md."""

from __future__ import annotations

import subprocess
import sys

import jax
import numpy as np
import optax
from flax import nnx
from jax2onnx import to_onnx

from csscc.models import digits_data

data = np.load(digits_data())
train, test = (data[name].reshape(-1, 64) for name in ("x_calib", "x"))


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.second = nnx.Linear(64, 32, rngs=rngs)
        self.last = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.gelu(self.second(nnx.gelu(self.first(x)))))


@nnx.jit
def step(net: Net, optimiser: nnx.Optimizer) -> None:
    def loss(net: Net) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(net(train), data["y_calib"]).mean()

    optimiser.update(net, nnx.grad(loss)(net))


net = Net(nnx.Rngs(0))
optimiser = nnx.Optimizer(net, optax.adam(0.01), wrt=nnx.Param)
for _ in range(100):
    step(net, optimiser)

to_onnx(net, [("B", 64)], return_mode="file", output_path="jax.onnx")

np.savez("calib.npz", x=train, y=data["y_calib"])
np.savez("test.npz", x=test, y=data["y"])
for command in (
    "csscc compile jax.onnx --calibration calib.npz --T 12 -o snn.onnx",
    "csscc evaluate jax.onnx snn.onnx --data test.npz",
    "csscc report jax.onnx snn.onnx --data test.npz -o report.html",
):
    subprocess.run([sys.executable, "-m", *command.split()], check=True)
