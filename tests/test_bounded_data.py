"""Data that has no end, no samples, or more than it says: refused in a sentence, before it takes time or memory."""

from __future__ import annotations

import io
import itertools
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.lib import format as npy

import csscc
from csscc import limits
from csscc.errors import RefusedError
from csscc.io.arrays import read_arrays
from csscc.io.data import InputSpec, open_source
from tests.helpers import parse

Run = Callable[..., tuple[int, str]]
NETWORK = """g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5,3] v>
{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""
SPECS = (InputSpec("x", (None, 4), "float32"),)


@pytest.fixture
def run(command: Run) -> Run:
    onnx.save(parse(NETWORK), "m.onnx")
    return command


def header(*shape: int, dtype: str = "<f4") -> bytes:
    """The head of an array's file; its values are not there."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)


def encrypted(path: Path) -> None:
    """An archive whose first member says that it is encrypted."""
    archive(path, {"x.npy": header(8, 4) + bytes(128)})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    archive(path, {"x.npy": header(8, 4) + bytes(128)})
    path.write_bytes(path.read_bytes()[:-30])


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a declared terabyte.npy": (lambda p: p.write_bytes(header(2**36, 4)), "an array of 1,099,511,627,776 bytes"),
    "more than is there.npy": (lambda p: p.write_bytes(header(2**20, 4)), "are there"),
    "overflow.npy": (lambda p: p.write_bytes(header(2**40, 2**40)), "an array of"),
    "bomb.npz": (lambda p: archive(p, {"x.npy": header(2**36, 4)}), "an array of 1,099,511,627,776 bytes"),
    "encrypted.npz": (encrypted, "is encrypted"),
    "broken.npz": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(60)), "cannot be read as NumPy data"),
    "cut.npz": (cut_off, "cannot be read"),
    "header.npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((("), "cannot be read"),
    "empty.npy": (lambda p: p.write_bytes(b""), "cannot be read"),
    "fifo.npy": (os.mkfifo, "is not a regular file"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_states_more_than_it_holds_is_refused(run: Run, name: str) -> None:
    make, reported = FILES[name]
    make(Path(name))
    compiled = ("compile", "m.onnx", "--calibration", name, "-q", "-o", "o.onnx")
    for command in (compiled, ("run", "m.onnx", "--data", name)):
        code, err = run(*command)
        assert (code, reported in err, name in err) == (3, True, True), err


def test_members_that_are_not_needed_are_not_unpacked(tmp_path: Path) -> None:
    """They may be as large as they like, damaged, or pickled."""
    x = io.BytesIO()
    np.save(x, np.ones((8, 4), np.float32))
    others = {"huge.npy": header(2**36, 4), "damaged.npy": b"nothing", "pickle.npy": header(1, dtype="|O") + b"cos\n"}
    archive(tmp_path / "x.npz", {**others, "x.npy": x.getvalue()})
    read = read_arrays(tmp_path / "x.npz", "x", {"x", "y"})
    assert {name: array.size for name, array in read.items()} == {"huge": 0, "damaged": 0, "pickle": 0, "x": 32}
    archive(tmp_path / "other.npz", {"a.npy": b"", "b.npy": b""})
    with pytest.raises(RefusedError, match=r"no array for the network's input 'x'; it has \['a', 'b'\]"):
        open_source(str(tmp_path / "other.npz"), SPECS)


ENDLESS = "import numpy as np\ndef f():\n    while True:\n        yield {{'x': np.zeros(({}, 4), np.float32)}}\n"


@pytest.mark.parametrize(("size", "reported"), [(512, "more than 2,000 samples"), (0, "in a row without a sample")])
def test_a_generator_without_end_ends_with_a_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, size: int, reported: str
) -> None:
    monkeypatch.setattr(limits, "GENERATED", 2000)
    Path("gen.py").write_text(ENDLESS.format(size))
    code, err = run("run", "m.onnx", "--data", "gen.py:f", "-q")
    assert (code, reported in err) == (3, True), err
    code, err = run("compile", "m.onnx", "--calibration", "gen.py:f", "--T", 3, "-q", "-o", "o.onnx")
    assert code == (0 if size else 3), err  # calibration takes no more than it needs


