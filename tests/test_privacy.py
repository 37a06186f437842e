"""A file tells nothing of the machine that it was made on: no folder of the model, of the data, of the exporter."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from csscc import cli
from tests.helpers import parse

MODEL = """g (float[N,3,8,8] x) => (float[N,4] y) <float[8,3,3,3] w, float[8,4] v>
{ a = Conv <pads = [1,1,1,1]> (x, w) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, v) }"""
TRACE = 'File "/home/someone/net.py", line 20, in forward\n    x = self.conv(x)'


def data_of(kind: str, folder: Path) -> str:
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    if kind == "images":
        for i, image in enumerate(np.clip(128 + 50 * x, 0, 255).astype(np.uint8)):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i}.png")
        return str(folder)
    if kind == "function":
        (folder / "f.py").write_text("import numpy as np\ndef batches():\n    yield np.load(__file__[:-4] + 'x.npy')\n")
        np.save(folder / "x.npy", x)
        return f"{folder / 'f.py'}:batches"
    np.savez(folder / "x.npz", x=x)
    return str(folder / "x.npz")


@pytest.mark.parametrize("kind", ["images", "function", "arrays"])
@pytest.mark.parametrize("form", ["auto", "stream"])
def test_no_folder_is_in_the_file(kind: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "secret" / "samples"
    folder.mkdir(parents=True)
    model = parse(MODEL)
    for node in model.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
        node.metadata_props.add(key="layer", value="first")
        node.doc_string = TRACE
    onnx.save(model, folder / "net.onnx")
    for output in (tmp_path / "secret" / "snn.onnx", Path("snn.onnx")):
        monkeypatch.chdir(folder.parent)
        arguments = ["compile", folder / "net.onnx", "--calibration", data_of(kind, folder), "--T", 3, "--form", form]
        monkeypatch.setattr(sys, "argv", ["csscc", *map(str, arguments), "-o", str(output), "-q"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        written = (folder.parent / output.name).read_bytes()
        for reported in ("secret", str(tmp_path), str(Path.home()) + "/", "someone", "/home", "/tmp"):
            assert reported.encode() not in written
        properties = {p.key: p.value for p in onnx.load(folder.parent / output.name).metadata_props}
        shown = {"images": "samples", "function": "f.py:batches", "arrays": "x.npz"}[kind]
        assert properties["csscc.calibration"] == shown
        assert b"first" in written  # what else is said of nodes stays
