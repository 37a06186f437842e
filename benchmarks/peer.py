"""SpikingJelly's conversion of the CIFAR-10 ResNet-20, as a server that runs a batch when it is told to.

    python peer.py MODEL.onnx CALIBRATION.npy THREADS

runs in the peer's own virtual environment, which has neither csscc nor onnxruntime. It reads one JSON request a line,
``{"images": "x.npy", "steps": 32, "together": true}``, and answers with one, ``{"seconds": 0.4, "classes": [3, 1]}``.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnx
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import nn

STAGES = ((16, 1), (32, 2), (64, 2))
BLOCKS = 3


class Block(nn.Module):
    """Two convolutions and a shortcut; where the shape changes, the shortcut is a convolution that moves channels.

    The network pads channels with zeros there, which the peer's tracer refuses; a fixed 1x1 convolution does the same.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            before = (channels - channels_in) // 2
            with torch.no_grad():
                self.shortcut.weight.zero_()
                for c in range(channels_in):
                    self.shortcut.weight[before + c, c, 0, 0] = 1

    def forward(self, x: Any) -> Any:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))


class ResNet20(nn.Module):
    """ResNet-20 without BatchNormalization, which is folded into its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu = nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()
        channels, blocks = 16, []
        for out, stride in STAGES:
            for i in range(BLOCKS):
                blocks.append(Block(channels, out, 1 if i else stride))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.pool, self.flatten, self.linear = nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.linear(self.flatten(self.pool(self.blocks(self.relu(self.conv1(x))))))


def with_weights_of(model: onnx.ModelProto) -> ResNet20:
    """The network with the initializers that the file's convolutions and its dense layer read, in order."""
    values = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    read = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    network = ResNet20()
    layers = [network.conv1, *(c for b in network.blocks for c in (b.conv1, b.conv2)), network.linear]
    with torch.no_grad():
        for layer, node in zip(layers, read, strict=True):
            layer.weight.copy_(values[node.input[1]])
            layer.bias.copy_(values[node.input[2]])
    return network.eval()


def convert(network: ResNet20, calibration: Any) -> Any:
    """The peer's strongest recipe of rate coding."""
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(calibration), batch_size=64)
    recipe = ann2snn.RateCodingRecipe(loader, mode="99.9%", channel_wise=True, half_threshold=True)
    return ann2snn.Converter(recipe, device="cpu").convert(network).eval()


def run(snn: Any, images: Any, steps: int, *, together: bool) -> Any:
    """Sum of the outputs over `steps` steps: one after the other, or `together` in the peer's multi-step mode."""
    functional.reset_net(snn)
    if together:
        return snn(images.unsqueeze(0).expand(steps, *images.shape)).sum(dim=0)
    total = snn(images)
    for _ in range(1, steps):
        total = total + snn(images)
    return total


def main() -> None:
    path, calibration, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    answers = sys.stdout
    sys.stdout = sys.stderr  # the peer's progress bars and prints are no answers
    network = with_weights_of(onnx.load(path))
    samples = torch.from_numpy(np.load(calibration))
    one_by_one, together = convert(network, samples), convert(network, samples)
    functional.set_step_mode(together, "m")
    print(json.dumps({"torch": torch.__version__}), file=answers, flush=True)
    with torch.no_grad():
        for line in sys.stdin:
            request = json.loads(line)
            images = torch.from_numpy(np.load(request["images"]))
            start = time.perf_counter()
            snn = together if request["together"] else one_by_one
            logits = run(snn, images, request["steps"], together=request["together"])
            seconds = time.perf_counter() - start
            answer = {"seconds": seconds, "classes": logits.argmax(dim=1).tolist()}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
