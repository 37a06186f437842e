"""Messages about files to write, two networks side by side, kernels, and what was asked for and does not hold."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from onnx import numpy_helper

import csscc
from csscc import pytorch
from csscc.cli.evaluate import _lost
from csscc.cli.streams import printing
from csscc.io import files
from csscc.io.files import made_folder, may_be_made, save_model, writable
from csscc.measure.both import BothNetworks
from csscc.measure.energy_costs import read_costs
from csscc.report.findings import _digest
from csscc.runtime import native
from tests.helpers import parse
from tests.helpers import run as answers
from tests.messages.given import Messages, Patch, X, ann, damaged, run

EVALUATE = "csscc evaluate %s snn.onnx --data x.npy"
DIAGNOSE = "csscc diagnose %s snn.onnx --data x.npy"


def unwritable(patch: Patch, name: str) -> None:
    """Nobody may write there, which an administrator always may."""
    patch.setattr(os, "access", lambda path, mode: Path(path).name != name)


def full(patch: Patch) -> None:
    """A disk without room."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(files, "_flush", fail)


def costs(text: str, name: str = "c.toml") -> object:
    """Read a file of costs."""
    Path(name).write_text(text)
    return read_costs(name)


def fixed(batch: int) -> onnx.ModelProto:
    """A network that takes so many samples at a time."""
    model = ann()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


def compiler(patch: Patch, does: object) -> None:
    """Another compiler than the machine's."""
    patch.setattr("shutil.which", lambda name: name)
    patch.setenv("CXX", "c++")
    patch.setattr(subprocess, "run", does)


def slow(*arguments: object, **options: object) -> None:
    """A compiler that does not end."""
    raise subprocess.TimeoutExpired("c++", 1)


