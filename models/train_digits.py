"""Train the sample network on scikit-learn's handwritten digits and write it next to this file.

The network is small, but it has the parts that make conversion of a real network interesting: batch
normalization left in the graph, residual additions with an identity and with a projected shortcut,
max pooling, and a concatenation of two branches. Run it with ``python models/train_digits.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
TEST_IMAGES = 500
CALIBRATION_IMAGES = 256
EPOCHS = 60
BATCH = 64
PEAK_RATE = 0.01
HERE = Path(__file__).resolve().parent


class ConvNorm(nn.Sequential):
    """A convolution that keeps the image size, followed by batch normalization."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the identity, or a 1x1 convolution if the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3)
        self.second = ConvNorm(outputs, outputs, 3)
        self.shortcut = nn.Identity() if inputs == outputs else ConvNorm(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolved input to its shortcut."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


class Fire(nn.Module):
    """SqueezeNet's module: a 1x1 squeeze, then a 1x1 and a 3x3 branch that are concatenated."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = ConvNorm(inputs, squeezed, 1)
        self.narrow = ConvNorm(squeezed, outputs // 2, 1)
        self.wide = ConvNorm(squeezed, outputs // 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Squeeze, then join both branches along the channels."""
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.narrow(x)), functional.relu(self.wide(x))], dim=1)


def build() -> nn.Sequential:
    """Return the untrained network, from [N, 1, 8, 8] images in 0..1 to [N, 10] logits."""
    return nn.Sequential(
        ConvNorm(1, 16, 3),
        nn.ReLU(),
        Residual(16, 16),
        Residual(16, 32),
        nn.MaxPool2d(2),
        Fire(32, 24, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def shift(x: Tensor, rng: torch.Generator) -> Tensor:
    """Move each image by up to one pixel in each direction, filling with background."""
    padded = functional.pad(x, (1, 1, 1, 1))
    # Row and column indices of every image's own 8x8 window in the padded images.
    rows, cols = torch.randint(0, 3, (2, len(x), 1), generator=rng) + torch.arange(x.shape[-1])
    image = torch.arange(len(x))[:, None, None]
    return padded[image, 0, rows[:, :, None], cols[:, None, :]][:, None]


def train(model: nn.Module, x: Tensor, y: Tensor, *, epochs: int = EPOCHS, rate: float = PEAK_RATE) -> None:
    """Fit the model for a fixed number of epochs and leave it in evaluation mode."""
    rng = torch.Generator().manual_seed(SEED)
    steps = len(x) // BATCH  # whole batches only: the few images left over differ in every epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(x), generator=rng)[: steps * BATCH].split(BATCH):
            loss = functional.cross_entropy(model(shift(x[chosen], rng)), y[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}  loss {total / steps:.4f}")
    model.eval()


def export(model: nn.Module, path: Path) -> None:
    """Write the model, which must be in evaluation mode, without folding its batch normalization."""
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 8, 8),),
        path,
        dynamo=False,
        # PRESERVE skips the exporter's fusion of BatchNormalization into Conv, and keeps evaluation mode.
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=17,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images ``[N, 1, 8, 8]`` to train and to test with, and their labels."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=TEST_IMAGES, stratify=labels, random_state=SEED
    )
    return x_train, x_test, y_train, y_test


def repeatable() -> None:
    """Make what follows the same at each run."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def report(model: nn.Module, x: np.ndarray, y: np.ndarray) -> None:
    """Print the accuracy on test images and the number of parameters."""
    with torch.no_grad():
        predicted = model(torch.from_numpy(x)).argmax(1).numpy()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"test accuracy {(predicted == y).mean():.2%} of {len(y)}, {parameters} parameters")


def main() -> None:
    """Split the data, train, report the test accuracy, and write both files."""
    repeatable()
    x_train, x_test, y_train, y_test = split()
    # Calibration images come from the training set, so that the test set stays unseen.
    x_calib, _, y_calib, _ = train_test_split(
        x_train, y_train, train_size=CALIBRATION_IMAGES, stratify=y_train, random_state=SEED
    )

    model = build()
    train(model, torch.from_numpy(x_train), torch.from_numpy(y_train))
    report(model, x_test, y_test)
    export(model, HERE / "digits_resnet.onnx")
    np.savez_compressed(HERE / "digits.npz", x_calib=x_calib, y_calib=y_calib, x=x_test, y=y_test)


if __name__ == "__main__":
    main()
