"""A convolutional network from PyTorch to a report. Run on 2026-11-28, see docs/frameworks.md."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from torch import nn

import csscc
from csscc.models import digits_data

data = np.load(digits_data())
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 10),
)
images, labels = torch.from_numpy(data["x_calib"]), torch.from_numpy(data["y_calib"].astype("int64"))
optimiser = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(100):
    optimiser.zero_grad()
    nn.functional.cross_entropy(net(images), labels).backward()
    optimiser.step()

net.eval()  # or Dropout and BatchNormalization stay in training mode, and csscc refuses them
torch.onnx.export(
    net,
    (images[:2],),
    "cnn.onnx",
    input_names=["image"],
    output_names=["logits"],
    dynamic_shapes=({0: "batch"},),
    external_data=False,
)

np.savez("calib.npz", image=data["x_calib"], y=data["y_calib"])
np.savez("test.npz", image=data["x"], y=data["y"])
for command in (
    "csscc compile cnn.onnx --calibration calib.npz -o snn.onnx",
    "csscc evaluate cnn.onnx snn.onnx --data test.npz",
    "csscc report cnn.onnx snn.onnx --data test.npz -o report.html",
):
    subprocess.run([sys.executable, "-m", *command.split()], check=True)

# From Python, in one call:
snn = csscc.pytorch.compile(net, images)
ann = csscc.pytorch.export(net, images)
print(csscc.evaluate(ann, snn, {"x": data["x"], "y": data["y"]}).headline)