class Full(io.StringIO):
    """Standard output to a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def raising(error: BaseException) -> object:
    """A command that ends so."""

    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


WIDE = """g (float[N,2] x) => (float[N,3] y) <float[2,2] w, float[2,3] v> 
{ a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"""
REGRESSION = """g (float[N,2] x) => (float[N,1] y) <float[2,2] w, float[2,1] v> 
{ a = MatMul(x, w) r = Relu(a) y = MatMul(r, v) }"""


def saved(model: onnx.ModelProto) -> str:
    """Its path."""
    onnx.save(model, "m.onnx")
    return "m.onnx"


def nan() -> str:
    """A network whose output is not finite."""
    return saved(ann("a = MatMul(x, w) r = Relu(a) b = MatMul(r, v) c = Sub(b, b) y = Div(c, c)"))


def negated(m: onnx.ModelProto) -> None:
    """A readout whose function sends the opposite."""
    node = next(f for f in m.functions if f.name == "Decode").node[-1]
    node.op_type = "Neg" if len(node.input) == 1 else "Sub"


def printing_to_a_full_disk(patch: Patch) -> None:
    """What a command prints cannot be written."""
    patch.setattr(sys, "stdout", Full())
    with printing(sys.stdout):
        print("x")


def output_z(m: onnx.ModelProto) -> None:
    """Another name of the output."""
    m.graph.output[0].name = m.graph.node[-1].output[0] = "z"


def huge(m: onnx.ModelProto) -> None:
    """Weights with which sums of large inputs overflow."""
    m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((2, 2), 1e29, np.float32), "w"))


PROLOGUE = "%s = Abs(x) a = MatMul(%s, w) r = Relu(a) y = MatMul(r, v)"


def in_tens(self: BothNetworks, *arguments: object) -> None:
    """Networks that take ten samples at a time."""
    begin(self, *arguments)
    self.fixed_batch = 10


begin = BothNetworks.__init__

MESSAGES: Messages = {
    "x.npy/s.onnx: cannot be written (Not a directory); give another path": lambda p: writable("x.npy/s.onnx"),
    ".: cannot be written: it is a folder; give the path of a file to write": lambda p: writable("."),
    "l: cannot be written: it is a link that leads to itself; give the path of a file to write": lambda p:
        (Path("l").symlink_to("l"), writable("l")),
    "/dev/null: cannot be written: it is a device, a pipe or a socket; give the path of a file to write": lambda p:
        writable("/dev/null"),
    "x.npy: cannot be written (it is read-only); give another path": lambda p:
        (Path("x.npy").chmod(0o444), writable("x.npy")),
    "absent/s.onnx: cannot be written (No such file or directory): make the folder .../absent first": lambda p:
        writable("absent/s.onnx"),
    "s.onnx: cannot be written (its folder ... may not be written); give another path": lambda p:
        (unwritable(p, Path.cwd().name), writable("s.onnx")),
    "x.npy: cannot be a folder to write to (File exists); give another": lambda p: made_folder("x.npy"),
    "f: may not be written; give another folder": lambda p: (Path("f").mkdir(), unwritable(p, "f"), made_folder("f")),
    "x.npy/f: cannot hold the results, .../x.npy is not a folder; give another folder": lambda p:
        may_be_made("x.npy/f"),
    "f: cannot hold the results, f may not be written; give another folder": lambda p:
        (Path("f").mkdir(), unwritable(p, "f"), may_be_made("f")),
    "s.onnx: cannot be written (No space left on device); give another path": lambda p:
        (full(p), csscc.load("snn.onnx").save("s.onnx")),
    "s.onnx: is a link, and the network takes two files; give the path it leads to, .../f/s.onnx": lambda p:
        (
            Path("f").mkdir(),
            Path("s.onnx").symlink_to("f/s.onnx"),
            p.setattr(files, "fits", lambda m: False),
            save_model(ann(), "s.onnx"),
        ),
    "absent.toml: cannot be read (No such file or directory); give a TOML or JSON file of costs": lambda p:
        read_costs("absent.toml"),
    "c.toml: is neither TOML nor JSON (...); write lines as: int32_add = 0.1": lambda p: costs("int32_add = "),
    "c.json: holds no names with numbers; write lines as: int32_add = 0.1": lambda p: costs("[1]", "c.json"),
    "c.toml: no cost is called walk; known are float32_add, float32_multiply, int8_multiply, int32_add, "
    "int32_multiply, weight_byte, state_byte, function_multiplications, source": lambda p: costs("walk = 1"),
    "c.toml: int32_add is 0; give a number, more than 0": lambda p: costs("int32_add = 0"),
    "c.toml: weight_byte is -1; give a number, 0 or more": lambda p: costs("weight_byte = -1"),
    "c.toml: source is 1; give a text": lambda p: costs("source = 1"),
    ".: cannot be read (Is a directory); give a file that can": lambda p: _digest(Path(".")),
    "the loss of 12.5 percent of samples that change class exceeds the budget "
    "of 0; csscc diagnose names its cause": lambda p:
        run(EVALUATE % "ann.onnx" + " --max-loss 0"),
    "the networks do not belong together: the ANN maps ['x'] to ['z'], the SNN ['x'] to ['y']; compile this"
    " ANN": lambda p: run(EVALUATE % damaged(output_z)),
    "the networks do not belong together: output 'y' is [8, 3] of float32 and [8, 2] of float32; compile "
    "this ANN": lambda p: run(EVALUATE % saved(parse(WIDE))),
    "the networks do not belong together: their inputs or outputs have other names; compile this ANN": lambda p:
        run(DIAGNOSE % damaged(output_z)),
    "the networks do not belong together: the ANN has no tensor 'p', which the SNN sends; compile this ANN": lambda p:
        csscc.diagnose(ann(PROLOGUE % ("q", "q")), csscc.compile(ann(PROLOGUE % ("p", "p")), X), X),
    "the networks do not belong together: the ANN has no Relu 'Relu_1', which the SNN sends; compile this "
    "ANN": lambda p: run(DIAGNOSE % damaged(lambda m: m.graph.node[1].__setattr__("op_type", "Abs"))),
    "output 'y' cannot be compared: 16 value(s) of the ANN's and 0 of the SNN's are NaN or "
    "infinite": lambda p: run(EVALUATE % nan()),
    "the networks take 3 samples at a time; give a multiple of that, not 8": lambda p:
        csscc.evaluate(fixed(3), csscc.compile(fixed(3), X[:6]), X),
    "the loss of ... percent of output error exceeds the budget of 0; csscc diagnose names its cause": lambda p:
        (
            csscc.compile(parse(REGRESSION), X).save("s.onnx"),
            run(f"csscc evaluate {saved(parse(REGRESSION))} s.onnx --data x.npy --max-loss 0"),
        ),
    "the loss of 12.5 points of accuracy exceeds the budget of 0; csscc diagnose names its cause": lambda p:
        (
            np.savez("xy.npz", x=X, y=answers(ann(), {"x": X})["y"].argmax(axis=1)),
            run("csscc evaluate ann.onnx snn.onnx --data xy.npz --max-loss 0"),
        ),
    "no loss can be stated: no output can be compared; leave --max-loss out": lambda p:
        _lost(SimpleNamespace(loss=None, agreement=None, output_error={})),
    "output 'y' of the file is not what its spiking operators make by csscc's own functions, in which "
    "spikes are counted: was the file changed? csscc verify names the layers": lambda p:
        csscc.evaluate(ann(), damaged(negated, "snn.onnx"), X),
    "what is printed cannot be written (No space left on device); print to another place": lambda p:
        printing_to_a_full_disk(p),
    "no native kernels: switched off by CSSCC_NATIVE=0": lambda p: (p.setenv("CSSCC_NATIVE", "0"), native.library()),
    "no native kernels: not compiled; csscc native build does it": lambda p:
        (p.setenv("XDG_CACHE_HOME", str(Path.cwd())), native.library()),
    "the folder belongs to another user; XDG_CACHE_HOME moves it": lambda p:
        (p.setattr(native, "_unsafe", lambda path: "the folder belongs to another user"), native.build()),
    "no C++ compiler found (c++, g++, clang++); install one, or name it in the variable CXX": lambda p:
        (p.setattr("shutil.which", lambda name: None), run("csscc native build")),
    ".../x.npy/csscc: cannot be written (Not a directory); XDG_CACHE_HOME moves it": lambda p:
        (p.setenv("XDG_CACHE_HOME", str(Path("x.npy").absolute())), native.build()),
    "c++ took more than 600 seconds; the variable CXX names another compiler": lambda p:
        (compiler(p, slow), native.build()),
    "c++ cannot compile the kernels (error: no such flag); the variable CXX names another one": lambda p:
        (compiler(p, lambda *a, **k: SimpleNamespace(returncode=1, stderr="error: no such flag")), native.build()),
    "the networks take 10 samples at a time; give at least as many with --data": lambda p:
        (
            p.setattr("csscc.measure.diagnose._batch", lambda facts: 1),
            p.setattr(BothNetworks, "__init__", in_tens),
            csscc.diagnose(ann(), "snn.onnx", X),
        ),
    "layer 'Relu_1' cannot be diagnosed: 8 value(s) of 'r' in the ANN are NaN or infinite; are the samples "
    "prepared as for the network?": lambda p: (np.save("x.npy", X * 1e20), run(DIAGNOSE % damaged(huge))),
    "sample inputs are a tensor [B, ...], an array, a tuple of them, or a loader, not dict": lambda p: (
        p.setitem(sys.modules, "torch", SimpleNamespace()),
        pytorch.export(SimpleNamespace(), {}),
    ),
    "PyTorch cannot export the module: no such operator; try torch.onnx.export yourself": lambda p:
        (
            p.setitem(sys.modules, "torch", SimpleNamespace(as_tensor=np.asarray)),
            p.setattr(pytorch, "_export", raising(ValueError("no such operator"))),
            pytorch.export(SimpleNamespace(modules=list, eval=lambda: None), X),
        ),
}
