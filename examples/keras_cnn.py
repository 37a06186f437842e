"""A convolutional network from Keras 3 to a report. Run on 2026-11-27, see docs/frameworks.md."""

from __future__ import annotations

import os
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

from csscc.models import digits_data

data = np.load(digits_data())
train, test = (np.moveaxis(data[name], 1, -1) for name in ("x_calib", "x"))  # Keras has channels last
keras.utils.set_random_seed(0)
net = keras.Sequential(
    [
        keras.Input((8, 8, 1), name="image"),
        keras.layers.Conv2D(16, 3, padding="same"),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ]
)
net.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
net.fit(train, data["y_calib"], epochs=60, batch_size=32, verbose=0)

net.export("keras.onnx", format="onnx")

np.savez("calib.npz", x=train, y=data["y_calib"])
np.savez("test.npz", x=test, y=data["y"])
for command in (
    "csscc compile keras.onnx --calibration calib.npz -o snn.onnx",
    "csscc evaluate keras.onnx snn.onnx --data test.npz",
    "csscc report keras.onnx snn.onnx --data test.npz -o report.html",
):
    subprocess.run([sys.executable, "-m", *command.split()], check=True)