def test_an_iterator_without_end_is_cut_off_where_a_number_is_stated() -> None:
    ones = np.ones((16, 4), np.float32)
    source = open_source(itertools.repeat(ones), SPECS, limit=40)
    assert [len(b["x"]) for b in source.batches(16)] == [len(b["x"]) for b in source.batches(16)]
    assert sum(len(b["x"]) for b in source.batches(16)) == 40


def test_images_of_too_many_pixels_and_pipes_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(limits, "PIXELS", 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    source = open_source(str(tmp_path), (InputSpec("x", (None, 3, 20, 20), "float32"),))
    assert source.size == 1
    with pytest.raises(RefusedError, match=r"a.png: an image of 20 x 20 pixels, more than 100"):
        list(source.batches(1))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(RefusedError, match=r"a.png: not a readable image"):
        list(source.batches(1))


def test_inputs_too_large_to_be_made_up_are_refused(run: Run) -> None:
    onnx.save(parse(NETWORK.replace("float[N,4] x", "float[1000000000000,4] x").replace("[N,3]", "[M,3]")), "m.onnx")
    code, err = run("compile", "m.onnx", "-q", "-o", "o.onnx")
    assert (code, "has 4,000,000,000,000 numbers" in err) == (3, True), err


def test_outputs_may_be_called_anything_that_an_archive_takes(run: Run, tmp_path: Path) -> None:
    def named(name: str) -> onnx.ModelProto:
        model = parse(NETWORK)
        model.graph.node[-1].output[0] = model.graph.output[0].name = name
        return model

    for name in ("file", "allow_pickle", "scope/y:0", "ünï [red]"):
        onnx.save(named(name), "m.onnx")
        assert run("run", "m.onnx", "--data", "x.npy", "-q", "-o", "out.npz")[0] == 0
        with np.load("out.npz", allow_pickle=False) as out:
            assert out[name].shape == (8, 3)
    Path("out.npz").unlink()
    for name in ("../y", "/y", "a/../../y", "y" * 2**16):
        onnx.save(named(name), "m.onnx")
        code, err = run("run", "m.onnx", "--data", "x.npy", "-q", "-o", "out.npz")
        assert (code, "cannot be an array's name" in err) == (3, True), err
        assert not Path("out.npz").exists()


BEYOND = (("--seed", -1), ("--T", 65), ("--T", 2**40), ("--silent", 2**40), ("--samples", -1))


@pytest.mark.parametrize("arguments", BEYOND)
def test_numbers_out_of_their_range_are_wrong_usage(run: Run, arguments: tuple[Any, ...]) -> None:
    assert run("compile", "m.onnx", *arguments, "-q", "-o", "o.onnx")[0] == 2
    with pytest.raises(csscc.UsageError):
        csscc.compile(parse(NETWORK), seed=-1)


@pytest.fixture
def snn(run: Run) -> onnx.ModelProto:
    assert run("compile", "m.onnx", "--calibration", "x.npy", "--T", 3, "-q", "-o", "snn.onnx")[0] == 0
    return onnx.load("snn.onnx")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", [1.0] * 513),
        ("weights", []),
        ("silent", 2**40),
        ("reads", 2**40),
        ("merged", [1.0] * 600),
        ("weights", 3),
    ],
)
def test_steps_that_are_too_many_are_refused(run: Run, snn: onnx.ModelProto, name: str, value: Any) -> None:
    node = next(n for n in snn.graph.node if n.op_type == "TSARelu")
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    kind = {"attr_type": onnx.AttributeProto.FLOATS} if value == [] else {}
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value, **kind)])
    onnx.save(snn, "snn.onnx")
    for command in (("verify", "snn.onnx"), ("run", "snn.onnx", "--data", "x.npy"), ("inspect", "snn.onnx")):
        code, err = run(*command)
        assert (code, "TSARelu" in err) == (3, True), err
