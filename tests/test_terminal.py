"""What commands print: one line that says what matters first, tables of 80 columns, plain where nobody looks."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from csscc.cli.common import table
from csscc.cli.sweep import show
from csscc.cli.terminal import Rows, Terminal
from csscc.models import digits_data, digits_model
from csscc.search.settings import Row, Setting

SGR = re.compile(r"\x1b\[([\d;]*)m")


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, piped."""
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    start = "import sys; sys.argv[0] = 'csscc'; from csscc.__main__ import main; main()"
    code = [sys.executable, "-c", start, *map(str, arguments)]
    return subprocess.run(code, capture_output=True, encoding="utf-8", env=kept | environment)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    with np.load(digits_data()) as data:
        np.savez(folder / "x.npz", x=data["x"][:20], y=data["y"][:20])
        np.savez(folder / "calib.npz", x=data["x_calib"][:40], y=data["y_calib"][:40])
    return folder


def test_commands_begin_with_what_matters_and_are_plain_when_piped(files: Path) -> None:
    model, snn, data = digits_model(), files / "snn.onnx", files / "x.npz"
    for first, arguments in (
        ("a spiking network of 4 coding steps, latency ", ["compile", model, "--T", 4, "-o", snn]),
        ("20 samples: ANN 100.00 %, SNN ", ["evaluate", model, snn, "--data", data]),
        ("On 20 samples the outputs differ by ", ["diagnose", model, snn, "--data", data]),
        ("a spiking network, T=4, beta=4, ", ["inspect", snn]),
        ("multiply-accumulates a sample become spiking; latency ", ["inspect", model]),
    ):
        calibration = ["--calibration", files / "calib.npz"] if arguments[0] == "compile" else []
        done = command(*arguments, *calibration)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert first in lines[0]
        assert "\x1b" not in done.stdout + done.stderr
        assert not [line for line in lines if line != line.rstrip()]
        rows = [line for line in lines if line.startswith(" ")]
        assert rows
        assert max(map(len, rows)) <= 80


def test_colours_are_left_out_where_they_are_not_wanted(files: Path) -> None:
    coloured = command("inspect", digits_model(), FORCE_COLOR="1", TERM="xterm-256color").stdout
    plain = command("inspect", digits_model(), FORCE_COLOR="1", TERM="xterm-256color", NO_COLOR="1").stdout
    colours = {code for text in SGR.findall(coloured) for code in text.split(";") if code[:1] in "349" and code != "4"}
    assert colours
    assert not [code for text in SGR.findall(plain) for code in text.split(";") if 30 <= int(code or 0) <= 107]


def test_titles_of_narrow_tables_are_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    title = "a title that is much longer than the lines of its table"
    rows = table(title, "name", "count")
    rows.add_row("a", "1")
    Terminal().print(rows)
    assert capsys.readouterr().out.splitlines()[:2] == [title, ""]


def test_names_in_tables_break_between_their_parts() -> None:
    shown = io.StringIO()
    rows = Rows("name")
    rows.add_row("part of '/layer1/conv_block.0.weight/Mul'")
    Console(file=shown, width=20).print(rows)
    lines = [line.strip("│ ") for line in shown.getvalue().splitlines() if "│" in line]
    assert lines == ["part of", "'/layer1/conv_", "block.0.weight/", "Mul'"]


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["compil"], "No such command 'compil'. Did you mean 'compile'?"),
        (["compile", "m.onnx", "--calibratoin", "x"], "No such option '--calibratoin'. Did you mean '--calibration'?"),
        (["compile", "m.onnx", "--data", "x"], "'--data'. Here samples are given by --calibration."),
        (["verify", "m.onnx", "--calibration", "x"], "'--calibration'. Here samples are given by --data."),
        (["run", "m.onnx", "--input", "x"], "'--input'. Here samples are given by --data."),
        (["evaluate", "m.onnx", "s.onnx", "-o", "x"], "'-o'. It is an option of compile, report, run, sweep and tune."),
        (["inspect", "m.onnx", "--coding", "rate"], "'--coding'. It is an option of compile."),
        (["inspect", "m.onnx", "--colour"], "'--colour'."),
        (["compile", "m.onnx", "--timesteps", "8"], "No such option '--timesteps'. Did you mean '--T'?"),
        (["compile", "m.onnx", "--batch-size", "8"], "No such option '--batch-size'."),
        (["compile", "m.onnx", "--coding", "ccs"], "'ccs' is not one of 'css', 'rate', 'fs', 'ttfs', 'tsc'"),
    ],
)
def test_what_was_meant_is_suggested(arguments: list[str], reported: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert reported in done.stderr


def test_shells_complete_commands_options_and_files() -> None:
    def completed(words: str, number: int) -> list[str]:
        return command(_CSSCC_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(number)).stdout.split()

    assert completed("csscc ev", 1) == ["plain,evaluate"]
    assert completed("csscc compile --prep", 2) == ["plain,--preprocess"]
    assert completed("csscc compile m.onnx --calibration x", 4) == ["file,x"]
    assert "complete" in command(_CSSCC_COMPLETE="zsh_source").stdout


def test_refusals_that_are_alike_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    settings = [Setting(T=t, beta=2.0, silent=1) for t in (4, 6, 8)]
    rows = [Row(s, error="the same reason") for s in settings[:2]] + [Row(settings[2], error="another")]
    show(rows, [], "sweep")
    out = capsys.readouterr().out
    assert f"refused, {settings[0]} and 1 more: the same reason\n" in out
    assert f"refused, {settings[2]}: another\n" in out


def test_long_text_is_one_line_where_nobody_looks_and_tables_fit(capsys: pytest.CaptureFixture[str]) -> None:
    text = "word " * 60
    rows = table("title", "name", "number")
    rows.add_row("n" * 300, "1")
    Terminal().print(text, rows, "end")
    Terminal(stderr=True).warn(text)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == text.rstrip()
    assert lines[-1] == "end"
    assert max(map(len, lines[1:])) <= 80
    assert err == f"Warning: {text.rstrip()}\n"
