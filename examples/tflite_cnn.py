"""A TFLite file to a report. Run on 2026-11-27, see docs/frameworks.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from csscc.models import digits_data

data = np.load(digits_data())
train, test = (np.moveaxis(data[name], 1, -1) for name in ("x_calib", "x"))  # TensorFlow has channels last
tf.keras.utils.set_random_seed(0)
net = tf.keras.Sequential(
    [
        tf.keras.Input((8, 8, 1)),
        tf.keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        tf.keras.layers.MaxPooling2D(2),
        tf.keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        tf.keras.layers.GlobalAveragePooling2D(),
        tf.keras.layers.Dense(10),
    ]
)
net.compile(optimizer="adam", loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
net.fit(train, data["y_calib"], epochs=60, batch_size=32, verbose=0)
Path("net.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(net).convert())

np.savez("calib.npz", x=train, y=data["y_calib"])
np.savez("test.npz", x=test, y=data["y"])
for command in (
    "tf2onnx.convert --tflite net.tflite --output tflite.onnx --opset 18",
    "csscc compile tflite.onnx --calibration calib.npz -o snn.onnx",
    "csscc evaluate tflite.onnx snn.onnx --data test.npz",
    "csscc report tflite.onnx snn.onnx --data test.npz -o report.html",
):
    subprocess.run([sys.executable, "-m", *command.split()], check=True)
