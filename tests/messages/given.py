"""What the messages of these tables are about: a small network, its spiking one, samples, and ways to damage them."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import csscc
from csscc.api import calibrate
from csscc.cli import cli
from csscc.io.files import save_model
from tests.helpers import parse

Patch = pytest.MonkeyPatch
Messages = Mapping[str, Callable[[Patch], object]]  # a message, as a user reads it, and the smallest input that has it

WEIGHTS = {"w": [[1.0, -1.0], [0.5, 1.0]], "v": [[1.0, 0.0], [0.0, 1.0]]}
NETWORK = "g (float[N,2] x) => (float[N,2] y) <float[2,2] w, float[2,2] v> { %s }"
LAYERS = "a = MatMul(x, w) r = Relu(a) y = MatMul(r, v)"
X = np.linspace(-1, 1, 16, dtype=np.float32).reshape(8, 2)
COMPILED = "csscc compile ann.onnx --calibration x.npy --T 4 --silent 1 -o s.onnx"


def ann(nodes: str = LAYERS) -> onnx.ModelProto:
    """A network of two layers, or of other nodes, from `x` to `y`."""
    return parse(NETWORK % nodes, **WEIGHTS)


def unchecked(text: str) -> onnx.ModelProto:
    """A model that onnx's checker need not like; it has the weights of the others."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 20]> {text}')
    for name, values in WEIGHTS.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.float32), name))
    return model


def fill(folder: Path) -> None:
    """The files that all inputs find: a network and its spiking one, samples, labels."""
    onnx.save(ann(), folder / "ann.onnx")
    csscc.compile(ann(), X, T=4, beta=1.5, silent=1, bursts=False).save(folder / "snn.onnx")
    np.save(folder / "x.npy", X)
    np.savez(folder / "xy.npz", x=X, y=np.arange(8) % 2)


def compiled(**options: Any) -> csscc.SNN:
    """The small network, compiled in Python."""
    return csscc.compile("ann.onnx", X, **options)


def calibrated() -> Any:
    """The small network, calibrated."""
    return calibrate("ann.onnx", X)


def run(line: str) -> None:
    """A command; `csscc` is its first word."""
    cli.main(args=shlex.split(line)[1:], standalone_mode=False)


def data(content: Any, name: str = "d.npz") -> None:
    """Evaluate with a file that holds these bytes, arrays or lines."""
    if isinstance(content, bytes | str):
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    elif isinstance(content, Mapping):
        np.savez(name, **content)
    else:
        np.save(name, content)
    run(f"csscc evaluate ann.onnx snn.onnx --data {name}{':f' if name.endswith('.py') else ''}")


def damaged(change: Callable[[onnx.ModelProto], object], source: str = "ann.onnx", name: str = "m.onnx") -> str:
    """The path of a copy of a file that was changed."""
    model = onnx.load(source)
    change(model)
    Path(name).write_bytes(model.SerializeToString())
    return name


def compiles(change: Callable[[onnx.ModelProto], object]) -> None:
    """Compile a changed network."""
    run(f"csscc compile {damaged(change)} --calibration x.npy -o s.onnx")


def made(nodes: str) -> None:
    """Compile a network of other nodes."""
    save_model(unchecked(NETWORK.replace("<float[2,2] w, float[2,2] v>", "") % nodes), "m.onnx")
    run("csscc compile m.onnx --calibration x.npy -o s.onnx")


def opens(change: Callable[[onnx.ModelProto], object]) -> None:
    """Load a changed spiking network."""
    csscc.load(damaged(change, "snn.onnx"))


def stated(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    """Another value of an entry in the metadata."""

    def change(model: onnx.ModelProto) -> None:
        next(p for p in model.metadata_props if p.key == f"csscc.{key}").value = value

    return change


def attribute(op: str, name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    """Another value of an attribute of the first node of a kind; None takes it away."""

    def change(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.op_type == op)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, *([] if value is None else [helper.make_attribute(name, value)])])

    return change


def images(*names: str, sizes: tuple[int, ...] = (1,), table: str | bytes = "", folder: str = "i") -> None:
    """Evaluate with a folder of images of these names, and a table of labels."""
    from PIL import Image

    for i, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (sizes[i % len(sizes)],) * 2).save(path)
    if table:
        Path(folder, "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    run(f"csscc run ann.onnx --data {folder} -o o.npz")


def missing(patch: Patch, package: str, action: Callable[[], object]) -> None:
    """Do something without a package that need not be there."""
    for name in [package, *(n for n in sys.modules if n.startswith(f"{package}."))]:
        patch.setitem(sys.modules, name, None)
    action()


def copy(folder: Path, to: Path) -> None:
    """The files of one folder in another one."""
    for file in folder.iterdir():
        shutil.copy(file, to)
