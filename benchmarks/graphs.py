"""ONNX graphs of well-known shapes with random weights: what costs time and memory is their size, not what they know.

Weights are He-normal and seeded. Statistics of BatchNormalization follow the variance that such weights give, so
activations keep their size through fifty layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph: its name, its channels, and the mean square that its elements are expected to have."""

    name: str
    channels: int
    square: float


@dataclass
class Builder:
    """A graph under construction.

    With `weights` False, weights are inputs of the graph instead of initializers: the graph is as valid, its
    parameters can be counted, and it needs no memory.
    """

    size: int
    weights: bool = True
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    declared: list[onnx.ValueInfoProto] = field(default_factory=list)
    parameters: int = 0

    def image(self) -> Tensor:
        """The input: three channels, standard normal."""
        return Tensor("image", 3, 1.0)

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def normal(self, name: str, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> str:
        """Add a trained parameter with normal values; return its name."""
        self.parameters += int(np.prod(shape))
        return self._constant(name, shape, lambda: self.rng.standard_normal(shape, np.float32) * deviation + mean)

    def uniform(self, name: str, shape: tuple[int, ...], low: float, high: float) -> str:
        """Add a statistic, which is no trained parameter, with uniform values; return its name."""
        return self._constant(name, shape, lambda: self.rng.uniform(low, high, shape))

    def _constant(self, name: str, shape: tuple[int, ...], values: Any) -> str:
        if self.weights:
            array: NDArray[np.float32] = values().astype(np.float32)
            self.initializers.append(numpy_helper.from_array(array, name))
        else:
            self.declared.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def conv(self, x: Tensor, channels: int, kernel: int, stride: int = 1, *, bias: bool = True) -> Tensor:
        """A convolution that keeps the size up to its stride."""
        name, fan_in = f"conv_{len(self.nodes)}", x.channels * kernel**2
        inputs = [x.name, self.normal(f"{name}_w", (channels, x.channels, kernel, kernel), np.sqrt(2 / fan_in))]
        if bias:
            inputs.append(self.normal(f"{name}_b", (channels,), 0.05))
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return Tensor(self.node("Conv", inputs, **attributes), channels, 2 * x.square)

    def batch_norm(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """BatchNormalization to a variance of about ``scale**2``."""
        name, shape = f"bn_{len(self.nodes)}", (x.channels,)
        spread = float(np.sqrt(x.square))
        inputs = [
            x.name,
            self.normal(f"{name}_gamma", shape, 0.1 * scale, scale),
            self.normal(f"{name}_beta", shape, 0.1 * scale),
            self.uniform(f"{name}_mean", shape, -0.1 * spread, 0.1 * spread),
            self.uniform(f"{name}_var", shape, 0.8 * x.square, 1.2 * x.square),
        ]
        return Tensor(self.node("BatchNormalization", inputs), x.channels, scale**2)

    def relu(self, x: Tensor) -> Tensor:
        """ReLU, which halves the mean square of what is symmetric."""
        return Tensor(self.node("Relu", [x.name]), x.channels, x.square / 2)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """A residual connection."""
        return Tensor(self.node("Add", [x.name, y.name]), x.channels, x.square + y.square)

    def max_pool(self, x: Tensor, kernel: int, stride: int, pad: int = 0) -> Tensor:
        """MaxPool; a window's maximum of rectified values is about three times their mean square."""
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return Tensor(self.node("MaxPool", [x.name], **attributes), x.channels, 3 * x.square)

    def dense(self, x: Tensor, channels: int) -> Tensor:
        """A fully connected layer on ``[N, channels]``."""
        name = f"dense_{len(self.nodes)}"
        weights = self.normal(f"{name}_w", (channels, x.channels), np.sqrt(2 / x.channels))
        inputs = [x.name, weights, self.normal(f"{name}_b", (channels,), 0.05)]
        return Tensor(self.node("Gemm", inputs, transB=1), channels, 2 * x.square)

    def model(self, name: str, logits: Tensor) -> onnx.ModelProto:
        """The finished model."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, self.size, self.size])
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", logits.channels])
        self.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(self.nodes, name, [image, *self.declared], [output], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def vgg16(builder: Builder, *, width: int = 64, classes: int = 1000) -> onnx.ModelProto:
    """VGG-16 (configuration D): 13 convolutions with ReLU, 5 MaxPool, 3 dense layers."""
    x = builder.image()
    for channels, convolutions in zip((1, 2, 4, 8, 8), (2, 2, 3, 3, 3), strict=True):
        for _ in range(convolutions):
            x = builder.relu(builder.conv(x, channels * width, 3))
        x = Tensor(builder.max_pool(x, 2, 2).name, x.channels, x.square)
    pixels = (builder.size // 32) ** 2
    x = Tensor(builder.node("Flatten", [x.name]), x.channels * pixels, x.square)
    for _ in range(2):
        x = builder.relu(builder.dense(x, 64 * width))
    return builder.model("vgg16", builder.dense(x, classes))


def resnet50(builder: Builder, *, width: int = 64, classes: int = 1000) -> onnx.ModelProto:
    """ResNet-50 (the stride in the 3x3 convolution) with BatchNormalization."""
    x = builder.relu(builder.batch_norm(builder.conv(builder.image(), width, 7, 2, bias=False)))
    x = builder.max_pool(x, 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            x = _bottleneck(builder, x, width << stage, stride=2 if stage and not block else 1, first=not block)
    x = Tensor(builder.node("GlobalAveragePool", [x.name]), x.channels, x.square / 3)
    x = Tensor(builder.node("Flatten", [x.name]), x.channels, x.square)
    return builder.model("resnet50", builder.dense(x, classes))


def _bottleneck(builder: Builder, x: Tensor, width: int, *, stride: int, first: bool) -> Tensor:
    y = builder.relu(builder.batch_norm(builder.conv(x, width, 1, bias=False)))
    y = builder.relu(builder.batch_norm(builder.conv(y, width, 3, stride, bias=False)))
    y = builder.batch_norm(builder.conv(y, 4 * width, 1, bias=False), scale=0.5)
    if first:
        return builder.relu(builder.add(builder.batch_norm(builder.conv(x, 4 * width, 1, stride, bias=False)), y))
    total = builder.relu(builder.add(x, y))
    return Tensor(total.name, total.channels, x.square + y.square)  # little of what is rectified already is lost
