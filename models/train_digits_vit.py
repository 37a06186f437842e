"""Train a vision transformer on scikit-learn's handwritten digits and write it next to this file, by both exporters.

Its attention is written as timm and torchvision users export it: one projection to queries, keys and values, heads
taken apart by a reshape and a permutation that move the batch, ``scaled_dot_product_attention``. Data and training are
those of ``train_digits.py``. Run it with ``python models/train_digits_vit.py``.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from csscc.models.train_digits import HERE, repeatable, report, split, train

WIDTH, HEADS, BLOCKS, PATCH, SIDE = 32, 4, 3, 2, 8
EPOCHS, PEAK_RATE = 150, 0.003


class Attention(nn.Module):
    """Self-attention over patches ``[N, patches, WIDTH]``."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Attend in HEADS heads."""
        batch, patches, width = x.shape
        parts = self.qkv(x).reshape(batch, patches, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        heads = functional.scaled_dot_product_attention(q, k, v)
        return self.project(heads.transpose(1, 2).reshape(batch, patches, width))


class Block(nn.Module):
    """A block with normalization in front of attention and of the perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Add attention, then the perceptron."""
        x = x + self.attention(self.first(x))
        return x + self.perceptron(self.second(x))


class VisionTransformer(nn.Module):
    """From [N, 1, 8, 8] images in 0..1 to [N, 10] logits, through a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def main() -> None:
    """Train, report the test accuracy, and write a file by each exporter."""
    repeatable()
    x_train, x_test, y_train, y_test = split()
    model = VisionTransformer()
    train(model, torch.from_numpy(x_train), torch.from_numpy(y_train), epochs=EPOCHS, rate=PEAK_RATE)
    report(model, x_test, y_test)
    example = (torch.zeros(2, 1, SIDE, SIDE),)
    names = {"input_names": ["image"], "output_names": ["logits"]}
    free = {"image": {0: "batch"}, "logits": {0: "batch"}}
    file = HERE / "digits_vit_torchscript.onnx"
    torch.onnx.export(model, example, file, dynamo=False, opset_version=17, dynamic_axes=free, **names)
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(model, example, dynamo=True, dynamic_shapes=({0: batch},), **names)
    made = program.model_proto
    for part in (made, made.graph, *made.graph.node, *made.graph.value_info, *made.graph.initializer):
        del part.metadata_props[:]  # they hold the places of source files
    onnx.save(made, HERE / "digits_vit_dynamo.onnx")


if __name__ == "__main__":
    main()
