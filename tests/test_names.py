"""Names from files are text: they are no markup, command no terminal and forge no line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from csscc import cli
from csscc.errors import Offender, RefusedError, RefusedModelError, printable

NAMES = ("block[relu]", "[/]", "a\nError: forged", "\x1b[2J\x1b[31m:smile:", "\u202eright to left\r\x07")
SHOWN = ("block[relu]", "[/]", "a\\nError: forged", "\\x1b[2J\\x1b[31m:smile:", "\\u202eright to left\\r\\x07")


def network(refused: bool) -> onnx.ModelProto:
    w = numpy_helper.from_array(np.random.default_rng(0).normal(0, 0.5, (4, 4)).astype(np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], [NAMES[2]], NAMES[0]),
        helper.make_node("Relu", [NAMES[2]], ["b"], NAMES[1]),
        helper.make_node("MatMul", ["b", "w"], ["c"], NAMES[2]),
        helper.make_node("Sin" if refused else "Relu", ["c"], ["d"], NAMES[3]),
        helper.make_node("MatMul", ["d", "w"], ["y[0]"], NAMES[4]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in ("x", "y[0]"))
    graph = helper.make_graph(nodes, "g", [x], [y], [w])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_is_printable() -> None:
    assert tuple(map(printable, NAMES)) == SHOWN
    assert printable("Größe 層 'x'") == "Größe 層 'x'"
    assert printable("\udcff") == "\\udcff"
    error = RefusedModelError([Offender(NAMES[3], "Sin", "reason\n")], 17)
    for reported in (error, pickle.loads(pickle.dumps(error))):
        assert [SHOWN[3] in line for line in str(reported).splitlines()] == [False, True]
    assert str(pickle.loads(pickle.dumps(RefusedError("a\nb")))) == "a\\nb"


def test_every_command_shows_them_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    onnx.save(network(False), "m.onnx")
    onnx.save(network(True), "refused.onnx")
    np.save("x.npy", np.random.default_rng(1).standard_normal((16, 4), np.float32))
    for command, code, shown in (
        ("inspect m.onnx", 0, SHOWN),
        ("inspect refused.onnx", 3, SHOWN),
        ("compile refused.onnx -o o.onnx", 3, SHOWN[3:4]),
        ("compile m.onnx --calibration x.npy --T 3 -o o.onnx", 0, ()),
        ("inspect o.onnx", 0, (SHOWN[1], SHOWN[3])),
        ("verify o.onnx", 0, ()),
        ("run o.onnx --data x.npy", 0, ("y[0]",)),
        ("evaluate m.onnx o.onnx --data x.npy", 0, (SHOWN[1], SHOWN[3])),
        ("diagnose m.onnx o.onnx --data x.npy", 0, (SHOWN[1], SHOWN[3])),
    ):
        monkeypatch.setattr(sys, "argv", ["csscc", *command.split()])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert stop.value.code == code, (command, err)
        for name in shown:
            assert name in out + err, (command, name, out + err)
        assert all(c.isprintable() or c == "\n" for c in out + err), command
        assert "\nError: forged" not in out + err
