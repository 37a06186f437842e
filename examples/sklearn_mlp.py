"""A pipeline of scikit-learn to a report. Run on 2026-11-27, see docs/frameworks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from csscc.models import digits_data

data = np.load(digits_data())
train, test = (data[name].reshape(-1, 64) for name in ("x_calib", "x"))
net = make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=300, random_state=0))
net.fit(train, data["y_calib"])

model = to_onnx(net, train[:1], options={"zipmap": False})
Path("mlp.onnx").write_bytes(model.SerializeToString())

np.savez("calib.npz", X=train, y=data["y_calib"])
np.savez("test.npz", X=test, y=data["y"])
for command in (
    "csscc compile mlp.onnx --calibration calib.npz -o snn.onnx",
    "csscc evaluate mlp.onnx snn.onnx --data test.npz",
    "csscc report mlp.onnx snn.onnx --data test.npz -o report.html",
):
    subprocess.run([sys.executable, "-m", *command.split()], check=True)
