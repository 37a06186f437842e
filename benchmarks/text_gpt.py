"""A small GPT, trained on the language reference that Python's standard library ships, a character at a time."""

from __future__ import annotations

import pydoc_data.topics
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, BLOCKS, CONTEXT = 64, 4, 3, 96
STEPS, BATCH, PEAK_RATE = 1200, 24, 0.004
FIRST, LAST = 31, 126  # characters as ids: printable ASCII, and what stands for all others
TEST = 20_000  # characters at the end that training does not see


def text() -> NDArray[np.int64]:
    """All characters as ids."""
    characters = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    codes = np.frombuffer(characters.encode("utf-32-le"), np.uint32).astype(np.int64)
    codes[codes == 10] = 32
    return np.where((codes > FIRST) & (codes <= LAST), codes, FIRST) - FIRST


def passages(part: str, number: int) -> NDArray[np.int64]:
    """Passages ``[number, CONTEXT + 1]`` of the text, of ``calib`` or ``test``, in order."""
    ids = text()
    ids = ids[-TEST:] if part == "test" else ids[:-TEST]
    starts = np.linspace(0, len(ids) - CONTEXT - 1, number).astype(int)
    return np.stack([ids[start : start + CONTEXT + 1] for start in starts])


class Block(nn.Module):
    """Causal attention and a perceptron, with normalization in front of each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Add both to ``[batch, sequence, WIDTH]``."""
        batch, length, width = x.shape
        parts = self.qkv(self.first(x)).split(WIDTH, dim=2)
        q, k, v = (p.view(batch, length, HEADS, width // HEADS).transpose(1, 2) for p in parts)
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(heads.transpose(1, 2).reshape(batch, length, width))
        return x + self.perceptron(self.second(x))


class GPT(nn.Module):
    """From ids ``[batch, sequence]`` to logits of the next one, ``[batch, sequence, ids]``."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(LAST - FIRST + 1, WIDTH)
        self.places = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, LAST - FIRST + 1, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Predict."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def trained() -> Any:
    """A GPT in evaluation mode; the same at each call."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, ids = GPT(), torch.from_numpy(text()[:-TEST])
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS)
    for step in range(STEPS):
        starts = torch.randint(0, len(ids) - CONTEXT - 1, (BATCH,))
        chosen = torch.stack([ids[start : start + CONTEXT + 1] for start in starts.tolist()])
        loss = functional.cross_entropy(model(chosen[:, :-1]).flatten(0, 1), chosen[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0:
            print(f"step {step + 1}  loss {loss.item():.3f}", flush=True)
    return model.eval()
